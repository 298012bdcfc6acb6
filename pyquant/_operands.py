"""The operands of integer products: what a backend is told about them, and the checks before."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, NoReturn

import numpy as np

from pyquant import _cpu
from pyquant._arguments import Array, check_scale, output, refuse, scale_input
from pyquant._arrays import as_array, contiguous, on_device, on_host
from pyquant._grid import Grid, float_code, grid_of, stored_integers

INT32_MAX = (1 << 31) - 1
_ALWAYS_FITS = INT32_MAX // 255**2


class Operand(NamedTuple):
    """One side of a product, (..., rows, columns); strides are whole elements, of any sign.

    Zero points and scales have shape (), or a row of a one each, or a column of b; with blocks
    (rows of a, blocks) and (blocks, columns of b). In front of that there may be batches, until
    `pyquant._batches` has dealt with them.
    """

    array: Any
    """An array, or a backend's packed codes."""
    code: int
    """pq_type."""
    zero_point: Array | None = None
    """int32; None: 0."""
    scale: Array | None = None
    """float32; None: 1, and for a float `a`: symmetric int8, a scale for every row."""
    grid: Grid | None = None
    """The grid that a float `a` is quantized to."""


class Result(NamedTuple):
    """Where a product goes, and what becomes of it: pq_result."""

    array: Array
    code: int
    bias: Array | None = None
    low: float = -math.inf
    high: float = math.inf
    scale: float = 1.0
    zero_point: int = 0
    qmin: int = 0
    qmax: int = 0
    mode: int = _cpu.FLOAT


class Shape(NamedTuple):
    """Of a product, as `numpy.matmul` has it."""

    m: int
    n: int
    k: int
    result: tuple[int, ...]
    """Without the dimension that a vector gives up."""
    with_vectors: tuple[Any, ...]
    """The index that makes (..., m, n) of an array of shape `result`."""


def codes_input(array: Any, name: str) -> tuple[Array, int]:
    """An array of int8 or uint8, of any strides, and its pq_type."""
    array = array if type(array) is np.ndarray else as_array(array)
    dtype = stored_integers(array.dtype)
    if dtype is None or dtype.itemsize != 1:
        raise TypeError(f"{name} must be an array of int8 or uint8, not {array.dtype}")
    if array.ndim == 0:
        raise ValueError(f"{name} must have at least one dimension")
    code = _cpu.I8 if dtype == np.int8 else _cpu.U8
    return (array if array.dtype == dtype else array.astype(dtype)), code


def floats_input(x: Any, name: str) -> tuple[Array, int]:
    """A native float array whose rows are contiguous, one whole elements from the next."""
    array = x if type(x) is np.ndarray else as_array(x)
    native = array.dtype.newbyteorder("=")
    code = float_code(native)
    if code is None:
        raise TypeError(
            f"{name} must be a QuantizedArray or an array of floats, not of {array.dtype}"
        )
    if array.ndim == 0:
        raise ValueError(f"{name} must have at least one dimension")
    rows = array.strides[-1] == array.itemsize and whole_strides(array)
    return (array if rows and array.dtype == native else contiguous(array, native)), code


def whole_strides(array: Array) -> bool:
    """Are strides whole numbers of elements?"""
    return all(stride % array.itemsize == 0 for stride in array.strides)


def product_shape(a: tuple[int, ...], b: tuple[int, ...]) -> Shape:
    """The shape of ``a @ b``."""
    rows, columns = len(a) > 1, len(b) > 1
    k = a[-1]
    if k != b[-2 if columns else -1]:
        raise ValueError(
            f"a of shape {a} and b of shape {b} can not be multiplied: "
            f"{k} and {b[-2 if columns else -1]} must be the same number"
        )
    try:
        batch = (
            np.broadcast_shapes(a[:-2], b[:-2]) if len(a) > 2 and len(b) > 2 else a[:-2] or b[:-2]
        )
    except ValueError:
        raise ValueError(
            f"a of shape {a} and b of shape {b} can not be multiplied: "
            f"the dimensions before the last two must fit by broadcasting"
        ) from None
    m, n = a[-2] if rows else 1, b[-1] if columns else 1
    result = (*batch, *((m,) if rows else ()), *((n,) if columns else ()))
    whole = slice(None)
    return Shape(m, n, k, result, (..., whole if rows else None, whole if columns else None))


def as_matrices(array: Array, *, row: bool) -> Array:
    """A vector as a matrix of one row, or one column; other arrays as they are."""
    if array.ndim > 1:
        return array
    return array[None, :] if row else array[:, None]


def by_line(values: Array, shape: tuple[int, ...], axis: int, name: str) -> Array:
    """Parameters of an operand in ONNX's shapes as shape (), (n,) or (..., n).

    `shape` is the operand's, of at least two dimensions; `axis` is -2 for the rows of a and -1
    for the columns of b.
    """
    n, batch = shape[axis], shape[:-2]
    if values.size == 1 and values.ndim <= len(shape):
        return values.reshape(())
    if values.shape == (n,):
        return values
    other = -3 - axis
    if 2 <= values.ndim <= len(shape) and values.shape[other] == 1 and values.shape[axis] in (1, n):
        lines = values.reshape(*values.shape[:-2], values.shape[axis])
        ends = zip(lines.shape[-2::-1], batch[::-1], strict=False)
        if all(given in (1, own) for given, own in ends):
            lines = np.broadcast_to(lines, (*lines.shape[:-1], n))
            return lines if math.prod(lines.shape[:-1]) != 1 else lines.reshape(n)
    each = (*batch, n, 1) if axis == -2 else (*batch, 1, n)
    raise ValueError(f"{name} must have shape (), ({n},) or {each} here, not {values.shape}")


