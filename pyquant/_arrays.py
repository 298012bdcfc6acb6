"""What the operators ask of an array library, for NumPy's arrays and for CuPy's."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from pyquant import _cpu
from pyquant._backend import HOST, library_of

Array = npt.NDArray[Any]


def on_device(array: Any) -> bool:
    """Is it an array of CuPy?"""
    return type(array) not in HOST and library_of(type(array)) == "CuPy"


def as_array(value: Any) -> Array:
    """Arrays as they are, everything else as NumPy sees it."""
    return value if type(value) is np.ndarray or on_device(value) else np.asarray(value)


def module_of(array: Array) -> Any:
    """numpy or cupy: a namespace of functions that take the array."""
    return sys.modules["cupy"] if on_device(array) else np


def on_host(array: Any) -> Array:
    """The values as a NumPy array; those of a device are fetched, which waits for them."""
    host: Array = array.get() if on_device(array) else np.asarray(array)
    return host


def finite(array: Array) -> Array:
    """Where its floats are neither NaN nor infinite."""
    mask: Array
    if on_device(array) and array.dtype.name == "bfloat16":  # CuPy has no arithmetic for it
        mask = (array.view(np.uint16) & 0x7F80) != 0x7F80
    else:
        mask = module_of(array).isfinite(array)
    return mask


def empty(shape: tuple[int, ...], dtype: Any, like: Any) -> Array:
    """A new array where `like` is."""
    if type(like) is np.ndarray or not on_device(like):
        return _cpu.empty(shape, dtype)
    made: Array = module_of(like).empty(shape, dtype)
    return made


def contiguous(array: Any, dtype: np.dtype[Any]) -> Array:
    """The array itself or a copy: C-contiguous, of a native dtype."""
    made: Array
    if type(array) is np.ndarray or not on_device(array):
        made = array.astype(dtype, order="C", copy=False)
        return made
    if not array.dtype.isnative:
        raise TypeError(f"arrays on a GPU must have native byte order, not {array.dtype.str}")
    convert = import_module("pyquant._cuda_convert")
    if convert.casts(array.dtype, dtype):
        source, made = contiguous(array, array.dtype), empty(array.shape, dtype, array)
        convert.cast(source, made)
    elif dtype.name == "bfloat16":  # which CuPy cannot copy as what it is
        made = array.view(np.uint16).astype(np.uint16, order="C", copy=False).view(dtype)
    else:
        made = array.astype(dtype, order="C", copy=False)
    return made


def may_overlap(a: Array, b: Array) -> bool:
    """Lie they so that they could share memory?"""
    if on_device(a) != on_device(b):
        return False
    return bool(module_of(a).may_share_memory(a, b))


def is_same(a: Array, b: Array) -> bool:
    """Has every element of one the place of that element of the other?"""
    return (
        _address(a) == _address(b)
        and a.strides == b.strides
        and a.shape == b.shape
        and a.dtype.itemsize == b.dtype.itemsize
    )


def overlap(a: Array, b: Array) -> bool:
    """Do they share memory? Where that is too hard to say, yes."""
    try:
        return np.shares_memory(_placed(a), _placed(b), max_work=100_000)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True


def _address(array: Any) -> int:
    return int(array.data.ptr if on_device(array) else array.ctypes.data)


class _Place:
    """Addresses in the form in which NumPy takes them: nothing there is read."""

    def __init__(self, array: Array) -> None:
        self.__array_interface__ = {
            "data": (_address(array), True), "shape": array.shape, "strides": array.strides,
            "typestr": f"|V{array.dtype.itemsize}", "version": 3,
        }  # fmt: skip


def _placed(array: Array) -> Array:
    """A NumPy array of the same addresses."""
    return np.asarray(_Place(array)) if on_device(array) else array
