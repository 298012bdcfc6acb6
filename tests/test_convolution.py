"""`ops.conv_integer`, `ops.qlinear_conv` and `conv2d` against int64 NumPy and exact arithmetic."""

import copy
import itertools
import math
import pickle

import numpy as np
import pytest
import reference
from cases import assert_same_bits, layouts, random_generator

import pyquant as pq
from pyquant import ops

TYPES = list(itertools.product(("int8", "uint8"), repeat=2))
each_pair = pytest.mark.parametrize("x_type, w_type", TYPES, ids=map("-".join, TYPES))
both_layouts = pytest.mark.parametrize("layout", ["NCHW", "NHWC"])

KERNELS = [(1,), (3,), (5,), (1, 1), (3, 3), (1, 5), (2, 3), (7, 7), (2, 2, 3), (1, 3, 1)]


def codes(rng, shape, dtype, extreme=False):
    low, high = reference.grid(dtype)
    if extreme:
        return rng.choice(np.array([low, high], dtype), shape)
    return rng.integers(low, high, shape, dtype, endpoint=True)


def as_layout(x, layout):
    return x if layout == "NCHW" else np.ascontiguousarray(np.moveaxis(x, 1, -1))


def as_nchw(y, layout):
    return y if layout == "NCHW" else np.moveaxis(y, -1, 1)


def check(x, w, x_zero_point=0, w_zero_point=0, stride=1, dilation=1, pads=0, groups=1):
    """conv_integer in both layouts; returns the int64 result."""
    n = x.ndim - 2
    expected = reference.convolve(x, w, x_zero_point, w_zero_point, stride, dilation, pads, groups)
    for layout in ("NCHW", "NHWC"):
        actual = ops.conv_integer(
            as_layout(x, layout), w, x_zero_point, w_zero_point, layout=layout, group=groups,
            strides=np.broadcast_to(stride, n), dilations=np.broadcast_to(dilation, n),
            pads=np.broadcast_to(pads, 2 * n),
        )  # fmt: skip
        assert_same_bits(as_nchw(actual, layout).copy(), expected.astype(np.int32))
    return expected


# --- exact sums -----------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
@each_pair
def test_every_attribute(x_type, w_type, kernel):
    rng = random_generator(x_type, w_type, kernel)
    n = len(kernel)
    for number in range(24):
        extreme = number % 4 == 0
        groups, channels, outputs = rng.choice([1, 2, 3]), rng.integers(1, 9), rng.integers(1, 40)
        stride, dilation = rng.integers(1, 4, n), rng.integers(1, 4, n)
        pads = rng.integers(0, 4, 2 * n)
        spans = (np.array(kernel) - 1) * dilation + 1
        size = spans + rng.integers(0, 14 if n < 3 else 5, n)
        x = codes(rng, (rng.integers(1, 4), groups * channels, *size), x_type, extreme)
        w = codes(rng, (groups * outputs, channels, *kernel), w_type, extreme)
        x_zero = codes(rng, (), x_type, extreme)
        w_zero = codes(rng, [(), (len(w),)][number % 2], w_type, extreme)
        check(x, w, x_zero, w_zero, stride, dilation, pads, groups)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 15, 16, 17, 31, 33, 64, 100, 512])
