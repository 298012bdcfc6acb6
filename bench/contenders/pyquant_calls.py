"""This library, as its users call it."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

import pyquant as pq
from bench.cases import SCALE, ZERO_POINT, Case, Data, aligned
from bench.contenders import PYQUANT, offers
from bench.timing import FRESH, OUT, Contender


def _bfloat16() -> Any:
    import ml_dtypes

    return ml_dtypes.bfloat16


def _quantize_linear(case: Case, data: Data) -> tuple[dict[str, Any], str, str]:
    names: dict[str, Any] = {
        "quantize_linear": pq.ops.quantize_linear,
        "x": data.x,
        "out": aligned(case.shape, np.int8),
    }
    if case.axis is None:
        names |= {"s": SCALE, "z": ZERO_POINT}
        given = "x, s, z"
    else:
        names |= {"s": data.scales, "z": data.zero_points, "axis": case.axis, "block": case.block}
        given = "x, s, z, axis=axis" + (", block_size=block" if case.block else "")
    return names, f"quantize_linear({given})", f"quantize_linear({given}, out=out)"


def _statements(case: Case, data: Data) -> tuple[dict[str, Any], str | None, str | None]:
    """Names, the statement with a fresh result and the one with out=."""
    op = case.op
    out: np.ndarray
    if op in ("quantize", "per channel", "per block"):
        return _quantize_linear(case, data)
    if op == "pq.quantize":
        return {"quantize": pq.quantize, "x": data.x}, "quantize(x)", None
    if op == "dynamic":
        names = {"dynamic": pq.ops.dynamic_quantize_linear, "x": data.x}
        return names, "dynamic(x)", None
    if op in ("dynamic per block", "dynamic per row"):
        names = {"quantize": pq.quantize, "x": data.x, "axis": case.axis, "block": case.block}
        return names, "quantize(x, axis=axis, block_size=block)", None
    if op == "fake quantize":
        params = pq.QuantParams(SCALE, ZERO_POINT)
        out = aligned(case.shape, np.float32)
        names = {"fake_quantize": pq.fake_quantize, "x": data.x, "params": params, "out": out}
        return names, "fake_quantize(x, params)", "fake_quantize(x, params, out=out)"
    if op == "min/max":
        # Nothing is written: the call counts as one with its result in place.
        return {"minmax": pq.ops.minmax, "x": data.x, "out": None}, None, "minmax(x)"
    if op == "abs-max":
        return {"absmax": pq.ops.absmax, "x": data.x, "out": None}, None, "absmax(x)"
    if op == "pack int4":
        return {"pack_bits": pq.ops.pack_bits, "q": data.q}, "pack_bits(q, 4)", None
    if op == "unpack int4":
        out = aligned(case.shape, np.int8)
        names = {"unpack": pq.ops.unpack_bits, "p": data.packed, "shape": case.shape, "out": out}
        return names, "unpack(p, 4, shape)", "unpack(p, 4, shape, out=out)"
    if op in ("float16 in", "bfloat16 in"):
        wanted = np.float16 if op.startswith("float16") else _bfloat16()
        x = aligned(case.shape, wanted)
        x[...] = data.x.astype(wanted)
        out = aligned(case.shape, np.int8)
        names = {"quantize_linear": pq.ops.quantize_linear, "x": x, "out": out}
        names |= {"s": SCALE, "z": ZERO_POINT}
        return names, "quantize_linear(x, s, z)", "quantize_linear(x, s, z, out=out)"
    if op in ("dequantize", "float16 out", "bfloat16 out"):
        kind = "float32" if op == "dequantize" else op.split()[0]
        out = aligned(case.shape, _bfloat16() if kind == "bfloat16" else kind)
        names = {"dequantize_linear": pq.ops.dequantize_linear, "q": data.q, "out": out}
        names |= {"s": SCALE, "z": ZERO_POINT, "kind": kind}
        given = "q, s, z" + ("" if kind == "float32" else ", dtype=kind")
        return names, f"dequantize_linear({given})", f"dequantize_linear({given}, out=out)"
    return {}, None, None


def _array(result: Any) -> np.ndarray:
    if isinstance(result, tuple):
        return np.asarray(result[0])
    return np.asarray(result.data if isinstance(result, pq.QuantizedArray) else result)


def contenders(case: Case, data: Data, threads: int) -> list[Contender]:
    names, fresh, out = _statements(case, data)
    prepare = partial(pq.set_num_threads, threads)
    return offers(PYQUANT, names, threads, fresh=fresh, out=out, array=_array, prepare=prepare)


def per_tensor(case: Case, data: Data, threads: int) -> list[Contender]:
    """The same array with one scale: what per-channel cases are held against."""
    if case.op != "per channel":
        return []
    whole = Case("quantize", "", case.shape)
    names, fresh, out = _quantize_linear(whole, data)
    prepare = partial(pq.set_num_threads, threads)
    return [
        Contender("per tensor", mode, statement, names, threads, prepare=prepare)
        for mode, statement in ((FRESH, fresh), (OUT, out))
    ]
