"""The targets of the elementwise operations, with the sentence each comes from, and the judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.cases import Case
from bench.contenders import PYQUANT
from bench.measured import LIMITS, Comparison, Measured, Verdict, best_peer
from bench.timing import FRESH, OUT, Spread, ratio

SECONDS, PEER, LIMIT, SCALING, NOT_SLOWER = "seconds", "peer", "limit", "scaling", "not slower"
# Shown, not judged: gives other results than the definition where the reciprocal rounds.
NOT_JUDGED = ("numba reciprocal",)
NOISE = 0.05  # what "never slower" forgives: two medians of the same code differ by as much


@dataclass(frozen=True)
class Target:
    """`bound` is seconds at most, or times (or a fraction of) `against` at least."""

    kind: str
    ops: tuple[str, ...]  # empty: every operation
    bound: float
    sentence: str
    sizes: tuple[float, float] = (0, 1e12)
    mode: str = ""  # fresh, out, or both
    against: tuple[str, ...] = ()  # names; empty: every peer, or every C loop of the case

    def applies(self, case: Case, mode: str) -> bool:
        return (
            (not self.ops or case.op in self.ops)
            and self.sizes[0] <= case.n <= self.sizes[1]
            and self.mode in ("", mode)
        )

    @property
    def short(self) -> str:
        if self.kind == SECONDS:
            return f"<= {self.bound * 1e6:.2f} us"
        if self.kind == LIMIT:
            name = self.against[0] if self.against in (("C divide",), ("per tensor",)) else "limit"
            return f">= {self.bound:.0%} {name}" if self.bound < 1 else f">= {self.bound:g}x {name}"
        if self.kind == PEER:
            name = self.against[0] if self.against in (("torch",), ("NumKong",), _ORT) else "peers"
            return f">= {self.bound:g}x {name}"
        return ">= 1.8x or 92% limit" if self.kind == SCALING else "not slower than 1 thread"


_OVERHEAD = "overhead, 10 elements: <= 0.5 us; with out= <= 0.35 us"
_CALL = "quantize(x) at most 3 us (issue)"
_Q3 = "quantize, n = 1e3: >= 3 x torch/ORT/numba, >= 1.5 x NumKong"
_Q45 = (
    "quantize, n = 1e4, 1e5: >= 2.2 x and >= 2 x best peer; "
    "with out= >= 2 x the C loop that divides"
)
_Q6 = "quantize, n = 1e6, 1e7, 1e8: >= 1.25 x best peer; with out= >= 92 % of the limit"
_DYNAMIC = "dynamic quantize: >= 2.2 x up to 1e5, >= 1.2 x above"
_CHANNEL = "per channel, any axis: >= 85 % of per-tensor speed on any axis"
_BLOCK = (
    "per block: given >= 1.5 x, dynamic (block, row) >= 2.5 x best peer in cache, >= 2 x beyond"
)
_DEQUANTIZE = (
    "dequantize: >= 3 x at 1e3, >= 1.3 x at 1e5, >= 1.0 x at 1e6, fresh results above "
    ">= 1.3 x ORT; with out= >= 92 % of the limit"
)
_FAKE = "fake quantize: >= 20 x torch, >= 85 % of the limit"
_MINMAX = "min/max, abs-max: >= 90 % of the read limit"
_BYTES = "int4 pack/unpack, float16/bfloat16 in and out: >= 85 % of the limit for their bytes"
_THREADS = (
    "two threads, n >= 1e6: >= 1.8 x one thread, or >= 92 % of the two-thread limit; "
    "never slower than one thread at any size"
)
_ORT = ("ONNX Runtime", "ONNX Runtime arena")
_GROUPS = ("dynamic per block", "dynamic per row")
_NARROW = ("pack int4", "unpack int4", "float16 in", "float16 out", "bfloat16 in", "bfloat16 out")
_MULTIPLY = ("C multiply", "C multiply streaming")
_CACHE, _BEYOND = (0, 3e5), (3e5, 1e12)


def _at(n: float, most: float | None = None) -> tuple[float, float]:
    return 0.6 * n, 1.5 * (most or n)  # shapes of more than one dimension only come near n


TARGETS: tuple[Target, ...] = (
    Target(SECONDS, ("quantize",), 0.5e-6, _OVERHEAD, (10, 10), FRESH),
    Target(SECONDS, ("quantize",), 0.35e-6, _OVERHEAD, (10, 10), OUT),
    Target(SECONDS, ("pq.quantize",), 3e-6, _CALL, (10, 10), FRESH),
    Target(PEER, ("quantize",), 3, _Q3, _at(1e3), against=("torch", *_ORT, "numba")),
    Target(PEER, ("quantize",), 1.5, _Q3, _at(1e3), against=("NumKong",)),
    Target(PEER, ("quantize",), 2.2, _Q45, _at(1e4)),
    Target(PEER, ("quantize",), 2, _Q45, _at(1e5)),
    Target(LIMIT, ("quantize",), 2, _Q45, _at(1e4, 1e5), OUT, ("C divide",)),
    Target(PEER, ("quantize",), 1.25, _Q6, _BEYOND),
    Target(LIMIT, ("quantize",), 0.92, _Q6, _BEYOND, OUT, _MULTIPLY),
    Target(PEER, ("dynamic",), 2.2, _DYNAMIC, _CACHE),
    Target(PEER, ("dynamic",), 1.2, _DYNAMIC, _BEYOND),
    Target(LIMIT, ("per channel",), 0.85, _CHANNEL, against=("per tensor",)),
    Target(PEER, ("per block",), 1.5, _BLOCK),
    Target(PEER, _GROUPS, 2.5, _BLOCK, _CACHE),
    Target(PEER, _GROUPS, 2, _BLOCK, _BEYOND),
    Target(PEER, ("dequantize",), 3, _DEQUANTIZE, _at(1e3)),
    Target(PEER, ("dequantize",), 1.3, _DEQUANTIZE, _at(1e5)),
    Target(PEER, ("dequantize",), 1, _DEQUANTIZE, _at(1e6)),
    Target(PEER, ("dequantize",), 1.3, _DEQUANTIZE, (3e6, 1e12), FRESH, _ORT),
    Target(LIMIT, ("dequantize",), 0.92, _DEQUANTIZE, (6e4, 1e12), OUT),
    Target(PEER, ("fake quantize",), 20, _FAKE, mode=FRESH, against=("torch",)),
    Target(LIMIT, ("fake quantize",), 0.85, _FAKE, (6e4, 1e12), OUT),
    Target(LIMIT, ("min/max", "abs-max"), 0.9, _MINMAX, against=("C read",)),
    Target(LIMIT, _NARROW[1:], 0.85, _BYTES, mode=OUT),
    Target(LIMIT, _NARROW[:1], 0.85, _BYTES, mode=FRESH),  # pack_bits has no out=
    Target(SCALING, (), 1.8, _THREADS, (6e5, 1e12)),
    Target(NOT_SLOWER, (), 1 - NOISE, _THREADS),
)
SCALING_LIMIT = 0.92


def limit(
    measured: Measured, mode: str, threads: int, allowed: Sequence[str] = ()
) -> Comparison | None:
    """The fastest loop of the limits with up to `threads` threads.

    A loop that shares the name of an allowed one counts; without names, each plain C loop of the
    case does, but the one that divides. A case with a same-mode contender is held against that.
    """
    seconds = measured.sets.get((LIMITS, 0), {})
    own = seconds.get(f"{PYQUANT}|{mode}|{threads}")
    if own is None:
        return None
    found = []
    for key, theirs in seconds.items():
        name, kind, count = key.split("|")
        wanted = name in allowed if allowed else name.startswith("C ") and name != "C divide"
        alike = kind == mode or name.startswith("C ")
        if wanted and alike and int(count) <= threads:
            found.append(Comparison(name, ratio(theirs, own), Spread.of(theirs)))
    return min(found, key=lambda comparison: comparison.seconds.median, default=None)


def judge(measured: Measured, mode: str, threads: int) -> list[Verdict]:
    """Every target that applies to pyquant's row `mode`, `threads` of a case."""
    applying = (target for target in TARGETS if target.applies(measured.case, mode))
    found = (_verdict(target, measured, mode, threads) for target in applying)
    return [verdict for verdict in found if verdict is not None]


def _verdict(target: Target, measured: Measured, mode: str, threads: int) -> Verdict | None:
    own = measured.seconds(LIMITS, PYQUANT, mode, threads)
    if target.kind == SECONDS:
        if own is None or threads > 1:
            return None
        spread = Spread.of(own)
        return Verdict(target, spread, "", spread.median <= target.bound)
    if target.kind in (SCALING, NOT_SLOWER):
        single = measured.seconds(LIMITS, PYQUANT, mode, 1)
        if threads == 1 or own is None or single is None:
            return None
        if target.kind == SCALING and mode == FRESH and OUT in measured.modes():
            return None  # page faults of fresh results are not what threads are judged by
        times = ratio(single, own)
        bound = limit(measured, mode, threads)
        met = times.median >= target.bound
        if target.kind == SCALING and bound is not None:
            met = met or bound.times.median >= SCALING_LIMIT
        return Verdict(target, times, "1 thread", met)
    if target.kind == PEER:
        found = best_peer(measured, mode, threads, target.against, NOT_JUDGED)
    else:
        found = limit(measured, mode, threads, target.against)
    if found is None:
        return None
    return Verdict(target, found.times, found.name, found.times.median >= target.bound)
