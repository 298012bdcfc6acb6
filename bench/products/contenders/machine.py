"""What the machine itself does: its multipliers on registers, reading weights, writing results."""

from __future__ import annotations

from functools import partial

import numpy as np

from bench.cases import aligned
from bench.limits import Loop
from bench.peaks import Peak
from bench.products.cases import INT32, Data
from bench.products.contenders.pyquant_calls import FEW_ROWS
from bench.timing import FRESH, OUT, Contender

PEAK = "C peak"
READ = ("C read", "C read in one stream")
WRITE = ("C write", "C write streaming")
CACHE_LINES = 64  # bytes


def canary(isa: str, threads: int) -> Contender:
    """In every set and every round: seconds that the multipliers took for one operation then."""
    peak = Peak(isa, threads)
    return Contender(f"{PEAK} {isa}", FRESH, "peak()", {"peak": peak}, threads, peak.operations)


def bounds(data: Data, threads: int) -> list[Contender]:
    """Loops over the same weights for a few rows, and over the same int32 result."""
    case, found = data.case, []
    loop = partial(_loop, threads=threads)
    if case.m <= FEW_ROWS:
        out = aligned(CACHE_LINES * threads, np.uint8)
        b = data.b.reshape(-1)
        found.append(loop(READ[0], "read streams", b, out, b.size, False))
        found.append(loop(READ[1], "read stream", b, out, b.size, False))
    if case.op == INT32:
        out = aligned((case.m, case.n), np.int32)
        one = aligned(1, np.int32)
        found.append(loop(WRITE[0], "fill", one, out, out.size, False))
        found.append(loop(WRITE[1], "fill", one, out, out.size, True))
    return found


def _loop(
    name: str, kind: str, x: np.ndarray, out: np.ndarray, n: int, streaming: bool, threads: int
) -> Contender:
    run = Loop(kind, x, out, n, threads, streaming)
    return Contender(name, OUT, "loop()", {"loop": run}, threads, inner=run.repeats)
