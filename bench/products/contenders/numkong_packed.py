"""NumKong: dot products of the rows of a matrix with those of a packed one, `a @ b.T` in int32."""

from __future__ import annotations

from typing import Any

import numkong

from bench.contenders import offers
from bench.products.cases import INT32, Data
from bench.timing import Contender


def contenders(data: Data, threads: int) -> list[Contender]:
    case = data.case
    if case.op != INT32 or threads > 1:
        return []
    out = numkong.zeros((case.m, case.n), dtype="int32")
    names: dict[str, Any] = {"dots": numkong.dots_packed, "a": data.a, "out": out}
    names["packed"] = numkong.dots_pack(data.b_transposed)
    fresh, into = "dots(a, packed)", "dots(a, packed, out=out)"
    return offers("NumKong", names, threads, fresh=fresh, out=into)
