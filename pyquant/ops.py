"""Raw operators with ONNX's names: plain arrays in, plain arrays out.

Everything else in the package is built on these, and all validation is here.
"""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from pyquant import _cpu
from pyquant._arguments import (
    Array,
    apart,
    delivered,
    float_input,
    int32_input,
    integer_input,
    layout_of,
    output,
    params_shape,
    refuse,
    scale_input,
    zero_point_input,
)
from pyquant._backend import backend_of
from pyquant._grid import Grid, float_code, float_dtype, grid_of

__all__ = [
    "absmax",
    "choose_params",
    "dequantize_linear",
    "dynamic_quantize",
    "dynamic_quantize_linear",
    "fake_quantize_grad_linear",
    "fake_quantize_linear",
    "minmax",
    "pack_bits",
    "quantize_linear",
    "requantize",
    "unpack_bits",
]

_SCHEMES = {"symmetric": _cpu.SYMMETRIC, "affine": _cpu.AFFINE}
_quantize_plain = _cpu.quantize_plain
_dequantize_plain = _cpu.dequantize_plain
_fake_quantize_plain = _cpu.fake_quantize_plain
_range_plain = _cpu.range_plain
_dynamic_quantize_plain = _cpu.dynamic_quantize_plain


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
        The integer that stands for 0.0.
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
    if result is not None:
        return result
    backend = backend_of(x, out)
    grid = grid_of(dtype, narrow_range)
    array, code = float_input(x)
    layout = layout_of(array.shape, axis, block_size)
    expected = params_shape(array.shape, axis, block_size)
    scales = apart(scale_input(scale, expected), out)
    zero_points = zero_point_input(zero_point, expected, f"{grid.qmin} ... {grid.qmax}")
    result = output(out, array.shape, grid.storage, np.asarray(x), array)
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
    if result is not None:
        return result
    backend = backend_of(q, out)
    target = float_dtype(dtype)
    array = integer_input(q)
    layout = layout_of(array.shape, axis, block_size)
    expected = params_shape(array.shape, axis, block_size)
    scales = apart(scale_input(scale, expected), out)
    if array.dtype.itemsize > 2:
        if array.dtype != np.int32:
            raise TypeError(f"q must be integers of 8 or 16 bits or int32, not {array.dtype}")
        return _dequantize_wide(array, scales, zero_point, expected, axis, block_size, target, out)
    grid = grid_of(array.dtype.name, False)
    zero_points = zero_point_input(zero_point, expected, f"{grid.qmin} ... {grid.qmax}")
    result = output(out, array.shape, target, np.asarray(q), array)
    status = backend.dequantize(
        array, grid.code, scales, zero_points, result, float_code(target), layout
    )
    if status:
        refuse(status, scale=scales, zero_point=zero_points, grid=grid)
    return delivered(result, out)


def _dequantize_wide(
    q: Array,
    scale: Array,
    zero_point: npt.ArrayLike,
    expected: tuple[int, ...],
    axis: int | None,
    block_size: int | None,
    dtype: np.dtype[Any],
    out: Array | None,
) -> Array:
    """int32, as biases are: rare and small, so NumPy's arithmetic, rounded alike."""
    if not np.all((scale > 0) & np.isfinite(scale)):
        refuse(_cpu.ERROR_SCALE, scale=scale)
    zeros = np.asarray(zero_point)
    if zeros.dtype.kind not in "iu":
        raise TypeError(f"zero_point must be integers, not {zeros.dtype}")
    if zeros.shape not in (expected, (), (1,)):
        raise ValueError(f"zero_point must have shape {expected} or () here, not {zeros.shape}")
    zeros = np.broadcast_to(zeros.reshape(()) if zeros.size == 1 else zeros, expected)
    if axis is not None:
        axis %= q.ndim
        if block_size is None:
            shape = tuple(n if i == axis else 1 for i, n in enumerate(q.shape))
            scale, zeros = scale.reshape(shape), zeros.reshape(shape)
        else:
            index = np.arange(q.shape[axis]) // block_size
            scale, zeros = np.take(scale, index, axis), np.take(zeros, index, axis)
    real = (q.astype(np.int64) - zeros).astype(np.float32) * scale
    result = output(out, q.shape, dtype, q)
    result[...] = real.astype(dtype)
    return delivered(result, out)


