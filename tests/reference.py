"""The oracle: SPEC section 2 in exact arithmetic.

Everything up to the last section works on Python integers and ``fractions.Fraction``. A float
enters as a Python float, which holds every float16, bfloat16, float32 and float64 exactly, and is
rounded exactly once by `round_fraction` wherever the specification says "in float32". Nothing here
shares code, or an idea, with ``csrc/``.

The last section holds a second, vectorised oracle for arrays too big for the first; each function
there argues why it is exact, and ``test_reference.py`` compares it with the first.
"""

import itertools
import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

# --- floating point formats -----------------------------------------------------------------


@dataclass(frozen=True)
class Format:
    """A binary IEEE format: significand bits (with the hidden one) and the exponents of normals."""

    precision: int
    min_exponent: int
    max_exponent: int


F16 = Format(11, -14, 15)
BF16 = Format(8, -126, 127)
F32 = Format(24, -126, 127)
F64 = Format(53, -1022, 1023)
FORMATS = {"float16": F16, "bfloat16": BF16, "float32": F32, "float64": F64}

SMALLEST_NORMAL_F32 = 2.0**-126


def round_fraction(value: Fraction, fmt: Format) -> float:
    """Round a rational to the nearest number of a format, ties to even; overflow gives infinity."""
    if value == 0:
        return 0.0
    sign = -1.0 if value < 0 else 1.0
    magnitude = abs(value)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if magnitude < Fraction(2) ** exponent:
        exponent -= 1
    # Below the smallest normal the spacing stops shrinking: those are the subnormals.
    ulp = Fraction(2) ** (max(exponent, fmt.min_exponent) - fmt.precision + 1)
    rounded = round(magnitude / ulp) * ulp  # Fraction.__round__ takes ties to even
    if rounded >= Fraction(2) ** (fmt.max_exponent + 1):
        return sign * math.inf
    return sign * float(rounded)


def round_float(value: float, fmt: Format) -> float:
    """Round a Python float, which may be NaN, infinite or a signed zero."""
    if not math.isfinite(value) or value == 0.0:
        return value
    return round_fraction(Fraction(value), fmt)


def divide(x: float, y: float, fmt: Format) -> float:
    """IEEE division by a positive finite number."""
    if not math.isfinite(x) or x == 0.0:
        return x
    return round_fraction(Fraction(x) / Fraction(y), fmt)


def subtract(x: float, y: float, fmt: Format) -> float:
    """IEEE subtraction of finite numbers (the sign of a zero result is of no interest here)."""
    return round_fraction(Fraction(x) - Fraction(y), fmt)


# --- grids ----------------------------------------------------------------------------------


def bits_of(dtype: str) -> int:
    return int(dtype.lstrip("uint"))


def is_signed(dtype: str) -> bool:
    return dtype.startswith("i")


def grid(dtype: str, narrow_range: bool = False) -> tuple[int, int]:
    """(qmin, qmax)."""
    bits = bits_of(dtype)
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    if not is_signed(dtype):
        low, high = 0, (1 << bits) - 1
    return low + narrow_range, high


def storage(dtype: str) -> np.dtype:
    """The smallest standard integer type that holds the grid."""
    return np.dtype(("i" if is_signed(dtype) else "u") + ("1" if bits_of(dtype) <= 8 else "2"))


def clamp(value: int, low: int, high: int) -> int:
    return min(max(value, low), high)


# --- one element ----------------------------------------------------------------------------


def quantize_element(
    x: float, scale: float, zero_point: int, low: int, high: int, fmt: Format = F32
) -> int:
    if math.isnan(x):
        return zero_point
    quotient = divide(x, scale, fmt)
    if math.isinf(quotient):
        return high if quotient > 0 else low
    return clamp(round(Fraction(quotient)) + zero_point, low, high)


def dequantize_element(q: int, scale: float, zero_point: int, fmt: Format = F32) -> float:
    return round_float(round_fraction((q - zero_point) * Fraction(scale), F32), fmt)


def fake_quantize_element(
    x: float, scale: float, zero_point: int, low: int, high: int, fmt: Format = F32
) -> float:
    return dequantize_element(quantize_element(x, scale, zero_point, low, high, fmt), scale,
                              zero_point)  # fmt: skip


def fake_quantize_grad_element(
    grad: float, x: float, scale: float, zero_point: int, low: int, high: int
) -> tuple[float, Fraction, Fraction]:
    """(dx, this element's share of dscale, and of dzero_point); the shares are exact.

    The surrogate treats ``rint(v)`` as ``v + const``. NaN lies nowhere inside the grid, and its
    output does not depend on x, the scale or the zero point.
    """
    g = Fraction(grad)
    if math.isnan(x):
        return 0.0, Fraction(0), Fraction(0)
    quotient = divide(x, scale, F32)
    if math.isinf(quotient):
        edge = high if quotient > 0 else low
        return 0.0, g * (edge - zero_point), -g * Fraction(scale)
    rounded = round(Fraction(quotient)) + zero_point
    if low <= rounded <= high:
        return grad, g * (rounded - zero_point - Fraction(x) / Fraction(scale)), Fraction(0)
    edge = clamp(rounded, low, high)
    return 0.0, g * (edge - zero_point), -g * Fraction(scale)


