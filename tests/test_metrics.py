"""`error`: what quantizing cost."""

import math

import numpy as np
import pytest
from cases import random_generator

import pyquant as pq


def expected_metrics(x, y):
    """math.fsum adds exactly; the rest is a few float64 operations."""
    pairs = [(float(a), float(b)) for a, b in zip(x.ravel(), y.ravel(), strict=True)]
    noise = math.fsum((a - b) ** 2 for a, b in pairs)
    signal, other = math.fsum(a * a for a, _ in pairs), math.fsum(b * b for _, b in pairs)
    return {
        "mse": noise / len(pairs),
        "sqnr_db": 10 * math.log10(signal / noise),
        "max_abs": max(abs(a - b) for a, b in pairs),
        "cosine": math.fsum(a * b for a, b in pairs) / math.sqrt(signal * other),
    }


def assert_metrics(error, expected):
    for name, value in expected.items():
        assert getattr(error, name) == pytest.approx(value, rel=1e-6, abs=1e-12), name


@pytest.mark.parametrize("shape", [(1,), (7,), (40, 50), (3, 5, 7), (1, 300_000)])
@pytest.mark.parametrize("options", [
    {}, {"dtype": "int3", "axis": 0}, {"dtype": "uint8", "scheme": "affine"},
    {"dtype": "int4", "axis": -1, "block_size": 8}, {"dtype": "int4", "axis": 0, "packed": True},
], ids=["tensor", "channel", "affine", "block", "packed"])  # fmt: skip
def test_against_exact_sums(shape, options):
    x = random_generator(shape).standard_normal(shape).astype(np.float32) + np.float32(0.3)
    q = pq.quantize(x, **options)
    y = q.dequantize()
    if np.array_equal(x, y):
        pytest.skip("nothing was lost")
    error = pq.error(x, q)
    assert isinstance(error, pq.QuantizationError)
    assert_metrics(error, expected_metrics(x, y))
    assert_metrics(pq.error(x, y), expected_metrics(x, y))
    assert pq.error(x, y).clipped == 0.0


@pytest.mark.parametrize("x_dtype", ["float16", "float32", "float64"])
def test_input_types(x_dtype):
    x = random_generator("types").standard_normal((20, 30)).astype(x_dtype)
    q = pq.quantize(x, dtype="int5")
    assert_metrics(pq.error(x, q), expected_metrics(x, q.dequantize()))


def test_nothing_lost():
    x = np.arange(-127, 128, dtype=np.float32)
    error = pq.error(x, pq.quantize(x))
    assert (error.mse, error.max_abs, error.clipped) == (0.0, 0.0, 0.0)
    assert error.sqnr_db == math.inf
    assert error.cosine == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("low, high, inside", [(-128, 127, 93), (-127, 127, 93)])
def test_clipped_is_the_share_outside_the_range(low, high, inside):
    params = pq.QuantParams(1.0, 0, "int8", narrow_range=low == -127)
    x = np.concatenate([np.zeros(inside), [500, 200, -300, 1e30, -1e30, 129, -130]])
    error = pq.error(x.astype(np.float32), pq.quantize(x.astype(np.float32), params))
    assert error.clipped == pytest.approx(7 / 100)
    assert error.max_abs == pytest.approx(1e30 - 127, rel=1e-6)


def test_clipped_with_channels_and_a_zero_point():
    params = pq.QuantParams([1.0, 10.0], [0, 200], "uint8", axis=0)
    x = np.array([[0, 100, 255, 256, 300, -5], [-2100, -1990, 0, 549, 560, 700]], np.float32)
    assert pq.error(x, pq.quantize(x, params)).clipped == pytest.approx(6 / 12)


def test_order_of_schemes_is_plausible():
    x = random_generator("order").standard_normal((64, 64)).astype(np.float32)
    x *= np.arange(1, 65, dtype=np.float32)[:, None]
    by_tensor, by_channel, by_block = (
        pq.error(x, pq.quantize(x, dtype="int4", **where)).mse
        for where in ({}, {"axis": 0}, {"axis": 1, "block_size": 8})
    )
    assert by_block < by_channel < by_tensor
    by_bits = [pq.error(x, pq.quantize(x, dtype=f"int{b}")).sqnr_db for b in range(2, 15)]
    assert by_bits == sorted(by_bits)


def test_prints_and_compares():
    x = np.linspace(-1, 1, 50, dtype=np.float32)
    error = pq.error(x, pq.quantize(x))
    assert error == pq.error(x, pq.quantize(x))
    for name in ("mse", "sqnr_db", "max_abs", "cosine", "clipped"):
        assert name in repr(error)
        assert isinstance(getattr(error, name), float)


@pytest.mark.parametrize("shape", [(0,), (0, 3)])
def test_empty(shape):
    x = np.empty(shape, np.float32)
    error = pq.error(x, pq.quantize(x))
    assert (error.max_abs, error.clipped) == (0.0, 0.0)


@pytest.mark.parametrize("layout", ["zeros_kept", "zeros_lost"])
def test_all_zero_signal_does_not_warn_or_raise(layout, recwarn):
    x = np.zeros(9, np.float32)
    y = x if layout == "zeros_kept" else x + np.float32(0.5)
    error = pq.error(x, y)
    assert error.mse == (0.0 if layout == "zeros_kept" else 0.25)
    assert not recwarn.list
