"""Convolutions on a device: the CPU's bits over random shapes, types, layouts and epilogues."""

import numpy as np
import pytest

import pyquant as pq
from pyquant import ops

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(1800)]
TYPES = (np.int8, np.uint8)


def codes(rng, shape, dtype):
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max + 1, shape, dtype=dtype)


def random_layer(rng, n=2):
    """x, w and the attributes."""
    groups = int(rng.choice([1, 1, 2, 3, 32]))
    channels = int(rng.choice([1, 2, 3, 4, 8, 16, 17, 32, 64, 96]))
    outputs = int(rng.choice([1, 2, 4, 8, 31, 64, 65, 130]))
    kernel, stride, dilation = (rng.integers(1, most, n) for most in (5, 3, 3))
    pads = rng.integers(0, 3, 2 * n)
    size = (kernel - 1) * dilation + 1 + rng.integers(0, 30 if n < 3 else 8, n)
    x = codes(rng, (int(rng.integers(1, 5)), groups * channels, *size), TYPES[rng.integers(2)])
    w = codes(rng, (groups * outputs, channels, *kernel), TYPES[rng.integers(2)])
    return x, w, {"strides": stride, "dilations": dilation, "pads": pads, "group": groups}


def laid(x, layout):
    return x if layout == "NCHW" else np.ascontiguousarray(np.moveaxis(x, 1, -1))


@pytest.mark.parametrize("seed", range(20))
def test_conv_integer_small(cp, seed):
    rng = np.random.default_rng(seed)
    for number in range(6):
        x, w, given = random_layer(rng, 1 + number % 3)
        points = int(codes(rng, (), x.dtype)), codes(rng, len(w), w.dtype)
        for layout in ("NCHW", "NHWC"):
            there = laid(x, layout)
            y = ops.conv_integer(cp.asarray(there), cp.asarray(w), *points, layout=layout, **given)
            host = ops.conv_integer(there, w, *points, layout=layout, **given)
            np.testing.assert_array_equal(y.get(), host)


@pytest.mark.parametrize(
    "channels, size, outputs, kernel, stride, groups",
    [
        (3, 224, 64, 7, 2, 1), (64, 56, 64, 3, 1, 1), (64, 56, 256, 1, 1, 1),
        (256, 28, 256, 3, 2, 1), (512, 7, 2048, 1, 1, 1), (512, 7, 512, 3, 1, 1),
        (128, 56, 128, 3, 1, 128), (256, 14, 256, 3, 1, 32),
    ],
)  # fmt: skip
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_layers_of_networks(cp, layout, channels, size, outputs, kernel, stride, groups):
    rng = np.random.default_rng(channels)
    x = laid(rng.standard_normal((8, channels, size, size)).astype(np.float32), layout)
    w = rng.standard_normal((outputs, channels // groups, kernel, kernel)).astype(np.float32)
    weight = pq.quantize(w, axis=0)
    packed = pq.pack_convolution(
        pq.QuantizedArray(cp.asarray(weight.data), weight.params), groups=groups
    )
    bias = rng.standard_normal(outputs).astype(np.float32)
    given = {"stride": stride, "padding": kernel // 2, "groups": groups, "layout": layout}
    y = pq.conv2d(cp.asarray(x), packed, cp.asarray(bias), relu=True, **given)
    np.testing.assert_array_equal(y.get(), pq.conv2d(x, weight, bias, relu=True, **given))
    static = pq.calibrate(x, dtype="uint8", scheme="affine")
    out = pq.QuantParams(0.5, 7, "uint8")
    for x_params in (None, static):
        parameters = {"x_params": x_params, "out_params": out}
        y = pq.conv2d(cp.asarray(x), packed, bias, **parameters, **given)
        host = pq.conv2d(x, weight, bias, **parameters, **given)
        np.testing.assert_array_equal(y.data.get(), host.data)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_float_images_small(cp, dtype):
    rng = np.random.default_rng(3)
    weight = pq.quantize(rng.standard_normal((40, 33, 3, 3)).astype(np.float32))
    there = pq.QuantizedArray(cp.asarray(weight.data), weight.params)
    x = rng.standard_normal((2, 33, 17, 19)).astype(dtype)
    for out_dtype in ("float32", "float16"):
        y = pq.conv2d(cp.asarray(x), there, padding=1, out_dtype=out_dtype)
        host = pq.conv2d(x, weight, padding=1, out_dtype=out_dtype)
        np.testing.assert_array_equal(y.get(), host)


def test_a_graph_captures_convolutions_small(cp):
    rng = np.random.default_rng(4)
    x, w = codes(rng, (2, 32, 14, 14), np.int8), codes(rng, (64, 32, 3, 3), np.int8)
    on_x, on_w = cp.asarray(x), cp.asarray(w)
    out = cp.empty((2, 64, 12, 12), cp.int32)
    ops.conv_integer(on_x, on_w, 3, out=out)
    stream = cp.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        ops.conv_integer(on_x, on_w, 3, out=out)
        graph = stream.end_capture()
    out.fill(0)
    cp.cuda.Device().synchronize()
    graph.launch(stream)
    stream.synchronize()
    np.testing.assert_array_equal(out.get(), ops.conv_integer(x, w, 3))