# --- choosing params ------------------------------------------------------------------------


def choose_params(
    alpha: float, beta: float, dtype: str, scheme: str = "symmetric", narrow_range: bool = False
) -> tuple[float, int]:
    """(scale, zero point) of a range whose ends are float32 numbers, step by step in float32."""
    low, high = grid(dtype, narrow_range)
    if scheme == "symmetric":
        zero_point = 0 if is_signed(dtype) else 1 << (bits_of(dtype) - 1)
        bound = max(abs(alpha), abs(beta))
        if bound == 0.0:
            return 1.0, zero_point
        scale = divide(bound, (1 << (bits_of(dtype) - 1)) - 1, F32)
        return max(scale, SMALLEST_NORMAL_F32), zero_point
    alpha, beta = min(alpha, 0.0), max(beta, 0.0)
    if alpha == beta:
        return 1.0, low
    fmt = F32
    span = subtract(beta, alpha, fmt)
    if math.isinf(span):
        fmt = F64  # for every step; only the scale that is handed out is rounded to float32
        span = subtract(beta, alpha, fmt)
    scale = max(divide(span, high - low, fmt), SMALLEST_NORMAL_F32)
    offset = subtract(float(low), divide(alpha, scale, fmt), fmt)
    return round_float(scale, F32), clamp(round(Fraction(offset)), low, high)


def dynamic_quantize(values: list[float]) -> tuple[list[int], float, int]:
    scale, zero_point = choose_params(min(values), max(values), "uint8", "affine")
    return [quantize_element(v, scale, zero_point, 0, 255) for v in values], scale, zero_point


# --- requantize -----------------------------------------------------------------------------

INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1


def requantize_float(acc: int, multiplier: float, zero_point: int, low: int, high: int) -> int:
    product = round_fraction(
        Fraction(round_fraction(Fraction(acc), F32)) * Fraction(multiplier), F32
    )
    if math.isinf(product):
        return high if product > 0 else low
    return clamp(round(Fraction(product)) + zero_point, low, high)


def fixed_multiplier(multiplier: float) -> tuple[int, int]:
    """gemmlowp's (quantized multiplier, shift): ``multiplier == q * 2**(shift - 31)``.

    A float32 has 24 significant bits, so the 31-bit multiplier is exact. TFLite turns a multiplier
    below 2**-32 into zero: no int32 times it reaches one half.
    """
    fraction, shift = math.frexp(multiplier)
    quantized = int(fraction * (1 << 31))
    return (0, 0) if shift < -31 else (quantized, shift)


def saturating_rounding_doubling_high_mul(a: int, b: int) -> int:
    """gemmlowp fixedpoint.h, word for word."""
    if a == b == INT32_MIN:
        return INT32_MAX
    product = a * b
    nudge = (1 << 30) if product >= 0 else 1 - (1 << 30)
    total = product + nudge
    return total // (1 << 31) if total >= 0 else -(-total // (1 << 31))  # C division truncates


def rounding_divide_by_power_of_two(x: int, exponent: int) -> int:
    """gemmlowp fixedpoint.h: nearest, ties away from zero."""
    mask = (1 << exponent) - 1
    remainder = x & mask
    threshold = (mask >> 1) + (1 if x < 0 else 0)
    return (x >> exponent) + (1 if remainder > threshold else 0)


def requantize_fixed(
    acc: int, multiplier: float, zero_point: int, low: int, high: int, rounding: str
) -> int:
    quantized, shift = fixed_multiplier(multiplier)
    if rounding == "double":
        shifted = clamp(acc << max(shift, 0), INT32_MIN, INT32_MAX)
        value = saturating_rounding_doubling_high_mul(shifted, quantized)
        value = rounding_divide_by_power_of_two(value, max(-shift, 0))
    elif shift > 30:
        value = 0 if acc == 0 else (1 << 62) * (1 if acc > 0 else -1)  # far outside every grid
    else:
        total_shift = 31 - shift
        value = (acc * quantized + (1 << (total_shift - 1))) >> total_shift
    return clamp(value + zero_point, low, high)


# --- products -------------------------------------------------------------------------------


