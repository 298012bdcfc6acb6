"""This library, as its users call it: weights packed once, and as plain arrays."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

import pyquant as pq
from bench.cases import aligned
from bench.contenders import PYQUANT, offers
from bench.products.cases import DYNAMIC, INT8, INT32, X_STEP, Data
from bench.timing import Contender

UNPACKED = f"{PYQUANT} unpacked"
TRANSPOSED = f"{PYQUANT} unpacked transposed"  # b is the transpose of an array in C order
BARE = f"{PYQUANT} bare"  # the int32 product inside a layer
FEW_ROWS = 16  # up to here the product is bound by reading the weights, in whatever order


def _sums(data: Data) -> list[tuple[str, str]]:
    forms = [(PYQUANT, "packed"), (UNPACKED, "b")]
    return [*forms, (TRANSPOSED, "bt")] if data.case.m <= FEW_ROWS else forms


def contenders(data: Data, threads: int) -> list[Contender]:
    case = data.case
    names: dict[str, Any] = {"matmul_integer": pq.ops.matmul_integer, "a": data.a}
    offer = partial(offers, threads=threads, prepare=partial(pq.set_num_threads, threads))
    if case.op == INT32:
        names |= {"b": data.b, "bt": data.b_transposed.T, "packed": pq.pack(data.b)}
        names["out"] = aligned((case.m, case.n), np.int32)
        return [
            one
            for name, b in _sums(data)
            for one in offer(
                name, names, fresh=f"matmul_integer(a, {b})", out=f"matmul_integer(a, {b}, out=out)"
            )
        ]
    if case.op == INT8:
        names = {"qlinear_matmul": pq.ops.qlinear_matmul, "a": data.a, "b": data.b}
        names |= {"sa": float(X_STEP), "sb": float(data.b_scale), "sy": float(data.y_step)}
        names["packed"] = pq.pack(data.b)
        fresh = "qlinear_matmul(a, sa, 0, {}, sb, 0, sy, 0)"
        return [
            one
            for name, b in ((PYQUANT, "packed"), (UNPACKED, "b"))
            for one in offer(name, names, fresh=fresh.format(b))
        ]
    weight = pq.QuantizedArray(data.b_transposed, pq.QuantParams(data.b_scale))
    packed = pq.pack(weight, transposed=True)
    names |= {"linear": pq.linear, "packed": packed, "plain": pq.pack(data.b)}
    names["sums"] = aligned((case.m, case.n), np.int32)
    if case.op == DYNAMIC:
        names["x"] = data.x
        layer = offer(PYQUANT, names, fresh="linear(x, packed)")
    else:
        names["x"] = pq.QuantizedArray(data.a, pq.QuantParams(X_STEP))
        names["y"] = pq.QuantParams(data.y_step)
        array = lambda result: result.data  # noqa: E731
        layer = offer(PYQUANT, names, fresh="linear(x, packed, out_params=y)", array=array)
    bare = offer(BARE, names, fresh="matmul_integer(a, plain)")
    unchecked = [replace(one, array=None) for one in bare]  # gives other numbers
    return [*layer, *unchecked]