def dynamic_quantize(
    x: npt.ArrayLike,
    *,
    dtype: str = "int8",
    scheme: str = "symmetric",
    narrow_range: bool = False,
    axis: int | None = None,
    block_size: int | None = None,
    out: Array | None = None,
) -> tuple[Array, Array, Array]:
    """Range, parameters and quantize in one call.

    Parameters
    ----------
    x, dtype, narrow_range, axis, block_size, out
        As in `quantize_linear`.
    scheme : "symmetric" or "affine"
        How the scale follows from the range; see `pyquant.choose_params`.

    Returns
    -------
    (q, scale, zero_point)
        scale float32, zero_point of q's dtype, with the shapes that `quantize_linear` takes; both
        read-only.

    Raises
    ------
    TypeError
        `x` is not floating-point.
    ValueError
        `x` holds NaN or infinity; the sentence names the first one's index.

    Examples
    --------
    >>> import numpy as np
    >>> from pyquant import ops
    >>> q, scale, zero_point = ops.dynamic_quantize(np.float32([-1.0, 0.5]), narrow_range=True)
    >>> q, float(scale), int(zero_point)
    (array([-127,   64], dtype=int8), 0.007874015718698502, 0)
    """
    grid = grid_of(dtype, narrow_range)
    made = _dynamic_quantize_plain(x, grid, scheme_code(scheme), axis, block_size, out)
    if made is not None:
        return made
    backend = backend_of(x, out)
    array, code = float_input(x)
    layout = layout_of(array.shape, axis, block_size)
    shape = params_shape(array.shape, axis, block_size)
    scale = np.empty(shape, np.float32)
    zero_points = np.empty(shape, np.int32)
    checked = output(out, array.shape, grid.storage, np.asarray(x), array)
    # Data that are refused half-way must not leave codes in out.
    result = checked if out is None else _cpu.empty(array.shape, grid.storage)
    status = backend.dynamic_quantize(
        array, code, result, grid.code, layout, scheme_code(scheme), grid.qmin, grid.qmax,
        scale, zero_points,
    )  # fmt: skip
    if status:
        refuse(status, x=array, x_code=code)
    zeros = zero_points.astype(grid.storage)
    scale.flags.writeable = zeros.flags.writeable = False
    return delivered(result, out), scale, zeros


def scheme_code(scheme: str) -> int:
    """pq_scheme of a name."""
    code = _SCHEMES.get(scheme)
    if code is None:
        raise ValueError(f"scheme must be 'symmetric' or 'affine', not {scheme!r}")
    return int(code)


def dynamic_quantize_linear(x: npt.ArrayLike) -> tuple[Array, Array, Array]:
    """ONNX DynamicQuantizeLinear: affine uint8 over the range of x, widened to hold 0.

    Parameters
    ----------
    x : float array of any shape

    Returns
    -------
    (q, scale, zero_point)
        q uint8 of x's shape; scale float32 and zero_point uint8, both of shape ``()``.

    Raises
    ------
    TypeError, ValueError
        As `dynamic_quantize`.

    Examples
    --------
    >>> import numpy as np
    >>> from pyquant import ops
    >>> q, scale, zero_point = ops.dynamic_quantize_linear(np.float32([0, 2, -3, -2.5, 1.34, 0.5]))
    >>> q, float(scale), int(zero_point)
    (array([153, 255,   0,  26, 221, 179], dtype=uint8), 0.019607843831181526, 153)
    """
    return dynamic_quantize(x, dtype="uint8", scheme="affine")


