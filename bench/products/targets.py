"""The targets of products and layers, with the sentence each comes from, and the judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.contenders import PYQUANT
from bench.measured import LIMITS, Comparison, Measured, Verdict, best_peer
from bench.products.cases import DYNAMIC, INT8, INT32, STATIC, Case
from bench.products.contenders.machine import PEAK, READ, WRITE
from bench.products.contenders.pyquant_calls import BARE, FEW_ROWS, TRANSPOSED, UNPACKED
from bench.timing import FRESH, OUT, Spread, ratio

SHARE, PEER, BOUND, SCALING, BARE_COST = "peak", "peer", "bound", "scaling", "bare"
OWN = (PYQUANT, UNPACKED, TRANSPOSED)
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Target:
    """`bound` is a share or how many times as fast at least; of BARE_COST, as slow at most."""

    kind: str
    bound: float
    sentence: str
    ops: tuple[str, ...] = (INT32,)
    shapes: tuple[Shape, ...] = ()  # empty: every shape
    names: tuple[str, ...] = (PYQUANT,)  # how pyquant is called
    mode: str = ""  # fresh, out, or both
    against: tuple[str, ...] = ()  # peers; empty: every peer
    cap: str = ""  # PYQUANT_ISA

    def applies(self, case: Case, name: str, mode: str, cap: str) -> bool:
        return (
            case.op in self.ops
            and (not self.shapes or (case.m, case.n, case.k) in self.shapes)
            and name in self.names
            and self.mode in ("", mode)
            and self.cap == cap
        )

    @property
    def short(self) -> str:
        if self.kind == SHARE:
            return f">= {self.bound:.0%} peak"
        if self.kind == BOUND:
            return f">= {self.bound:.0%} of the bound"
        if self.kind == SCALING:
            return f">= {self.bound:g}x 1 thread"
        if self.kind == BARE_COST:
            return f"<= {self.bound:g}x bare product"
        return f">= {self.bound:g}x {self.against[0] if len(self.against) == 1 else 'peers'}"


_LARGE = (
    "1024^3, 2048^3, 4096^3, (512, 4096, 4096), (1000, 1000, 1000): packed >= 70 % of the peak of "
    "that run (>= 62 % at 1000^3, 1024^3) and >= 1.8 x best peer; not packed >= 60 %"
)
_MEDIUM = "(128, 4096, 4096), (128, 768, 768), (128, 3072, 768): >= 1.5 x best peer"
_ROWS = (
    "(1, 4096, 4096), (1, 11008, 4096), (8, 4096, 4096): >= 93 % of the read bandwidth of that "
    "run, packed and unpacked"
)
_ROWS_32 = "(32, 4096, 4096): >= 1.3 x best peer"
_SMALL = (
    "(64, 64, 64), (16, 16, 16), (37, 129, 251): call included >= 1.25 x, >= 1.25 x, >= 2 x "
    "NumKong, >= 3 x every other"
)
_WRITTEN = (
    "(12544, 64, 147), (3136, 256, 64): >= 90 % of the bound by writing int32; requantized to "
    "int8 >= 2.5 x best peer"
)
_THREADS = "two threads: >= 1.85 x one thread where 2MNK >= 1e8"
_CAPPED = (
    "machines without AMX: AVX-512 VNNI >= 85 % of the VNNI peak, AVX2 >= 85 % of its own "
    "exact-arithmetic peak at 2048^3"
)
_LAYER = "linear, 4096 x 4096: >= 1.0 x best peer at M = 1, >= 1.25 x at 16, >= 1.8 x at 128, 512"
_SMALL_LAYER = "linear, 3072 x 768, M = 1, 16, 128, 512: >= 1.5 x best peer"
_FUSED = "the fused call costs at most 1.15 x the bare product at M >= 128"

_SQUARE = tuple((n, n, n) for n in (1000, 1024, 2048, 4096))
_BIG: tuple[Shape, ...] = (*_SQUARE[2:], (512, 4096, 4096))
_SLIM: tuple[Shape, ...] = ((12544, 64, 147), (3136, 256, 64))
_FEW: tuple[Shape, ...] = ((1, 4096, 4096), (1, 11008, 4096), (8, 4096, 4096))
_KONG = ("NumKong",)
_OTHERS = (
    *("oneDNN", "oneDNN transposed", "ONNX Runtime u8s8", "ONNX Runtime u8u8"),
    *("MKL", "MKL packed", "NumPy float32"),
)
_LAYERS = (DYNAMIC, STATIC)


def _layer(m: int, bound: float) -> Target:
    return Target(PEER, bound, _LAYER, _LAYERS, ((m, 4096, 4096),))


TARGETS: tuple[Target, ...] = (
    Target(SHARE, 0.62, _LARGE, shapes=_SQUARE[:2]),
    Target(SHARE, 0.70, _LARGE, shapes=_BIG),
    Target(PEER, 1.8, _LARGE, shapes=(*_SQUARE[:2], *_BIG)),
    Target(SHARE, 0.60, _LARGE, shapes=(*_SQUARE[:2], *_BIG), names=(UNPACKED,)),
    Target(PEER, 1.5, _MEDIUM, shapes=((128, 4096, 4096), (128, 768, 768), (128, 3072, 768))),
    Target(BOUND, 0.93, _ROWS, shapes=_FEW, names=OWN),
    Target(PEER, 1.3, _ROWS_32, shapes=((32, 4096, 4096),)),
    Target(PEER, 1.25, _SMALL, shapes=((64, 64, 64), (16, 16, 16)), against=_KONG),
    Target(PEER, 2, _SMALL, shapes=((37, 129, 251),), against=_KONG),
    Target(PEER, 3, _SMALL, shapes=((64, 64, 64), (16, 16, 16), (37, 129, 251)), against=_OTHERS),
    Target(BOUND, 0.9, _WRITTEN, shapes=_SLIM, mode=OUT),
    Target(PEER, 2.5, _WRITTEN, (INT8,), _SLIM),
    Target(SCALING, 1.85, _THREADS, (INT32, INT8, *_LAYERS), names=OWN),
    Target(SHARE, 0.85, _CAPPED, shapes=((2048, 2048, 2048),), cap="avx512vnni"),
    Target(SHARE, 0.85, _CAPPED, shapes=((2048, 2048, 2048),), cap="avx2"),
    _layer(1, 1.0),
    _layer(16, 1.25),
    _layer(128, 1.8),
    _layer(512, 1.8),
    Target(PEER, 1.5, _SMALL_LAYER, _LAYERS, tuple((m, 3072, 768) for m in (1, 16, 128, 512))),
    Target(BARE_COST, 1.15, _FUSED, _LAYERS),
)
SCALING_FROM = 1e8  # operations
BARE_FROM = 128  # rows


def cap_of(group: str) -> str:
    """The cap that a set of contenders ran under, "" without one."""
    return group.removeprefix("cap ") if group.startswith("cap ") else ""


def _set(measured: Measured, threads: int, cap: str = "") -> dict[str, list[float]]:
    key = (f"cap {cap}", threads) if cap else (LIMITS, 0)
    return measured.sets.get(key, {})


def _loops(seconds: dict[str, list[float]], begin: str, threads: int) -> list[list[float]]:
    """Samples of the loops of the machine whose name begins so."""
    return [
        samples
        for key, samples in seconds.items()
        if key.startswith(begin) and key.endswith(f"|{threads}")
    ]


def peak(measured: Measured, threads: int, cap: str = "") -> list[float]:
    """Seconds for one operation on registers, a value for each round; empty without a loop."""
    found = _loops(_set(measured, threads, cap), PEAK, threads)
    return found[0] if found else []


def drift(seconds: Sequence[float]) -> float:
    """How far samples of the same work lie apart: 90th over 10th percentile, less 1."""
    spread = Spread.of(seconds)
    return spread.high / spread.low - 1


def drift_of_peak(measured: Measured, threads: int, cap: str = "") -> float:
    return drift(peak(measured, threads, cap))


def share_of_peak(
    measured: Measured, name: str, mode: str, threads: int, cap: str = ""
) -> Spread | None:
    own = _set(measured, threads, cap).get(f"{name}|{mode}|{threads}")
    canary = peak(measured, threads, cap)
    if own is None or not canary:
        return None
    return ratio([one * measured.case.operations for one in canary], own)


def share_of_bound(measured: Measured, name: str, mode: str, threads: int) -> Comparison | None:
    """How near to the time that reading the weights, or writing the sums, takes by itself.

    Writing and multiplying share a core: where the multipliers need longer than the result takes to
    write, they are the bound.
    """
    case, seconds = measured.case, _set(measured, threads)
    own = seconds.get(f"{name}|{mode}|{threads}")
    few = case.m <= FEW_ROWS
    loops = [
        one for kind in (READ if few else WRITE) for one in _loops(seconds, f"{kind}|", threads)
    ]
    if own is None or not loops or (not few and (case.m, case.n, case.k) not in _SLIM):
        return None
    bound = min(loops, key=lambda samples: Spread.of(samples).median)
    what = "reading" if few else "writing"
    canary = [] if few else peak(measured, threads)
    if canary:
        multiplying = [one * case.operations for one in canary]
        if Spread.of(multiplying).median > Spread.of(bound).median:
            bound, what = multiplying, "multiplying"
    return Comparison(what, ratio(bound, own), Spread.of(bound))


def judge(measured: Measured, name: str, mode: str, threads: int, cap: str = "") -> list[Verdict]:
    """Every target that applies to one row."""
    applying = (t for t in TARGETS if t.applies(measured.case, name, mode, cap))
    found = (_verdict(target, measured, name, mode, threads) for target in applying)
    return [verdict for verdict in found if verdict is not None]


def _verdict(
    target: Target, measured: Measured, name: str, mode: str, threads: int
) -> Verdict | None:
    if target.kind == SHARE:
        share = share_of_peak(measured, name, mode, threads, target.cap)
        return None if share is None else _at_least(target, share, "peak")
    if target.kind in (PEER, BOUND):
        found = (
            best_peer(measured, mode, threads, target.against, name=name)
            if target.kind == PEER
            else share_of_bound(measured, name, mode, threads)
        )
        return None if found is None else _at_least(target, found.times, found.name)
    seconds = _set(measured, threads)
    own = seconds.get(f"{name}|{mode}|{threads}")
    if own is None:
        return None
    if target.kind == BARE_COST:
        bare = seconds.get(f"{BARE}|{FRESH}|{threads}")
        if bare is None or measured.case.m < BARE_FROM:
            return None
        cost = ratio(own, bare)
        return Verdict(target, cost, "bare product", cost.median <= target.bound)
    return _scaling(target, measured, name, mode, threads, own)


def _scaling(
    target: Target, measured: Measured, name: str, mode: str, threads: int, own: Sequence[float]
) -> Verdict | None:
    single = _set(measured, 1).get(f"{name}|{mode}|1")
    small = measured.case.operations < SCALING_FROM
    if threads == 1 or single is None or small or (mode == FRESH and OUT in measured.modes(name)):
        return None  # page faults of fresh results are not what threads are judged by
    times = ratio(single, own)
    bound = share_of_bound(measured, name, mode, threads)
    at_bound = bound is not None and any(
        one.kind == BOUND and bound.times.median >= one.bound
        for one in TARGETS
        if one.applies(measured.case, name, mode, "")
    )
    return Verdict(target, times, "1 thread", at_bound or times.median >= target.bound)


def _at_least(target: Target, times: Spread, against: str) -> Verdict:
    return Verdict(target, times, against, times.median >= target.bound)
