"""numba: the loops a good user of it would write, by the definition: they divide by the scale.

`numba reciprocal` multiplies instead, which gives other results for some inputs. It is shown
beside the others and not judged (bench.targets.NOT_JUDGED).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numba
import numpy as np
from numba import prange

from bench.cases import SCALE, ZERO_POINT, Case, Data, aligned
from bench.contenders import offers
from bench.timing import Contender

# Plain Python here; _compiled() makes the serial and the parallel version of each.


def quantize(x: Any, s: Any, z: Any, out: Any) -> Any:
    for i in prange(x.size):
        v = np.rint(x[i] / s) + z
        out[i] = np.int8(min(max(v, np.float32(-128)), np.float32(127)))
    return out


def quantize_reciprocal(x: Any, s: Any, z: Any, out: Any) -> Any:
    inverse = np.float32(1) / s
    for i in prange(x.size):
        v = np.rint(x[i] * inverse) + z
        out[i] = np.int8(min(max(v, np.float32(-128)), np.float32(127)))
    return out


def quantize_outer(x: Any, s: Any, z: Any, out: Any) -> Any:
    """x is (outer, channels, inner), inner > 1."""
    for row in prange(x.shape[0] * x.shape[1]):
        i, c = row // x.shape[1], row % x.shape[1]
        scale, zero = s[c], np.float32(z[c])
        for j in range(x.shape[2]):
            v = np.rint(x[i, c, j] / scale) + zero
            out[i, c, j] = np.int8(min(max(v, np.float32(-128)), np.float32(127)))
    return out


def quantize_last(x: Any, s: Any, z: Any, out: Any) -> Any:
    """x is (rows, channels)."""
    zero = z.astype(np.float32)
    for i in prange(x.shape[0]):
        for c in range(x.shape[1]):
            v = np.rint(x[i, c] / s[c]) + zero[c]
            out[i, c] = np.int8(min(max(v, np.float32(-128)), np.float32(127)))
    return out


def dynamic(x: Any, out: Any) -> Any:
    low, high = np.float32(0), np.float32(0)
    for i in prange(x.size):
        low = min(low, x[i])
        high = max(high, x[i])
    s = (high - low) / np.float32(255)
    z = np.rint(-low / s)
    for i in prange(x.size):
        v = np.rint(x[i] / s) + z
        out[i] = np.uint8(min(max(v, np.float32(0)), np.float32(255)))
    return out, s, np.uint8(z)


def dynamic_groups(x: Any, out: Any, s: Any) -> Any:
    """x is (groups, size)."""
    for g in prange(x.shape[0]):
        largest = np.float32(0)
        for j in range(x.shape[1]):
            largest = max(largest, abs(x[g, j]))
        s[g] = scale = largest / np.float32(127)
        for j in range(x.shape[1]):
            out[g, j] = np.int8(np.rint(x[g, j] / scale))
    return out, s


def dequantize(q: Any, s: Any, z: Any, out: Any) -> Any:
    for i in prange(q.size):
        out[i] = np.float32(np.int32(q[i]) - z) * s
    return out


def fake_quantize(x: Any, s: Any, z: Any, out: Any) -> Any:
    for i in prange(x.size):
        v = np.rint(x[i] / s) + z
        out[i] = (min(max(v, np.float32(-128)), np.float32(127)) - z) * s
    return out


def minmax(x: Any) -> Any:
    low, high = np.float32(np.inf), np.float32(-np.inf)
    for i in prange(x.size):
        low = min(low, x[i])
        high = max(high, x[i])
    return low, high


def pack(q: Any, out: Any) -> Any:
    for i in prange(out.size):
        out[i] = np.uint8((q[2 * i] & 15) | ((q[2 * i + 1] & 15) << 4))
    return out


@cache
def _compiled(function: Any, parallel: bool) -> Any:
    options: dict[str, Any] = {"parallel": parallel, "error_model": "numpy", "cache": True}
    # Enough for minima and maxima to become vector instructions; division stays division.
    return numba.njit(function, fastmath={"nnan", "nsz"}, **options)


def _first(result: Any) -> np.ndarray:
    return np.asarray(result[0])


def contenders(case: Case, data: Data, threads: int) -> list[Contender]:
    numba.set_num_threads(threads)
    op, name, parallel, shape = case.op, "numba", threads > 1, case.shape
    names: dict[str, Any] = {"empty": np.empty, "int8": np.int8, "uint8": np.uint8}
    names |= {"float32": np.float32, "s": np.float32(SCALE), "z": np.float32(ZERO_POINT)}
    fresh = out = None
    array: Any = np.asarray
    if op in ("quantize", "fake quantize"):
        kind = "int8" if op == "quantize" else "float32"
        function = quantize if op == "quantize" else fake_quantize
        names |= {"f": _compiled(function, parallel), "x": data.x}
        names["out"] = aligned(shape, kind)
        fresh, out = f"f(x, s, z, empty(x.shape, {kind}))", "f(x, s, z, out)"
    elif op in ("per channel", "per block"):
        x, result = data.x, aligned(shape, np.int8)
        wanted: tuple[int, ...]
        if case.block is not None:
            wanted = (1, -1, case.block)
        elif case.axis == -1:
            wanted = (-1, shape[-1])
        else:
            axis = case.axis or 0
            wanted = (int(np.prod(shape[:axis])), shape[axis], -1)
        function = quantize_last if op == "per channel" and case.axis == -1 else quantize_outer
        names |= {"f": _compiled(function, parallel), "x": x.reshape(wanted)}
        names |= {"s": data.scales.reshape(-1), "z": data.zero_points.reshape(-1)}
        names["out"] = result.reshape(wanted)
        fresh, out = "f(x, s, z, empty(x.shape, int8))", "f(x, s, z, out)"
    elif op == "dynamic":
        names |= {"f": _compiled(dynamic, parallel), "x": data.x}
        fresh, array = "f(x, empty(x.shape, uint8))", _first
    elif op in ("dynamic per block", "dynamic per row"):
        x = data.x.reshape(-1, case.block or shape[-1])
        names |= {"f": _compiled(dynamic_groups, parallel), "x": x, "groups": len(x)}
        fresh, array = "f(x, empty(x.shape, int8), empty(groups, float32))", _first
    elif op == "dequantize":
        names |= {"f": _compiled(dequantize, parallel), "q": data.q, "z": np.int32(ZERO_POINT)}
        names["out"] = aligned(shape, np.float32)
        fresh, out = "f(q, s, z, empty(q.shape, float32))", "f(q, s, z, out)"
    elif op in ("min/max", "abs-max"):
        names |= {"f": _compiled(minmax, parallel), "x": data.x, "out": None}
        out = "f(x)"
    elif op == "pack int4":
        names |= {"f": _compiled(pack, parallel), "q": data.q, "half": case.n // 2}
        fresh = "f(q, empty(half, uint8))"
    if fresh is None and out is None:
        return []
    found = offers(name, names, threads, fresh=fresh, out=out, array=array)
    if op == "quantize":
        names = {**names, "f": _compiled(quantize_reciprocal, parallel)}
        found += offers("numba reciprocal", names, threads, fresh=fresh, out=out)
    return found
