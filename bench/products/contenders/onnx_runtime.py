"""ONNX Runtime: models of one node with constant weights, which it packs when the session starts.

`run` gives a NumPy result, IO binding an array made before. Both of its fast combinations of types
take part: uint8 activations with int8 and with uint8 weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import onnxruntime
from onnx import helper, numpy_helper

from bench.cases import aligned
from bench.contenders import offers
from bench.contenders.onnx_runtime import SPINS, session_of
from bench.products.cases import DYNAMIC, INT32, SHIFT, X_STEP, Data
from bench.timing import Contender

NAME = "ONNX Runtime"


def _session(
    op: str, inputs: dict[str, np.ndarray], output: np.dtype[Any], threads: int
) -> onnxruntime.InferenceSession:
    """One node; everything but the first input is constant."""
    (first, x), *constants = inputs.items()
    domain = "com.microsoft" if op == "DynamicQuantizeMatMul" else ""
    kind = helper.np_dtype_to_tensor_dtype
    graph = helper.make_graph(
        [helper.make_node(op, list(inputs), ["y"], domain=domain)],
        "one_node",
        [helper.make_tensor_value_info(first, kind(x.dtype), list(x.shape))],
        [helper.make_tensor_value_info("y", kind(output), None)],
        [numpy_helper.from_array(np.ascontiguousarray(v), k) for k, v in constants],
    )
    return session_of(graph, threads)


def _node(data: Data, b: np.ndarray) -> tuple[str, dict[str, np.ndarray], np.dtype[Any]]:
    """The operator, its inputs and the type of its result."""
    zero = np.asarray(0 if b.dtype == np.int8 else SHIFT, b.dtype)
    if data.case.op == INT32:
        return "MatMulInteger", {"a": data.a_unsigned, "b": b}, np.dtype(np.int32)
    if data.case.op == DYNAMIC:
        inputs = {"a": data.x, "b": b, "scale": np.asarray(data.b_scale), "zero": zero}
        return "DynamicQuantizeMatMul", inputs, np.dtype(np.float32)
    middle = np.asarray(SHIFT, np.uint8)
    inputs = {"a": data.a_unsigned, "a_scale": np.asarray(X_STEP), "a_zero": middle}
    inputs |= {"b": b, "b_scale": np.asarray(data.b_scale), "b_zero": zero}
    inputs |= {"y_scale": np.asarray(data.y_step), "y_zero": middle}
    return "QLinearMatMul", inputs, np.dtype(np.uint8)


def _reader(data: Data, unsigned: bool) -> Callable[[np.ndarray], np.ndarray]:
    if data.case.op == INT32:
        return partial(data.signed, a=True, b=unsigned)
    return lambda y: y if y.dtype == np.float32 else (y ^ SHIFT).view(np.int8)


def contenders(data: Data, threads: int) -> list[Contender]:
    found = []
    for title, b in ((f"{NAME} u8s8", data.b), (f"{NAME} u8u8", data.b_unsigned)):
        op, inputs, output = _node(data, b)
        session = _session(op, inputs, output, threads)
        first, x = next(iter(inputs.items()))
        out = aligned((data.case.m, data.case.n), output)
        binding = session.io_binding()
        binding.bind_ortvalue_input(first, onnxruntime.OrtValue.ortvalue_from_numpy(x))
        binding.bind_output("y", "cpu", 0, output, list(out.shape), out.ctypes.data)
        names = {"run": session.run, "feed": {first: x}, "bound": binding, "out": out}
        names["bound_run"] = session.run_with_iobinding
        read = _reader(data, b.dtype == np.uint8)
        offer = partial(offers, names=names, threads=threads, spins=SPINS)
        found += offer(title, fresh="run(None, feed)", array=_first(read))
        found += [
            replace(one, array=_in_place(out, read)) for one in offer(title, out="bound_run(bound)")
        ]
    return found


def _first(read: Callable[[np.ndarray], np.ndarray]) -> Callable[[Any], np.ndarray]:
    return lambda result: read(np.asarray(result[0]))


def _in_place(out: np.ndarray, read: Callable[[np.ndarray], np.ndarray]) -> Callable[[Any], Any]:
    return lambda _: read(out)