def choose_params(
    alpha: npt.ArrayLike,
    beta: npt.ArrayLike,
    *,
    dtype: str = "int8",
    scheme: str = "symmetric",
    narrow_range: bool = False,
) -> tuple[Array, Array]:
    """Scale and zero point for the real ranges [alpha, beta].

    Parameters
    ----------
    alpha, beta : float or arrays of one shape
        Finite, alpha <= beta; taken as float32.
    dtype, scheme, narrow_range
        As in `dynamic_quantize`.

    Returns
    -------
    (scale, zero_point)
        float32, and integers of the grid's type, both of alpha's shape.

    Raises
    ------
    ValueError
        A range is not finite or upside down, or the scheme or dtype is unknown.

    Examples
    --------
    >>> from pyquant import ops
    >>> scale, zero_point = ops.choose_params(-1.0, 3.0, dtype="uint8", scheme="affine")
    >>> float(scale), int(zero_point)
    (0.01568627543747425, 64)
    """
    grid = grid_of(dtype, narrow_range)
    code = scheme_code(scheme)
    with np.errstate(over="ignore"):
        low = np.asarray(alpha).astype(np.float32, order="C")
        high = np.asarray(beta).astype(np.float32, order="C")
    if low.shape != high.shape:
        raise ValueError(f"alpha and beta must have one shape, not {low.shape} and {high.shape}")
    bad = ~(np.isfinite(low) & np.isfinite(high) & (low <= high))
    if bad.any():
        a, b = low[bad].flat[0], high[bad].flat[0]
        raise ValueError(f"the range [{a}, {b}] must be finite in float32 with alpha <= beta")
    scale = np.empty(low.shape, np.float32)
    zero_points = np.empty(low.shape, np.int32)
    status = _cpu.choose_params(low, high, code, grid.qmin, grid.qmax, scale, zero_points)
    if status:
        refuse(status)
    return scale, zero_points.astype(grid.storage)


def _range_arguments(
    x: npt.ArrayLike, axis: int | None, block_size: int | None, nan_policy: str
) -> tuple[Array, int, tuple[int, int, int, int], tuple[int, ...], bool]:
    if nan_policy not in ("raise", "omit"):
        raise ValueError(f"nan_policy must be 'raise' or 'omit', not {nan_policy!r}")
    array, code = float_input(x)
    layout = layout_of(array.shape, axis, block_size)
    return array, code, layout, params_shape(array.shape, axis, block_size), nan_policy == "omit"


def minmax(
    x: npt.ArrayLike,
    *,
    axis: int | None = None,
    block_size: int | None = None,
    nan_policy: str = "raise",
) -> tuple[Array, Array]:
    """The smallest and largest value, per tensor, per channel or per block.

    Parameters
    ----------
    x : float array
    axis, block_size
        As in `quantize_linear`.
    nan_policy : "raise" or "omit"
        What NaN and infinities do.

    Returns
    -------
    (low, high)
        float32, of the shape that a scale would have; 0 and 0 where there is nothing.

    Raises
    ------
    TypeError, ValueError
        As `dynamic_quantize`.

    Examples
    --------
    >>> import numpy as np
    >>> from pyquant import ops
    >>> low, high = ops.minmax(np.float32([[1, -2], [3, 4]]), axis=0)
    >>> low, high
    (array([-2.,  3.], dtype=float32), array([1., 4.], dtype=float32))
    """
    made = _range_plain(x, axis, block_size, False) if nan_policy == "raise" else None
    if made is not None:
        return made  # type: ignore[no-any-return]
    backend = backend_of(x)
    array, code, layout, shape, omit = _range_arguments(x, axis, block_size, nan_policy)
    low, high = np.empty(shape, np.float32), np.empty(shape, np.float32)
    status = backend.minmax(array, code, layout, omit, low, high)
    if status:
        refuse(status, x=array, x_code=code)
    return low, high


