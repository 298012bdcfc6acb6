"""fake_quantize and its straight-through and learned-scale gradients."""

from fractions import Fraction

import numpy as np
import pytest
import reference
from cases import (
    GRANULARITIES,
    SCALES,
    SHAPE,
    SOME_GRIDS,
    assert_same_bits,
    hard_values,
    named,
    random_generator,
    random_params,
)  # fmt: skip

import pyquant as pq


@pytest.mark.parametrize("dtype", SOME_GRIDS)
@pytest.mark.parametrize("scale", **named(SCALES))
def test_fake_quantize_hard_values(scale, dtype):
    low, high = reference.grid(dtype)
    rng = random_generator(dtype, scale)
    for z in {max(low, 0), low, high}:
        x = hard_values(scale, low - z, high - z, rng, 60)
        q = reference.quantize_fast(x, scale, z, dtype)
        actual = pq.fake_quantize(x, pq.QuantParams(scale, z, dtype))
        assert_same_bits(actual, reference.dequantize_fast(q, np.float32(scale), z))


@pytest.mark.parametrize("narrow_range", [False, True])
@pytest.mark.parametrize("axis, block_size", **named(GRANULARITIES))
def test_fake_quantize_is_dequantize_of_quantize(axis, block_size, narrow_range):
    low, high = reference.grid("int6", narrow_range)
    rng = random_generator(axis, block_size)
    shape = reference.params_shape(SHAPE, axis, block_size)
    scale, zero_point = random_params(rng, shape, low, high)
    params = pq.QuantParams(scale, zero_point, "int6", narrow_range, axis, block_size)
    x = rng.normal(0, 30, SHAPE).astype(np.float32)
    x.flat[:4] = [np.nan, np.inf, -np.inf, -0.0]
    actual = pq.fake_quantize(x, params)
    assert_same_bits(actual, pq.quantize(x, params).dequantize())
    exact = reference.map_elements(
        lambda v, s, z: reference.fake_quantize_element(v, s, z, low, high),
        x, scale, zero_point, axis, block_size, np.float32,
    )  # fmt: skip
    assert_same_bits(actual, exact)


