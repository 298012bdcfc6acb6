"""Ranges, dynamic quantization, gradients and histograms on a device: the CPU's bits."""

import numpy as np
import pytest
from cases import assert_same_bits, random_generator
from on_device import fetched, moved

import pyquant as pq
from pyquant import ops

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(1200)]

FLOATS = ["float32", "float16", "bfloat16", "float64"]
PLACES = {
    "tensor": (None, None), "rows": (0, None), "columns": (1, None), "block": (1, 128),
    "block32": (1, 32), "odd_block": (1, 100), "block_down": (0, 32),
}  # fmt: skip
SHAPES = [(64, 4096), (33, 1001), (5, 16_384), (3, 40_000), (4096, 512)]


def floats(name):
    return pytest.importorskip("ml_dtypes").bfloat16 if name == "bfloat16" else np.dtype(name)


def data(shape, dtype, *seed):
    x = random_generator(shape, dtype, *seed).standard_normal(shape) * 3
    x[..., ::7] = -0.0
    return x.astype(floats(dtype))


def assert_all_same(actual, expected):
    for a, b in zip(actual, expected, strict=True):
        assert_same_bits(fetched(a), np.asarray(b))


@pytest.mark.parametrize("axis, block", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", FLOATS)
def test_small_and_large_shapes(cp, dtype, shape, axis, block):
    x = data(shape, dtype)
    place = {"axis": axis, "block_size": block}
    y = moved(cp, x)
    assert_all_same(ops.minmax(y, **place), ops.minmax(x, **place))
    assert_all_same([ops.absmax(y, **place)], [ops.absmax(x, **place)])
    for options in ({"dtype": "int8", "narrow_range": True}, {"dtype": "uint8", "scheme": "affine"},
                    {"dtype": "int16"}):  # fmt: skip
        options |= place
        assert_all_same(ops.dynamic_quantize(y, **options), ops.dynamic_quantize(x, **options))
    if dtype in ("float32", "float64"):
        scale = ops.dynamic_quantize(x * x.dtype.type(0.8), **place)[1]
        expected = ops.fake_quantize_grad_linear(x, x, scale, **place)
        actual = ops.fake_quantize_grad_linear(y, y, moved(cp, scale), **place)
        assert_all_same(actual, expected)


@pytest.mark.parametrize("n", [(1 << 26) + 13, 1 << 24, 1_000_003])
def test_gradient_sums_of_many_chunks(cp, n):
    x = data(n, "float32", "chunks")
    scale = np.float32(0.05)
    expected = ops.fake_quantize_grad_linear(x, x, scale)
    assert_all_same(ops.fake_quantize_grad_linear(moved(cp, x), moved(cp, x), scale), expected)


def histogram(module, x, channels, half, like):
    counts = like.zeros((channels, 2 * half + 1), np.uint64)
    exponent = like.zeros(channels, np.int32)
    low, high = like.zeros(channels, np.float32), like.zeros(channels, np.float32)
    from pyquant import _cpu

    code = {"float32": _cpu.F32, "float16": _cpu.F16, "float64": _cpu.F64}[x.dtype.name]
    layout = (1, channels, x.size // channels, 0)
    assert module.histogram(x, code, layout, False, half, counts, exponent, low, high) == 0
    return counts, exponent, low, high


@pytest.mark.parametrize("half", [64, 4096, 1 << 16])
@pytest.mark.parametrize("channels", [1, 32, 4096])
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_histograms(cp, dtype, channels, half):
    from pyquant import _cpu, _cuda

    x = data((channels, max(1 << 21, channels) // channels), dtype, "histogram")
    expected = histogram(_cpu, x, channels, half, np)
    assert_all_same(histogram(_cuda, moved(cp, x), channels, half, cp), expected)


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy", "mse"])
def test_calibration_equals_the_cpus(cp, method):
    x = data((128, 4096), "float32", "calibration")
    expected = pq.calibrate(x, method=method)
    actual = pq.calibrate(moved(cp, x), method=method)
    assert_same_bits(fetched(actual.scale), np.asarray(expected.scale))


def test_what_is_not_finite_dequantizes_to_nan(cp):
    x = data((8, 4096), "float32", "bad")
    x[3, 100] = np.inf
    q, scale, _ = ops.dynamic_quantize(moved(cp, x), axis=0)
    back = fetched(ops.dequantize_linear(q, scale, axis=0))
    assert np.isnan(back[3]).all() and np.isfinite(np.delete(back, 3, 0)).all()
    assert np.isnan(fetched(scale)).tolist() == [row == 3 for row in range(8)]


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_dynamic_quantize_is_captured_in_a_graph(cp, axis):
    """Scratch memory that a graph has seen is not given to anybody else."""
    host = data((300, 5000), "float32", "graph")
    x, q = moved(cp, host), cp.empty(host.shape, cp.int8)
    ops.dynamic_quantize(x, axis=axis, out=q)
    stream = cp.cuda.Stream(non_blocking=True)
    cp.cuda.Device().synchronize()
    with stream:
        stream.begin_capture()
        _, scale, _ = ops.dynamic_quantize(x, axis=axis, out=q)
        graph = stream.end_capture()
    for seed in range(3):
        values = data(host.shape, "float32", "graph", seed)
        x.set(values)
        fill = [cp.full(1 << n, 0xFF, cp.uint8) for n in range(8, 20)]
        cp.cuda.Device().synchronize()
        graph.launch(stream)
        stream.synchronize()
        expected = ops.dynamic_quantize(values, axis=axis)
        assert_all_same([q, scale], expected[:2])
        assert all(bool((a == 0xFF).all()) for a in fill)


def test_streams_do_not_share_scratch(cp):
    """Many reductions at once on several streams."""
    host = [data((1 << 22,), "float16", i) for i in range(8)]
    arrays = [moved(cp, x) for x in host]
    streams = [cp.cuda.Stream(non_blocking=True) for _ in host]
    cp.cuda.Device().synchronize()
    results = []
    for _ in range(5):
        for x, stream in zip(arrays, streams, strict=True):
            with stream:
                results.append(ops.dynamic_quantize(x))
    cp.cuda.Device().synchronize()
    for i, result in enumerate(results):
        assert_all_same(result, ops.dynamic_quantize(host[i % 8]))


def test_more_than_31_bits_of_elements_are_reduced(cp):
    free, _ = cp.cuda.runtime.memGetInfo()
    if free < 12e9:
        pytest.skip(f"12 GB of device memory needed, {free / 1e9:.0f} GB free")
    x = cp.zeros((1 << 31) + 1000, cp.float16)
    x[-1], x[-500], x[5] = 7.0, -9.0, 3.0
    low, high = ops.minmax(x)
    assert (float(low), float(high)) == (-9.0, 7.0)
    q, scale, _ = ops.dynamic_quantize(x, narrow_range=True)
    assert float(scale) == np.float32(9.0) / np.float32(127)
    assert (int(q[-500]), int(q[-1]), int(q[5])) == (-127, 99, 42)
    assert int(cp.count_nonzero(q)) == 3
    low, high = ops.minmax(x[: 1 << 31].reshape(1 << 11, 1 << 20), axis=1)
    assert (float(high.max()), float(low.min())) == (3.0, 0.0)