def absmax(
    x: npt.ArrayLike,
    *,
    axis: int | None = None,
    block_size: int | None = None,
    nan_policy: str = "raise",
) -> Array:
    """The largest absolute value, per tensor, per channel or per block.

    Parameters, errors and shapes are those of `minmax`.

    Examples
    --------
    >>> import numpy as np
    >>> from pyquant import ops
    >>> float(ops.absmax(np.float32([1, -2, 0.5])))
    2.0
    """
    made = _range_plain(x, axis, block_size, True) if nan_policy == "raise" else None
    if made is not None:
        return made  # type: ignore[no-any-return]
    backend = backend_of(x)
    array, code, layout, shape, omit = _range_arguments(x, axis, block_size, nan_policy)
    high = np.empty(shape, np.float32)
    status = backend.absmax(array, code, layout, omit, high)
    if status:
        refuse(status, x=array, x_code=code)
    return high


def _fake_arguments(
    scale: npt.ArrayLike,
    zero_point: npt.ArrayLike,
    grid: Grid,
    shape: tuple[int, ...],
    axis: int | None,
    block_size: int | None,
) -> tuple[Array, Array | None, tuple[int, int, int, int]]:
    layout = layout_of(shape, axis, block_size)
    expected = params_shape(shape, axis, block_size)
    zero_points = zero_point_input(zero_point, expected, f"{grid.qmin} ... {grid.qmax}")
    return scale_input(scale, expected), zero_points, layout