@each_pair
def test_every_edge_of_channels(x_type, w_type, channels):
    rng = random_generator(x_type, w_type, channels)
    for outputs, kernel in itertools.product((1, 31, 32, 33, 65), (1, 3)):
        x = codes(rng, (1, channels, 5, 9), x_type)
        w = codes(rng, (outputs, channels, kernel, kernel), w_type)
        check(x, w, codes(rng, (), x_type), codes(rng, (), w_type), pads=kernel // 2)


@pytest.mark.parametrize("channels", [2, 3, 31, 32, 33, 63, 64, 65, 130])
@pytest.mark.parametrize("multiplier", [1, 2, 3, 4, 5])
def test_depthwise(channels, multiplier):
    rng = random_generator(channels, multiplier)
    for (x_type, w_type), kernel in zip(TYPES, [(3, 3), (5, 5), (1, 7), (6, 6)], strict=True):
        for stride, dilation in ((1, 1), (2, 1), (1, 2)):
            x = codes(rng, (2, channels, 12, 13), x_type)
            w = codes(rng, (channels * multiplier, 1, *kernel), w_type)
            zeros = codes(rng, (), x_type), codes(rng, len(w), w_type)
            pads = rng.integers(0, 3, 4)
            check(x, w, *zeros, stride, dilation, pads, groups=channels)


def test_all_extremes_reach_the_ends_of_int32():
    """33025 products of 255 * 255 fit, and nothing on the way may saturate."""
    x = np.full((1, 33025, 1, 2), 255, np.uint8)
    w = np.full((2, 33025, 1, 1), 255, np.uint8)
    w[1] = 0
    assert ops.conv_integer(x, w).ravel().tolist() == [33025 * 255 * 255] * 2 + [0, 0]
    assert ops.conv_integer(x, w, 0, 255).min() == -33025 * 255 * 255


@both_layouts
def test_large_images_on_several_threads(layout):
    """Bands of rows, parts of columns and images are divided, and give what one thread gives."""
    rng = random_generator("large")
    layers = [((1, 24, 130, 131), 40, 3, 1), ((5, 64, 28, 28), 96, 1, 1),
              ((1, 256, 7, 7), 512, 3, 1), ((1, 96, 90, 90), 96, 3, 96),
              ((2, 16, 65, 64), 32, 5, 4)]  # fmt: skip
    for shape, outputs, kernel, groups in layers:
        x = codes(rng, shape, "uint8")
        w = codes(rng, (outputs, shape[1] // groups, kernel, kernel), "int8")
        options = {"pads": [kernel // 2] * 4, "group": groups, "layout": layout}
        results = []
        for threads in (1, 2, 3, 7):
            pq.set_num_threads(threads)
            results.append(ops.conv_integer(as_layout(x, layout), w, 100, 3, **options))
        expected = reference.convolve(x, w, 100, 3, pads=kernel // 2, groups=groups)
        for result in results:
            assert np.array_equal(as_nchw(result, layout), expected)


def test_any_memory_layout():
    rng = random_generator("layouts")
    x, w = codes(rng, (2, 6, 8, 9), "uint8"), codes(rng, (10, 6, 3, 3), "int8")
    expected = ops.conv_integer(x, w, 7)
    for (name, view), other in zip(layouts(x).items(), layouts(w).values(), strict=True):
        assert np.array_equal(ops.conv_integer(view, other, 7), expected), name
        last = ops.conv_integer(np.moveaxis(view, 1, -1), other, 7, layout="NHWC")
        assert np.array_equal(np.moveaxis(last, -1, 1), expected), name


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"])
def test_automatic_padding(auto_pad):
    rng = random_generator(auto_pad)
    for size, kernel, stride, dilation in itertools.product(
        (5, 6, 9), (1, 2, 4), (1, 2, 3), (1, 2)
    ):
        span = (kernel - 1) * dilation + 1
        total = max((-(-size // stride) - 1) * stride + span - size, 0)
        if auto_pad in ("VALID", "NOTSET"):
            total = 0
        if size + total < span:
            continue
        less, more = total // 2, total - total // 2
        pads = [less, more] if auto_pad == "SAME_UPPER" else [more, less]
        x, w = codes(rng, (1, 2, size), "uint8"), codes(rng, (3, 2, kernel), "int8")
        actual = ops.conv_integer(
            x, w, 9, strides=[stride], dilations=[dilation], auto_pad=auto_pad
        )
        expected = reference.convolve(x, w, 9, 0, stride, dilation, pads)
        assert np.array_equal(actual, expected)
        if auto_pad.startswith("SAME"):
            assert actual.shape[-1] == math.ceil(size / stride)


def test_padding_stands_for_zero():
    """Outside the image is the zero point: a constant image of it stays zero everywhere."""
    x = np.full((1, 3, 4, 4), 77, np.uint8)
    w = codes(random_generator("padding"), (8, 3, 3, 3), "int8")
    assert not ops.conv_integer(x, w, 77, pads=[2, 2, 2, 2]).any()


def test_no_images_and_no_channels():
    w = np.ones((4, 2, 3, 3), np.int8)
    assert ops.conv_integer(np.ones((0, 2, 5, 5), np.int8), w).shape == (0, 4, 3, 3)
    nothing = ops.conv_integer(np.ones((1, 0, 5, 5), np.int8), np.ones((4, 0, 3, 3), np.int8))
    assert nothing.shape == (1, 4, 3, 3) and not nothing.any()
    none = ops.conv_integer(np.ones((1, 2, 5, 5), np.int8), np.ones((0, 2, 3, 3), np.int8))
    assert none.shape == (1, 0, 3, 3)


def test_out():
    rng = random_generator("out")
    x, w = codes(rng, (2, 4, 6, 6), "int8"), codes(rng, (4, 4, 3, 3), "int8")
    expected = ops.conv_integer(x, w, pads=[1] * 4)
    out = np.empty((2, 4, 6, 6), np.int32)
    assert ops.conv_integer(x, w, pads=[1] * 4, out=out) is out
    assert np.array_equal(out, expected)
    strided = np.empty((2, 4, 6, 12), np.int32)[..., ::2]
    assert ops.conv_integer(x, w, pads=[1] * 4, out=strided) is strided
    assert np.array_equal(strided, expected)
    # The result over the image itself: every result needs neighbours that are written early.
    expected = ops.qlinear_conv(x, 1.0, 0, w, 1.0, 0, 90.0, np.int8(0), pads=[1] * 4)
    ops.qlinear_conv(x, 1.0, 0, w, 1.0, 0, 90.0, np.int8(0), pads=[1] * 4, out=x)
    assert np.array_equal(x, expected)


# --- requantized ----------------------------------------------------------------------------

MODES = [("float", "double"), ("fixed", "double"), ("fixed", "single")]


def requantized(acc, multiplier, zero_point, dtype, mode, rounding):
    """(n, m, …) sums with a multiplier an output, one element at a time."""
    low, high = reference.grid(dtype)
    result = np.empty(acc.shape, reference.storage(dtype))
    for index in np.ndindex(acc.shape):
        args = int(acc[index]), float(multiplier[index[1]]), zero_point, low, high
        result[index] = (
            reference.requantize_float(*args)
            if mode == "float"
            else reference.requantize_fixed(*args, rounding)
        )
    return result


@pytest.mark.parametrize("mode, rounding", MODES, ids=map("-".join, MODES))
@pytest.mark.parametrize("groups", [1, 6])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int4"])
def test_qlinear_conv(dtype, groups, mode, rounding):
    rng = random_generator(dtype, groups)
    x, w = codes(rng, (2, 6, 7, 8), "uint8"), codes(rng, (12, 6 // groups, 3, 3), "int8")
    bias = rng.integers(-3000, 3000, 12, dtype=np.int32)
    x_scale, y_scale = np.float32(0.013), np.float32({"int4": 3.0}.get(dtype, 0.21))
    low, high = reference.grid(dtype)
    zero = int(np.clip(30, low, high))
    for w_scale in (np.float32(0.0071), rng.uniform(0.001, 0.01, 12).astype(np.float32)):
        multiplier = np.broadcast_to(x_scale * w_scale / y_scale, 12)
        for given in (None, bias):
            acc = reference.convolve(x, w, 120, 0, 1, 1, 1, groups)
            acc = acc if given is None else acc + given.reshape(-1, 1, 1)
            expected = requantized(acc, multiplier, zero, dtype, mode, rounding)
            for layout in ("NCHW", "NHWC"):
                actual = ops.qlinear_conv(
                    as_layout(x, layout), x_scale, 120, w, w_scale, 0, y_scale, zero, given,
                    pads=[1] * 4, group=groups, dtype=dtype, mode=mode, rounding=rounding,
                    layout=layout,
                )  # fmt: skip
                assert_same_bits(as_nchw(actual, layout).copy(), expected)


def test_the_type_of_the_result_is_that_of_its_zero_point():
    x, w = np.ones((1, 1, 2, 2), np.uint8), np.ones((1, 1, 1, 1), np.int8)
    for zero, dtype in ((np.int8(0), "int8"), (np.uint8(0), "uint8"), (0, "uint8")):
        assert ops.qlinear_conv(x, 1.0, 0, w, 1.0, 0, 1.0, zero).dtype == dtype
    assert ops.qlinear_conv(x.view(np.int8), 1.0, 0, w, 1.0, 0, 1.0, 0).dtype == np.int8


@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_more_products_than_int32_holds(dtype):
    """conv_integer refuses; requantized and float results are right all the same."""
    k = 40000
    x, w = np.full((1, k, 1, 3), 255, np.uint8), np.full((3, k, 1, 1), 255, np.uint8)
    w[1, ::2] = 0
    w[2] = 1
    acc = reference.convolve(x, w)
    assert acc.max() > 2**31
    with pytest.raises(OverflowError, match="40000"):
        ops.conv_integer(x, w)
    bias = np.int32([2**31 - 1, -(2**31), 5])
    low, high = reference.grid(dtype)
    for layout in ("NCHW", "NHWC"):
        y = ops.qlinear_conv(
            as_layout(x, layout), 1.0, 0, w, 1.0, 0, 2.0**25, 0, bias, dtype=dtype, layout=layout
        )
        expected = requantized(
            acc + bias.reshape(-1, 1, 1), np.full(3, 2.0**-25), 0, dtype, "float", ""
        )
        assert_same_bits(as_nchw(y, layout).copy(), expected)
    assert low <= expected.min() and expected.max() <= high
    weight = pq.QuantizedArray(w, pq.QuantParams(0.5, 0, "uint8"))
    real = pq.conv2d(pq.QuantizedArray(x, pq.QuantParams(0.25, 0, "uint8")), weight)
    assert_same_bits(real, acc.astype(np.float32) * np.float32(0.125))


def test_no_sum_is_too_long():
    k = (1 << 23) + 5
    rng = random_generator("longest")
    x, w = codes(rng, (1, k, 1), "uint8"), codes(rng, (1, k, 1), "uint8")
    acc = reference.convolve(x, w)
    expected = requantized(acc, np.float32([100 / acc.max()]), 3, "uint8", "float", "")
    assert expected[0, 0, 0] == 103
    actual = ops.qlinear_conv(x, 100 / acc.max(), 0, w, 1.0, 0, 1.0, np.uint8(3))
    assert_same_bits(actual, expected)
    with pytest.raises(OverflowError, match=str(k)):
        ops.conv_integer(x, w)


@pytest.mark.parametrize("groups", [1, 3])
def test_a_bias_at_the_ends_of_int32(groups):
    """The sum with it is larger; with one channel a group too."""
    rng = random_generator("bias", groups)
    x, w = codes(rng, (1, 3, 5, 6), "uint8"), codes(rng, (3, 3 // groups, 3, 3), "int8")
    w[:2] = np.int8([127, -128]).reshape(2, 1, 1, 1)
    bias = np.int32([2**31 - 1, -(2**31), 0])
    acc = reference.convolve(x, w, groups=groups) + bias.reshape(-1, 1, 1).astype(np.int64)
    assert acc.max() > 2**31 - 1 and acc.min() < -(2**31)
    for mode, rounding in MODES:
        expected = requantized(acc, np.full(3, np.float32(2.0**-25)), 1, "int8", mode, rounding)
        for layout in ("NCHW", "NHWC"):
            y = ops.qlinear_conv(
                as_layout(x, layout), 1.0, 0, w, 1.0, 0, 2.0**25, np.int8(1), bias, group=groups,
                layout=layout, mode=mode, rounding=rounding,
            )  # fmt: skip
            assert_same_bits(as_nchw(y, layout).copy(), expected)


# --- conv2d ---------------------------------------------------------------------------------


def layer(rng, channels=5, outputs=9, kernel=(3, 3), groups=1, axis=0, dtype="int8"):
    w = rng.standard_normal((outputs, channels // groups, *kernel)).astype(np.float32)
    return pq.quantize(w, axis=axis, dtype=dtype)


def real_result(x, weight, bias=None, **attributes):
    """What conv2d must give for a quantized x, in float32."""
    acc = reference.convolve(x.data, weight.data, x.zero_point, weight.zero_point, **attributes)
    scale = np.broadcast_to(x.scale * weight.scale, len(weight.data))
    y = acc.astype(np.float32) * scale.reshape(-1, 1, 1)
    return y if bias is None else y + bias.reshape(-1, 1, 1)


@both_layouts
@pytest.mark.parametrize("axis", [None, 0])
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_float_result(layout, axis, groups):
    rng = random_generator(axis, groups)
    weight = layer(rng, 6, 12, groups=groups, axis=axis)
    bias = rng.standard_normal(12).astype(np.float32)
    values = rng.standard_normal((2, 6, 10, 11)).astype(np.float32)
    x = pq.quantize(values, dtype="uint8", scheme="affine")
    q = pq.QuantizedArray(as_layout(x.data, layout), x.params)
    for given in (None, bias):
        expected = real_result(x, weight, given, stride=2, pads=1, groups=groups)
        for w in (weight, pq.pack_convolution(weight, groups=groups)):
            y = pq.conv2d(q, w, given, stride=2, padding=1, groups=groups, layout=layout)
            assert_same_bits(as_nchw(y, layout).copy(), expected)
        y = pq.conv2d(
            q, weight, given, stride=2, padding=1, groups=groups, layout=layout, relu=True
        )
        assert_same_bits(as_nchw(y, layout).copy(), np.maximum(expected, np.float32(0)))


@both_layouts
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16"])
def test_floats_are_quantized_on_the_way_in(dtype, layout):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    rng = random_generator(dtype)
    for groups in (1, 8):
        weight = layer(rng, 8, 16, groups=groups)
        x = rng.standard_normal((2, 8, 9, 12)).astype(dtype)
        options = {"padding": 1, "groups": groups, "layout": layout}
        for params in (None, pq.QuantParams(0.021, 117, "uint8"), pq.QuantParams(0.3, -2, "int4")):
            q = pq.quantize(x, params) if params else pq.quantize(x)
            expected = real_result(q, weight, pads=1, groups=groups)
            y = pq.conv2d(as_layout(x, layout), weight, x_params=params, **options)
            assert_same_bits(as_nchw(y, layout).copy(), expected)
        strided = np.asfortranarray(as_layout(x, layout))[:, ::-1]
        back = np.ascontiguousarray(strided)
        assert_same_bits(pq.conv2d(strided, weight, **options) if layout == "NHWC" or groups == 1
                         else pq.conv2d(back, weight, **options),
                         pq.conv2d(back, weight, **options))  # fmt: skip


@both_layouts
def test_requantized_result(layout):
    rng = random_generator("requantized")
    weight, bias = layer(rng, 5, 9), rng.standard_normal(9).astype(np.float32)
    x = pq.quantize(rng.standard_normal((2, 5, 8, 9)).astype(np.float32))
    out = pq.QuantParams(0.05, 3, "uint8")
    scale = np.float32(x.scale) * weight.scale
    acc = reference.convolve(x.data, weight.data)
    acc = acc + np.rint(bias / scale).astype(np.int64).reshape(-1, 1, 1)
    expected = requantized(acc, scale / np.float32(0.05), 3, "uint8", "float", "")
    q = pq.QuantizedArray(as_layout(x.data, layout), x.params)
    y = pq.conv2d(q, weight, bias, out_params=out, layout=layout)
    assert y.params == out
    assert_same_bits(as_nchw(y.data, layout).copy(), expected)
    clipped = pq.conv2d(q, weight, bias, out_params=out, layout=layout, clip=(0.2, 1.0))
    assert_same_bits(as_nchw(clipped.data, layout).copy(), expected.clip(7, 23))


def test_integer_result():
    rng = random_generator("int32")
    weight, bias = layer(rng), rng.standard_normal(9)
    x = pq.quantize(rng.standard_normal((2, 5, 8, 9)).astype(np.float32), scheme="affine")
    codes_of_bias = np.rint(bias / (x.scale * weight.scale))
    expected = reference.convolve(x.data, weight.data, x.zero_point) + codes_of_bias.astype(
        np.int64
    ).reshape(-1, 1, 1)
    assert_same_bits(pq.conv2d(x, weight, bias, out_dtype="int32"), expected.astype(np.int32))


@pytest.mark.parametrize("padding, pads", [
    (0, 0), (2, 2), ((1, 2), [1, 2, 1, 2]), (((0, 1), (2, 3)), [0, 2, 1, 3]), ("valid", 0),
    ("same", [1, 0, 1, 1]),
])  # fmt: skip
def test_ways_to_say_padding(padding, pads):
    rng = random_generator("padding")
    weight = layer(rng, 3, 4, (3, 2))
    x = pq.quantize(rng.standard_normal((1, 3, 6, 7)).astype(np.float32))
    expected = real_result(x, weight, pads=pads)
    assert_same_bits(pq.conv2d(x, weight, padding=padding), expected)


@pytest.mark.parametrize("dtype", ["int4", "uint4", "int3"])
def test_weights_of_few_bits(dtype):
    rng = random_generator(dtype)
    weight = layer(rng, dtype=dtype)
    x = pq.quantize(rng.standard_normal((1, 5, 6, 7)).astype(np.float32))
    expected = real_result(x, weight)
    assert_same_bits(pq.conv2d(x, weight), expected)
    assert_same_bits(pq.conv2d(x, weight.pack()), expected)
    assert_same_bits(pq.conv2d(x, pq.pack_convolution(weight.pack())), expected)


def test_packed_weights():
    rng = random_generator("packed")
    for groups in (1, 2, 4):
        weight = layer(rng, 4, 8, groups=groups)
        packed = pq.pack_convolution(weight, groups=groups)
        assert packed.shape == weight.shape and packed.groups == groups
        assert packed.weight is weight and packed.nbytes >= weight.data.nbytes
        assert packed.isa in pq.runtime_info()["isa"]["usable"]
        assert f"groups={groups}" in repr(packed)
        x = rng.standard_normal((1, 4, 6, 6)).astype(np.float32)
        expected = pq.conv2d(x, weight, groups=groups)
        for twin in (packed, copy.copy(packed), copy.deepcopy(packed),
                     pickle.loads(pickle.dumps(packed))):  # fmt: skip
            assert_same_bits(pq.conv2d(x, twin), expected)
            assert_same_bits(pq.conv2d(x, twin, stride=2, dilation=2),
                             pq.conv2d(x, weight, groups=groups, stride=2, dilation=2))  # fmt: skip
    with pytest.raises(TypeError, match="pack_convolution"):
        pq.PackedConvolution()


# --- errors ---------------------------------------------------------------------------------

X, W = np.zeros((1, 4, 5, 5), np.uint8), np.zeros((6, 4, 3, 3), np.int8)


@pytest.mark.parametrize("change, error, words", [
    ({"x": X.astype(np.int16)}, TypeError, "x must be an array of int8 or uint8, not int16"),
    ({"w": W.astype(np.float32)}, TypeError, "w must be an array of int8 or uint8, not float32"),
    ({"w": W[0, 0]}, ValueError, "w must have shape"),
    ({"x": X[0]}, ValueError, "x must have 4 dimensions"),
    ({"x": X[:, :3]}, ValueError, "has 3 channels"),
    ({"w": W[..., :0]}, ValueError, "at least one element"),
    ({"w": np.zeros((6, 4, 9, 3), np.int8)}, ValueError, "w must fit into x"),
    ({"group": 4}, ValueError, "groups=4 must divide the 6 outputs"),
    ({"group": 2}, ValueError, "needs 8"),
    ({"group": 0}, ValueError, "groups=0"),
    ({"group": True}, TypeError, "group must be an integer"),
    ({"strides": [0, 1]}, ValueError, "strides"),
    ({"strides": [1]}, ValueError, "strides must be 2 integers"),
    ({"strides": [1.5, 1]}, TypeError, "strides must be integers"),
    ({"dilations": [1, -1]}, ValueError, "dilations"),
    ({"pads": [1, 1]}, ValueError, "pads must be 4 integers"),
    ({"pads": [1, 1, 1, -1]}, ValueError, "pads"),
    ({"pads": [1] * 4, "auto_pad": "VALID"}, ValueError, "must be left alone"),
    ({"auto_pad": "SAME"}, ValueError, "auto_pad must be"),
    ({"kernel_shape": [3, 2]}, ValueError, "kernel_shape"),
    ({"layout": "CHWN"}, ValueError, "layout must be"),
    ({"x_zero_point": -1}, ValueError, "x_zero_point=-1 lies outside"),
    ({"x_zero_point": [1, 2]}, ValueError, "x_zero_point"),
    ({"w_zero_point": 128}, ValueError, "w_zero_point=128 lies outside"),
    ({"w_zero_point": [0] * 5}, ValueError, "w_zero_point must have shape"),
    ({"w_zero_point": 0.5}, TypeError, "w_zero_point"),
    ({"out": np.zeros((1, 6, 3, 3))}, ValueError, "out must have dtype int32"),
    ({"out": np.zeros((1, 6, 3, 4), np.int32)}, ValueError, "out must have shape"),
])  # fmt: skip
def test_refused_by_conv_integer(change, error, words):
    arguments = {"x": X, "w": W} | change
    with pytest.raises(error) as raised:
        ops.conv_integer(**arguments)
    assert words in str(raised.value)


@pytest.mark.parametrize("change, error, words", [
    ({"x_scale": 0.0}, ValueError, "x_scale=0.0 must be positive"),
    ({"w_scale": [1.0] * 5}, ValueError, "w_scale must have shape"),
    ({"w_scale": np.nan}, ValueError, "w_scale=nan must be positive"),
    ({"y_scale": -1.0}, ValueError, "y_scale=-1.0 must be positive"),
    ({"y_scale": 1e-40, "w_scale": 1e30}, ValueError, "multiplier"),
    ({"y_zero_point": 300}, ValueError, "y_zero_point=300 lies outside"),
    ({"B": np.zeros(6)}, TypeError, "B must be an array of int32"),
    ({"B": np.zeros(5, np.int32)}, ValueError, "B must have shape (6,)"),
    ({"mode": "exact"}, ValueError, "mode must be"),
    ({"dtype": "int99"}, ValueError, "dtype must be"),
])  # fmt: skip
def test_refused_by_qlinear_conv(change, error, words):
    arguments = {
        "x": X, "x_scale": 1.0, "x_zero_point": 0, "w": W, "w_scale": 1.0, "w_zero_point": 0,
        "y_scale": 1.0, "y_zero_point": 0,
    }  # fmt: skip
    with pytest.raises(error) as raised:
        ops.qlinear_conv(**arguments | change)
    assert words in str(raised.value)


REAL = np.zeros((1, 4, 5, 5), np.float32)
WEIGHT = pq.QuantizedArray(W, pq.QuantParams(0.5))


@pytest.mark.parametrize("change, error, words", [
    ({"x": X}, TypeError, "x must be a QuantizedArray or an array of floats"),
    ({"weight": W}, TypeError, "weight must be a QuantizedArray or a PackedConvolution"),
    ({"weight": pq.quantize(REAL, axis=1)}, ValueError, "axis=0"),
    ({"weight": pq.quantize(REAL[0])}, ValueError, "weight must have shape"),
    ({"weight": pq.quantize(REAL, dtype="int16")}, TypeError, "at most 8 bits"),
    ({"x": pq.quantize(REAL, axis=1)}, ValueError, "x must be quantized per tensor"),
    ({"x": pq.quantize(REAL, dtype="int16")}, TypeError, "at most 8 bits"),
    ({"x": pq.quantize(REAL), "x_params": pq.QuantParams(1.0)}, ValueError, "x_params are for"),
    ({"x_params": 0.5}, TypeError, "x_params must be"),
    ({"x_params": pq.QuantParams(1.0, dtype="int16")}, ValueError, "at most 8 bits"),
    ({"x": REAL + np.nan}, ValueError, "x[(0, 0, 0, 0)] is nan"),
    ({"out_params": pq.QuantParams([1.0, 1.0], axis=0)}, ValueError, "out_params"),
    ({"out_params": pq.QuantParams(1e38), "x": pq.QuantizedArray(X, pq.QuantParams(1e-30, 0,
      "uint8"))}, ValueError, "multiplier"),
    ({"bias": np.zeros(5, np.float32)}, ValueError, "bias must have shape (6,)"),
    ({"stride": 0}, ValueError, "stride"),
    ({"padding": "full"}, ValueError, "padding must be"),
    ({"padding": -1}, ValueError, "padding"),
    ({"groups": 2.0}, TypeError, "groups must be an integer"),
    ({"layout": "NHWC"}, ValueError, "has 5 channels"),
])  # fmt: skip
def test_refused_by_conv2d(change, error, words):
    arguments = {"x": REAL, "weight": WEIGHT} | change
    with pytest.raises(error) as raised:
        pq.conv2d(**arguments)
    assert words in str(raised.value)


def test_groups_of_packed_weights_are_theirs():
    packed = pq.pack_convolution(WEIGHT)
    with pytest.raises(ValueError, match="groups=2 must be the 1 of the packed weight"):
        pq.conv2d(REAL, packed, groups=2)
