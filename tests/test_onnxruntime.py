"""Differential tests against ONNX Runtime on the CPU.

Where ONNX Runtime deviates from SPEC section 2 the inputs are restricted:

* NaN: its clamp gives an end of the grid, which one depends on the processor. No input holds NaN.
* Blocks along any axis but the last: it converts to int32 before it clamps, so infinities and
  values beyond 2**31 steps come out at the wrong end. Those layouts get no huge values.
* QLinearMatMul multiplies int8 by int8 with 16-bit sums that saturate where the processor has no
  VNNI, so codes of int8 and int8 are small there.
* DynamicQuantizeLinear keeps a subnormal scale, where SPEC raises it to the smallest normal number.
"""

import functools

import numpy as np
import pytest
import reference
from cases import assert_same_bits, hard_values, random_generator, random_params

from pyquant import ops

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

ELEMENT = {
    "float32": onnx.TensorProto.FLOAT, "float16": onnx.TensorProto.FLOAT16,
    "int8": onnx.TensorProto.INT8, "uint8": onnx.TensorProto.UINT8,
    "int16": onnx.TensorProto.INT16, "uint16": onnx.TensorProto.UINT16,
    "int32": onnx.TensorProto.INT32,
}  # fmt: skip
INTEGERS = ["int8", "uint8", "int16", "uint16"]


@functools.cache
def session(operator: str, inputs: tuple, outputs: tuple, attributes: tuple = ()):
    """An inference session of one node; inputs and outputs are element type names."""
    names = [f"in{i}" for i in range(len(inputs))], [f"out{i}" for i in range(len(outputs))]
    node = onnx.helper.make_node(operator, *names, **dict(attributes))
    values = [
        [
            onnx.helper.make_tensor_value_info(n, ELEMENT[t], None)
            for n, t in zip(*pair, strict=True)
        ]
        for pair in zip(names, (inputs, outputs), strict=True)
    ]
    graph = onnx.helper.make_graph([node], operator, *values)
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def run(operator, arrays, outputs, **attributes):
    arrays = [np.ascontiguousarray(a) if np.ndim(a) else np.asarray(a) for a in arrays]
    types = tuple(a.dtype.name for a in arrays)
    compiled = session(operator, types, tuple(outputs), tuple(sorted(attributes.items())))
    return compiled.run(None, {f"in{i}": a for i, a in enumerate(arrays)})


GRANULARITIES = {
    "tensor": ((), {}), "axis0": ((6,), {"axis": 0}), "axis1": ((10,), {"axis": 1}),
    "axis2": ((33,), {"axis": 2}), "axis_minus_2": ((10,), {"axis": -2}),
    "block1": ((6, 5, 33), {"axis": 1, "block_size": 2}),
    "block2": ((6, 10, 3), {"axis": 2, "block_size": 11}),
    "block0": ((2, 10, 33), {"axis": 0, "block_size": 3}),
}  # fmt: skip
each_granularity = pytest.mark.parametrize(
    "shape, where", GRANULARITIES.values(), ids=GRANULARITIES
)


@each_granularity
@pytest.mark.parametrize("dtype", INTEGERS)
def test_quantize_linear(dtype, shape, where):
    low, high = reference.grid(dtype)
    rng = random_generator(dtype, shape)
    scale, zero_point = random_params(rng, shape, low, high)
    zero_point = zero_point.astype(dtype)
    x = (rng.standard_normal((6, 10, 33)) * 60).astype(np.float32)
    x.flat[0] = -0.0
    if "block_size" not in where or where["axis"] == 2:
        x.flat[1:5] = [np.inf, -np.inf, 3e38, -3e38]
    (expected,) = run("QuantizeLinear", [x, scale, zero_point], [dtype], **where)
    assert_same_bits(ops.quantize_linear(x, scale, zero_point, dtype=dtype, **where), expected)


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize(
    "scale", [1.0, 0.1, 0.00214854861, 1 - 2.0**-24, 2 - 2.0**-23, 1e-30, 1e30, 2.0**-126]
)
def test_quantize_linear_ties_and_extremes(scale, dtype):
    low, high = reference.grid(dtype)
    scale = np.float32(scale)
    for z in (max(low, 0), low, high):
        x = hard_values(float(scale), low - z, high - z, random_generator(dtype), 2000)
        x = x[~np.isnan(x)]
        (expected,) = run("QuantizeLinear", [x, scale, np.asarray(z, dtype)], [dtype])
        assert_same_bits(ops.quantize_linear(x, scale, z, dtype=dtype), expected)


