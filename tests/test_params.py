"""QuantParams, choose_params and min/max calibration."""

import copy
import math
import pickle

import numpy as np
import pytest
import reference
from cases import (
    FLOAT32_MAX,
    GRANULARITIES,
    GRIDS,
    SHAPE,
    SOME_GRIDS,
    assert_same_bits,
    named,
    random_generator,
)  # fmt: skip

import pyquant as pq

RANGES = {
    "around_zero": (-1.5, 2.25),
    "positive": (0.5, 3.0),
    "negative": (-7.0, -0.25),
    "from_zero": (0.0, 1.0),
    "to_zero": (-1.0, 0.0),
    "zero": (0.0, 0.0),
    "negative_zero": (-0.0, 0.0),
    "constant": (4.2, 4.2),
    "negative_constant": (-4.2, -4.2),
    "onnx_example": (-3.0, 2.0),
    "largest": (-FLOAT32_MAX, FLOAT32_MAX),
    "overflow": (-3e38, 1e38),
    "just_no_overflow": (-FLOAT32_MAX / 2, FLOAT32_MAX / 2),
    "smallest": (0.0, 2.0**-149),
    "subnormal": (-1e-40, 3e-40),
    "tiny": (-1e-36, 1e-37),
    "lopsided": (-1e-30, 1e30),
    "other_lopsided": (-1e30, 1e-30),
    "tie": (-0.5, 254.5),
    "third": (-1 / 3, 2 / 3),
}


def as_float32(values):
    return tuple(float(np.float32(v)) for v in values)


@pytest.mark.parametrize("scheme", ["symmetric", "affine"])
@pytest.mark.parametrize("dtype", GRIDS)
@pytest.mark.parametrize("ends", **named(RANGES))
def test_choose_params_step_by_step(ends, dtype, scheme):
    ends = as_float32(ends)
    for narrow in (False, True) if reference.is_signed(dtype) else (False,):
        params = pq.choose_params(*ends, dtype=dtype, scheme=scheme, narrow_range=narrow)
        scale, zero_point = reference.choose_params(*ends, dtype, scheme, narrow)
        assert (float(params.scale), int(params.zero_point)) == (scale, zero_point)
        assert params.narrow_range is narrow
        assert (params.axis, params.block_size) == (None, None)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int4", "uint16"])
@pytest.mark.parametrize("scheme", ["symmetric", "affine"])
def test_choose_params_of_many_random_ranges(dtype, scheme):
    rng = random_generator(dtype, scheme)
    bits = rng.integers(0, 1 << 32, (2000, 2), dtype=np.uint32).view(np.float32)
    near = rng.standard_normal((1000, 2)).astype(np.float32)
    ends = np.sort(np.concatenate([bits[np.isfinite(bits).all(1)], near]), axis=1)
    alpha, beta = ends[:, 0], ends[:, 1]
    narrow = scheme == "symmetric" and reference.is_signed(dtype)
    params = pq.choose_params(alpha, beta, dtype=dtype, scheme=scheme, narrow_range=narrow, axis=0)
    expected = [
        reference.choose_params(float(a), float(b), dtype, scheme, narrow)
        for a, b in zip(alpha, beta, strict=True)
    ]
    assert_same_bits(params.scale, np.array([s for s, _ in expected], np.float32))
    zero_points = np.array([z for _, z in expected], reference.storage(dtype))
    assert_same_bits(params.zero_point, zero_points)


@pytest.mark.parametrize("dtype, scheme, expected", [
    ("int8", "symmetric", True), ("int4", "symmetric", True), ("uint8", "symmetric", False),
    ("int8", "affine", False), ("uint8", "affine", False),
])  # fmt: skip
def test_narrow_range_by_default(dtype, scheme, expected):
    x = np.linspace(-1, 1, 5, dtype=np.float32)
    assert pq.calibrate(x, dtype=dtype, scheme=scheme).narrow_range is expected
    assert pq.choose_params(-1.0, 1.0, dtype=dtype, scheme=scheme).narrow_range is expected
    assert pq.quantize(x, dtype=dtype, scheme=scheme).params.narrow_range is expected


