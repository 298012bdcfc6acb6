"""Convolutions beside ONNX Runtime's and torch's."""

import numpy as np
import pytest
from cases import random_generator

import pyquant as pq
from pyquant import ops

LAYERS = {
    # channels, size, outputs, kernel, stride, pads, dilation, groups
    "plain": (5, (9, 11), 7, (3, 3), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    "strided": (16, (12, 13), 33, (3, 3), (2, 3), (1, 0, 2, 1), (1, 1), 1),
    "dilated": (8, (17, 15), 12, (3, 2), (1, 2), (2, 2, 2, 2), (2, 3), 1),
    "pointwise": (64, (7, 7), 64, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    "groups": (12, (9, 9), 18, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 3),
    "depthwise": (40, (14, 14), 40, (3, 3), (2, 2), (1, 1, 1, 1), (1, 1), 40),
    "multiplier": (20, (8, 9), 40, (5, 5), (1, 1), (2, 2, 2, 2), (1, 1), 20),
    "long": (3, (50,), 6, (7,), (2,), (3, 2), (1,), 1),
}
each_layer = pytest.mark.parametrize("name", LAYERS)


def operands(name):
    channels, size, outputs, kernel, *_, groups = LAYERS[name]
    rng = random_generator(name)
    x = rng.integers(0, 256, (2, channels, *size), dtype=np.uint8)
    w = rng.integers(-128, 128, (outputs, channels // groups, *kernel), dtype=np.int8)
    return rng, x, w


def attributes(name):
    *_, kernel, stride, pads, dilation, groups = LAYERS[name]
    return {
        "kernel_shape": kernel, "strides": stride, "pads": pads, "dilations": dilation,
        "group": groups,
    }  # fmt: skip


def session(operator, x, constants, name):
    """A function of x: one ONNX operator in ONNX Runtime."""
    onnxruntime = pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    node = helper.make_node(operator, ["x", *constants], ["y"], **attributes(name))
    of_x = helper.np_dtype_to_tensor_dtype(x.dtype)
    of_y = onnx.TensorProto.INT32
    if operator == "QLinearConv":
        of_y = helper.np_dtype_to_tensor_dtype(constants["y_zero"].dtype)
    graph = helper.make_graph(
        [node], "layer", [helper.make_tensor_value_info("x", of_x, x.shape)],
        [helper.make_tensor_value_info("y", of_y, [None] * x.ndim)],
        [onnx.numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    runner = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return lambda: runner.run(None, {"x": x})[0]


@each_layer
def test_conv_integer_of_onnxruntime(name):
    _, x, w = operands(name)
    constants = {"w": w.view(np.uint8), "x_zero": np.uint8(117), "w_zero": np.uint8(7)}
    theirs = session("ConvInteger", x, constants, name)()
    ours = ops.conv_integer(x, constants["w"], 117, 7, **attributes(name))
    assert np.array_equal(ours, theirs)


@each_layer
def test_qlinear_conv_of_onnxruntime(name):
    """One step of difference is allowed, and rare: its vectors round the products elsewhere."""
    rng, x, w = operands(name)
    outputs = len(w)
    constants = {
        "x_scale": np.float32(0.02), "x_zero": np.uint8(121), "w": w,
        "w_scale": rng.uniform(0.001, 0.01, outputs).astype(np.float32),
        "w_zero": np.zeros(outputs, np.int8), "y_scale": np.float32(0.9), "y_zero": np.uint8(130),
        "bias": rng.integers(-9000, 9000, outputs, dtype=np.int32),
    }  # fmt: skip
    theirs = session("QLinearConv", x, constants, name)()
    ours = ops.qlinear_conv(x, *constants.values(), **attributes(name))
    assert ours.dtype == theirs.dtype
    off = np.abs(ours.astype(np.int16) - theirs.astype(np.int16))
    assert off.max() <= 1
    assert (off == 0).mean() > 0.999


@pytest.mark.parametrize("name", [n for n in LAYERS if n != "long"])
def test_float_layer_of_torch(name):
    """conv2d of codes is torch's float convolution of the dequantized operands, up to rounding."""
    torch = pytest.importorskip("torch")
    rng, codes, w = operands(name)
    stride, pads, dilation, groups = LAYERS[name][4:]
    x = pq.QuantizedArray(codes, pq.QuantParams(0.02, 121, "uint8"))
    weight = pq.QuantizedArray(w, pq.QuantParams(rng.uniform(0.001, 0.01, len(w)), axis=0))
    bias = rng.standard_normal(len(w)).astype(np.float32)
    ours = pq.conv2d(
        x, weight, bias, stride=stride, dilation=dilation, groups=groups,
        padding=((pads[0], pads[2]), (pads[1], pads[3])),
    )  # fmt: skip
    real = torch.from_numpy(x.dequantize().astype(np.float64))
    padded = torch.nn.functional.pad(real, (pads[1], pads[3], pads[0], pads[2]))
    theirs = torch.nn.functional.conv2d(
        padded, torch.from_numpy(weight.dequantize().astype(np.float64)),
        torch.from_numpy(bias.astype(np.float64)), stride, 0, dilation, groups,
    ).numpy()  # fmt: skip
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