def zero_points(
    values: Any, shape: tuple[int, ...], axis: int, code: int, name: str
) -> Array | None:
    """Zero points of an operand as int32 in the shapes of `by_line`, None when all zero."""
    if type(values) is int and values == 0:
        return None
    array = as_array(values)
    if stored_integers(array.dtype) is None:
        raise TypeError(f"{name} must be integers, not {array.dtype}")
    if on_device(array):  # whose values stay unknown
        return by_line(array.astype(np.int32), shape, axis, name)
    grid = grid_of("int8" if code == _cpu.I8 else "uint8", False)
    wide = array if array.dtype.kind in "iu" else array.astype(np.int32)
    outside = (wide < grid.qmin) | (wide > grid.qmax)
    if outside.any():
        raise ValueError(
            f"{name}={wide[outside].flat[0]} lies outside the grid {grid.qmin} ... {grid.qmax} "
            f"of {grid.name}"
        )
    lines = by_line(wide.astype(np.int32), shape, axis, name)
    return lines if lines.any() else None


def one_zero_point(value: Any, grid: Grid, name: str) -> int:
    """A single zero point on a grid."""
    array = on_host(value)
    if stored_integers(array.dtype) is None:
        raise TypeError(f"{name} must be an integer, not {array.dtype}")
    if array.shape not in ((), (1,)):
        raise ValueError(f"{name} must have shape () here, not {array.shape}")
    zero_point = int(array.reshape(()))
    if not grid.qmin <= zero_point <= grid.qmax:
        raise ValueError(
            f"{name}={zero_point} lies outside the grid {grid.qmin} ... {grid.qmax} of {grid.name}"
        )
    return zero_point


def scales(values: Any, shape: tuple[int, ...], axis: int, name: str) -> Array:
    """Scales of an operand as float32 in the shapes of `by_line`."""
    array = as_array(values)
    lines = by_line(scale_input(array, array.shape, name), shape, axis, name)
    if not on_device(lines):
        check_scale(lines, name)
    return lines


def one_scale(value: Any, name: str) -> float:
    """A single scale."""
    scale = scale_input(on_host(value), (), name)
    check_scale(scale, name)
    return float(scale.reshape(()))


def refuse_multiplier(a: Operand, b: Operand, y_scale: float) -> None:
    """ValueError where a_scale * b_scale / y_scale underflows to 0 or overflows in float32."""
    if any(x.scale is not None and on_device(x.scale) for x in (a, b)):
        return
    for one, other in zip(_ends(a.scale), _ends(b.scale), strict=True):
        if 1e-37 < one * other < 1e38 and 1e-37 < one * other / y_scale < 1e38:
            continue
        with np.errstate(all="ignore"):
            multiplier = np.float32(one * other) / np.float32(y_scale)
        if not (multiplier > 0 and np.isfinite(multiplier)):
            raise ValueError(
                f"the multiplier a_scale * b_scale / y_scale = {one:.9g} * {other:.9g} / "
                f"{y_scale:.9g} must be positive and finite in float32"
            )


def _ends(scale: Array | None) -> tuple[float, float]:
    """The smallest and the largest scale; a product of two is exact in float64."""
    if scale is None or scale.size == 0:
        return 1.0, 1.0
    if scale.ndim == 0:
        return float(scale), float(scale)
    return float(scale.min()), float(scale.max())


def _farthest(code: int, zero_point: Array | None) -> int:
    """The largest absolute value of a code less its zero point."""
    low, high = (-128, 127) if code == _cpu.I8 else (0, 255)
    if zero_point is None or zero_point.size == 0:
        return max(-low, high)
    if on_device(zero_point):  # whose values stay unknown
        return 255
    return max(high - int(zero_point.min()), int(zero_point.max()) - low)


def refuse_overflow(k: int, a: Operand, b: Operand, bias: Array | None = None) -> None:
    """OverflowError where an int32 accumulator of the product could overflow."""
    if k <= _ALWAYS_FITS and bias is None:
        return
    most = _farthest(a.code, a.zero_point) * _farthest(b.code, b.zero_point)
    added = 0
    if bias is not None and bias.size and not on_device(bias):
        added = max(-int(bias.min()), int(bias.max()))
    if k * most + added > INT32_MAX:
        fits = max(INT32_MAX - added, 0) // most
        raise OverflowError(
            f"K={k} products of these types and zero points could overflow int32: "
            f"at most {fits} can be added up"
        )


def int32_output(out: Any, shape: tuple[int, ...], *operands: Operand) -> Array:
    """Where an int32 product is written: out itself unless its strides are no whole elements."""
    inputs = [x.array for x in operands if hasattr(x.array, "strides")]
    checked = output(out, shape, np.dtype(np.int32), *inputs)
    return out if out is not None and whole_strides(out) else checked


def product_refused(status: int, a: Operand) -> NoReturn:
    """The exception for a status of a product whose shapes and parameters were checked."""
    if status == _cpu.ERROR_NONFINITE:
        x = np.ascontiguousarray(a.array)
        found = _cpu.find_nonfinite(x, a.code) < x.size
        refuse(status if found else _cpu.ERROR_RANGE, x=x, x_code=a.code)
    refuse(status)