@pytest.mark.parametrize("dtype", GRIDS)
@pytest.mark.parametrize("scheme", ["symmetric", "affine"])
def test_zero_is_exact_and_the_zero_point_inside_the_grid(dtype, scheme):
    for ends in RANGES.values():
        params = pq.choose_params(*as_float32(ends), dtype=dtype, scheme=scheme)
        assert params.qmin <= int(params.zero_point) <= params.qmax
        assert math.isfinite(params.scale) and params.scale >= 2.0**-126
        assert pq.quantize(np.zeros(3, np.float32), params).dequantize().tolist() == [0, 0, 0]


@pytest.mark.parametrize("scheme", ["symmetric", "affine"])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int5"])
@pytest.mark.parametrize("axis, block_size", **named(GRANULARITIES))
def test_calibrate_minmax(axis, block_size, dtype, scheme):
    x = random_generator(dtype, axis).normal(0.3, 2, SHAPE).astype(np.float32)
    x[1] = 0.0
    params = pq.calibrate(
        x, dtype=dtype, scheme=scheme, narrow_range=False, axis=axis, block_size=block_size
    )
    expected = reference.calibrate_minmax(x, dtype, scheme, False, axis, block_size)
    assert_same_bits(params.scale, expected[0])
    assert_same_bits(params.zero_point, expected[1])


@pytest.mark.parametrize("axis, block_size", [(None, None), (0, None), (1, None), (1, 64), (0, 90)])
def test_calibrate_big_arrays(axis, block_size):
    x = random_generator(axis, block_size).standard_normal((331, 2053)).astype(np.float32)
    params = pq.calibrate(x, scheme="affine", dtype="uint8", axis=axis, block_size=block_size)
    expected = reference.calibrate_minmax(x, "uint8", "affine", False, axis, block_size)
    assert_same_bits(params.scale, expected[0])
    assert_same_bits(params.zero_point, expected[1])


