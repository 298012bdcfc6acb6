"""Convolutions of CuPy arrays on the stand-in: exact sums, and the CPU's bits in what follows."""

import itertools
import pickle
from importlib import import_module
from unittest import mock

import numpy as np
import pytest
import reference
import standin_cupy
import standin_gpu
from cases import random_generator
from cuda_products import codes
from standin_gpu import array, same

import pyquant as pq
from pyquant import ops
from pyquant._cuda_gemm_plan import SMALL, SQUARE, plan_conv

TYPES = list(itertools.product((True, False), repeat=2))
KERNELS = [(3,), (1, 1), (3, 3), (1, 5), (2, 3), (2, 2, 3), (1, 3, 1)]


@pytest.fixture
def gpu():
    with standin_gpu.installed() as device:
        yield device


def as_layout(x, layout):
    return x if layout == "NCHW" else np.ascontiguousarray(np.moveaxis(x, 1, -1))


def check(x, w, x_zero_point=0, w_zero_point=0, stride=1, dilation=1, pads=0, groups=1):
    """conv_integer in both layouts, of arrays that come contiguous or not."""
    n = x.ndim - 2
    expected = reference.convolve(x, w, x_zero_point, w_zero_point, stride, dilation, pads, groups)
    for layout in ("NCHW", "NHWC"):
        given = array(as_layout(x, layout))
        with standin_cupy.nothing_fetched():
            y = ops.conv_integer(
                given, array(w), x_zero_point, w_zero_point, layout=layout, group=groups,
                strides=np.broadcast_to(stride, n), dilations=np.broadcast_to(dilation, n),
                pads=np.broadcast_to(pads, 2 * n),
            )  # fmt: skip
        same(y, as_layout(expected.astype(np.int32), layout))


def zero_points(rng, signed, outputs):
    """Of x, and of w: none, one, or one for each output."""
    of_w = [0, int(codes(rng, (), signed[1])), codes(rng, outputs, signed[1])]
    return codes(rng, (), signed[0]), of_w[rng.integers(3)]


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
@pytest.mark.parametrize("signed", TYPES)
def test_every_attribute(gpu, signed, kernel):
    rng = random_generator(signed, kernel)
    n = len(kernel)
    for _ in range(3):
        groups, channels, outputs = rng.choice([1, 2, 3]), rng.integers(1, 9), rng.integers(1, 40)
        stride, dilation = rng.integers(1, 4, n), rng.integers(1, 4, n)
        pads = rng.integers(0, 4, 2 * n)
        size = (np.array(kernel) - 1) * dilation + 1 + rng.integers(0, 9 if n < 3 else 4, n)
        x = codes(rng, (rng.integers(1, 4), groups * channels, *size), signed[0])
        w = codes(rng, (groups * outputs, channels, *kernel), signed[1])
        check(x, w, *zero_points(rng, signed, len(w)), stride, dilation, pads, groups)


