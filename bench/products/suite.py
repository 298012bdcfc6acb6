"""Run the measurements of products and layers: one process for each set of contenders."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bench import peaks
from bench.limits import LimitsUnavailable
from bench.measured import LIMITS, matching
from bench.process import Job
from bench.products.cases import DYNAMIC, GEMM, INT32, LINEAR, Case, Data
from bench.products.contenders import ONE_THREAD_ONLY, PEERS
from bench.products.report import ProductReport
from bench.products.targets import cap_of
from bench.suite import jobs_of, measure
from bench.timing import Contender

CASES = {"gemm": GEMM, "linear": LINEAR}
CAPS = ("avx512vnni", "avx2")
CAPPED_FROM = 1e9  # operations; the capped variants are judged on large products
NEAR = 0.05  # relative error (Frobenius) of a layer on 7-bit to 8-bit integers


def data(given: dict[str, Any], patient: bool) -> Data:
    """The arrays of a case that came as JSON."""
    return Data(Case(**given))


def problem(result: np.ndarray, data: Data) -> str | None:
    """What is wrong with a contender's result, if anything is."""
    if data.case.op == INT32:
        return data.wrong_sums(result)
    difference = result.astype(np.float64) - data.expected
    if data.case.op == DYNAMIC:
        error = float(np.linalg.norm(difference) / np.linalg.norm(data.expected))
        return f"relative error {error:.3f}" if error > NEAR else None
    worst = float(np.abs(difference).max())
    return f"results differ by {worst:g}" if worst > 1 else None


def contenders(
    group: str, data: Data, threads: Sequence[int], note: Callable[[str], None]
) -> list[Contender]:
    """Who takes part in a set: pyquant, a peer or the machine's limits, and always the canary."""
    from bench.products.contenders import machine, pyquant_calls

    cap = cap_of(group)
    found = []
    if cap and (data.case.op != INT32 or data.case.operations < CAPPED_FROM):
        return []
    if group in PEERS:
        (count,) = threads
        found = importlib.import_module(PEERS[group]).contenders(data, count)
        if not found:
            return []
    found += [one for t in threads for one in pyquant_calls.contenders(data, t)]
    try:
        isa = peaks.best(cap or os.environ.get("PYQUANT_ISA", ""))
        if isa is None:
            note("no peak: peaks.c has no loop for this processor")
        else:
            found += [machine.canary(isa, t) for t in threads]
        if group == LIMITS:
            found += [one for t in threads for one in machine.bounds(data, t)]
    except LimitsUnavailable as error:
        note(f"peak and limits are left out: {error}")
    return found


def _capped(threads: Sequence[int], caps: Sequence[str]) -> list[Job]:
    each = [(cap, count) for cap in caps for count in threads]
    return [Job(f"cap {c}", [count], count, {"PYQUANT_ISA": c}) for c, count in each]


def run(
    suite: str,
    *,
    only: Sequence[str] = (),
    threads: Sequence[int] | None = None,
    peers: Sequence[str] | None = None,
    quick: bool = False,
) -> ProductReport:
    """Measure and judge "gemm" or "linear". Progress goes to stderr."""
    cases = [case for case in matching(CASES[suite], only) if case.quick or not quick or only]
    beside = list(PEERS) if peers is None else peers

    def jobs(wanted: list[int], usable: Sequence[str]) -> list[Job]:
        caps = [cap for cap in CAPS if cap in usable] if suite == "gemm" else []
        return jobs_of(wanted, beside, ONE_THREAD_ONLY) + _capped(wanted, caps)

    return measure("bench.products.suite", cases, ProductReport, jobs, threads, quick)
