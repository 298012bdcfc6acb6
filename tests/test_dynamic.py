"""`ops.dynamic_quantize_linear`: range, params and quantize in one call."""

import numpy as np
import pytest
import reference
from cases import FLOAT32_MAX, assert_same_bits, random_generator

import pyquant as pq
from pyquant import ops

INPUTS = {
    "onnx": [0, 2, -3, -2.5, 1.34, 0.5],
    "onnx_max_adjusted": [-1.0, -2.1, -1.3, -2.5, -3.34, -4.0],
    "onnx_min_adjusted": [1, 2.1, 1.3, 2.5, 3.34, 4.0, 1.5, 2.6, 3.9, 4.0, 3.0, 2.345],
    "zeros": [0.0, -0.0, 0.0],
    "one_value": [7.25],
    "one_negative": [-7.25],
    "constant": [3.3] * 9,
    "subnormal": [1e-44, -3e-44, 2.0**-149],
    "tiny": [1e-37, -1e-38, 0],
    "span_overflows": [3e38, -3e38, 1.0, -1.0, 0.0, 1e38],
    "largest": [FLOAT32_MAX, -FLOAT32_MAX, FLOAT32_MAX / 3],
    "ties": [-0.5, 254.5, 0.5, 1.5, 2.5, 100.5],
    "lopsided": [-1e-30, 1e30, 1.0],
}


@pytest.mark.parametrize("values", INPUTS.values(), ids=INPUTS)
def test_against_exact_arithmetic(values):
    x = np.array(values, np.float32)
    q, scale, zero_point = ops.dynamic_quantize_linear(x)
    expected = reference.dynamic_quantize([float(v) for v in x])
    assert_same_bits(scale, np.array(expected[1], np.float32))
    assert_same_bits(zero_point, np.array(expected[2], np.uint8))
    assert_same_bits(q, np.array(expected[0], np.uint8))


@pytest.mark.parametrize("exponent", [-149, -130, -126, -60, -1, 0, 1, 60, 120])
@pytest.mark.parametrize("sign", ["both", "positive", "negative"])
def test_random_data_of_every_size(exponent, sign):
    rng = random_generator(exponent, sign)
    for length in (1, 3, 17, 64, 333):
        x = np.ldexp(rng.standard_normal(length), exponent).astype(np.float32)
        x = {"both": x, "positive": np.abs(x), "negative": -np.abs(x)}[sign]
        q, scale, zero_point = ops.dynamic_quantize_linear(x)
        expected = reference.dynamic_quantize([float(v) for v in x])
        assert (float(scale), int(zero_point)) == expected[1:]
        assert q.tolist() == expected[0]


@pytest.mark.parametrize("shape", [(1_000_003,), (700, 1001)])
def test_big_arrays(shape):
    x = random_generator(shape).standard_normal(shape).astype(np.float32)
    q, scale, zero_point = ops.dynamic_quantize_linear(x)
    expected = reference.choose_params(float(x.min()), float(x.max()), "uint8", "affine")
    assert (float(scale), int(zero_point)) == expected
    assert_same_bits(q, reference.quantize_fast(x, scale, zero_point, "uint8"))


@pytest.mark.parametrize("x_dtype", ["float16", "float64", "bfloat16"])
def test_other_float_types(x_dtype):
    if x_dtype == "bfloat16":
        x_dtype = pytest.importorskip("ml_dtypes").bfloat16
    x = random_generator("dynamic").standard_normal((50, 7)).astype(x_dtype)
    q, scale, zero_point = ops.dynamic_quantize_linear(x)
    ends = (float(x.min()), float(x.max()))
    expected = reference.choose_params(*(float(np.float32(v)) for v in ends), "uint8", "affine")
    assert (float(scale), int(zero_point)) == expected
    assert_same_bits(q, reference.quantize_fast(x, scale, zero_point, "uint8"))


def test_types_and_shapes_of_the_result():
    q, scale, zero_point = ops.dynamic_quantize_linear(np.ones((2, 3), np.float32))
    assert (q.dtype, q.shape) == (np.uint8, (2, 3))
    assert (scale.dtype, np.shape(scale)) == (np.float32, ())
    assert (zero_point.dtype, np.shape(zero_point)) == (np.uint8, ())
    assert ops.dequantize_linear(q, scale, zero_point).tolist() == [[1.0] * 3] * 2


def test_is_affine_uint8_quantize():
    x = random_generator("affine").standard_normal(999).astype(np.float32)
    q = pq.quantize(x, dtype="uint8", scheme="affine")
    data, scale, zero_point = ops.dynamic_quantize_linear(x)
    assert_same_bits(q.data, data)
    assert (q.scale, q.zero_point) == (scale, zero_point)


def test_empty_input():
    q, scale, zero_point = ops.dynamic_quantize_linear(np.empty((0, 4), np.float32))
    assert (q.shape, float(scale), int(zero_point)) == ((0, 4), 1.0, 0)
