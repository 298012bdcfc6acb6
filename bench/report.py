"""What a run found: printed as a table, written as JSON. Each suite says what its rows are."""

from __future__ import annotations

import dataclasses
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from bench.measured import Measured, Verdict, summary
from bench.timing import Spread


@dataclass(frozen=True)
class Line:
    """One printed row: pyquant, called as `name`, in one mode with one number of threads."""

    measured: Measured
    name: str
    mode: str
    threads: int
    own: Spread
    verdicts: list[Verdict]


@dataclass(frozen=True)
class Report(ABC):
    machine: dict[str, Any]
    measured: list[Measured]
    threads: list[int]
    statements: dict[str, dict[str, str]]
    notes: list[str]
    seconds: float

    header: ClassVar[str]
    targets: ClassVar[tuple[Any, ...]]

    @abstractmethod
    def lines(self) -> Iterator[Line]:
        """The rows, in the order of printing."""

    @abstractmethod
    def text(self, line: Line, name: str) -> str:
        """A row; `name` is empty where the row before it is of the same case."""

    @abstractmethod
    def rate(self, case: Any, contender: str, seconds: float) -> dict[str, float]:
        """A contender's speed for the JSON file."""

    def limits_text(self) -> list[str]:
        """What the machine did by itself, where rows do not say it."""
        return []

    def verdicts(self) -> list[Verdict]:
        return [verdict for line in self.lines() for verdict in line.verdicts]

    def print(self) -> None:
        print(_machine_text(self.machine))
        print(self.header)
        previous = ""
        for line in self.lines():
            name = line.measured.case.name
            print(self.text(line, "" if name == previous else name))
            previous = name
        for text in self.limits_text():
            print(text)
        for note in self.notes:
            print(f"note: {note}")
        print(f"\n{'met':>5} {'MISS':>5}  target")
        for sentence, (met, missed) in summary(self.verdicts(), self.targets).items():
            if met or missed:
                print(f"{met:5d} {missed:5d}  {sentence}")
        print(f"\n{self.seconds:.0f} s")

    def write_json(self, path: Path) -> None:
        content = {
            "machine": self.machine,
            "seconds": self.seconds,
            "notes": self.notes,
            "cases": [self._case_json(measured) for measured in self.measured],
            "verdicts": [
                {
                    "case": line.measured.case.name,
                    "contender": line.name,
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
        case = measured.case
        rows = [
            {
                "set": group,
                "contender": (parts := key.split("|"))[0],
                "mode": parts[1],
                "threads": int(parts[2]),
                "statement": self.statements.get(case.name, {}).get(key),
                "seconds": dataclasses.asdict(spread := Spread.of(seconds)),
                **self.rate(case, parts[0], spread.median),
            }
            for (group, _), samples in measured.sets.items()
            for key, seconds in samples.items()
        ]
        return {**dataclasses.asdict(case), "n": case.n, "samples": rows}


def _machine_text(machine: dict[str, Any]) -> str:
    libraries = ", ".join(f"{k} {v}" for k, v in machine["libraries"].items() if v)
    caches = ", ".join(f"{k} {v}" for k, v in machine["caches"].items())
    return (
        f"{machine['cpu']}, {machine['cpus']} CPUs ({caches}), {machine['system']}, "
        f"load {machine['load average before']}\n"
        f"Python {machine['python']}, {libraries}; limits: {machine['compiler of the limits']}\n"
        f"pyquant: {machine['pyquant runs']}"
    )
