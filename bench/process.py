"""Start the worker processes of a measurement and read what they say."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.measured import Measured
from bench.timing import Pace

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Job:
    """One process: a set of contenders on a number of threads, or on several in turn.

    The samples go to the set (`group`, `key`) of a case. `environment` is added to this process's.
    """

    group: str
    threads: list[int]
    key: int
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return f"{self.group}, threads {'+'.join(map(str, self.threads))}"


@dataclass
class Collected:
    """What the processes of a run said."""

    statements: dict[str, dict[str, str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def _environment(job: Job, folder: str) -> dict[str, str]:
    count = str(max(job.threads))
    return {
        **os.environ,
        "OMP_NUM_THREADS": count,
        "PYQUANT_NUM_THREADS": count,
        "NUMBA_NUM_THREADS": count,
        "TORCHINDUCTOR_COMPILE_THREADS": "1",  # no pool of idle compiling processes
        "NUMBA_CACHE_DIR": f"{folder}/numba",
        "TORCHINDUCTOR_CACHE_DIR": f"{folder}/torchinductor",
        **job.environment,
    }


def _records(job: Job, order: dict[str, Any], folder: str) -> Iterator[dict[str, Any]]:
    with (
        tempfile.TemporaryFile("w+", dir=folder) as errors,
        subprocess.Popen(
            [sys.executable, "-m", "bench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=_environment(job, folder),
            cwd=ROOT,
            text=True,
        ) as worker,
    ):
        assert worker.stdin is not None and worker.stdout is not None
        worker.stdin.write(json.dumps(order | {"group": job.group, "threads": job.threads}))
        worker.stdin.close()
        for line in worker.stdout:
            if line.startswith("{"):
                yield json.loads(line)
        if worker.wait():
            errors.seek(0)
            last = (errors.read().strip().splitlines() or ["no message"])[-1]
            status = worker.returncode
            yield {"note": f"{job.group}: the process ended with status {status}: {last}"}


def collect(
    suite: str, measured: Sequence[Measured], jobs: Sequence[Job], pace: Pace, patient: bool
) -> Collected:
    """Run the jobs one after the other and put their samples into `measured`.

    `suite` names the module that the worker asks for contenders. Progress goes to stderr.
    """
    by_name = {one.case.name: one for one in measured}
    order = {
        "suite": suite,
        "pace": dataclasses.asdict(pace),
        "patient": patient,
        "cases": [dataclasses.asdict(one.case) for one in measured],
    }
    collected = Collected()
    started = time.perf_counter()
    terminal = sys.stderr.isatty()
    with tempfile.TemporaryDirectory() as folder:
        for job in jobs:
            done = 0
            for record in _records(job, order, folder):
                if "note" in record:
                    collected.notes.append(record["note"])
                    continue
                done += 1
                by_name[record["case"]].sets[job.group, job.key] = record["seconds"]
                collected.statements.setdefault(record["case"], {}).update(record["statements"])
                if terminal:
                    print(f"\r{job.label}: {done} cases", end="", file=sys.stderr)
            spent = time.perf_counter() - started
            start = "\r" if terminal else ""
            print(f"{start}{job.label}: {done} cases, {spent:.0f} s so far", file=sys.stderr)
    collected.notes = list(dict.fromkeys(collected.notes))
    return collected
