"""Random grids, granularities, scales and input types together, against the vectorised oracle.

A few hundred draws run by default; `pytest -m slow` runs many thousands.
"""

import numpy as np
import pytest
import reference
from cases import GRIDS, assert_same_bits

import pyquant as pq
from pyquant import ops

FLOATS = ["float32", "float32", "float64", "float16", "bfloat16"]


def float_dtype(name: str) -> np.dtype:
    if name == "bfloat16":
        return np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    return np.dtype(name)


def random_scales(rng, shape) -> np.ndarray:
    """Any bit pattern, ordinary ones, or the ends of float32: each takes another road in C."""
    low, high = [(-20, 20), (-149, -90), (90, 127.9)][rng.integers(3)]
    if rng.random() < 0.3:
        return rng.integers(1, 0x7F800000, shape, dtype=np.uint32).view(np.float32)
    scale = (2.0 ** rng.uniform(low, high, shape)).astype(np.float32)
    return np.asarray(np.maximum(scale, np.float32(2.0**-149)))


def random_input(rng, scale, low, high) -> np.ndarray:
    """Ties and their neighbours over the grid and beyond it, among arbitrary bit patterns."""
    shape = scale.shape
    width = high - low + 2
    with np.errstate(all="ignore"):
        steps = rng.integers(-width, width + 1, shape) + rng.choice([0.5, -0.5, 0, 0.25], shape)
        if rng.random() < 0.3:
            steps = steps * rng.uniform(0, 1.3, shape)
        x = (steps * scale.astype(np.float64)).astype(np.float32)
        beside = np.nextafter(x, rng.choice(np.float32([np.inf, -np.inf]), shape))
        anything = rng.integers(0, 1 << 32, shape, dtype=np.uint32).view(np.float32)
        kind = rng.random(shape)
        return np.select([kind < 0.3, kind < 0.5], [beside, anything], x).astype(np.float32)


def check_one_draw(rng) -> None:
    dtype = GRIDS[rng.integers(len(GRIDS))]
    narrow = bool(reference.is_signed(dtype) and rng.integers(2))
    low, high = reference.grid(dtype, narrow)
    shape = tuple(int(n) for n in rng.integers(1, [20, 60, 200]))
    axis = [None, 0, 1, 2][rng.integers(4)]
    block_size = None if axis is None or rng.integers(2) else int(rng.integers(1, 40))
    where = {"axis": axis, "block_size": block_size}
    params_shape = reference.params_shape(shape, axis, block_size)
    scale = random_scales(rng, params_shape)
    zero_point = rng.integers(low, high + 1, params_shape)
    spread = reference.expand(scale, shape, axis, block_size)
    with np.errstate(all="ignore"):
        x = random_input(rng, spread, low, high).astype(float_dtype(FLOATS[rng.integers(5)]))

    q = reference.quantize_fast(x, scale, zero_point, dtype, narrow, axis, block_size)
    actual = ops.quantize_linear(x, scale, zero_point, dtype=dtype, narrow_range=narrow, **where)
    assert_same_bits(actual, q)

    out_dtype = ["float32", "float16", "bfloat16"][rng.integers(3)]
    real = reference.dequantize_fast(q, scale, zero_point, axis, block_size)
    with np.errstate(all="ignore"):
        expected = real.astype(float_dtype(out_dtype))
    actual = ops.dequantize_linear(q, scale, zero_point, dtype=out_dtype, **where)
    assert_same_bits(actual, expected)

    if x.dtype == np.float32:
        params = pq.QuantParams(scale, zero_point, dtype, narrow, axis, block_size)
        assert_same_bits(pq.fake_quantize(x, params), real)
        grad = rng.standard_normal(shape).astype(np.float32)
        with np.errstate(all="ignore"):
            quotient = (x.astype(np.float64) / spread).astype(np.float32).astype(np.float64)
        code = np.rint(quotient) + reference.expand(zero_point, shape, axis, block_size)
        inside = (low <= code) & (code <= high)
        with np.errstate(over="ignore"):  # the sum for the zero point may be beyond float32
            dx = pq.fake_quantize_grad(grad, x, params)[0]
        assert_same_bits(dx, np.where(inside, grad, np.float32(0)))


@pytest.mark.parametrize("seed", range(4))
def test_random_draws(seed):
    rng = np.random.default_rng(seed)
    for _ in range(100):
        check_one_draw(rng)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 130))
def test_many_random_draws(seed):
    rng = np.random.default_rng(seed)
    for _ in range(1000):
        check_one_draw(rng)
