"""The timing engine: contenders take turns, round after round, in one process."""

from __future__ import annotations

import statistics
import time
import timeit
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

FRESH, OUT = "fresh", "out"
OPENMP_SPINS = 0.006  # seconds; GNU OpenMP's idle workers give up after about 4 ms


@dataclass(frozen=True)
class Contender:
    """One way to do the work of a case: a statement as a user would write it.

    `mode` is "fresh" where each call makes a new result and "out" where it fills an array that
    was there before. `inner` says how many runs of the work one statement holds, `spins` for how
    many seconds idle threads of this contender may keep a CPU busy after a call.
    """

    name: str
    mode: str
    statement: str
    names: Mapping[str, Any]
    threads: int = 1
    inner: int = 1
    prepare: Callable[[], object] | None = None
    array: Callable[[Any], np.ndarray] | None = None
    spins: float = OPENMP_SPINS

    def rest(self, following: Contender) -> float:
        """Seconds to wait until this contender's threads cannot disturb the following one."""
        pools = [(c.name.split()[0], c.threads) for c in (self, following)]
        return self.spins if self.threads > 1 and pools[0] != pools[1] else 0.0

    @property
    def key(self) -> str:
        return f"{self.name}|{self.mode}|{self.threads}"


@dataclass(frozen=True)
class Pace:
    """How long to measure: a sample lasts about `sample` seconds, a case about `budget`."""

    sample: float = 0.003
    rounds: int = 15
    least_rounds: int = 5
    budget: float = 1.2


FULL = Pace()
QUICK = Pace(sample=0.001, rounds=5, least_rounds=3, budget=0.25)


@dataclass
class _Runner:
    contender: Contender
    timer: timeit.Timer
    calls: int
    seconds: list[float] = field(default_factory=list)

    def sample(self, rest: float) -> None:
        if self.contender.prepare is not None:
            self.contender.prepare()
        if rest:
            time.sleep(rest)
        if self.calls > 1:  # bring code and data back after the others' turns
            self.timer.timeit(1)
        self.seconds.append(self.timer.timeit(self.calls) / (self.calls * self.contender.inner))


def _runner(contender: Contender, pace: Pace) -> _Runner:
    if contender.prepare is not None:
        contender.prepare()
    timer = timeit.Timer(contender.statement, globals=dict(contender.names))
    timer.timeit(1)  # the first call compiles, allocates, starts threads
    calls = 1
    while (spent := timer.timeit(calls)) < pace.sample / 4:
        calls *= 4
    return _Runner(contender, timer, max(1, round(calls * pace.sample / spent)))


def measure(contenders: Sequence[Contender], pace: Pace) -> dict[str, list[float]]:
    """Seconds for each run of the work, by contender key, one value a round."""
    runners = [_runner(contender, pace) for contender in contenders]
    previous = contenders[-1]
    started = time.perf_counter()
    for turn in range(pace.rounds):
        if turn >= pace.least_rounds and time.perf_counter() - started > pace.budget:
            break
        first = turn % len(runners)  # nobody always runs after the same neighbour's leftovers
        for runner in runners[first:] + runners[:first]:
            runner.sample(previous.rest(runner.contender))
            previous = runner.contender
    return {runner.contender.key: runner.seconds for runner in runners}


@dataclass(frozen=True)
class Spread:
    """Median, 10th and 90th percentile."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        if len(values) == 1:
            return cls(values[0], values[0], values[0], 1)
        cuts = statistics.quantiles(values, n=10, method="inclusive")
        return cls(statistics.median(values), cuts[0], cuts[-1], len(values))


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> Spread:
    """Of the rounds' ratios: what drifts from round to round is in both halves."""
    return Spread.of([a / b for a, b in zip(numerator, denominator, strict=True)])