@pytest.mark.parametrize("x_dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_fake_quantize_keeps_the_type_of_its_input(x_dtype, axis):
    if x_dtype == "bfloat16":
        x_dtype = pytest.importorskip("ml_dtypes").bfloat16
    rng = random_generator(axis)
    x = (rng.standard_normal((33, 65)) * 40).astype(x_dtype)
    scale, zero_point = random_params(rng, reference.params_shape(x.shape, axis, None), -128, 127)
    params = pq.QuantParams(scale, zero_point, axis=axis)
    q = reference.quantize_fast(x, scale, zero_point, "int8", False, axis)
    expected = reference.dequantize_fast(q, scale, zero_point, axis).astype(x_dtype)
    assert_same_bits(pq.fake_quantize(x, params), expected)


@pytest.mark.parametrize("axis, block_size", [(None, None), (0, None), (1, None), (1, 64)])
def test_fake_quantize_big(axis, block_size):
    x = random_generator(axis).standard_normal((501, 1003)).astype(np.float32)
    params = pq.calibrate(x, axis=axis, block_size=block_size)
    assert_same_bits(pq.fake_quantize(x, params), pq.quantize(x, params).dequantize())


def test_fake_quantize_is_idempotent():
    x = random_generator("twice").standard_normal(4000).astype(np.float32)
    params = pq.calibrate(x, dtype="int5")
    once = pq.fake_quantize(x, params)
    assert_same_bits(pq.fake_quantize(once, params), once)


# --- gradients ------------------------------------------------------------------------------


def exact_grads(grad, x, scale, zero_point, dtype, narrow_range, axis, block_size):
    """dx and, per parameter, the exact dscale and dzero_point, each with the error to allow.

    The error: x / scale may be rounded to float32 (half an ulp of the quotient, times the upstream
    gradient), and so may each term and the sum.
    """
    low, high = reference.grid(dtype, narrow_range)
    shape = reference.params_shape(x.shape, axis, block_size)
    dx = np.zeros_like(x)
    sums = {where: [Fraction(0)] * 4 for where in np.ndindex(shape)}
    scale, zero_point = np.broadcast_to(scale, shape), np.broadcast_to(zero_point, shape)
    for index in np.ndindex(x.shape):
        where = reference.params_index(index, x.ndim, axis, block_size)
        s = float(scale[where])
        dx[index], ds, dz = reference.fake_quantize_grad_element(
            float(grad[index]), float(x[index]), s, int(zero_point[where]), low, high
        )
        half_ulp = Fraction(2) ** -24
        quotient = abs(Fraction(float(grad[index])) * Fraction(float(x[index])) / Fraction(s))
        add = (ds, (abs(ds) * 2 + quotient) * half_ulp, dz, abs(dz) * 2 * half_ulp)
        sums[where] = [a + b for a, b in zip(sums[where], add, strict=True)]
    return dx, {where: tuple(map(float, four)) for where, four in sums.items()}


def assert_grads(actual, dx, sums):
    """dx to the bit; the sums within what rounding explains."""
    assert_same_bits(actual[0], dx)
    for where, (ds, ds_error, dz, dz_error) in sums.items():
        assert abs(float(actual[1][where]) - ds) <= ds_error
        assert abs(float(actual[2][where]) - dz) <= dz_error


@pytest.mark.parametrize("dtype", ["int8", "uint4", "int3", "uint16"])
@pytest.mark.parametrize("axis, block_size", **named(GRANULARITIES))
def test_grad_against_exact_sums(axis, block_size, dtype):
    low, high = reference.grid(dtype)
    rng = random_generator(axis, block_size, dtype)
    shape = reference.params_shape(SHAPE, axis, block_size)
    scale, zero_point = random_params(rng, shape, low, high)
    # Wide enough that a good part lies outside the grid, on both sides.
    x = (rng.uniform(-1.0, 1.0, SHAPE) * (high - low) * scale.max()).astype(np.float32)
    grad = rng.standard_normal(SHAPE).astype(np.float32)
    params = pq.QuantParams(scale, zero_point, dtype, False, axis, block_size)
    actual = pq.fake_quantize_grad(grad, x, params)
    assert np.shape(actual[1]) == np.shape(actual[2]) == shape
    assert_grads(actual, *exact_grads(grad, x, scale, zero_point, dtype, False, axis, block_size))
    assert 0 < np.count_nonzero(actual[0]) < x.size


@pytest.mark.parametrize("narrow_range", [False, True])
@pytest.mark.parametrize("zero_point", [-4, 0, 7])
def test_grad_at_the_edges_of_the_grid(zero_point, narrow_range):
    if narrow_range and zero_point == -8:
        pytest.skip("outside the grid")
    low, high = reference.grid("int4", narrow_range)
    steps = np.array([low - zero_point, high - zero_point], np.float32)
    x = np.concatenate([steps, *(steps + d for d in (-1, -0.5, -0.49, 0.49, 0.5, 0.51, 1))])
    x = (np.concatenate([x, np.nextafter(x, 99), np.nextafter(x, -99)]) * 0.25).astype(np.float32)
    grad = np.arange(1, x.size + 1, dtype=np.float32)
    params = pq.QuantParams(0.25, zero_point, "int4", narrow_range)
    actual = pq.fake_quantize_grad(grad, x, params)
    assert_grads(actual, *exact_grads(grad, x, np.float32(0.25), np.array(zero_point), "int4",
                                      narrow_range, None, None))  # fmt: skip
    # The mask follows the rounded value, so the tie that rounds onto the edge is still inside.
    rounded = np.rint(x / np.float32(0.25)) + zero_point
    assert_same_bits(actual[0], np.where((low <= rounded) & (rounded <= high), grad, 0))


def test_grad_of_special_values():
    x = np.array([np.nan, np.inf, -np.inf, -0.0, 3e38, -3e38, 1e-45], np.float32)
    grad = np.array([1, 2, 4, 8, 16, 32, 64], np.float32)
    dx, dscale, dzero_point = pq.fake_quantize_grad(grad, x, pq.QuantParams(0.5, 3, "int8"))
    assert dx.tolist() == [0, 0, 0, 8, 0, 0, 64]
    assert float(dscale) == (2 + 16) * (127 - 3) + (4 + 32) * (-128 - 3)
    assert float(dzero_point) == -0.5 * (2 + 4 + 16 + 32)


def surrogate(x, scale, zero_point, offset, low, high):
    """The differentiable stand-in: rint(v) is v plus a constant; the clip stays."""
    code = np.clip(x / scale + offset + zero_point, low, high)
    return (code - zero_point) * scale


@pytest.mark.parametrize(
    "dtype, zero_point", [("int8", 0), ("int4", -3), ("uint8", 100), ("int2", 0), ("uint3", 7)]
)
def test_grad_is_the_finite_difference_of_the_surrogate(dtype, zero_point):
    low, high = reference.grid(dtype)
    rng = random_generator(dtype, zero_point)
    scale = float(np.float32(0.37))
    x = (rng.uniform(-1.4, 1.4, 500) * (high - low) * scale).astype(np.float32)
    code = np.rint(x / np.float32(scale)) + zero_point
    # At the corners of the clip the surrogate has no derivative.
    x = x[(code != low) & (code != high)]
    wide = x.astype(np.float64)
    code = np.rint(wide / scale) + zero_point
    grad = rng.standard_normal(x.size).astype(np.float32)
    offset = np.rint(wide / scale) - wide / scale
    h = 1e-6

    def central_difference(dx=0.0, ds=0.0, dz=0.0):
        """Of grad * surrogate, element by element."""
        up, down = (
            surrogate(wide + s * dx, scale + s * ds, zero_point + s * dz, offset, low, high)
            for s in (1, -1)
        )
        return grad * (up - down) / (2 * h)

    params = pq.QuantParams(scale, zero_point, dtype)
    dx, dscale, dzero_point = pq.fake_quantize_grad(grad, x, params)
    assert np.count_nonzero(dx) == np.count_nonzero((low < code) & (code < high)) > 0
    np.testing.assert_allclose(dx, central_difference(dx=h), rtol=1e-5, atol=1e-6)
    size = np.abs(grad).sum() * (high - low)
    assert abs(float(dscale) - central_difference(ds=h).sum()) < 1e-6 * size
    assert abs(float(dzero_point) - central_difference(dz=h).sum()) < 1e-6 * size


@pytest.mark.parametrize("x_dtype", ["float16", "float64"])
def test_grad_of_other_float_types(x_dtype):
    rng = random_generator(x_dtype)
    x = (rng.standard_normal((9, 20)) * 3).astype(x_dtype)
    grad = rng.standard_normal((9, 20)).astype(x_dtype)
    params = pq.QuantParams(rng.uniform(0.1, 1, 9), 0, "int4", axis=0)
    dx, dscale, dzero_point = pq.fake_quantize_grad(grad, x, params)
    assert dx.dtype == x_dtype
    wide, wide_grad = x.astype(np.float32), grad.astype(np.float32)
    expected = pq.fake_quantize_grad(wide_grad, wide, params)
    assert_same_bits(dx, np.where(expected[0] != 0, grad, grad.dtype.type(0)))
    np.testing.assert_allclose(dscale, expected[1], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(dzero_point, expected[2], rtol=1e-4, atol=1e-4)


def test_grad_mask_of_float64_follows_the_float64_division():
    """Just below the tie at the edge: quantize rounds it into the grid, so the gradient passes."""
    x = np.array([127.5 * (1 - 2.0**-50), 127.5, 127.5 * (1 + 2.0**-50)])
    params = pq.QuantParams(1.0, 0, "int8")
    dx, _, _ = pq.fake_quantize_grad(np.ones(3), x, params)
    assert dx.tolist() == [1, 0, 0]
    below = pq.fake_quantize_grad(np.ones(1), x[:1] - 127, pq.QuantParams(1.0, 127, "int8"))
    assert below[0].tolist() == [1]


@pytest.mark.parametrize(
    "axis, block_size", [(None, None), (0, None), (1, None), (1, 64), (0, 100)]
)
def test_grad_does_not_depend_on_the_number_of_threads(axis, block_size):
    rng = random_generator(axis, block_size)
    x = rng.standard_normal((701, 1003)).astype(np.float32)
    grad = rng.standard_normal(x.shape).astype(np.float32)
    params = pq.calibrate(x * np.float32(0.5), axis=axis, block_size=block_size)
    results = []
    for threads in (1, 2, 3, 7):
        with pq.set_num_threads(threads):
            results.append(pq.fake_quantize_grad(grad, x, params))
    for result in results[1:]:
        for a, b in zip(result, results[0], strict=True):
            assert_same_bits(a, b)


def test_big_sums_are_accurate():
    """A float32 running sum of a million equal terms would be far off."""
    n = 1 << 20
    x = np.full(n, 1e6, np.float32)
    grad = np.full(n, 0.1, np.float32)
    dx, dscale, dzero_point = pq.fake_quantize_grad(grad, x, pq.QuantParams(0.5))
    assert not dx.any()
    assert float(dscale) == pytest.approx(n * float(np.float32(0.1)) * 127, rel=1e-6)
    assert float(dzero_point) == pytest.approx(-0.5 * n * float(np.float32(0.1)), rel=1e-6)


def test_training_a_scale_lowers_the_error():
    """The sign of dscale is right: a step against it makes a bad scale better."""
    x = random_generator("lsq").standard_normal(2000).astype(np.float32)
    for scale in (0.02, 3.0):
        params = pq.QuantParams(scale, 0, "int4")
        y = pq.fake_quantize(x, params)
        _, dscale, _ = pq.fake_quantize_grad((2 * (y - x)).astype(np.float32), x, params)
        better = pq.fake_quantize(
            x, pq.QuantParams(scale - 1e-2 * scale * np.sign(float(dscale)), 0, "int4")
        )
        assert ((better - x) ** 2).mean() < ((y - x) ** 2).mean()
