"""The printed table and the JSON file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.contenders import PYQUANT
from bench.targets import (
    LIMITS,
    SECONDS,
    Comparison,
    Measured,
    Verdict,
    best_peer,
    judge,
    limit,
    summary,
)
from bench.timing import Spread


@dataclass(frozen=True)
class Line:
    """One printed row: pyquant in one mode with one number of threads."""

    measured: Measured
    mode: str
    threads: int
    own: Spread
    peer: Comparison | None
    limit: Comparison | None
    verdicts: list[Verdict]


@dataclass(frozen=True)
class Report:
    machine: dict[str, Any]
    measured: list[Measured]
    threads: list[int]
    statements: dict[str, dict[str, str]]
    notes: list[str]
    seconds: float

    def lines(self) -> Iterator[Line]:
        for measured in self.measured:
            for threads in self.threads:
                for mode in measured.modes():
                    own = _own_seconds(measured, mode, threads)
                    if own is not None:
                        yield Line(
                            measured,
                            mode,
                            threads,
                            own,
                            best_peer(measured, mode, threads, barred=()),
                            limit(measured, mode, threads),
                            judge(measured, mode, threads),
                        )

    def verdicts(self) -> list[Verdict]:
        return [verdict for line in self.lines() for verdict in line.verdicts]

    def print(self) -> None:
        print(_machine_text(self.machine))
        print(_HEADER)
        previous = ""
        for line in self.lines():
            name = line.measured.case.name
            print(_text(line, "" if name == previous else name))
            previous = name
        self._print_copies()
        for note in self.notes:
            print(f"note: {note}")
        print(f"\n{'met':>5} {'MISS':>5}  target")
        for sentence, (met, missed) in summary(self.verdicts()).items():
            if met or missed:
                print(f"{met:5d} {missed:5d}  {sentence}")
        print(f"\n{self.seconds:.0f} s")

    def _print_copies(self) -> None:
        """memcpy has no pyquant beside it: bytes read and as many written each second."""
        for measured in self.measured:
            if measured.case.op != "memcpy":
                continue
            for key, seconds in measured.sets.get((LIMITS, 0), {}).items():
                speed = measured.case.n / Spread.of(seconds).median / 1e9
                print(
                    f"{measured.case.name:<31} {key.split('|')[2]:>3} {'C':>5} {speed:17.2f} GB/s"
                )

    def write_json(self, path: Path) -> None:
        content = {
            "machine": self.machine,
            "seconds": self.seconds,
            "notes": self.notes,
            "cases": [self._case_json(measured) for measured in self.measured],
            "verdicts": [
                {
                    "case": line.measured.case.name,
                    "mode": line.mode,
                    "threads": line.threads,
                    "target": verdict.target.sentence,
                    "bound": verdict.target.short,
                    "against": verdict.against,
                    "value": dataclasses.asdict(verdict.times),
                    "met": verdict.met,
                }
                for line in self.lines()
                for verdict in line.verdicts
            ],
        }
        path.write_text(json.dumps(content, indent=1, default=str) + "\n")

    def _case_json(self, measured: Measured) -> dict[str, Any]:
        rows = [
            {
                "set": group,
                "contender": (parts := key.split("|"))[0],
                "mode": parts[1],
                "threads": int(parts[2]),
                "statement": self.statements.get(measured.case.name, {}).get(key),
                "seconds": dataclasses.asdict(spread := Spread.of(seconds)),
                "elements_per_second": measured.case.n / spread.median,
            }
            for (group, _), samples in measured.sets.items()
            for key, seconds in samples.items()
        ]
        return {**dataclasses.asdict(measured.case), "n": measured.case.n, "samples": rows}


def _own_seconds(measured: Measured, mode: str, threads: int) -> Spread | None:
    """pyquant beside the limits; beside a peer where the limits were not measured."""
    for _, seconds in sorted(measured.sets.items(), key=lambda item: item[0][0] != LIMITS):
        found = seconds.get(f"{PYQUANT}|{mode}|{threads}")
        if found is not None:
            return Spread.of(found)
    return None


LIMIT_SHOWN_FROM = 10**4  # elements; the loops pay no call, so below that it says nothing

_HEADER = (
    f"\n{'case':<31} {'thr':>3} {'res.':>5} {'us a call':>11} {'Gelem/s (p10-p90)':>22}  "
    f"{'best peer':<26} {'x peer (p10-p90)':>20} {'limit':>6}  targets"
)


def _text(line: Line, name: str) -> str:
    n = line.measured.case.n
    speed = f"{n / line.own.median / 1e9:.3g} ({n / line.own.high / 1e9:.3g}"
    speed += f"-{n / line.own.low / 1e9:.3g})"
    peer = times = ""
    if line.peer is not None:
        peer = f"{line.peer.name} {n / line.peer.seconds.median / 1e9:.3g}"
        spread = line.peer.times
        times = f"{spread.median:.2f} ({spread.low:.2f}-{spread.high:.2f})"
    share = ""
    if line.limit is not None and n >= LIMIT_SHOWN_FROM:
        share = f"{line.limit.times.median:.0%}"
    return (
        f"{name:<31} {line.threads:>3} {line.mode:>5} {line.own.median * 1e6:>11.3f} {speed:>22}  "
        f"{peer:<26} {times:>20} {share:>6}  {'; '.join(map(_verdict_text, line.verdicts))}"
    )


def _verdict_text(verdict: Verdict) -> str:
    word = "pass" if verdict.met else "MISS"
    if verdict.target.kind == SECONDS:
        return f"{word} {verdict.times.median * 1e6:.2f} {verdict.target.short}"
    return f"{word} {verdict.times.median:.2f} {verdict.target.short} ({verdict.against})"


def _machine_text(machine: dict[str, Any]) -> str:
    libraries = ", ".join(f"{k} {v}" for k, v in machine["libraries"].items() if v)
    caches = ", ".join(f"{k} {v}" for k, v in machine["caches"].items())
    return (
        f"{machine['cpu']}, {machine['cpus']} CPUs ({caches}), {machine['system']}, "
        f"load {machine['load average before']}\n"
        f"Python {machine['python']}, {libraries}; limits: {machine['compiler of the limits']}\n"
        f"pyquant: {machine['pyquant runs']}"
    )
