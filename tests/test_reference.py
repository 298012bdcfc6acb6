"""The oracle itself, against published examples and the processor's own arithmetic."""

from fractions import Fraction

import numpy as np
import pytest
import reference
from cases import SCALES, SOME_GRIDS, hard_values, named, random_generator


@pytest.mark.parametrize("fmt, dtype", [("float16", np.float16), ("float32", np.float32)])
def test_rounding_agrees_with_the_processor(fmt, dtype):
    bits = random_generator(fmt).integers(0, 1 << 64, 4000, dtype=np.uint64)
    values = bits.view(np.float64)
    near = np.random.default_rng(1).integers(0, 1 << 32, 4000, dtype=np.uint32).view(np.float32)
    near = near[np.isfinite(near)]
    halfway = (near.astype(np.float64) + np.nextafter(near, np.float32(0))) / 2
    for value in np.concatenate([values, halfway, np.float64(2.0) ** np.arange(-160, 130)]):
        if np.isfinite(value):
            with np.errstate(all="ignore"):
                expected = dtype(value)
            actual = dtype(reference.round_float(float(value), reference.FORMATS[fmt]))
            assert actual.tobytes() == expected.tobytes(), value


def test_bfloat16_rounding_agrees_with_ml_dtypes():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    bits = random_generator("bfloat16").integers(0, 1 << 32, 4000, dtype=np.uint32)
    for value in bits.view(np.float32):
        if np.isfinite(value):
            rounded = reference.round_float(float(value), reference.BF16)
            assert rounded == float(value.astype(ml_dtypes.bfloat16))


@pytest.mark.parametrize("value, expected", [
    (Fraction(1, 2) ** 150, 0.0),  # half the smallest subnormal: a tie, even is zero
    (Fraction(3, 2) * Fraction(1, 2) ** 149, 2.0**-148),
    (Fraction(2) ** 128, np.inf),
    (Fraction(2) ** 128 - Fraction(2) ** 103, np.inf),  # the tie above the largest number
    (Fraction(2) ** 128 - Fraction(2) ** 103 - 1, (2 - 2.0**-23) * 2.0**127),
    (Fraction(2) ** 24 + 1, 2.0**24),
    (Fraction(2) ** 24 + 3, 2.0**24 + 4),
])  # fmt: skip
def test_rounding_at_the_edges_of_float32(value, expected):
    assert reference.round_fraction(value, reference.F32) == expected
    assert reference.round_fraction(-value, reference.F32) == -expected


def test_the_example_of_the_specification_tells_division_from_reciprocal():
    x, scale = np.float32(0.273939937), np.float32(0.00214854861)
    assert reference.quantize_element(float(x), float(scale), 0, -128, 10_000) == 127
    assert np.rint(x * (np.float32(1) / scale)) == 128


@pytest.mark.parametrize("dtype, narrow, expected", [
    ("int8", False, (-128, 127)), ("int8", True, (-127, 127)), ("uint8", False, (0, 255)),
    ("int2", False, (-2, 1)), ("int2", True, (-1, 1)), ("uint4", False, (0, 15)),
    ("int16", False, (-32768, 32767)), ("uint16", False, (0, 65535)), ("int3", True, (-3, 3)),
])  # fmt: skip
def test_grid(dtype, narrow, expected):
    assert reference.grid(dtype, narrow) == expected


@pytest.mark.parametrize("scale", **named(SCALES))
@pytest.mark.parametrize("x_dtype", [np.float32, np.float64], ids=["float32", "float64"])
def test_vectorised_oracle_agrees_with_the_exact_one(scale, x_dtype):
    for dtype in SOME_GRIDS[:3]:
        low, high = reference.grid(dtype)
        x = hard_values(scale, low, high, random_generator(dtype), 100, x_dtype)
        z = (low + high) // 3
        fast = reference.quantize_fast(x, scale, z, dtype)
        np.testing.assert_array_equal(fast, reference.quantize_exact(x, scale, z, dtype))
        exact = reference.dequantize_exact(fast, scale, z)
        np.testing.assert_array_equal(reference.dequantize_fast(fast, scale, z), exact)


@pytest.mark.parametrize("acc, multiplier, double, single", [
    (3, 0.5, 2, 2), (-3, 0.5, -1, -1), (5, 0.5, 3, 3), (2, 0.25, 1, 1), (-2, 0.25, -1, 0),
    (100, 0.3, 30, 30), (7, 2.0, 14, 14), (1, 2.0**-40, 0, 0), (3, 0.25, 1, 1),
    # Twice rounded: 0.4999… rounds to a tie first and then away from it.
    (1, float(np.float32(0.4999999)), 1, 0),
])  # fmt: skip
def test_fixed_point_definitions(acc, multiplier, double, single):
    low, high = -32768, 32767
    for rounding, expected in (("double", double), ("single", single)):
        got = reference.requantize_fixed(acc, multiplier, 0, low, high, rounding)
        assert got == expected, rounding


def test_pack_bits_is_onnx_order():
    assert reference.pack_bits([1, 2, 3], 4) == bytes([0x21, 0x03])
    assert reference.pack_bits([-1, 0, -8], 4) == bytes([0x0F, 0x08])
    assert reference.unpack_bits(bytes([0x0F, 0x08]), 4, 3, True) == [-1, 0, -8]
    assert reference.pack_bits([1, 2, 3, 0, 1], 2) == bytes([0b00111001, 0b01])


def test_dynamic_quantize_of_the_onnx_documentation():
    q, scale, zero_point = reference.dynamic_quantize([0.0, 2.0, -3.0, -2.5, 1.34, 0.5])
    assert (q, zero_point) == ([153, 255, 0, 26, 221, 179], 153)
    assert scale == float(np.float32(0.019607844))
