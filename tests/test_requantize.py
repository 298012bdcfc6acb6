"""`ops.requantize` against the float and the gemmlowp definitions in Python integers."""

import numpy as np
import pytest
import reference
from cases import SOME_GRIDS, assert_same_bits, random_generator

from pyquant import ops

MULTIPLIERS = {
    "half": 0.5,
    "quarter": 0.25,
    "one": 1.0,
    "below_one": 1 - 2.0**-24,
    "above_one": 1 + 2.0**-23,
    "typical": float(np.float32(0.0037)),
    "small": float(np.float32(3e-8)),
    "all_ones": (2 - 2.0**-23) * 2.0**-9,
    "two": 2.0,
    "large": 777.0,
    "shift_31": 2.0**-31,
    "shift_32": 2.0**-32,
    "shift_33": 1.5 * 2.0**-33,
    "smallest_normal": 2.0**-126,
    "smallest_subnormal": 2.0**-149,
}

MODES = {
    "float": {"mode": "float"},
    "fixed_double": {"mode": "fixed", "rounding": "double"},
    "fixed_single": {"mode": "fixed", "rounding": "single"},
}


def accumulators(multiplier: float, rng) -> np.ndarray:
    """Edges of int32, ties of the product and their neighbours, random ones of every size."""
    edges = np.array([0, 1, -1, 2, -2, 2**24 + 1, -(2**24) - 1, 2**25 + 2, 2**31 - 1, -(2**31)])
    near_ties = np.rint((rng.integers(-200, 200, 60) + 0.5) / multiplier)
    near_ties = np.concatenate([near_ties - 1, near_ties, near_ties + 1])
    sizes = rng.integers(0, 31, 150)
    random = rng.integers(-(1 << 31), 1 << 31, 150) >> sizes
    everything = np.concatenate([edges, near_ties, random])
    return np.clip(everything, -(2**31), 2**31 - 1).astype(np.int64).astype(np.int32)


def expected(acc, multiplier, zero_point, low, high, mode, rounding="double") -> int:
    if mode == "float":
        return reference.requantize_float(acc, multiplier, zero_point, low, high)
    return reference.requantize_fixed(acc, multiplier, zero_point, low, high, rounding)


@pytest.mark.parametrize("options", MODES.values(), ids=MODES)
@pytest.mark.parametrize("dtype", SOME_GRIDS)
@pytest.mark.parametrize("multiplier", MULTIPLIERS.values(), ids=MULTIPLIERS)
def test_per_tensor(multiplier, dtype, options):
    low, high = reference.grid(dtype)
    acc = accumulators(multiplier, random_generator(dtype, multiplier))
    for zero_point in (max(low, 0), low, high):
        wanted = [expected(int(a), multiplier, zero_point, low, high, **options) for a in acc]
        actual = ops.requantize(acc, multiplier, zero_point, dtype=dtype, **options)
        assert_same_bits(actual, np.array(wanted, reference.storage(dtype)))


@pytest.mark.parametrize("options", MODES.values(), ids=MODES)
@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
def test_per_channel(axis, options):
    shape = (4, 9, 17)
    rng = random_generator(axis)
    n = shape[axis]
    multiplier = (2.0 ** rng.uniform(-20, 1, n)).astype(np.float32)
    zero_point = rng.integers(-128, 128, n).astype(np.int8)
    acc = (rng.integers(-(1 << 31), 1 << 31, shape) >> rng.integers(0, 28, shape)).astype(np.int32)
    wanted = np.empty(shape, np.int8)
    for index in np.ndindex(shape):
        c = index[axis]
        wanted[index] = expected(
            int(acc[index]), float(multiplier[c]), int(zero_point[c]), -128, 127, **options
        )
    actual = ops.requantize(acc, multiplier, zero_point, axis=axis, **options)
    assert_same_bits(actual, wanted)


@pytest.mark.parametrize("options", MODES.values(), ids=MODES)
def test_narrow_range(options):
    acc = np.array([-1000, -127, -128, 0, 1000], np.int32)
    q = ops.requantize(acc, 1.0, narrow_range=True, **options)
    assert q.tolist() == [-127, -127, -127, 0, 127]


@pytest.mark.parametrize("options", MODES.values(), ids=MODES)
def test_big_arrays_equal_their_pieces(options):
    rng = random_generator("big")
    acc = rng.integers(-(1 << 20), 1 << 20, (331, 1009), dtype=np.int32)
    multiplier = (2.0 ** rng.uniform(-16, -10, 1009)).astype(np.float32)
    whole = ops.requantize(acc, multiplier, 3, axis=1, **options)
    for row in (0, 100, 330):
        piece = [
            expected(int(a), float(m), 3, -128, 127, **options)
            for a, m in zip(acc[row], multiplier, strict=True)
        ]
        assert whole[row].tolist() == piece


@pytest.mark.parametrize("length", [*range(70), 255])
def test_every_length_around_a_vector(length):
    acc = np.arange(length, dtype=np.int32) * 37 - 999
    for options in MODES.values():
        wanted = [expected(int(a), 0.0625, 1, -128, 127, **options) for a in acc]
        assert ops.requantize(acc, 0.0625, 1, **options).tolist() == wanted


@pytest.mark.parametrize("acc, double, single", [
    # multiplier 1/4: -2 is the tie -0.5: away from zero by double, up by single rounding.
    (-2, -1, 0), (2, 1, 1), (-6, -2, -1), (6, 2, 2), (-3, -1, -1), (3, 1, 1),
])  # fmt: skip
def test_the_two_fixed_roundings_differ_at_ties(acc, double, single):
    acc = np.array([acc] * 40, np.int32)
    assert (ops.requantize(acc, 0.25, mode="fixed", rounding="double") == double).all()
    assert (ops.requantize(acc, 0.25, mode="fixed", rounding="single") == single).all()
    assert (ops.requantize(acc, 0.25, mode="fixed") == double).all()


def test_float_mode_rounds_half_to_even_and_the_accumulator_first():
    acc = np.array([1, 3, 5, -1, -3, -5] * 10, np.int32)
    assert ops.requantize(acc, 0.5).tolist() == [0, 2, 2, 0, -2, -2] * 10
    # 2**24 + 1 is 2**24 in float32, so the product is exactly 64.
    acc = np.full(40, 2**24 + 1, np.int32)
    assert (ops.requantize(acc, 2.0**-18, dtype="int16") == 64).all()
