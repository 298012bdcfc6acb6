"""NumPy in float32: what a user has without quantization."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bench.cases import aligned
from bench.contenders import offers
from bench.products.cases import DYNAMIC, INT32, Data
from bench.timing import Contender

LARGEST = 2.5e9  # operations: beyond that a single call takes seconds
NAME = "NumPy float32"
SPINS = 0.03  # seconds; OpenBLAS's idle workers


def contenders(data: Data, threads: int) -> list[Contender]:
    case = data.case
    if case.op == DYNAMIC:
        names = {"x": data.x, "w": np.ascontiguousarray(data.weight.T)}
        return offers(NAME, names, threads, fresh="x @ w", spins=SPINS)
    if case.op != INT32 or case.operations > LARGEST:
        return []
    names = {"np": np, "a": data.a.astype(np.float32), "b": data.b.astype(np.float32)}
    names["out"] = aligned((case.m, case.n), np.float32)
    into = "np.matmul(a, b, out=out)"
    made = offers(NAME, names, threads, fresh="a @ b", out=into, spins=SPINS)
    # float32 sums are not the exact ones: nothing to check.
    return [replace(one, array=None) for one in made]
