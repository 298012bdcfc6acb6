"""Quantize and dequantize with given parameters."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from pyquant import _cpu
from pyquant._arguments import (
    Array,
    apart,
    check_scale,
    delivered,
    float_input,
    integer_input,
    layout_of,
    output,
    params_input,
    params_shape,
    refuse,
    scale_input,
)
from pyquant._arrays import as_array, contiguous, module_of, on_device
from pyquant._backend import backend_of, beyond_numpy
from pyquant._grid import float_code, float_dtype, grid_of
from pyquant._tensors import takes_tensors

_quantize_plain = _cpu.quantize_plain
_dequantize_plain = _cpu.dequantize_plain


def quantize_linear(
    x: npt.ArrayLike,
    scale: npt.ArrayLike,
    zero_point: npt.ArrayLike = 0,
    *,
    dtype: str = "int8",
    narrow_range: bool = False,
    axis: int | None = None,
    block_size: int | None = None,
    out: Array | None = None,
) -> Array:
    """Quantize with given parameters: ``clamp(rint(x / scale) + zero_point, qmin, qmax)``.

    The division is IEEE float32 (float64 for float64 `x`) and ties go to even, for every value.
    Infinities saturate; NaN gives the zero point.

    Parameters
    ----------
    x : array of float16, bfloat16, float32 or float64
    scale : float or array
        Real units per integer step, positive and finite in float32. Shape ``()`` without `axis`,
        ``(x.shape[axis],)`` with it, and ``x.shape`` with ``ceil(n / block_size)`` in place of
        ``n = x.shape[axis]`` with `block_size`.
    zero_point : int or array of scale's shape
        The integer that stands for 0.0. Values that are on a GPU, here and in `scale`, are not
        checked.
    dtype : str
        The grid: "int2" ... "int16", "uint2" ... "uint16".
    narrow_range : bool
        Without the lowest value of the grid.
    axis, block_size : int, optional
        One scale for each index of `axis`, or for each `block_size` elements along it.
    out : array, optional
        Where to put the result; it may be strided, and not overlap `x`.

    Returns
    -------
    array of x's shape, of the smallest of int8, uint8, int16, uint16 that holds the grid

    Raises
    ------
    TypeError
        `x` is not floating-point.
    ValueError
        A scale is not positive and finite, a zero point is off the grid, a shape does not fit.

    Notes
    -----
    ONNX QuantizeLinear.

    Examples
    --------
    >>> import numpy as np
    >>> from pyquant import ops
    >>> ops.quantize_linear(np.float32([-1.0, 0.25, 0.75, 100.0]), 0.5)
    array([ -2,   0,   2, 127], dtype=int8)
    """
    result = _quantize_plain(x, scale, zero_point, dtype, narrow_range, axis, block_size, out)
    if result is None:
        given = scale, zero_point, dtype, narrow_range, axis, block_size
        return beyond_numpy("quantize_plain", _quantize, x, *given, out=out)
    return result


@takes_tensors()
def _quantize(
    x: Any, scale: Any, zero_point: Any, dtype: str, narrow_range: bool, axis: int | None,
    block_size: int | None, *, out: Any,
) -> Array:  # fmt: skip
    backend = backend_of(x, out, given=(scale, zero_point))
    grid = grid_of(dtype, narrow_range)
    array, code = float_input(x)
    scales, zero_points, layout = params_input(
        scale, zero_point, grid, array.shape, axis, block_size, array
    )
    scales = apart(scales, out)
    result = output(out, array.shape, grid.storage, array, x)
    status = backend.quantize(
        array, code, scales, zero_points, result, grid.code, layout, grid.qmin, grid.qmax
    )
    if status:
        refuse(status, scale=scales, zero_point=zero_points, grid=grid)
    return delivered(result, out)


def dequantize_linear(
    q: npt.ArrayLike,
    scale: npt.ArrayLike,
    zero_point: npt.ArrayLike = 0,
    *,
    axis: int | None = None,
    block_size: int | None = None,
    dtype: Any = "float32",
    out: Array | None = None,
) -> Array:
    """Back to real numbers: ``(q - zero_point) * scale``.

    Parameters
    ----------
    q : array of integers
        int8, uint8, int16, uint16; int32 (biases); the 2- and 4-bit types of ml_dtypes.
    scale, zero_point, axis, block_size
        As in `quantize_linear`.
    dtype : str
        "float32", "float16", "bfloat16" or "float64"; the float32 result, rounded to nearest even.
    out : array, optional
        Where to put the result; it may be strided, and not overlap `q`.

    Returns
    -------
    array of q's shape

    Raises
    ------
    TypeError
        `q` is not an array of integers.
    ValueError
        A scale is not positive and finite, a zero point is off the range of q's type, a shape
        does not fit.

    Notes
    -----
    ONNX DequantizeLinear.

    Examples
    --------
    >>> import numpy as np
    >>> from pyquant import ops
    >>> ops.dequantize_linear(np.int8([-2, 0, 127]), 0.5)
    array([-1. ,  0. , 63.5], dtype=float32)
    """
    result = _dequantize_plain(q, scale, zero_point, axis, block_size, dtype, out)
    if result is None:
        given = scale, zero_point, axis, block_size, dtype
        return beyond_numpy("dequantize_plain", _dequantize, q, *given, out=out)
    return result


@takes_tensors(differentiable=True)
def _dequantize(
    q: Any,
    scale: Any,
    zero_point: Any,
    axis: int | None,
    block_size: int | None,
    dtype: Any,
    *,
    out: Any,
) -> Array:
    backend = backend_of(q, out, given=(scale, zero_point))
    target = float_dtype(dtype)
    array = integer_input(q)
    if array.dtype.itemsize > 2:
        if array.dtype != np.int32:
            raise TypeError(f"q must be integers of 8 or 16 bits or int32, not {array.dtype}")
        return _dequantize_wide(array, scale, zero_point, axis, block_size, target, out)
    grid = grid_of(array.dtype.name, False)
    scales, zero_points, layout = params_input(
        scale, zero_point, grid, array.shape, axis, block_size, array
    )
    scales = apart(scales, out)
    result = output(out, array.shape, target, array, q)
    status = backend.dequantize(
        array, grid.code, scales, zero_points, result, float_code(target), layout
    )
    if status:
        refuse(status, scale=scales, zero_point=zero_points, grid=grid)
    return delivered(result, out)


def _dequantize_wide(
    q: Array,
    scale: Any,
    zero_point: Any,
    axis: int | None,
    block_size: int | None,
    dtype: np.dtype[Any],
    out: Array | None,
) -> Array:
    """int32, as biases are: rare and small, so NumPy's arithmetic, rounded alike."""
    layout = layout_of(q.shape, axis, block_size)
    expected = params_shape(q.shape, axis, block_size)
    scale = apart(scale_input(scale, expected), out)
    if not on_device(scale):
        check_scale(scale)
    zeros = as_array(zero_point)
    if zeros.dtype.kind not in "iu":
        raise TypeError(f"zero_point must be integers, not {zeros.dtype}")
    if zeros.shape not in (expected, (), (1,)):
        raise ValueError(f"zero_point must have shape {expected} or () here, not {zeros.shape}")
    zeros = module_of(zeros).broadcast_to(zeros.reshape(()) if zeros.size == 1 else zeros, expected)
    result = output(out, q.shape, dtype, q)
    if on_device(q):
        xp = module_of(q)
        zeros = contiguous(xp.asarray(zeros), np.dtype(np.int64))
        convert = import_module("pyquant._cuda_convert")
        convert.dequantize_int32(q, xp.asarray(scale), zeros, result, layout)
        return delivered(result, out)
    if axis is not None:
        axis %= q.ndim
        if block_size is None:
            shape = tuple(n if i == axis else 1 for i, n in enumerate(q.shape))
            scale, zeros = scale.reshape(shape), zeros.reshape(shape)
        else:
            index = np.arange(q.shape[axis]) // block_size
            scale, zeros = np.take(scale, index, axis), np.take(zeros, index, axis)
    real = (q.astype(np.int64) - zeros).astype(np.float32) * scale
    with np.errstate(over="ignore"):  # beyond the largest float16 lies infinity
        result[...] = real.astype(dtype)
    return delivered(result, out)
