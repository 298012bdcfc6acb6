"""ONNX Runtime: models of one node, called in the three ways its API offers.

`run` gives a NumPy result, IO binding to "cpu" a result from ONNX Runtime's own arena (which
recycles), IO binding to an array the caller made before is its out=.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

from bench.cases import SCALE, ZERO_POINT, Case, Data, aligned
from bench.contenders import offers
from bench.timing import Contender

NAME = "ONNX Runtime"
OPSET, IR_VERSION = 21, 10  # the first with block_size
SPINS = 0.06  # seconds; its idle workers were seen spinning for 40 to 45 ms after a run

_ELEMENTS = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.int8): TensorProto.INT8}


def session_of(graph: Any, threads: int) -> onnxruntime.InferenceSession:
    """A graph of ONNX's operators and ONNX Runtime's own, on the CPU."""
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    provider = ["CPUExecutionProvider"]
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=provider)


def _session(
    op: str, case: Case, given: dict[str, np.ndarray], outputs: Mapping[str, int], threads: int
) -> onnxruntime.InferenceSession:
    attributes: dict[str, Any] = {}
    if case.axis is not None:
        attributes["axis"] = case.axis
    if case.block is not None:
        attributes["block_size"] = case.block
    constants = {k: v for k, v in given.items() if k != "x"}
    graph = helper.make_graph(
        [helper.make_node(op, list(given), list(outputs), **attributes)],
        "one_node",
        [helper.make_tensor_value_info("x", _ELEMENTS[given["x"].dtype], list(case.shape))],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()],
        [
            helper.make_tensor(k, _ELEMENTS[v.dtype], v.shape, v.reshape(-1).tolist())
            for k, v in constants.items()
        ],
    )
    return session_of(graph, threads)


def _models(case: Case, data: Data) -> tuple[str, dict[str, np.ndarray], dict[str, Any]] | None:
    """The node, its inputs, and its outputs by name: element type and array for out=."""
    z: np.ndarray
    if case.op in ("quantize", "per channel", "per block"):
        s, z = data.scales, data.zero_points
        given = {"x": data.x, "s": s, "z": z}
        return "QuantizeLinear", given, {"y": aligned(case.shape, np.int8)}
    if case.op == "dequantize":
        s, z = np.asarray(SCALE, np.float32), np.asarray(ZERO_POINT, np.int8)
        given = {"x": data.q, "s": s, "z": z}
        return "DequantizeLinear", given, {"y": aligned(case.shape, np.float32)}
    if case.op == "dynamic":
        outputs = {"y": aligned(case.shape, np.uint8), "y_scale": aligned((), np.float32)}
        return "DynamicQuantizeLinear", {"x": data.x}, outputs | {"y_zero": aligned((), np.uint8)}
    return None


def contenders(case: Case, data: Data, threads: int) -> list[Contender]:
    found = _models(case, data)
    if found is None:
        return []
    node, given, outputs = found
    kinds = {k: helper.np_dtype_to_tensor_dtype(v.dtype) for k, v in outputs.items()}
    session = _session(node, case, given, kinds, threads)
    wrap = onnxruntime.OrtValue.ortvalue_from_numpy
    x = wrap(given["x"])
    arena, bound = session.io_binding(), session.io_binding()
    for binding in (arena, bound):
        binding.bind_ortvalue_input("x", x)
    for name, array in outputs.items():
        arena.bind_output(name, "cpu")
        bound.bind_output(name, "cpu", 0, array.dtype, list(array.shape), array.ctypes.data)
    names = {"run": session.run, "feed": {"x": given["x"]}, "bound_run": session.run_with_iobinding}
    names |= {"arena": arena, "bound": bound, "out": outputs["y"]}
    first = _first_of(arena)
    offer = partial(offers, names=names, threads=threads, spins=SPINS)
    return [
        *offer(NAME, fresh="run(None, feed)", array=lambda r: np.asarray(r[0])),
        *offer(f"{NAME} arena", fresh="bound_run(arena)", array=first),
        *offer(NAME, out="bound_run(bound)"),
    ]


def _first_of(binding: Any) -> Any:
    return lambda _: binding.get_outputs()[0].numpy()
