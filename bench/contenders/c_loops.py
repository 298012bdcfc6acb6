"""The loops of limits.c: what this machine does with the same bytes."""

from __future__ import annotations

import numpy as np

from bench.cases import Case, Data, aligned
from bench.limits import Loop
from bench.timing import OUT, Contender

STREAMING_FROM = 10**6  # elements; below that the result should stay in the caches
THREADS_FROM = 10**5  # below that handing work to a second thread costs more than it saves

# Operation -> loops that do its work. The 16-bit formats share their bytes, so they share loops.
LOOPS: dict[str, tuple[str, ...]] = {
    "quantize": ("multiply", "divide"),
    "per channel": ("multiply",),
    "per block": ("multiply",),
    "dequantize": ("dequantize",),
    "fake quantize": ("fake quantize",),
    "min/max": ("read", "min/max"),
    "abs-max": ("read", "min/max"),
    "pack int4": ("pack int4",),
    "unpack int4": ("unpack int4",),
    "float16 in": ("float16 in", "bfloat16 in"),
    "bfloat16 in": ("float16 in", "bfloat16 in"),
    "float16 out": ("float16 out", "bfloat16 out"),
    "bfloat16 out": ("float16 out", "bfloat16 out"),
    "memcpy": ("memcpy",),
}
REDUCTIONS = ("read", "min/max")


def _arrays(loop: str, case: Case, data: Data, threads: int) -> tuple[np.ndarray, np.ndarray]:
    n = case.n
    if loop in ("dequantize", "fake quantize"):
        return (data.q if loop == "dequantize" else data.x), aligned(n, np.float32)
    if loop == "pack int4":
        return data.q, aligned((n + 1) // 2, np.uint8)
    if loop == "unpack int4":
        return data.packed, aligned(n, np.int8)
    if loop.endswith(" out"):
        return data.q, aligned(n, np.uint16)
    if loop.endswith(" in"):
        halves = aligned(n, np.float16)
        halves[...] = data.x.reshape(-1)
        return halves, aligned(n, np.int8)
    if loop == "memcpy":
        return data.q, aligned(n, np.uint8)
    if loop in REDUCTIONS:
        return data.x, aligned(16 * threads, np.float32)
    return data.x, aligned(n, np.int8)


def contenders(case: Case, data: Data, threads: int) -> list[Contender]:
    if threads > 1 and case.n < THREADS_FROM:
        return []
    found = []
    for name in LOOPS.get(case.op, ()):
        x, out = _arrays(name, case, data, threads)
        for streaming in (False, True):
            if streaming and (case.n < STREAMING_FROM or name in (*REDUCTIONS, "memcpy")):
                continue
            loop = Loop(name, x, out, case.n, threads, streaming)
            title = f"C {name}" + (" streaming" if streaming else "")
            found.append(
                Contender(title, OUT, "loop()", {"loop": loop}, threads, inner=loop.repeats)
            )
    return found
