"""The checks that the operators make of its arguments, and the sentences in which they fail."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from pyquant import _cpu
from pyquant._arrays import Array as Array
from pyquant._arrays import (
    as_array,
    contiguous,
    empty,
    finite,
    is_same,
    may_overlap,
    module_of,
    on_device,
    on_host,
    overlap,
)
from pyquant._backend import library_of
from pyquant._grid import Grid, float_code, stored_integers

Layout = tuple[int, int, int, int]


def float_input(x: Any, name: str = "x") -> tuple[Array, int]:
    """x as a C-contiguous native float array, and its pq_type."""
    array = x if type(x) is np.ndarray else as_array(x)
    code = float_code(array.dtype)
    if code is not None and array.flags.c_contiguous:
        return array, code
    native = array.dtype.newbyteorder("=")
    code = float_code(native)
    if code is None:
        raise TypeError(
            f"{name} must be a float16, bfloat16, float32 or float64 array, not {array.dtype}"
        )
    return contiguous(array, native), code


def integer_input(q: Any, name: str = "q") -> Array:
    """q as a C-contiguous native integer array of a standard type."""
    array = q if type(q) is np.ndarray else as_array(q)
    dtype = stored_integers(array.dtype)
    if dtype is None:
        raise TypeError(f"{name} must be an array of integers, not {array.dtype}")
    return contiguous(array, dtype)


def int32_input(a: Any, name: str) -> Array:
    """a as a C-contiguous native int32 array; a list of integers that fit becomes one."""
    array = as_array(a)
    if (array.dtype != np.int32 and array is a) or array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be an array of int32, not {array.dtype}")
    wide = array.dtype != np.int32 and array.size > 0
    if wide and (array.min() < -(1 << 31) or array.max() >= 1 << 31):
        raise OverflowError(f"{name} must fit int32, and holds {array.min()} ... {array.max()}")
    return contiguous(array, np.dtype(np.int32))


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


def params_input(
    scale: Any,
    zero_point: Any,
    grid: Grid,
    shape: tuple[int, ...],
    axis: int | None,
    block_size: int | None,
    x: Array,
    *,
    name: str = "scale",
) -> tuple[Array, Array | None, Layout]:
    """scale, zero_point and pq_layout for an array x of that shape, as kernels take them.

    The C library checks their values; of x on a device, those that are on the host are checked
    here, and those on the device not at all: that would wait for it.
    """
    layout = layout_of(shape, axis, block_size)
    expected = params_shape(shape, axis, block_size)
    scales = scale_input(scale, expected, name)
    zero_points = zero_point_input(zero_point, expected, f"{grid.qmin} ... {grid.qmax}")
    if type(x) is not np.ndarray and on_device(x):
        if not on_device(scales):
            check_scale(scales, name)
        if zero_points is None or not on_device(zero_points):
            check_zero_point(zero_points, grid)
    return scales, zero_points, layout


def scale_input(scale: Any, expected: tuple[int, ...], name: str = "scale") -> Array:
    """scale as float32 of the expected shape; its values are checked in C."""
    array = as_array(scale)
    if array.dtype.kind not in "fiu" and array.dtype.name != "bfloat16":
        raise TypeError(f"{name} must be real numbers, not {array.dtype}")
    if array.shape != expected and not (expected == () and array.shape == (1,)):
        raise ValueError(f"{name} must have shape {expected} here, not {array.shape}")
    if array.dtype != np.float32 or not array.flags.c_contiguous:
        with np.errstate(over="ignore"):  # what overflows float32 becomes infinity and is refused
            array = contiguous(array, np.dtype(np.float32))
    return array


def zero_point_input(zero_point: Any, expected: tuple[int, ...], grid_text: str) -> Array | None:
    """zero_point as int32 of the expected shape, None when all zero."""
    if type(zero_point) is int and zero_point == 0:
        return None
    array = as_array(zero_point)
    dtype = stored_integers(array.dtype)
    if dtype is None:
        raise TypeError(f"zero_point must be integers, not {array.dtype}")
    if array.shape != expected and array.shape != () and not (
        expected == () and array.shape == (1,)
    ):
        raise ValueError(f"zero_point must have shape {expected} or () here, not {array.shape}")
    if on_device(array):  # whose values stay unknown
        if array.shape != expected:
            array = module_of(array).broadcast_to(array.reshape(()), expected)
        return contiguous(array, np.dtype(np.int32))
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


def check_scale(scale: Array, name: str = "scale") -> None:
    """ValueError for values of the host that are no scales."""
    good = (scale > 0) & np.isfinite(scale)
    if not good.all():
        raise ValueError(f"{name}={scale[~good].flat[0]} must be positive and finite in float32")


def check_zero_point(zero_point: Array | None, grid: Grid) -> None:
    """ValueError for values of the host that lie off the grid."""
    if zero_point is None:
        zero_point = np.zeros(1, np.int32)
    outside = (zero_point < grid.qmin) | (zero_point > grid.qmax)
    if outside.any():
        raise ValueError(
            f"zero_point={zero_point[outside].flat[0]} lies outside the grid "
            f"{grid.qmin} ... {grid.qmax} of {grid.name}"
        )


def output(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any], *inputs: Any) -> Array:
    """The C-contiguous array that a kernel writes for `out`: out itself where that is safe.

    `inputs` are what it reads and what that was made of; where the first is, the result is.
    """
    if out is None:
        return empty(shape, dtype, inputs[0])
    if not isinstance(out, np.ndarray) and not on_device(out):
        library = library_of(type(inputs[0]))
        raise TypeError(f"out must be a {library} array, not {type(out).__name__}")
    if out.shape != shape:
        raise ValueError(f"out must have shape {shape}, not {out.shape}")
    if out.dtype != dtype or not out.dtype.isnative:
        raise ValueError(f"out must have dtype {dtype}, not {out.dtype}")
    if isinstance(out, np.ndarray) and not out.flags.writeable:
        raise ValueError("out must be writeable, and this array is read-only")
    for array in map(as_array, inputs):
        if may_overlap(out, array) and not is_same(out, array) and overlap(out, array):
            raise ValueError("out must not partly overlap an input; it may be the input itself")
    return out if out.flags.c_contiguous else empty(shape, dtype, inputs[0])


def apart(array: Array, out: Array | None) -> Array:
    """array, or a copy of it where writing `out` would change it."""
    return array.copy() if isinstance(out, type(array)) and may_overlap(array, out) else array


def delivered(result: Array, out: Array | None) -> Array:
    """What the caller gets: `out` with the result in it, where there is one."""
    if out is None or out is result:
        return result
    out[...] = result
    return out


def nonfinite_sentence(index: tuple[int, ...], value: Any) -> str:
    """Why calibration data with this value in this place is refused."""
    where = index[0] if len(index) == 1 else index
    return (
        f"calibration data must be finite, and x[{where}] is {value}; "
        f"nan_policy='omit' passes over such values"
    )


def refuse_unbounded(low: Array, high: Array, x: Array, x_code: int) -> None:
    """The exceptions of the CPU, for what a device makes of data that have them."""
    if np.isnan(low).any():
        refuse(_cpu.ERROR_NONFINITE, x=x, x_code=x_code)
    if np.isneginf(low).any() or np.isposinf(high).any():
        refuse(_cpu.ERROR_RANGE)


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
        check_scale(scale, scale_name)
    if status == _cpu.ERROR_ZERO_POINT and grid is not None:
        check_zero_point(zero_point, grid)
    if status == _cpu.ERROR_NONFINITE and x is not None:
        if on_device(x):
            flat = int((~finite(x)).reshape(-1).argmax())
        else:
            flat = int(_cpu.find_nonfinite(x, x_code))
        index = tuple(int(i) for i in np.unravel_index(flat, x.shape))
        raise ValueError(nonfinite_sentence(index, on_host(x[index])))
    if status == _cpu.ERROR_RANGE:
        raise ValueError("the range of x must be finite in float32, and it goes beyond")
    raise ValueError(f"the arguments were refused (status {status})")
