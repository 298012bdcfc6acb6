"""Integer grids and the element types of arrays: names in, numbers out."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from pyquant import _cpu


class Grid(NamedTuple):
    """The integers a value may take, and the NumPy type that stores them."""

    name: str
    bits: int
    signed: bool
    narrow: bool
    qmin: int
    qmax: int
    storage: np.dtype[Any]
    code: int
    """pq_type of the storage."""


_CODES = {"int8": _cpu.I8, "uint8": _cpu.U8, "int16": _cpu.I16, "uint16": _cpu.U16}
_NAME = re.compile(r"(u?)int([1-9]\d?)")


def grid_name(dtype: Any) -> str:
    """The name of a grid: "int8" itself, numpy.int8, or an ml_dtypes type."""
    if isinstance(dtype, str):
        return dtype
    try:
        return str(np.dtype(dtype).name)
    except TypeError:
        return repr(dtype)


@lru_cache(maxsize=256)
def _grid(name: str, narrow: bool) -> Grid:
    match = _NAME.fullmatch(name)
    bits = int(match[2]) if match else 0
    if not match or not 2 <= bits <= 16:
        raise ValueError(f"dtype must be 'int2' ... 'int16' or 'uint2' ... 'uint16', not {name!r}")
    signed = not match[1]
    qmin = -(1 << (bits - 1)) if signed else 0
    qmax = qmin + (1 << bits) - 1
    storage = f"{match[1]}int{8 if bits <= 8 else 16}"
    grid = Grid(
        name, bits, signed, narrow, qmin + narrow, qmax, np.dtype(storage), _CODES[storage]
    )
    _cpu.know_grid(grid)
    return grid


def grid_of(dtype: Any, narrow_range: bool) -> Grid:
    """The grid of a dtype; ValueError for anything but 2 to 16 bits."""
    return _grid(dtype if type(dtype) is str else grid_name(dtype), bool(narrow_range))


def default_narrow(narrow_range: bool | None, dtype: Any, scheme: str) -> bool:
    """Symmetric signed grids give up their lowest value unless told otherwise."""
    if narrow_range is not None:
        return bool(narrow_range)
    name = dtype if type(dtype) is str else grid_name(dtype)
    return scheme == "symmetric" and name[:1] != "u"


_FLOATS = {
    np.dtype(np.float32): _cpu.F32,
    np.dtype(np.float16): _cpu.F16,
    np.dtype(np.float64): _cpu.F64,
}


def float_code(dtype: np.dtype[Any]) -> int | None:
    """pq_type of a float dtype in native byte order, None for others."""
    code = _FLOATS.get(dtype)
    if code is None and dtype.name == "bfloat16":
        _cpu.know_bfloat16(dtype.num)
        return int(_cpu.BF16)
    return code


_SMALL_INTEGERS = ("int4", "uint4", "int2", "uint2")


def stored_integers(dtype: np.dtype[Any]) -> np.dtype[Any] | None:
    """The standard integer type that holds the values of an integer dtype; None for others."""
    if dtype.kind in "iu":
        return dtype.newbyteorder("=")
    if dtype.name in _SMALL_INTEGERS:
        return np.dtype(np.uint8 if dtype.name[0] == "u" else np.int8)
    return None


def float_dtype(dtype: Any, argument: str = "dtype") -> np.dtype[Any]:
    """A float dtype from its name; "bfloat16" needs ml_dtypes."""
    if isinstance(dtype, str) and dtype == "bfloat16":
        try:
            import ml_dtypes
        except ImportError:
            raise ValueError(
                "bfloat16 arrays need the ml_dtypes package: pip install pyquant[files]"
            ) from None
        dtype = ml_dtypes.bfloat16
    found: np.dtype[Any]
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = np.dtype(object)
    if float_code(found) is None:
        raise ValueError(
            f"{argument} must be 'float32', 'float16', 'bfloat16' or 'float64', not {dtype!r}"
        )
    return found
