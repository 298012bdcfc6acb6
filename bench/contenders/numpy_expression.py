"""NumPy: the expression most people write, and the same steps into arrays made before."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.cases import SCALE, ZERO_POINT, Case, Data, aligned
from bench.contenders import offers
from bench.timing import Contender

LARGEST = 10**7  # beyond, the temporaries take seconds and no figure changes its order


def _quantize(x: Any, s: Any, z: Any, low: int, high: int, kind: Any) -> Any:
    return np.clip(np.rint(x / s) + z, low, high).astype(kind)


def _quantize_into(x: Any, s: Any, z: Any, scratch: Any, out: Any) -> None:
    np.divide(x, s, out=scratch)
    np.rint(scratch, out=scratch)
    np.add(scratch, z, out=scratch)
    np.clip(scratch, -128, 127, out=scratch)
    np.copyto(out, scratch, casting="unsafe")


def _dynamic(x: Any) -> Any:
    low, high = min(x.min(), np.float32(0)), max(x.max(), np.float32(0))
    s = (high - low) / np.float32(255)
    z = np.rint(-low / s)
    return _quantize(x, s, z, 0, 255, np.uint8), s, z.astype(np.uint8)


def _dynamic_groups(x: Any, size: int) -> Any:
    groups = x.reshape(-1, size)
    s = np.abs(groups).max(axis=1, keepdims=True) / np.float32(127)
    return np.rint(groups / s).astype(np.int8).reshape(x.shape), s


def _fake(x: Any, s: Any, z: Any) -> Any:
    return (np.clip(np.rint(x / s) + z, -128, 127) - z) * s


def _pack(q: Any) -> Any:
    return (q[0::2] & 15).view(np.uint8) | (q[1::2] << 4).view(np.uint8)


def _first(result: Any) -> np.ndarray:
    return np.asarray(result[0])


def contenders(case: Case, data: Data, threads: int) -> list[Contender]:
    op, name = case.op, "NumPy"
    if threads > 1 or case.n > LARGEST:
        return []
    scale, zero = np.float32(SCALE), np.float32(ZERO_POINT)
    names: dict[str, Any] = {"np": np, "s": scale, "z": zero, "int8": np.int8}
    if op in ("quantize", "per channel", "per block"):
        names |= {"quantize": _quantize, "into": _quantize_into, "x": data.x}
        names |= {"scratch": np.empty_like(data.x), "out": aligned(case.shape, np.int8)}
        names["s"] = scale if case.axis is None else data.spread_scales
        fresh, out = "quantize(x, s, z, -128, 127, int8)", "into(x, s, z, scratch, out)"
        return offers(name, names, threads, fresh=fresh, out=out)
    if op == "dynamic":
        names |= {"dynamic": _dynamic, "x": data.x}
        return offers(name, names, threads, fresh="dynamic(x)", array=_first)
    if op in ("dynamic per block", "dynamic per row"):
        names |= {"dynamic": _dynamic_groups, "x": data.x, "size": case.block or case.shape[-1]}
        return offers(name, names, threads, fresh="dynamic(x, size)", array=_first)
    if op == "dequantize":
        names |= {"q": data.q, "scratch": np.empty(case.shape, np.float32)}
        names["out"] = aligned(case.shape, np.float32)
        out = "np.subtract(q, z, out=scratch); np.multiply(scratch, s, out=out)"
        return offers(name, names, threads, fresh="(q - z) * s", out=out)
    if op == "fake quantize":
        return offers(name, names | {"fake": _fake, "x": data.x}, threads, fresh="fake(x, s, z)")
    if op == "min/max":
        return offers(name, {"x": data.x, "out": None}, threads, out="x.min(); x.max()")
    if op == "abs-max":
        return offers(name, {"x": data.x, "out": None}, threads, out="max(x.max(), -x.min())")
    if op == "pack int4":
        return offers(name, {"pack": _pack, "q": data.q}, threads, fresh="pack(q)")
    return []