@pytest.mark.parametrize("channels", [1, 3, 15, 16, 17, 31, 32, 33, 64, 100])
def test_every_edge_of_channels(gpu, channels):
    rng = random_generator(channels)
    for number, (outputs, kernel) in enumerate(itertools.product((1, 63, 64, 65), (1, 3))):
        signed = TYPES[number % 4]
        x = codes(rng, (1, channels, 5, 9), signed[0])
        w = codes(rng, (outputs, channels, kernel, kernel), signed[1])
        check(x, w, *zero_points(rng, signed, outputs), pads=kernel // 2)


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
@pytest.mark.parametrize("multiplier", [1, 2, 3])
def test_few_channels_a_group(gpu, channels, multiplier):
    rng = random_generator(channels, multiplier)
    for signed, kernel, groups in zip(TYPES, [(3, 3), (5, 5), (1, 7), (6, 6)], (2, 15, 33, 130),
                                      strict=True):  # fmt: skip
        for stride, dilation in ((1, 1), (2, 2)):
            x = codes(rng, (2, groups * channels, 12, 13), signed[0])
            w = codes(rng, (groups * multiplier, channels, *kernel), signed[1])
            gpu.launched.clear()
            points = zero_points(rng, signed, len(w))
            check(x, w, *points, stride, dilation, rng.integers(0, 3, 4), groups)
            kind = "depthwise" if channels == multiplier == 1 else "grouped"
            assert {f"{kind}_nchw", f"{kind}_nhwc"} <= set(gpu.launched)


def test_large_tiles_and_those_that_share_k(gpu):
    rng = random_generator("tiles")
    for processors, tile in ((2, "conv_128x128"), (300, "conv_64x64")):
        gpu(86, processors)
        for groups in (1, 2):
            x = codes(rng, (3, 80 * groups, 11, 9), True)
            w = codes(rng, (130 * groups, 80, 5, 5), False)
            gpu.launched.clear()
            check(x, w, 5, 100, pads=2, groups=groups)
            assert {f"{tile}_nchw", f"{tile}_nhwc"} <= set(gpu.launched)


def test_turing_has_one_tile():
    for capability, tile in ((75, SMALL), (80, SQUARE)):
        assert plan_conv(100_000, 256, 1000, 1, capability, 40).tile == tile


def test_pointwise_convolutions_are_products(gpu):
    gpu(90, 2)
    rng = random_generator("pointwise")
    x, w = codes(rng, (1, 14, 15, 32), True), codes(rng, (40, 32, 1, 1), True)
    y = ops.conv_integer(array(x), array(w), 3, -4, layout="NHWC")
    expected = reference.convolve(np.moveaxis(x, -1, 1), w, 3, -4)
    same(y, as_layout(expected.astype(np.int32), "NHWC"))
    assert any(name.startswith("gemm_128x256") for name in gpu.launched)


def test_images_that_lie_well_are_not_copied(gpu):
    rng = random_generator("lying")
    w = codes(rng, (24, 32, 3, 3), True)
    packed = pq.pack_convolution(pq.QuantizedArray(array(w), pq.QuantParams(1.0)))
    wide = codes(rng, (2, 9, 12, 64), True)
    for view in (wide[..., :32], wide[:, ::2, 1:9, 32:], wide[:1, :, :, 16:48]):
        x = standin_cupy.ndarray._of(view)
        gpu.launched.clear()
        y = pq.conv2d(pq.QuantizedArray(x, pq.QuantParams(1.0)), packed, layout="NHWC",
                      out_dtype="int32")  # fmt: skip
        assert gpu.launched == ["conv_64x64_nhwc"]
        expected = reference.convolve(np.moveaxis(view, -1, 1), w)
        same(y, as_layout(expected.astype(np.int32), "NHWC"))
    for view in (wide[..., 1:33], wide[..., ::2], wide[:, ::-1, :, :32], wide[:, :, :, :32][::-1]):
        x = standin_cupy.ndarray._of(view)
        gpu.launched.clear()
        y = ops.conv_integer(x, array(w), layout="NHWC")
        assert gpu.launched.count("lay_codes") == 2
        expected = reference.convolve(np.moveaxis(view, -1, 1), w)
        same(y, as_layout(expected.astype(np.int32), "NHWC"))


def test_any_memory_layout(gpu):
    rng = random_generator("layouts")
    x, w = codes(rng, (2, 6, 8, 9), False), codes(rng, (10, 6, 3, 3), True)
    expected = reference.convolve(x, w, 7).astype(np.int32)
    views = [lambda v: v, np.asfortranarray, lambda v: v[..., ::-1].copy()[..., ::-1],
             lambda v: np.repeat(v, 2, 1)[:, ::2], lambda v: v.swapaxes(0, 2).copy().swapaxes(0, 2),
             lambda v: np.moveaxis(np.moveaxis(v, 1, -1).copy(), -1, 1)]  # fmt: skip
    for of_x, of_w in zip(views, reversed(views), strict=True):
        left, right = standin_cupy.ndarray._of(of_x(x)), standin_cupy.ndarray._of(of_w(w))
        same(ops.conv_integer(left, right, 7), expected)


def test_out(gpu):
    rng = random_generator("out")
    x, w = codes(rng, (2, 4, 6, 6), True), codes(rng, (5, 4, 3, 3), True)
    expected = ops.conv_integer(x, w)
    out = array(np.zeros(expected.shape, np.int32))
    assert ops.conv_integer(array(x), array(w), out=out) is out
    same(out, expected)
    strided = array(np.zeros((2, 5, 4, 8), np.int32))[..., ::2]
    assert ops.conv_integer(array(x), array(w), out=strided) is strided
    same(strided, expected)
    with pytest.raises(ValueError, match="out must have shape"):
        ops.conv_integer(array(x), array(w), out=out[:1])


def test_nothing_and_single_elements(gpu):
    for x_shape, w_shape, pads in [
        ((0, 3, 4, 4), (2, 3, 2, 2), 0),
        ((1, 0, 4, 4), (2, 0, 2, 2), 0),
        ((1, 2, 0, 3), (3, 2, 2, 2), 1),
        ((1, 1, 1), (1, 1, 1), 0),
    ]:
        x, w = np.ones(x_shape, np.int8), np.ones(w_shape, np.int8)
        given = {"pads": [pads] * (2 * (len(x_shape) - 2))}
        same(ops.conv_integer(array(x), array(w), 2, **given), ops.conv_integer(x, w, 2, **given))


def test_images_go_in_shares_where_there_are_too_many(gpu):
    _cuda_convolution = import_module("pyquant._cuda_convolution")
    rng = random_generator("shares")
    x, w = codes(rng, (5, 3, 6, 7), True), codes(rng, (4, 3, 3, 3), True)
    with mock.patch.object(_cuda_convolution, "_MOST_CHUNKS", 2 * 8 * 9):
        check(x, w, 9, pads=1)
    assert gpu.launched.count("conv_64x64_nchw") == 3


# --- what becomes of the sums -----------------------------------------------------------------


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("groups", [1, 2, 8])
def test_qlinear_conv(gpu, layout, groups):
    rng = random_generator(layout, groups)
    for number, signed in enumerate(TYPES):
        x = as_layout(codes(rng, (2, 8, 7, 9), signed[0]), layout)
        w = codes(rng, (16, 8 // groups, 3, 3), signed[1])
        scale = rng.uniform(0.01, 0.02, 16 if number % 2 else ()).astype(np.float32)
        bias = rng.integers(-3000, 3000, 16).astype(np.int32) if number != 1 else None
        points = zero_points(rng, signed, 16)
        y_zero = np.array(3, [np.int8, np.uint8, np.int16, np.uint16][number])
        modes = [("float", "double"), ("fixed", "double"), ("fixed", "single")]
        for (mode, rounding), dtype in zip(modes, (None, "int4", "uint8"), strict=True):
            given = {"layout": layout, "group": groups, "pads": [1, 0, 2, 1], "strides": [1, 2],
                     "mode": mode, "rounding": rounding, "dtype": dtype}  # fmt: skip
            rest = y_scale, y_point = 0.3, y_zero
            host = ops.qlinear_conv(x, 0.05, points[0], w, scale, points[1], *rest, bias, **given)
            on_device = None if bias is None else array(bias)
            with standin_cupy.nothing_fetched():
                y = ops.qlinear_conv(
                    array(x), 0.05, points[0], array(w), array(scale) if number % 2 else scale,
                    points[1], y_scale, y_point, on_device, **given,
                )  # fmt: skip
            same(y, host)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("out_dtype", ["float32", "float16", "bfloat16", "float64"])
def test_float_results(gpu, layout, out_dtype):
    if out_dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    rng = random_generator(layout, out_dtype)
    for groups, kernel in ((1, 3), (2, 3), (12, 3), (1, 1)):
        x = as_layout(rng.standard_normal((2, 12, 6, 7)).astype(np.float32), layout)
        weight = pq.quantize(
            rng.standard_normal((24, 12 // groups, kernel, kernel)).astype(np.float32), axis=0
        )
        there = pq.QuantizedArray(array(weight.data), weight.params)
        bias = rng.standard_normal(24).astype(np.float32)
        params = pq.calibrate(x, dtype="uint8", scheme="affine")
        given = {"padding": 1, "groups": groups, "layout": layout, "out_dtype": out_dtype,
                 "relu": bool(groups % 2), "clip": (-2.0, 1.5)}  # fmt: skip
        for x_params in (None, params):
            host = pq.conv2d(x, weight, bias, x_params=x_params, **given)
            for w in (there, pq.pack_convolution(there, groups=groups)):
                with standin_cupy.nothing_fetched():
                    y = pq.conv2d(array(x), w, array(bias), x_params=x_params, **given)
                same(y, host)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_float_images(gpu, dtype):
    ml_dtypes = pytest.importorskip("ml_dtypes") if dtype == "bfloat16" else np
    rng = random_generator(dtype)
    w = pq.quantize(rng.standard_normal((20, 18, 3, 3)).astype(np.float32))
    there = pq.QuantizedArray(array(w.data), w.params)
    for layout in ("NCHW", "NHWC"):
        for channels_first in (False, True):
            x = rng.standard_normal((2, 18, 5, 8)).astype(getattr(ml_dtypes, dtype))
            x = x if layout == "NCHW" else np.moveaxis(x, 1, -1)
            x = x.copy() if channels_first else x
            for params in (None, pq.QuantParams(0.02, 3, "int4"), pq.QuantParams(1e-3, 0, "int8")):
                given = {"padding": "same", "layout": layout, "x_params": params}
                host = pq.conv2d(x, w, **given)
                same(pq.conv2d(standin_cupy.ndarray._of(x), there, **given), host)


def test_wide_channels_of_floats_are_read_sixteen_at_a_time(gpu):
    rng = random_generator("wide")
    for dtype in (np.float16, np.float32):
        x = rng.standard_normal((1, 4, 5, 48)).astype(dtype)
        w = pq.quantize(rng.standard_normal((8, 48, 3, 3)).astype(np.float32))
        there = pq.QuantizedArray(array(w.data), w.params)
        same(pq.conv2d(array(x), there, layout="NHWC"), pq.conv2d(x, w, layout="NHWC"))


def test_codes_and_int32(gpu):
    rng = random_generator("codes")
    x = pq.quantize(rng.standard_normal((2, 6, 7, 5)).astype(np.float32), dtype="uint8",
                    scheme="affine")  # fmt: skip
    w = pq.quantize(rng.standard_normal((10, 6, 3, 3)).astype(np.float32), axis=0)
    on = [pq.QuantizedArray(array(q.data), q.params) for q in (x, w)]
    bias = rng.standard_normal(10).astype(np.float32)
    same(pq.conv2d(*on, bias, out_dtype="int32"), pq.conv2d(x, w, bias, out_dtype="int32"))
    for params in (pq.QuantParams(0.1, 5, "uint8"), pq.QuantParams(0.05, 0, "int16")):
        for given in ({}, {"relu": True}, {"mode": "fixed", "rounding": "single"}):
            y = pq.conv2d(*on, bias, out_params=params, **given)
            same(y.data, pq.conv2d(x, w, bias, out_params=params, **given).data)


def test_parameters_on_the_device(gpu):
    rng = random_generator("parameters")
    x, w = rng.standard_normal((1, 6, 7, 5)).astype(np.float32), rng.standard_normal((4, 6, 3, 3))
    on_x = pq.quantize(array(x))
    on_w = pq.quantize(array(w.astype(np.float32)), axis=0)
    with standin_cupy.nothing_fetched():
        y = pq.conv2d(on_x, on_w, padding=1)
    host = pq.conv2d(pq.quantize(x), pq.quantize(w.astype(np.float32), axis=0), padding=1)
    same(y, host)


def test_what_is_not_finite_gives_nan(gpu):
    x = np.ones((1, 1, 3, 3), np.float32)
    x[0, 0, 1, 1] = np.inf
    w = pq.quantize(np.ones((1, 1, 3, 3), np.float32))
    there = pq.QuantizedArray(array(w.data), w.params)
    assert np.isnan(pq.conv2d(array(x), there).get()).all()


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_beyond_int32(gpu, layout):
    for channels, kernel in ((40000, 1), (4100, 3)):
        x = np.full((2, channels, kernel, kernel + 1), 255, np.uint8)
        w = np.full((3, channels, kernel, kernel), 255, np.uint8)
        x[1, ::3], w[1, ::7] = 3, 9
        x = as_layout(x, layout)
        for mode, rounding in [("float", "double"), ("fixed", "single")]:
            rest = 1e-3, 0, 77.7, np.int16(5)
            given = {"mode": mode, "rounding": rounding, "layout": layout}
            host = ops.qlinear_conv(x, 1e-3, 0, w, *rest, **given)
            same(ops.qlinear_conv(array(x), 1e-3, 0, array(w), *rest, **given), host)
        with pytest.raises(OverflowError):
            ops.conv_integer(array(x), array(w), layout=layout)
    params = pq.QuantParams(1e-3, 0, "uint8")
    q, right = (pq.QuantizedArray(v, params) for v in (x, w))
    on = [pq.QuantizedArray(array(v.data), params) for v in (q, right)]
    for out_dtype in ("float32", "float16"):
        given = {"layout": layout, "out_dtype": out_dtype}
        same(pq.conv2d(*on, **given), pq.conv2d(q, right, **given))


# --- what is packed, and what is refused ------------------------------------------------------


def test_packed_weights(gpu):
    rng = random_generator("packed")
    w = pq.quantize(rng.standard_normal((6, 5, 3, 3)).astype(np.float32), axis=0)
    there = pq.QuantizedArray(array(w.data), w.params)
    packed = pq.pack_convolution(there)
    assert packed.isa == "cuda" and packed.nbytes == 6 * 9 * 16 + 6 * 4
    assert packed.shape == (6, 5, 3, 3)
    x = rng.standard_normal((1, 5, 6, 6)).astype(np.float32)
    with pytest.raises(TypeError, match="packed where x is"):
        pq.conv2d(x, packed)
    with pytest.raises(TypeError, match="packed where x is"):
        pq.conv2d(array(x), pq.pack_convolution(w))
    again = pickle.loads(pickle.dumps(pq.pack_convolution(w)))
    assert again.isa != "cuda"


def test_devices_do_not_mix(gpu):
    x, w = np.ones((1, 2, 3, 3), np.int8), np.ones((1, 2, 2, 2), np.int8)
    with pytest.raises(TypeError, match="one library and on one device"):
        ops.conv_integer(array(x), w)
    with pytest.raises(ValueError, match="multiplier"):
        ops.qlinear_conv(array(x), 1e-30, 0, array(w), 1e-30, 0, 1.0, 0)
