"""Run the elementwise measurements: one process for each set of contenders and threads."""

from __future__ import annotations

import dataclasses
import fnmatch
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.cases import SWEEPS, Case
from bench.contenders import ONE_THREAD_ONLY, PEERS
from bench.machine import cpus, describe
from bench.report import Report
from bench.targets import LIMITS, Measured
from bench.timing import Pace

FULL = Pace()
QUICK = Pace(sample=0.001, rounds=5, least_rounds=3, budget=0.25)
ROOT = Path(__file__).resolve().parent.parent


def select(only: Sequence[str], sizes: Sequence[int] | None, quick: bool) -> list[Case]:
    """The cases asked for: by pattern (a part of the name, or with * and ?), size and --quick."""
    cases = [case for sweep in SWEEPS for case in sweep.cases(sizes)]
    cases = list(dict.fromkeys(cases))
    if quick and not sizes:
        cases = [case for case in cases if case.quick]
    if only:
        wanted = [p if any(c in p for c in "*?[") else f"*{p}*" for p in only]
        cases = [c for c in cases if any(fnmatch.fnmatch(c.name, pattern) for pattern in wanted)]
    return cases


def _environment(threads: int, folder: str) -> dict[str, str]:
    count = str(threads)
    return {
        **os.environ,
        "OMP_NUM_THREADS": count,
        "PYQUANT_NUM_THREADS": count,
        "NUMBA_NUM_THREADS": count,
        "TORCHINDUCTOR_COMPILE_THREADS": "1",  # no pool of idle compiling processes
        "NUMBA_CACHE_DIR": f"{folder}/numba",
        "TORCHINDUCTOR_CACHE_DIR": f"{folder}/torchinductor",
    }


def _records(
    group: str, threads: Sequence[int], cases: Sequence[Case], quick: bool, folder: str
) -> Iterator[dict[str, Any]]:
    order = {
        "group": group,
        "threads": list(threads),
        "pace": dataclasses.asdict(QUICK if quick else FULL),
        "patient": not quick,
        "cases": [dataclasses.asdict(case) for case in cases],
    }
    with (
        tempfile.TemporaryFile("w+", dir=folder) as errors,
        subprocess.Popen(
            [sys.executable, "-m", "bench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=_environment(max(threads), folder),
            cwd=ROOT,
            text=True,
        ) as worker,
    ):
        assert worker.stdin is not None and worker.stdout is not None
        worker.stdin.write(json.dumps(order))
        worker.stdin.close()
        for line in worker.stdout:
            if line.startswith("{"):
                yield json.loads(line)
        if worker.wait():
            errors.seek(0)
            last = (errors.read().strip().splitlines() or ["no message"])[-1]
            yield {"note": f"{group}: the process ended with status {worker.returncode}: {last}"}


def _sets(threads: Sequence[int], peers: Sequence[str]) -> list[tuple[str, list[int]]]:
    """Limits first, at every number of threads in one process; then each peer at each number."""
    sets = [(LIMITS, list(threads))]
    for peer in peers:
        counts = [1] if peer in ONE_THREAD_ONLY else list(threads)
        sets += [(peer, [count]) for count in counts if count in threads]
    return sets


def run(
    *,
    only: Sequence[str] = (),
    sizes: Sequence[int] | None = None,
    threads: Sequence[int] | None = None,
    peers: Sequence[str] | None = None,
    quick: bool = False,
) -> Report:
    """Measure and judge. Progress goes to stderr."""
    available = cpus()
    wanted = list(threads) if threads else ([1, 2] if available > 1 else [1])
    notes = [f"{t} threads left out: {available} CPUs" for t in wanted if t > available]
    wanted = [t for t in wanted if t <= available]
    cases = select(only, sizes, quick)
    measured = {case.name: Measured(case) for case in cases}
    statements: dict[str, dict[str, str]] = {}
    machine = describe()
    load = machine["load average before"]
    if load is not None and load > available / 2:
        notes.append(f"the machine was busy (load {load:.1f}): two-thread figures mean little")
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for group, counts in _sets(wanted, list(PEERS) if peers is None else peers):
            label = f"{group}, threads {'+'.join(map(str, counts))}"
            done = 0
            for record in _records(group, counts, cases, quick, folder):
                if "note" in record:
                    notes.append(record["note"])
                    continue
                done += 1
                key = (group, 0 if group == LIMITS else counts[0])
                measured[record["case"]].sets[key] = record["seconds"]
                statements.setdefault(record["case"], {}).update(record["statements"])
                if sys.stderr.isatty():
                    print(f"\r{label}: {done} cases", end="", file=sys.stderr)
            spent = time.perf_counter() - started
            start = "\r" if sys.stderr.isatty() else ""
            print(f"{start}{label}: {done} cases, {spent:.0f} s so far", file=sys.stderr)
    return Report(
        machine=machine,
        measured=list(measured.values()),
        threads=wanted,
        statements=statements,
        notes=list(dict.fromkeys(notes)),
        seconds=time.perf_counter() - started,
    )