@each_granularity
@pytest.mark.parametrize("dtype", INTEGERS)
def test_dequantize_linear(dtype, shape, where):
    low, high = reference.grid(dtype)
    rng = random_generator(dtype, shape)
    scale, zero_point = random_params(rng, shape, low, high)
    q = rng.integers(low, high + 1, (6, 10, 33)).astype(dtype)
    zero_point = zero_point.astype(dtype)
    (expected,) = run("DequantizeLinear", [q, scale, zero_point], ["float32"], **where)
    assert_same_bits(ops.dequantize_linear(q, scale, zero_point, **where), expected)


@pytest.mark.parametrize("exponent", [-110, -60, -10, 0, 10, 60, 120])
def test_dynamic_quantize_linear(exponent):
    rng = random_generator(exponent)
    for length in (1, 2, 15, 16, 17, 333, 70_001):
        for shift in (0.0, 3.0, -3.0):
            x = np.ldexp(rng.standard_normal(length) + shift, exponent).astype(np.float32)
            expected = run("DynamicQuantizeLinear", [x], ["uint8", "float32", "uint8"])
            for got, wanted in zip(ops.dynamic_quantize_linear(x), expected, strict=True):
                assert_same_bits(got, wanted)


def codes(rng, shape, dtype):
    low, high = reference.grid(dtype)
    return rng.integers(low, high, shape, dtype, endpoint=True)


SHAPES = [((3, 40), (40, 17)), ((1, 65), (65, 33)), ((2, 3, 20), (20, 9)), ((2, 3, 7), (2, 7, 5)),
          ((33, 130), (130, 64))]  # fmt: skip


@pytest.mark.parametrize("b_type", ["int8", "uint8"])
@pytest.mark.parametrize("a_type", ["int8", "uint8"])
def test_matmul_integer(a_type, b_type):
    rng = random_generator(a_type, b_type)
    for a_shape, b_shape in SHAPES:
        a, b = codes(rng, a_shape, a_type), codes(rng, b_shape, b_type)
        za, zb = codes(rng, (), a_type), codes(rng, (), b_type)
        (expected,) = run("MatMulInteger", [a, b], ["int32"])
        assert_same_bits(ops.matmul_integer(a, b), expected)
        (expected,) = run("MatMulInteger", [a, b, za, zb], ["int32"])
        assert_same_bits(ops.matmul_integer(a, b, za, zb), expected)
        if len(b_shape) == 2:
            columns = codes(rng, b_shape[1], b_type)
            (expected,) = run("MatMulInteger", [a, b, za, columns], ["int32"])
            assert_same_bits(ops.matmul_integer(a, b, za, columns), expected)


@pytest.mark.parametrize("b_type", ["int8", "uint8"])
@pytest.mark.parametrize("a_type", ["int8", "uint8"])
def test_qlinear_matmul(a_type, b_type):
    if (a_type, b_type) == ("int8", "uint8"):
        pytest.skip("ONNX Runtime has no product of int8 and uint8 codes as codes")
    rng = random_generator(a_type, b_type)
    for a_shape, b_shape in SHAPES:
        a, b = codes(rng, a_shape, a_type) >> 1, codes(rng, b_shape, b_type) >> 1
        za, zb, zy = codes(rng, (), a_type), codes(rng, (), b_type), codes(rng, (), a_type)
        sa, sy = np.float32(0.013), np.float32(a_shape[-1] ** 0.5 * 0.05)
        per_tensor = np.float32(0.031), zb
        n = b_shape[-1]
        per_column = rng.uniform(0.01, 0.05, n).astype(np.float32), codes(rng, n, b_type)
        for sb, z in (per_tensor, per_column) if len(b_shape) == 2 else (per_tensor,):
            arguments = [a, sa, za, b, sb, z, sy, zy]
            (expected,) = run("QLinearMatMul", arguments, [a_type])
            assert_same_bits(ops.qlinear_matmul(*arguments), expected)
