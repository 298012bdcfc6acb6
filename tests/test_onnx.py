"""The ONNX project's own node tests for the operators that pyquant.ops has."""

import importlib

import numpy as np
import pytest
from cases import assert_same_bits

from pyquant import ops

onnx = pytest.importorskip("onnx")

MODULES = (
    "quantizelinear", "dequantizelinear", "dynamicquantizelinear", "matmulinteger",
    "qlinearmatmul", "convinteger", "qlinearconv",
)  # fmt: skip
INTEGER_TYPES = {"INT8", "UINT8", "INT16", "UINT16", "INT4", "UINT4", "INT2", "UINT2", "INT32"}


def as_array(value) -> np.ndarray:
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    return np.asarray(value)


def onnx_type(value) -> str:
    """The name of a tensor's element type, which for a sub-byte NumPy array is its dtype's."""
    if isinstance(value, onnx.TensorProto):
        return onnx.TensorProto.DataType.Name(value.data_type)
    return np.asarray(value).dtype.name.upper()


def load_cases() -> dict:
    node_cases = importlib.import_module("onnx.backend.test.case.node")
    for module in MODULES:
        importlib.import_module(f"onnx.backend.test.case.node.{module}")
    cases = {}
    for case in node_cases._NodeTestCases:
        operator = case.model.graph.node[0]
        # The "_expanded" twins state the same data as a graph of other operators.
        if operator.op_type in CHECKS:
            for number, (inputs, outputs) in enumerate(case.data_sets):
                quantized = inputs[0] if operator.op_type == "DequantizeLinear" else outputs[0]
                if onnx_type(quantized) in INTEGER_TYPES:
                    cases[f"{case.name}_{number}"] = (operator, inputs, outputs)
    return cases


def granularity(operator, x, scale, zero_point):
    """Keyword arguments; ONNX gives an axis even where it is not looked at."""
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in operator.attribute}
    if scale.ndim == 0:
        return {}, zero_point.reshape(())
    axis = attributes.get("axis", 1)
    block_size = attributes.get("block_size", 0) or None
    return {"axis": axis, "block_size": block_size}, zero_point


def parameters(operator, inputs, default_dtype):
    x, scale = as_array(inputs[0]), as_array(inputs[1])
    given = as_array(inputs[2]) if len(inputs) > 2 else np.zeros(scale.shape, default_dtype)
    options, zero_point = granularity(operator, x, scale, given)
    return x, scale, zero_point, options


def check_quantize(operator, inputs, outputs):
    dtype = onnx_type(outputs[0]).lower()
    expected = as_array(outputs[0])
    x, scale, zero_point, options = parameters(operator, inputs, expected.dtype)
    actual = ops.quantize_linear(x, scale, zero_point, dtype=dtype, **options)
    assert_same_bits(actual, expected.astype(actual.dtype))


def check_dequantize(operator, inputs, outputs):
    q, scale, zero_point, options = parameters(operator, inputs, np.int8)
    actual = ops.dequantize_linear(q, scale, zero_point, **options)
    assert_same_bits(actual, as_array(outputs[0]))


def check_dynamic(operator, inputs, outputs):
    del operator
    actual = ops.dynamic_quantize_linear(as_array(inputs[0]))
    for got, expected in zip(actual, outputs, strict=True):
        assert_same_bits(got, as_array(expected))


def check_with(function):
    """The operator takes its arguments in ONNX's order."""

    def check(operator, inputs, outputs):
        del operator
        assert_same_bits(function(*map(as_array, inputs)), as_array(outputs[0]))

    return check


def check_convolution(function):
    """Attributes have the names of the function's keyword arguments."""

    def check(operator, inputs, outputs):
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in operator.attribute}
        actual = function(*(as_array(value) for value in inputs), **attributes)
        assert_same_bits(actual, as_array(outputs[0]))

    return check


CHECKS = {
    "QuantizeLinear": check_quantize,
    "DequantizeLinear": check_dequantize,
    "DynamicQuantizeLinear": check_dynamic,
    "MatMulInteger": check_with(ops.matmul_integer),
    "QLinearMatMul": check_with(ops.qlinear_matmul),
    "ConvInteger": check_convolution(ops.conv_integer),
    "QLinearConv": check_convolution(ops.qlinear_conv),
}
CASES = load_cases()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_node(case):
    CHECKS[case[0].op_type](*case)


def test_the_list_of_cases_has_not_become_empty():
    kinds = [operator.op_type for operator, _, _ in CASES.values()]
    assert kinds.count("QuantizeLinear") >= 8
    assert kinds.count("DequantizeLinear") >= 7
    assert kinds.count("DynamicQuantizeLinear") >= 3
    assert kinds.count("MatMulInteger") >= 1
    assert kinds.count("QLinearMatMul") >= 8
    assert kinds.count("ConvInteger") >= 2
    assert kinds.count("QLinearConv") >= 1
    names = " ".join(CASES)
    for word in ("axis", "blocked", "int4", "uint4", "int16", "uint16", "adjusted"):
        assert word in names


def test_two_bit_cases_are_there_where_this_onnx_has_the_type():
    if not hasattr(onnx.TensorProto, "INT2"):
        pytest.skip("this onnx has no two-bit types")
    assert sum("int2" in name for name in CASES) >= 4