@pytest.mark.parametrize("length", [*range(1, 70), 255, 1000])
def test_the_extreme_is_found_at_every_place(length):
    for place in {0, length // 2, length - 1}:
        for extreme in (5.0, -5.0):
            x = np.full(length, 0.25, np.float32)
            x[place] = extreme
            ends = (float(x.min()), float(x.max()))
            for scheme in ("symmetric", "affine"):
                params = pq.calibrate(x, dtype="int8", scheme=scheme, narrow_range=False)
                expected = reference.choose_params(*ends, "int8", scheme)
                assert (float(params.scale), int(params.zero_point)) == expected


@pytest.mark.parametrize("x_dtype", ["float16", "float64", "bfloat16"])
def test_calibrate_other_float_types(x_dtype):
    if x_dtype == "bfloat16":
        x_dtype = pytest.importorskip("ml_dtypes").bfloat16
    x = random_generator("other").standard_normal((9, 40)).astype(x_dtype)
    expected = reference.calibrate_minmax(x.astype(np.float32), "int8", "affine", False, 0)
    params = pq.calibrate(x, dtype="int8", scheme="affine", axis=0)
    assert_same_bits(params.scale, expected[0])
    assert_same_bits(params.zero_point, expected[1])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("size", [5, 100, 100_000])
def test_nan_policy_omit_skips_what_is_not_finite(bad, size):
    x = random_generator(size).standard_normal(size).astype(np.float32)
    clean = pq.calibrate(x, scheme="affine", dtype="uint8")
    dirty = np.insert(x, [0, size // 2, size], bad)
    assert pq.calibrate(dirty, scheme="affine", dtype="uint8", nan_policy="omit") == clean


def test_params_attributes():
    params = pq.QuantParams([0.5, 0.25], [3, -8], "int4", narrow_range=False, axis=-1)
    assert_same_bits(params.scale, np.array([0.5, 0.25], np.float32))
    assert_same_bits(params.zero_point, np.array([3, -8], np.int8))
    assert (params.dtype, params.qmin, params.qmax) == ("int4", -8, 7)
    assert (params.bits, params.signed, params.storage) == (4, True, np.dtype("int8"))
    assert (params.axis, params.block_size, params.narrow_range) == (-1, None, False)


@pytest.mark.parametrize("dtype", GRIDS)
def test_params_of_every_grid(dtype):
    for narrow in (False, True) if reference.is_signed(dtype) else (False,):
        params = pq.QuantParams(0.5, reference.grid(dtype, narrow)[0], dtype, narrow)
        assert (params.qmin, params.qmax) == reference.grid(dtype, narrow)
        assert (params.bits, params.storage) == (reference.bits_of(dtype), reference.storage(dtype))
        assert params.scale.shape == params.zero_point.shape == ()


def test_params_defaults_are_int8_per_tensor():
    params = pq.QuantParams(0.5)
    assert params == pq.QuantParams(0.5, 0, "int8", False, None, None)
    assert int(params.zero_point) == 0


def test_one_zero_point_for_all_channels():
    params = pq.QuantParams([0.5, 0.25, 0.125], 5, "uint8", axis=0)
    assert params.zero_point.tolist() == [5, 5, 5]


def different_params() -> list:
    base = {"scale": [0.5, 0.25], "zero_point": [0, 1], "dtype": "int8", "axis": 0}
    changes = [
        {}, {"scale": [0.5, 0.125]}, {"zero_point": [0, 2]}, {"dtype": "int7"}, {"axis": 1},
        {"narrow_range": True}, {"scale": [[0.5, 0.25]], "zero_point": [[0, 1]], "block_size": 4},
    ]  # fmt: skip
    return [pq.QuantParams(**(base | change)) for change in changes]


def test_params_equality():
    for i, a in enumerate(different_params()):
        for j, b in enumerate(different_params()):
            assert (a == b) is (i == j)
            assert (a != b) is (i != j)
    assert pq.QuantParams(0.5) != 0.5


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy] + [
    (lambda p, n=n: pickle.loads(pickle.dumps(p, n))) for n in range(2, 6)
], ids=["copy", "deepcopy", "pickle2", "pickle3", "pickle4", "pickle5"])  # fmt: skip
def test_params_copy_and_pickle(clone):
    for params in different_params():
        again = clone(params)
        assert again == params and type(again) is pq.QuantParams
        assert_same_bits(again.scale, params.scale)
        assert_same_bits(again.zero_point, params.zero_point)


def test_params_are_immutable():
    params = pq.QuantParams([0.5, 0.25], axis=0)
    with pytest.raises((AttributeError, TypeError)):
        params.scale = np.float32(1)
    with pytest.raises(ValueError):
        params.scale[0] = 7
    with pytest.raises(ValueError):
        params.zero_point[0] = 7
    with pytest.raises(TypeError):
        hash(params)


@pytest.mark.parametrize("axis", [0, np.int64(0), np.uint8(0)])
def test_axis_and_block_size_are_plain_integers(axis):
    """They go into files and messages, where NumPy's integers are strangers."""
    x = np.ones((3, 4), np.float32)
    for params in (
        pq.quantize(x, axis=axis, block_size=np.int64(2)).params,
        pq.calibrate(x, axis=axis, block_size=np.int64(2)),
        pq.QuantParams(np.ones((2, 4)), axis=axis, block_size=np.int64(2)),
    ):
        assert (type(params.axis), type(params.block_size)) == (int, int)


def test_params_do_not_follow_the_arrays_they_came_from():
    scale, zero_point = np.array([0.5, 0.25], np.float32), np.array([1, 2], np.int8)
    params = pq.QuantParams(scale, zero_point, axis=0)
    scale[0], zero_point[0] = 9, 9
    assert (params.scale.tolist(), params.zero_point.tolist()) == ([0.5, 0.25], [1, 2])


def test_params_repr_is_short_and_says_what_matters():
    text = repr(pq.QuantParams(0.5, 3, "uint8"))
    assert "QuantParams" in text and "uint8" in text and "0.5" in text and "3" in text
    many = repr(pq.QuantParams(np.full(10_000, 0.5, np.float32), axis=0))
    assert len(many) < 400 and "axis=0" in many


@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0), (2, 0, 3)])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_empty_input_has_scale_one(shape, axis):
    if axis is not None and axis >= len(shape):
        pytest.skip("no such axis")
    for scheme in ("symmetric", "affine"):
        params = pq.calibrate(np.empty(shape, np.float32), axis=axis, scheme=scheme)
        assert params.scale.shape == reference.params_shape(shape, axis, None)
        assert (params.scale == 1).all()


@pytest.mark.parametrize("dtype", SOME_GRIDS)
def test_scale_is_rounded_to_float32_once(dtype):
    params = pq.QuantParams(0.1, reference.grid(dtype)[0], dtype)
    assert_same_bits(params.scale, np.array(0.1, np.float32))
