"""What was measured, and pyquant held against it."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from bench.contenders import PYQUANT
from bench.timing import FRESH, OUT, Spread, ratio

LIMITS = "limits"  # the set of contenders without a peer
LOOP = "C "  # how the names of the machine's own limits begin

Seconds = Mapping[str, Sequence[float]]  # contender key -> seconds, one a round


class Named(Protocol):
    """A case of any suite."""

    @property
    def name(self) -> str: ...


AnyCase = TypeVar("AnyCase", bound=Named)


def matching(cases: Sequence[AnyCase], only: Sequence[str]) -> list[AnyCase]:
    """The cases whose name holds one of the patterns (* and ? as in the shell); all without one."""
    if not only:
        return list(cases)
    wanted = [p if any(c in p for c in "*?[") else f"*{p}*" for p in only]
    return [case for case in cases if any(fnmatch.fnmatch(case.name, p) for p in wanted)]


@dataclass
class Measured:
    """All samples of one case: by set of contenders and that set's threads, then by contender."""

    case: Any
    sets: dict[tuple[str, int], dict[str, list[float]]] = field(default_factory=dict)

    def seconds(self, group: str, name: str, mode: str, threads: int) -> list[float] | None:
        """`group` is a peer, or LIMITS: the set measured at every number of threads."""
        found = self.sets.get((group, 0 if group == LIMITS else threads), {})
        return found.get(f"{name}|{mode}|{threads}")

    def own(self, name: str, mode: str, threads: int) -> Spread | None:
        """pyquant beside the limits; beside a peer where the limits were not measured."""
        for _, seconds in sorted(self.sets.items(), key=lambda item: item[0][0] != LIMITS):
            found = seconds.get(f"{name}|{mode}|{threads}")
            if found is not None:
                return Spread.of(found)
        return None

    def modes(self, name: str = PYQUANT) -> list[str]:
        keys = {key for seconds in self.sets.values() for key in seconds}
        kinds = {key.split("|")[1] for key in keys if key.startswith(f"{name}|")}
        return [mode for mode in (FRESH, OUT) if mode in kinds]


@dataclass(frozen=True)
class Comparison:
    """How many times as fast as `name` pyquant was, and how fast `name` was."""

    name: str
    times: Spread
    seconds: Spread


def best_peer(
    measured: Measured,
    mode: str,
    threads: int,
    allowed: Sequence[str] = (),
    barred: Sequence[str] = (),
    name: str = PYQUANT,
) -> Comparison | None:
    """The peer `name` is least ahead of, like with like: fresh with fresh, out with out."""
    found = []
    for (group, count), seconds in measured.sets.items():
        own = seconds.get(f"{name}|{mode}|{threads}")
        if group == LIMITS or count != threads or own is None:
            continue
        for key, theirs in seconds.items():
            peer, kind, _ = key.split("|")
            if kind != mode or peer in barred or peer.startswith((PYQUANT, LOOP)):
                continue
            if not allowed or peer in allowed:
                found.append(Comparison(peer, ratio(theirs, own), Spread.of(theirs)))
    return min(found, key=lambda comparison: comparison.times.median, default=None)


@dataclass(frozen=True)
class Verdict:
    """A target (of any suite: it has a sentence and a short form) and what was reached."""

    target: Any
    times: Spread  # seconds where the target is in seconds
    against: str
    met: bool


def summary(verdicts: Iterable[Verdict], targets: Iterable[Any]) -> dict[str, tuple[int, int]]:
    """Met and missed by sentence, in the order of the table of targets."""
    counts: dict[str, tuple[int, int]] = {target.sentence: (0, 0) for target in targets}
    for verdict in verdicts:
        met, missed = counts[verdict.target.sentence]
        counts[verdict.target.sentence] = (met + verdict.met, missed + (not verdict.met))
    return counts
