"""One run of a suite: which processes there are, and the report of what they measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

from bench.machine import busy, describe, threads_to_use
from bench.measured import LIMITS, Measured, Named
from bench.process import Job, collect
from bench.timing import FULL, QUICK

AnyReport = TypeVar("AnyReport")


def jobs_of(threads: Sequence[int], peers: Sequence[str], one_thread: Collection[str]) -> list[Job]:
    """Limits first, at every number of threads in one process; then each peer at each number."""
    jobs = [Job(LIMITS, list(threads), 0)]
    for peer in peers:
        counts = [1] if peer in one_thread else threads
        jobs += [Job(peer, [count], count) for count in counts if count in threads]
    return jobs


def measure(
    module: str,
    cases: Sequence[Named],
    report: Callable[..., AnyReport],
    jobs: Callable[[list[int], Sequence[str]], list[Job]],
    threads: Sequence[int] | None,
    quick: bool,
) -> AnyReport:
    """Measure and judge. `jobs` is told the numbers of threads and the usable CPU variants.

    `module` names the suite that the workers ask for contenders. Progress goes to stderr.
    """
    wanted, notes = threads_to_use(threads)
    machine: dict[str, Any] = describe()
    notes += busy(machine)
    started = time.perf_counter()
    measured = [Measured(case) for case in cases]
    orders = jobs(wanted, machine["usable variants"])
    collected = collect(module, measured, orders, QUICK if quick else FULL, patient=not quick)
    return report(
        machine=machine,
        measured=measured,
        threads=wanted,
        statements=collected.statements,
        notes=notes + collected.notes,
        seconds=time.perf_counter() - started,
    )
