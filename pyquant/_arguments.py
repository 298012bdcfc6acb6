"""The checks that the operators make of its arguments, and the sentences in which they fail."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from pyquant import _cpu
from pyquant._grid import Grid, float_code, stored_integers

Array = npt.NDArray[Any]
Layout = tuple[int, int, int, int]


def float_input(x: Any, name: str = "x") -> tuple[Array, int]:
    """x as a C-contiguous native float array, and its pq_type."""
    array = x if type(x) is np.ndarray else np.asarray(x)
    code = float_code(array.dtype)
    if code is not None and array.flags.c_contiguous:
        return array, code
    native = array.dtype.newbyteorder("=")
    code = float_code(native)
    if code is None:
        raise TypeError(
            f"{name} must be a float16, bfloat16, float32 or float64 array, not {array.dtype}"
        )
    return np.array(array, dtype=native, order="C", copy=None), code


def integer_input(q: Any, name: str = "q") -> Array:
    """q as a C-contiguous native integer array of a standard type."""
    array = q if type(q) is np.ndarray else np.asarray(q)
    dtype = stored_integers(array.dtype)
    if dtype is None:
        raise TypeError(f"{name} must be an array of integers, not {array.dtype}")
    return np.array(array, dtype=dtype, order="C", copy=None)


def int32_input(a: Any, name: str) -> Array:
    """a as a C-contiguous native int32 array; a list of integers that fit becomes one."""
    array = np.asarray(a)
    if (array.dtype != np.int32 and isinstance(a, np.ndarray)) or array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be an array of int32, not {array.dtype}")
    wide = array.dtype != np.int32 and array.size > 0
    if wide and (array.min() < -(1 << 31) or array.max() >= 1 << 31):
        raise OverflowError(f"{name} must fit int32, and holds {array.min()} ... {array.max()}")
    return np.array(array, dtype=np.int32, order="C", copy=None)


def layout_of(shape: tuple[int, ...], axis: int | None, block_size: int | None) -> Layout:
    """The four numbers of pq_layout."""
    if axis is None:
        if block_size is not None:
            raise ValueError(f"block_size={block_size} needs an axis to run along")
        size = 1
        for n in shape:
            size *= n
        return 1, 1, size, 0
    ndim = len(shape)
    if isinstance(axis, bool) or not isinstance(axis, (int, np.integer)):
        raise TypeError(f"axis must be an integer or None, not {axis!r}")
    if not -ndim <= axis < ndim:
        raise ValueError(f"axis={axis} is out of range for an array of {ndim} dimensions")
    axis = int(axis) % ndim
    if block_size is None:
        block = 0
    else:
        if isinstance(block_size, bool) or not isinstance(block_size, (int, np.integer)):
            raise TypeError(f"block_size must be an integer or None, not {block_size!r}")
        block = int(block_size)
        if not 1 <= block < 1 << 62:
            raise ValueError(f"block_size={block_size} must be at least 1")
    outer = inner = 1
    for n in shape[:axis]:
        outer *= n
    for n in shape[axis + 1 :]:
        inner *= n
    return outer, shape[axis], inner, block


def params_shape(
    shape: tuple[int, ...], axis: int | None, block_size: int | None
) -> tuple[int, ...]:
    """The shape that scale and zero point have."""
    if axis is None:
        return ()
    if block_size is None:
        return (shape[axis],)
    axis = axis % len(shape)
    return (*shape[:axis], -(-shape[axis] // block_size), *shape[axis + 1 :])


def scale_input(scale: Any, expected: tuple[int, ...], name: str = "scale") -> Array:
    """scale as float32 of the expected shape; its values are checked in C."""
    array = np.asarray(scale)
    if array.dtype.kind not in "fiu" and array.dtype.name != "bfloat16":
        raise TypeError(f"{name} must be real numbers, not {array.dtype}")
    if array.shape != expected and not (expected == () and array.shape == (1,)):
        raise ValueError(f"{name} must have shape {expected} here, not {array.shape}")
    if array.dtype != np.float32 or not array.flags.c_contiguous:
        with np.errstate(over="ignore"):  # what overflows float32 becomes infinity and is refused
            array = np.array(array, dtype=np.float32, order="C")
    return array


def zero_point_input(zero_point: Any, expected: tuple[int, ...], grid_text: str) -> Array | None:
    """zero_point as int32 of the expected shape, None when all zero."""
    if type(zero_point) is int and zero_point == 0:
        return None
    array = np.asarray(zero_point)
    dtype = stored_integers(array.dtype)
    if dtype is None:
        raise TypeError(f"zero_point must be integers, not {array.dtype}")
    if array.shape != expected and array.shape != () and not (
        expected == () and array.shape == (1,)
    ):
        raise ValueError(f"zero_point must have shape {expected} or () here, not {array.shape}")
    if dtype.itemsize > 2:  # so that the conversion to int32 below does not wrap
        outside = (array < -(1 << 16)) | (array > (1 << 16))
        if outside.any():
            bad = array[outside].flat[0]
            raise ValueError(f"zero_point={bad} lies outside the grid {grid_text}")
    wide = array.astype(np.int32)
    if not wide.any():
        return None
    if array.shape != expected:
        wide = np.full(expected, wide.reshape(()) if wide.size == 1 else wide, np.int32)
    return np.ascontiguousarray(wide).reshape(expected)


def output(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any], *inputs: Array) -> Array:
    """The C-contiguous array that a kernel writes for `out`: out itself where that is safe."""
    if out is None:
        return _cpu.empty(shape, dtype)
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be a NumPy array, not {type(out).__name__}")
    if out.shape != shape:
        raise ValueError(f"out must have shape {shape}, not {out.shape}")
    if out.dtype != dtype or not out.dtype.isnative:
        raise ValueError(f"out must have dtype {dtype}, not {out.dtype}")
    if not out.flags.writeable:
        raise ValueError("out must be writeable, and this array is read-only")
    direct = out.flags.c_contiguous
    for array in inputs:
        if not np.may_share_memory(out, array):
            continue
        if _same_memory(out, array):
            continue
        if _overlap(out, array):
            raise ValueError("out must not partly overlap an input; it may be the input itself")
    return out if direct else _cpu.empty(shape, dtype)


def apart(array: Array, out: Array | None) -> Array:
    """array, or a copy of it where writing `out` would change it."""
    return array if out is None or not np.may_share_memory(array, out) else array.copy()


def _same_memory(a: Array, b: Array) -> bool:
    return (
        a.ctypes.data == b.ctypes.data
        and a.strides == b.strides
        and a.shape == b.shape
        and a.dtype.itemsize == b.dtype.itemsize
    )


def _overlap(a: Array, b: Array) -> bool:
    try:
        return np.shares_memory(a, b, max_work=100_000)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True


def delivered(result: Array, out: Array | None) -> Array:
    """What the caller gets: `out` with the result in it, where there is one."""
    if out is None or out is result:
        return result
    out[...] = result
    return out


def first_bad_scale(scale: Array) -> str:
    bad = ~((scale > 0) & np.isfinite(scale))
    return str(scale[bad].flat[0])


def nonfinite_sentence(index: tuple[int, ...], value: Any) -> str:
    """Why calibration data with this value in this place is refused."""
    where = index[0] if len(index) == 1 else index
    return (
        f"calibration data must be finite, and x[{where}] is {value}; "
        f"nan_policy='omit' passes over such values"
    )


def refuse(
    status: int,
    *,
    scale: Array | None = None,
    scale_name: str = "scale",
    zero_point: Array | None = None,
    grid: Grid | None = None,
    x: Array | None = None,
    x_code: int = 0,
) -> NoReturn:
    """The exception for a status of the C library."""
    if status == _cpu.ERROR_MEMORY:
        raise MemoryError("memory for the computation could not be allocated")
    if status == _cpu.ERROR_SCALE and scale is not None:
        raise ValueError(
            f"{scale_name}={first_bad_scale(scale)} must be positive and finite in float32"
        )
    if status == _cpu.ERROR_ZERO_POINT and grid is not None:
        values = np.zeros(1, np.int32) if zero_point is None else zero_point
        bad = values[(values < grid.qmin) | (values > grid.qmax)]
        raise ValueError(
            f"zero_point={bad.flat[0]} lies outside the grid {grid.qmin} ... {grid.qmax} "
            f"of {grid.name}"
        )
    if status == _cpu.ERROR_NONFINITE and x is not None:
        flat = int(_cpu.find_nonfinite(x, x_code))
        index = tuple(int(i) for i in np.unravel_index(flat, x.shape))
        raise ValueError(nonfinite_sentence(index, x[index]))
    if status == _cpu.ERROR_RANGE:
        raise ValueError("the range of x must be finite in float32, and it goes beyond")
    raise ValueError(f"the arguments were refused (status {status})")
