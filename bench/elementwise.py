"""Run the elementwise measurements: one process for each set of contenders and threads."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bench.cases import SCALE, SWEEPS, Case, Data
from bench.contenders import ONE_THREAD_ONLY, PEERS
from bench.elementwise_report import ElementwiseReport
from bench.limits import LimitsUnavailable
from bench.measured import LIMITS, matching
from bench.suite import jobs_of, measure
from bench.timing import Contender

CHECKED_UP_TO = 2 * 10**6  # elements
# One step of difference is allowed: most peers multiply by a reciprocal where pyquant divides.
TOLERANCE = {"dequantize": 1e-6, "fake quantize": 1.01 * SCALE}


def data(given: dict[str, Any], patient: bool) -> Data:
    """The arrays of a case that came as JSON."""
    return Data(Case(**{**given, "shape": tuple(given["shape"])}), patient)


def problem(array: np.ndarray, data: Data) -> str | None:
    """What is wrong with a contender's result, if anything is."""
    if data.case.n > CHECKED_UP_TO or data.expected is None:
        return None
    worst = float(np.abs(array.reshape(data.case.shape).astype(np.float64) - data.expected).max())
    return f"results differ by {worst:g}" if worst > TOLERANCE.get(data.case.op, 1.01) else None


def contenders(
    group: str, data: Data, threads: Sequence[int], note: Callable[[str], None]
) -> list[Contender]:
    """Who takes part in a set: pyquant, and a peer or the machine's limits."""
    from bench.contenders import c_loops, pyquant_calls

    if group == LIMITS:
        sources = (pyquant_calls.contenders, pyquant_calls.per_tensor)
        found = [one for t in threads for source in sources for one in source(data.case, data, t)]
        try:
            found += [one for t in threads for one in c_loops.contenders(data.case, data, t)]
        except LimitsUnavailable as error:
            note(f"the limits are left out: {error}")
        return found
    (count,) = threads
    peer = importlib.import_module(PEERS[group]).contenders(data.case, data, count)
    return [*pyquant_calls.contenders(data.case, data, count), *peer] if peer else []


def select(only: Sequence[str], sizes: Sequence[int] | None, quick: bool) -> list[Case]:
    """The cases asked for: by pattern (a part of the name, or with * and ?), size and --quick."""
    cases = [case for sweep in SWEEPS for case in sweep.cases(sizes)]
    cases = list(dict.fromkeys(cases))
    if quick and not sizes:
        cases = [case for case in cases if case.quick]
    return matching(cases, only)


def run(
    *,
    only: Sequence[str] = (),
    sizes: Sequence[int] | None = None,
    threads: Sequence[int] | None = None,
    peers: Sequence[str] | None = None,
    quick: bool = False,
) -> ElementwiseReport:
    """Measure and judge. Progress goes to stderr."""
    beside = list(PEERS) if peers is None else peers
    return measure(
        "bench.elementwise", select(only, sizes, quick), ElementwiseReport,
        lambda wanted, _: jobs_of(wanted, beside, ONE_THREAD_ONLY), threads, quick,
    )  # fmt: skip