def fake_quantize_linear(
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
    """``dequantize_linear(quantize_linear(x))`` in one pass, in x's own float type.

    Parameters and errors are those of `quantize_linear`; `out` may be `x` itself.

    Examples
    --------
    >>> import numpy as np
    >>> from pyquant import ops
    >>> ops.fake_quantize_linear(np.float32([-1.1, 0.2, 100.0]), 0.5)
    array([-1. ,  0. , 63.5], dtype=float32)
    """
    result = _fake_quantize_plain(
        x, scale, zero_point, dtype, narrow_range, axis, block_size, out
    )
    if result is not None:
        return result
    backend = backend_of(x, out)
    grid = grid_of(dtype, narrow_range)
    array, code = float_input(x)
    scales, zero_points, layout = _fake_arguments(
        scale, zero_point, grid, array.shape, axis, block_size
    )
    result = output(out, array.shape, array.dtype, np.asarray(x), array)
    status = backend.fake_quantize(
        array, code, apart(scales, out), zero_points, result, layout, grid.qmin, grid.qmax
    )
    if status:
        refuse(status, scale=scales, zero_point=zero_points, grid=grid)
    return delivered(result, out)


def fake_quantize_grad_linear(
    grad: npt.ArrayLike,
    x: npt.ArrayLike,
    scale: npt.ArrayLike,
    zero_point: npt.ArrayLike = 0,
    *,
    dtype: str = "int8",
    narrow_range: bool = False,
    axis: int | None = None,
    block_size: int | None = None,
) -> tuple[Array, Array, Array]:
    """Straight-through gradients of `fake_quantize_linear`; see `pyquant.fake_quantize_grad`.

    Returns
    -------
    (dx, dscale, dzero_point)
        dx of x's shape and grad's dtype; the others float32 of scale's shape.

    Examples
    --------
    >>> import numpy as np
    >>> from pyquant import ops
    >>> dx, ds, dz = ops.fake_quantize_grad_linear(np.ones(2, "f4"), np.float32([0.4, 9.0]), 0.5,
    ...                                            dtype="int4")
    >>> dx, round(float(ds), 3), float(dz)
    (array([1., 0.], dtype=float32), 7.2, -0.5)
    """
    backend = backend_of(grad, x)
    grid = grid_of(dtype, narrow_range)
    array, _ = float_input(x)
    upstream, _ = float_input(grad, "grad")
    if upstream.shape != array.shape:
        raise ValueError(f"grad must have x's shape {array.shape}, not {upstream.shape}")
    scales, zero_points, layout = _fake_arguments(
        scale, zero_point, grid, array.shape, axis, block_size
    )
    code = _cpu.F64 if np.float64 in (array.dtype, upstream.dtype) else _cpu.F32
    wide = np.dtype(np.float64 if code == _cpu.F64 else np.float32)
    dx = np.empty(array.shape, wide)
    dscale, dzero_point = np.empty(scales.shape), np.empty(scales.shape)
    status = backend.fake_quantize_grad(
        upstream.astype(wide, copy=False), array.astype(wide, copy=False), code, scales,
        zero_points, dx, dscale, dzero_point, layout, grid.qmin, grid.qmax,
    )  # fmt: skip
    if status:
        refuse(status, scale=scales, zero_point=zero_points, grid=grid)
    return (
        dx.astype(upstream.dtype, copy=False),
        dscale.astype(np.float32),
        dzero_point.astype(np.float32),
    )


_REQUANTIZE = {
    ("float", "double"): _cpu.FLOAT,
    ("float", "single"): _cpu.FLOAT,
    ("fixed", "double"): _cpu.FIXED_DOUBLE,
    ("fixed", "single"): _cpu.FIXED_SINGLE,
}


def requantize(
    acc: npt.ArrayLike,
    multiplier: npt.ArrayLike,
    zero_point: npt.ArrayLike = 0,
    *,
    dtype: str = "int8",
    narrow_range: bool = False,
    axis: int | None = None,
    mode: str = "float",
    rounding: str = "double",
    out: Array | None = None,
) -> Array:
    """int32 accumulators to a grid: ``clamp(round(acc * multiplier) + zero_point)``.

    Parameters
    ----------
    acc : int32 array
    multiplier : float or array of shape ``(acc.shape[axis],)``
        ``a_scale * b_scale / y_scale``, positive and finite in float32.
    zero_point, dtype, narrow_range, axis, out
        As in `quantize_linear`.
    mode : "float" or "fixed"
        "float" (ONNX QLinearMatMul): ``rint(float32(acc) * multiplier)``, ties to even.
        "fixed" (gemmlowp, TFLite): integers only, from a 32-bit multiplier and a shift.
    rounding : "double" or "single"
        Of mode "fixed". "double": saturating rounding doubling high multiply, then a rounding
        division by a power of two, ties away from zero. "single": one 64-bit rounding shift, ties
        up.

    Returns
    -------
    array of acc's shape

    Raises
    ------
    TypeError
        `acc` is not int32.
    ValueError
        An unknown mode or rounding; multiplier, zero point or shape as in `quantize_linear`.

    Examples
    --------
    >>> import numpy as np
    >>> from pyquant import ops
    >>> ops.requantize(np.int32([100, -300, 70000]), 0.01, mode="fixed")
    array([  1,  -3, 127], dtype=int8)
    """
    backend = backend_of(acc, out)
    code = _REQUANTIZE.get((mode, rounding))
    if code is None:
        raise ValueError(
            "mode must be 'float' or 'fixed' and rounding 'double' or 'single', "
            f"not {mode!r} and {rounding!r}"
        )
    grid = grid_of(dtype, narrow_range)
    array = int32_input(acc, "acc")
    layout = layout_of(array.shape, axis, None)
    expected = params_shape(array.shape, axis, None)
    scales = apart(scale_input(multiplier, expected, "multiplier"), out)
    zero_points = zero_point_input(zero_point, expected, f"{grid.qmin} ... {grid.qmax}")
    result = output(out, array.shape, grid.storage, np.asarray(acc), array)
    status = backend.requantize(
        array, scales, zero_points, result, grid.code, layout, grid.qmin, grid.qmax, code
    )
    if status:
        refuse(
            status, scale=scales, scale_name="multiplier", zero_point=zero_points, grid=grid
        )
    return delivered(result, out)


def _check_bits(bits: int) -> int:
    if isinstance(bits, bool) or not isinstance(bits, (int, np.integer)) or not 1 <= bits <= 16:
        raise ValueError(f"bits={bits!r} must be an integer from 1 to 16")
    return int(bits)


def pack_bits(q: npt.ArrayLike, bits: int) -> Array:
    """Codes to a bit stream: the first element in the lowest bits, two's complement.

    Parameters
    ----------
    q : array of integers
        Taken in C order; each must fit `bits` bits, signed or not.
    bits : int
        1 to 16.

    Returns
    -------
    1-D uint8 array of ``ceil(q.size * bits / 8)`` bytes; unused high bits are 0

    Raises
    ------
    ValueError
        A code does not fit, or `bits` is out of range.

    Notes
    -----
    For 4 and 2 bits this is how ONNX stores INT4, UINT4, INT2 and UINT2 tensors.

    Examples
    --------
    >>> import numpy as np
    >>> from pyquant import ops
    >>> ops.pack_bits(np.int8([1, -1, 7]), 4)
    array([241,   7], dtype=uint8)
    """
    backend = backend_of(q)
    bits = _check_bits(bits)
    array = integer_input(q)
    signed = array.dtype.kind == "i"
    width = np.dtype(f"{'' if signed else 'u'}int{8 if bits <= 8 else 16}")
    codes = array
    if array.dtype != width:
        codes = array.astype(width)
        if not np.array_equal(codes, array):
            _refuse_codes(array, bits, signed)
    packed = np.empty(_cpu.packed_size(codes.size, bits), np.uint8)
    status = backend.pack_bits(codes, bits, signed, packed)
    if status == _cpu.ERROR_CODE:
        _refuse_codes(array, bits, signed)
    if status:
        refuse(status)
    return packed


def _refuse_codes(codes: Array, bits: int, signed: bool) -> NoReturn:
    low, high = -(1 << (bits - 1)) if signed else 0, (1 << bits) - 1
    bad = codes[(codes < low) | (codes > high)].flat[0]
    raise ValueError(f"q holds {bad}, which does not fit {bits} bits")


def unpack_bits(
    packed: npt.ArrayLike,
    bits: int,
    shape: int | tuple[int, ...] | None = None,
    *,
    signed: bool = True,
    out: Array | None = None,
) -> Array:
    """The codes of a bit stream; the inverse of `pack_bits`.

    Parameters
    ----------
    packed : uint8 array
    bits : int
        1 to 16.
    shape : int or tuple, optional
        Of the result. Without it, as many codes as are whole in `packed`.
    signed : bool
        Is the highest bit of a code its sign?
    out : array, optional

    Returns
    -------
    array of int8 or uint8, above 8 bits int16 or uint16

    Raises
    ------
    TypeError
        `packed` is not uint8.
    ValueError
        `packed` has not ``ceil(size * bits / 8)`` bytes, or `bits` is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from pyquant import ops
    >>> ops.unpack_bits(np.uint8([241, 7]), 4, 3)
    array([ 1, -1,  7], dtype=int8)
    """
    backend = backend_of(packed, out)
    bits = _check_bits(bits)
    array = integer_input(packed, "packed")
    if array.dtype != np.uint8:
        raise TypeError(f"packed must be an array of uint8, not {array.dtype}")
    if shape is None:
        shape = (array.size * 8 // bits,)
    elif isinstance(shape, (int, np.integer)):
        shape = (int(shape),)
    count = 1
    for n in shape:
        if n < 0:
            raise ValueError(f"shape={shape} must not be negative")
        count *= int(n)
    needed = (count * bits + 7) // 8
    if array.size != needed:
        raise ValueError(
            f"packed must have {needed} bytes for {count} codes of {bits} bits, not {array.size}"
        )
    dtype = np.dtype(f"{'' if signed else 'u'}int{8 if bits <= 8 else 16}")
    result = output(out, tuple(shape), dtype, array)
    status = backend.unpack_bits(array, bits, bool(signed), result)
    if status:
        refuse(status)
    return delivered(result, out)
