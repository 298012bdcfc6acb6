"""Which module computes for an array: decided from its type, without importing anything for it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import lru_cache
from importlib import import_module
from types import ModuleType
from typing import Any, NoReturn, TypeVar

import numpy as np

from pyquant import _cpu

_LIBRARIES = {
    "cupy": "CuPy", "dask": "Dask", "torch": "PyTorch", "jax": "JAX", "jaxlib": "JAX",
}  # fmt: skip
R = TypeVar("R")
PLAIN: dict[type, ModuleType] = {}
"""Types of arrays that a module recognises at once; None from it means: not this call."""
HOST = frozenset({np.ndarray, type(None), float, int, list, tuple})
"""Types that are on the host for sure: most arguments need no more than this look."""


class TensorsGiven(TypeError):
    """The arrays are torch's or JAX's: `pyquant._tensors.takes_tensors` catches it.

    Where nothing does, its sentence holds.
    """

    def __init__(self, library: str) -> None:
        super().__init__(
            f"arrays must be NumPy's or CuPy's here, not {library}'s; "
            f"numpy.from_dlpack or cupy.from_dlpack makes one of the other without a copy"
        )
        self.library = library


class CallAgain(Exception):
    """The call must be made inside a context: `takes_tensors` makes it there."""

    def __init__(self, reason: str, context: AbstractContextManager[Any]) -> None:
        super().__init__(reason)
        self.context = context


def backend_of(*arrays: Any, given: tuple[Any, ...] = ()) -> ModuleType:
    """The module that computes on these arrays; TypeError when none does.

    `given` are scales and zero points: host numbers go with arrays of any library, and with one
    another.
    """
    for array in arrays:
        if type(array) not in HOST and library_of(type(array)) != "NumPy":
            return _other_backend(arrays, given)
    for array in given:
        if type(array) not in HOST and library_of(type(array)) != "NumPy":
            return _other_backend(arrays, given)
    return _cpu


def beyond_numpy(plain: str, road: Callable[..., R], x: Any, *given: Any, out: Any) -> R:
    """A call that `_cpu` did not recognise: `plain` of x's own module may, and `road` takes all."""
    if type(x) in PLAIN:
        result: R | None = getattr(PLAIN[type(x)], plain)(x, *given, out)
        if result is not None:
            return result
    return road(x, *given, out=out)


def _library(kind: type) -> str:
    for base in kind.__mro__:
        library = _LIBRARIES.get(base.__module__.partition(".")[0])
        if library in ("PyTorch", "JAX") and not hasattr(kind, "__dlpack__"):
            continue  # a dtype, a size
        if library is not None:
            return library
    return "NumPy"


library_of: Callable[[type], str] = lru_cache(maxsize=512)(_library)
"""The library whose array a type is: "NumPy" also for all that is none."""


def is_dask(array: Any) -> bool:
    """Is it a Dask array, or a quantized array or params made of them?"""
    return library_of(type(array)) == "Dask"


def _other_backend(arrays: tuple[Any, ...], given: tuple[Any, ...]) -> ModuleType:
    if any(map(is_dask, arrays + given)):
        raise TypeError(
            "Dask arrays are taken by pyquant.quantize, dequantize, calibrate and error; "
            "dask.array.map_blocks applies this function to every chunk"
        )
    first = next((array for array in arrays if array is not None), None)
    if not arrays:
        first = next(array for array in given if library_of(type(array)) != "NumPy")
    library = library_of(type(first))
    for others, allowed in ((arrays, (library,)), (given, (library, "NumPy"))):
        for other in others:
            if other is not None and library_of(type(other)) not in allowed:
                _refuse_mixture(first, other)
    if library != "CuPy":
        raise TensorsGiven(library)
    return _cuda_backend([a for a in arrays + given if library_of(type(a)) == "CuPy"])


def _refuse_mixture(first: Any, other: Any) -> NoReturn:
    a, b = (f"{library_of(type(v))}'s {type(v).__name__}" for v in (first, other))
    raise TypeError(f"arrays must be of one library and on one device, not {a} and {b}")


def _cuda_backend(arrays: list[Any]) -> ModuleType:
    from pyquant import _cuda_loader

    _cuda_loader.require()
    cupy: Any = sys.modules["cupy"]
    for array in arrays:
        if not isinstance(array, cupy.ndarray):
            raise TypeError(f"arrays of CuPy must be cupy.ndarray, not {type(array).__name__}")
    devices = sorted({array.device.id for array in arrays})
    if len(devices) > 1:
        raise TypeError(
            f"arrays must be on one device, not on GPU {devices[0]} and GPU {devices[1]}"
        )
    if devices[0] != cupy.cuda.runtime.getDevice():
        raise CallAgain(
            f"CuPy's current device must be {devices[0]}, where the arrays are",
            cupy.cuda.Device(devices[0]),
        )
    capture = import_module("pyquant._cuda_capture")
    if capture.is_unprepared():
        raise CallAgain(
            "a graph that captures this needs memory of its own", capture.lasting_memory()
        )
    PLAIN.setdefault(cupy.ndarray, import_module("pyquant._cuda_plain"))
    return import_module("pyquant._cuda")
