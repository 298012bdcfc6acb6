"""`ops.dequantize_linear` and `dequantize` against exact arithmetic."""

from fractions import Fraction

import numpy as np
import pytest
import reference
from cases import (
    GRANULARITIES,
    GRIDS,
    SCALES,
    SHAPE,
    assert_same_bits,
    named,
    random_generator,
    random_params,
)  # fmt: skip

import pyquant as pq
from pyquant import ops

STORAGE = ["int8", "uint8", "int16", "uint16"]
OUTPUTS = ["float32", "float16", "bfloat16"]


def output_dtype(name: str) -> np.dtype:
    if name == "bfloat16":
        return np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    return np.dtype(name)


def every_integer(dtype: str) -> np.ndarray:
    """All of an 8-bit type; of a 16-bit type, a stride of it with both ends."""
    low, high = reference.grid(dtype)
    step = 1 if high - low < 256 else 97
    return np.append(np.arange(low, high, step), high).astype(reference.storage(dtype))


@pytest.mark.parametrize("out_dtype", OUTPUTS)
@pytest.mark.parametrize("dtype", STORAGE)
@pytest.mark.parametrize("scale", **named(SCALES))
def test_every_integer_at_hard_scales(scale, dtype, out_dtype):
    q = every_integer(dtype)
    target = output_dtype(out_dtype)
    low, high = reference.grid(dtype)
    zero_point = int(random_generator(scale, dtype).integers(low, high + 1))
    for z in {max(low, 0), low, high, zero_point}:
        with np.errstate(all="ignore"):
            expected = reference.dequantize_fast(q, scale, z).astype(target)
        assert_same_bits(ops.dequantize_linear(q, scale, z, dtype=out_dtype), expected)


@pytest.mark.parametrize("out_dtype", OUTPUTS)
@pytest.mark.parametrize("scale", [0.1, 0.00214854861, 3 * 2.0**-149, 1e-5, 300.0])
def test_against_exact_arithmetic(scale, out_dtype):
    scale = float(np.float32(scale))
    target = output_dtype(out_dtype)
    for dtype in ("int8", "uint16"):
        q = every_integer(dtype)[::3]
        expected = reference.dequantize_exact(q, scale, 100, out_dtype)
        actual = ops.dequantize_linear(q, scale, 100, dtype=out_dtype)
        assert actual.dtype == target
        np.testing.assert_array_equal(actual.astype(np.float64), expected)


@pytest.mark.parametrize("dtype", STORAGE)
@pytest.mark.parametrize("axis, block_size", **named(GRANULARITIES))
def test_granularities(axis, block_size, dtype):
    low, high = reference.grid(dtype)
    rng = random_generator(dtype, axis, block_size)
    shape = reference.params_shape(SHAPE, axis, block_size)
    scale, zero_point = random_params(rng, shape, low, high)
    q = rng.integers(low, high + 1, SHAPE).astype(dtype)
    actual = ops.dequantize_linear(q, scale, zero_point, axis=axis, block_size=block_size)
    expected = reference.dequantize_exact(q, scale, zero_point, "float32", axis, block_size)
    assert_same_bits(actual, expected.astype(np.float32))


@pytest.mark.parametrize("out_dtype", OUTPUTS)
@pytest.mark.parametrize("axis, block_size", [(None, None), (0, None), (1, None), (0, 64), (1, 37)])
def test_big_arrays_in_which_threads_and_vectors_take_part(axis, block_size, out_dtype):
    target = output_dtype(out_dtype)
    rng = random_generator(axis, block_size)
    q = rng.integers(-128, 128, (701, 1003)).astype(np.int8)
    shape = reference.params_shape(q.shape, axis, block_size)
    scale, zero_point = random_params(rng, shape, -128, 127)
    actual = ops.dequantize_linear(
        q, scale, zero_point, axis=axis, block_size=block_size, dtype=out_dtype
    )
    expected = reference.dequantize_fast(q, scale, zero_point, axis, block_size).astype(target)
    assert_same_bits(actual, expected)


@pytest.mark.parametrize("length", [*range(70), 127, 128, 129, 255, 1000])
def test_every_length_around_a_vector(length):
    for dtype in STORAGE:
        low, high = reference.grid(dtype)
        q = random_generator(length).integers(low, high + 1, length).astype(dtype)
        expected = reference.dequantize_fast(q, np.float32(1.7), 7)
        assert_same_bits(ops.dequantize_linear(q, 1.7, 7), expected)


def test_the_product_is_not_fused_with_the_subtraction():
    # (q - z) * scale is one rounding of an exact integer times scale; q * scale - z * scale is not.
    scale = np.float32(0.1)
    q = np.arange(256, dtype=np.uint8)
    expected = np.array([reference.dequantize_element(i, float(scale), 85) for i in range(256)])
    np.testing.assert_array_equal(ops.dequantize_linear(q, scale, 85), expected)


def test_zero_is_positive_zero():
    for dtype in STORAGE:
        values = ops.dequantize_linear(np.full(50, 9, dtype), 0.3, 9)
        assert_same_bits(values, np.zeros(50, np.float32))


@pytest.mark.parametrize("out_dtype", OUTPUTS)
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int4", "uint3", "int16", "uint11"])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
def test_quantized_array_function_and_method_agree(dtype, packed, out_dtype):
    target = output_dtype(out_dtype)
    x = random_generator(dtype).standard_normal((4, 9)).astype(np.float32)
    q = pq.quantize(x, dtype=dtype, scheme="affine", axis=1, packed=packed)
    data = q.unpack().data
    expected = reference.dequantize_fast(data, q.scale, q.zero_point, 1).astype(target)
    assert_same_bits(pq.dequantize(q, dtype=out_dtype), expected)
    assert_same_bits(q.dequantize(dtype=out_dtype), expected)
    out = np.empty((4, 9), target)
    assert q.dequantize(dtype=out_dtype, out=out) is out
    assert_same_bits(out, expected)


@pytest.mark.parametrize("dtype", GRIDS)
def test_dequantize_inverts_quantize_on_the_grid(dtype):
    low, high = reference.grid(dtype)
    q = np.arange(low, high + 1).astype(reference.storage(dtype))
    for scale in (SCALES["tenth"], 2.0**-126, SCALES["all_ones_below_two"], 1e30):
        z = (low + high) // 2
        x = ops.dequantize_linear(q, scale, z)
        assert_same_bits(ops.quantize_linear(x, scale, z, dtype=dtype), q)


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_int32_as_onnx_has_it(axis):
    """The type of a bias: the difference is rounded to float32, then the product."""
    rng = random_generator(axis)
    q = rng.integers(-(1 << 31), 1 << 31, (5, 40), dtype=np.int32)
    scale, _ = random_params(rng, reference.params_shape(q.shape, axis, None), 0, 1)
    wide = reference.expand(scale, q.shape, axis, None)
    actual = ops.dequantize_linear(q, scale, axis=axis)
    for index in np.ndindex(q.shape):
        rounded = reference.round_fraction(Fraction(int(q[index])), reference.F32)
        product = reference.round_fraction(
            Fraction(rounded) * Fraction(float(wide[index])), reference.F32
        )
        assert float(actual[index]) == product
