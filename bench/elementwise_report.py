"""The rows of the elementwise measurements."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench.cases import Case
from bench.contenders import PYQUANT
from bench.measured import LIMITS, Verdict, best_peer
from bench.report import Line, Report
from bench.targets import SECONDS, TARGETS, judge, limit
from bench.timing import Spread

LIMIT_SHOWN_FROM = 10**4  # elements; the loops pay no call, so below that it says nothing


class ElementwiseReport(Report):
    targets = TARGETS
    header = (
        f"\n{'case':<31} {'thr':>3} {'res.':>5} {'us a call':>11} {'Gelem/s (p10-p90)':>22}  "
        f"{'best peer':<26} {'x peer (p10-p90)':>20} {'limit':>6}  targets"
    )

    def lines(self) -> Iterator[Line]:
        for measured in self.measured:
            for threads in self.threads:
                for mode in measured.modes():
                    own = measured.own(PYQUANT, mode, threads)
                    if own is not None:
                        verdicts = judge(measured, mode, threads)
                        yield Line(measured, PYQUANT, mode, threads, own, verdicts)

    def rate(self, case: Case, contender: str, seconds: float) -> dict[str, float]:
        return {"elements_per_second": case.n / seconds}

    def limits_text(self) -> list[str]:
        """memcpy has no pyquant beside it: bytes read and as many written each second."""
        return [
            f"{one.case.name:<31} {key.split('|')[2]:>3} {'C':>5} "
            f"{one.case.n / Spread.of(seconds).median / 1e9:17.2f} GB/s"
            for one in self.measured
            if one.case.op == "memcpy"
            for key, seconds in one.sets.get((LIMITS, 0), {}).items()
        ]

    def text(self, line: Line, name: str) -> str:
        n: int = line.measured.case.n
        speed = f"{n / line.own.median / 1e9:.3g} ({n / line.own.high / 1e9:.3g}"
        speed += f"-{n / line.own.low / 1e9:.3g})"
        peer = times = share = ""
        best = best_peer(line.measured, line.mode, line.threads)
        if best is not None:
            peer = f"{best.name} {n / best.seconds.median / 1e9:.3g}"
            times = f"{best.times.median:.2f} ({best.times.low:.2f}-{best.times.high:.2f})"
        bound = limit(line.measured, line.mode, line.threads)
        if bound is not None and n >= LIMIT_SHOWN_FROM:
            share = f"{bound.times.median:.0%}"
        verdicts = "; ".join(map(_verdict_text, line.verdicts))
        return (
            f"{name:<31} {line.threads:>3} {line.mode:>5} {line.own.median * 1e6:>11.3f} "
            f"{speed:>22}  {peer:<26} {times:>20} {share:>6}  {verdicts}"
        )


def _verdict_text(verdict: Verdict) -> str:
    word = "pass" if verdict.met else "MISS"
    value: Any = verdict.times.median
    if verdict.target.kind == SECONDS:
        return f"{word} {value * 1e6:.2f} {verdict.target.short}"
    return f"{word} {value:.2f} {verdict.target.short} ({verdict.against})"