def product_element(sums: list[tuple[int, float, float]], bias: float | None = None) -> float:
    """The float result of a product, from (sum of integers, a_scale, b_scale) of every block."""

    def f32(value: Fraction) -> Fraction:
        return Fraction(round_fraction(value, F32))

    total = None
    for acc, a_scale, b_scale in sums:
        term = f32(f32(Fraction(acc)) * f32(Fraction(a_scale) * Fraction(b_scale)))
        total = term if total is None else f32(total + term)
    total = Fraction(0) if total is None else total
    return float(total if bias is None else f32(total + Fraction(bias)))


def bias_code(bias: float, a_scale: float, b_scale: float) -> int:
    """A float bias as an int32 code: quantized at the scale of the products (ONNX QLinearConv)."""
    scale = round_fraction(Fraction(a_scale) * Fraction(b_scale), F32)
    return round(Fraction(divide(bias, scale, F32)))


# --- bit packing ----------------------------------------------------------------------------


def pack_bits(values: list[int], bits: int) -> bytes:
    stream = 0
    for index, value in enumerate(values):
        stream |= (value & ((1 << bits) - 1)) << (index * bits)
    return stream.to_bytes((len(values) * bits + 7) // 8, "little")


def unpack_bits(packed: bytes, bits: int, count: int, signed: bool) -> list[int]:
    stream = int.from_bytes(packed, "little")
    values = [(stream >> (i * bits)) & ((1 << bits) - 1) for i in range(count)]
    if not signed:
        return values
    return [v - (1 << bits) if v >> (bits - 1) else v for v in values]


# --- arrays, element by element -------------------------------------------------------------


def params_shape(shape: tuple[int, ...], axis: int | None, block_size: int | None) -> tuple:
    """The shape of scale and zero point for an array of this shape."""
    if axis is None:
        return ()
    if block_size is None:
        return (shape[axis],)
    result = list(shape)
    result[axis] = -(-shape[axis] // block_size)
    return tuple(result)


def params_index(index: tuple, ndim: int, axis: int | None, block_size: int | None) -> tuple:
    """Which scale the element at this index uses."""
    if axis is None:
        return ()
    axis %= ndim
    if block_size is None:
        return (index[axis],)
    return (*index[:axis], index[axis] // block_size, *index[axis + 1 :])


def map_elements(function, x, scale, zero_point, axis, block_size, result_dtype) -> np.ndarray:
    """``function(element, scale, zero_point)`` of every element, as Python numbers."""
    out = np.empty(x.shape, result_dtype)
    scale, zero_point = np.asarray(scale), np.asarray(zero_point)
    for index in itertools.product(*map(range, x.shape)):
        where = params_index(index, x.ndim, axis, block_size)
        z = int(zero_point[where]) if zero_point.ndim else int(zero_point)
        out[index] = function(x[index].item(), float(scale[where]), z)
    return out


def quantize_exact(x, scale, zero_point, dtype, narrow_range=False, axis=None, block_size=None):
    low, high = grid(dtype, narrow_range)
    fmt = F64 if x.dtype == np.float64 else F32
    return map_elements(
        lambda v, s, z: quantize_element(float(v), s, z, low, high, fmt),
        x, scale, zero_point, axis, block_size, storage(dtype),
    )  # fmt: skip


def dequantize_exact(q, scale, zero_point, dtype="float32", axis=None, block_size=None):
    fmt = FORMATS[dtype]
    return map_elements(
        lambda v, s, z: dequantize_element(int(v), s, z, fmt),
        q, scale, zero_point, axis, block_size, np.float64,
    )  # fmt: skip


def blocks_of(x: np.ndarray, axis: int | None, block_size: int | None):
    """Yield (index into scale, flat values) of every group of elements that shares params."""
    for where in itertools.product(*map(range, params_shape(x.shape, axis, block_size))):
        if axis is None:
            yield where, x.ravel()
        elif block_size is None:
            yield where, np.take(x, where[0], axis).ravel()
        else:
            index = list(where)
            start = where[axis] * block_size
            index[axis] = slice(start, start + block_size)
            yield where, x[tuple(index)].ravel()


def calibrate_minmax(x, dtype, scheme="symmetric", narrow_range=False, axis=None, block_size=None):
    """(scale, zero point) arrays; x holds float32 numbers."""
    shape = params_shape(x.shape, axis, block_size)
    scale, zero_point = np.empty(shape, np.float32), np.empty(shape, storage(dtype))
    for where, values in blocks_of(x, axis, block_size):
        ends = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
        scale[where], zero_point[where] = choose_params(*ends, dtype, scheme, narrow_range)
    return scale, zero_point


# --- vectorised second oracle ---------------------------------------------------------------


def expand(params, shape: tuple[int, ...], axis: int | None, block_size: int | None) -> np.ndarray:
    """A scale or zero point array, repeated so that it lies element by element beside x."""
    params = np.asarray(params)
    if params.ndim == 0 or axis is None:
        return np.broadcast_to(params, shape)
    axis %= len(shape)
    if block_size is None:
        return np.broadcast_to(
            params.reshape([-1 if i == axis else 1 for i in range(len(shape))]), shape
        )
    return np.take(params, np.arange(shape[axis]) // block_size, axis)


def quantize_fast(x, scale, zero_point, dtype, narrow_range=False, axis=None, block_size=None):
    """Exact for every float32 x and scale, and as good as the processor's division for float64.

    The float64 quotient of two float32 numbers, rounded again to float32, is the correctly rounded
    float32 quotient whenever that is normal, because 53 >= 2 * 24 + 2 (Figueroa, "When is double
    rounding innocuous?"). A subnormal quotient has magnitude below 2**-126 and rounds to 0 either
    way, and a quotient beyond float32 (at most 2**277, so finite in float64) overflows to infinity
    in the second rounding. The clamp and the zero point are exact: integers below 2**17.
    """
    low, high = grid(dtype, narrow_range)
    s = expand(scale, x.shape, axis, block_size).astype(np.float64)
    z = expand(zero_point, x.shape, axis, block_size).astype(np.float64)
    with np.errstate(all="ignore"):
        quotient = x.astype(np.float64) / s
        if x.dtype != np.float64:
            quotient = quotient.astype(np.float32).astype(np.float64)
        q = np.clip(np.rint(quotient), low - z, high - z) + z
        return np.where(np.isnan(x), z, q).astype(storage(dtype))


def dequantize_fast(q, scale, zero_point, axis=None, block_size=None) -> np.ndarray:
    """Exact: 17 bits times 24 bits fit the 53 of float64, and then float32 rounds once."""
    s = expand(scale, q.shape, axis, block_size).astype(np.float64)
    z = expand(zero_point, q.shape, axis, block_size).astype(np.float64)
    with np.errstate(all="ignore"):
        # Adding 0.0 changes nothing: (q - z) is never -0.0.
        return ((q.astype(np.float64) - z) * s).astype(np.float32)


def product_fast(a, b, a_scale, b_scale, block=None, bias=None) -> np.ndarray:
    """The float result of a product. NumPy's float32 arithmetic is IEEE's, one rounding each.

    a (..., m, k) and b (..., k, n) are integers less their zero points, the scales lie element by
    element beside them. The sums are of int64, which holds k < 2**40 products of 9 bits each.
    """
    a, b = np.asarray(a, np.int64), np.asarray(b, np.int64)
    k = a.shape[-1]
    total = None
    with np.errstate(all="ignore"):
        for start in range(0, k, block or max(k, 1)):
            part = slice(start, start + (block or k))
            acc = (a[..., part] @ b[..., part, :]).astype(np.float32)
            scale = a_scale[..., start, None] * b_scale[..., start, None, :]
            term = acc * scale
            total = term if total is None else total + term
        if total is None:
            total = (a @ b).astype(np.float32)
        assert total.dtype == np.float32
        return total if bias is None else total + np.asarray(bias, np.float32)


def convolve(x, w, x_zero_point=0, w_zero_point=0, stride=1, dilation=1, pads=0, groups=1):
    """A convolution of (n, c, *size) with (m, c / groups, *kernel) in int64, by the definition.

    `stride` and `dilation` have a number for each spatial dimension, or one for all; `pads` those
    before the dimensions and then those after. Each of the kernel's elements is multiplied with
    the part of x that it meets. int64 holds k < 2**40 products of 9 bits each.
    """
    dimensions = x.ndim - 2
    stride, dilation = (np.broadcast_to(v, dimensions) for v in (stride, dilation))
    before, after = np.broadcast_to(pads, 2 * dimensions).reshape(2, dimensions)
    zeros = np.broadcast_to(np.asarray(w_zero_point, np.int64), len(w))
    real_x = x.astype(np.int64) - int(x_zero_point)
    real_w = w.astype(np.int64) - zeros.reshape(-1, *[1] * (w.ndim - 1))
    padded = np.pad(real_x, [(0, 0), (0, 0), *zip(before, after, strict=True)])
    spans = (np.array(w.shape[2:]) - 1) * dilation + 1
    size = (np.array(padded.shape[2:]) - spans) // stride + 1
    seen = padded.reshape(len(x), groups, -1, *padded.shape[2:])
    filters = real_w.reshape(groups, -1, *w.shape[1:])
    y = np.zeros((len(x), groups, filters.shape[1], *size), np.int64)
    for place in itertools.product(*map(range, w.shape[2:])):
        part = [
            slice(i * d, i * d + (n - 1) * s + 1, s)
            for i, d, n, s in zip(place, dilation, size, stride, strict=True)
        ]
        met = seen[(slice(None),) * 3 + tuple(part)]
        y += np.einsum("ngc...,gmc->ngm...", met, filters[(slice(None),) * 3 + place])
    return y.reshape(len(x), len(w), *size)
