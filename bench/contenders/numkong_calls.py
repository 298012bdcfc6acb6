"""NumKong: `scale` (alpha * x + beta) and `astype` (rounds half to even, saturates), both SIMD.

Its API has no quantize as such: quantizing takes the two calls, with a float32 array in between.
There are no scales per channel or per block, no unpacking, and one thread.
"""

from __future__ import annotations

from typing import Any

import numkong
import numpy as np

from bench.cases import SCALE, ZERO_POINT, Case, Data, aligned
from bench.contenders import offers
from bench.timing import Contender


def _dynamic(x: Any) -> Any:
    low, _, high, _ = numkong.minmax(x) or (0.0, 0, 0.0, 0)
    s = (max(high, 0.0) - min(low, 0.0)) / 255
    z = round(-min(low, 0.0) / s)
    steps: Any = numkong.scale(x, alpha=1 / s, beta=z)
    return numkong.astype(steps, "uint8"), s, z


def contenders(case: Case, data: Data, threads: int) -> list[Contender]:
    op, name = case.op, "NumKong"
    if threads > 1:
        return []
    names: dict[str, Any] = {"scale": numkong.scale, "astype": numkong.astype}
    if op == "quantize":
        names |= {"x": data.x, "a": 1 / SCALE, "b": float(ZERO_POINT)}
        names |= {"t": np.empty_like(data.x), "out": aligned(case.shape, np.int8)}
        fresh = "astype(scale(x, alpha=a, beta=b), 'int8')"
        out = "scale(x, alpha=a, beta=b, out=t); astype(t, 'int8', out=out)"
        return offers(name, names, threads, fresh=fresh, out=out)
    if op == "dynamic":
        names |= {"dynamic": _dynamic, "x": data.x}
        first = lambda result: np.asarray(result[0])  # noqa: E731
        return offers(name, names, threads, fresh="dynamic(x)", array=first)
    if op == "dequantize":
        names |= {"q": data.q, "a": SCALE, "b": -SCALE * ZERO_POINT}
        names |= {"t": np.empty(case.shape, np.float32), "out": aligned(case.shape, np.float32)}
        fresh = "scale(astype(q, 'float32'), alpha=a, beta=b)"
        out = "astype(q, 'float32', out=t); scale(t, alpha=a, beta=b, out=out)"
        return offers(name, names, threads, fresh=fresh, out=out)
    if op == "min/max":
        names = {"minmax": numkong.minmax, "x": data.x, "out": None}
        return offers(name, names, threads, out="minmax(x)")
    return []
