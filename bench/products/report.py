"""The rows of the products and layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench.contenders import PYQUANT
from bench.measured import Measured, Verdict, best_peer
from bench.products.cases import Case
from bench.products.contenders.machine import PEAK, READ, WRITE
from bench.products.contenders.pyquant_calls import BARE
from bench.products.targets import (
    BARE_COST,
    OWN,
    TARGETS,
    cap_of,
    drift,
    drift_of_peak,
    judge,
    share_of_bound,
    share_of_peak,
)
from bench.report import Line, Report
from bench.timing import Spread

CAPPED = " under "  # between how pyquant is called and its cap


class ProductReport(Report):
    targets = TARGETS
    header = (
        f"\n{'case':<22} {'called':<24} {'thr':>3} {'res.':>5} {'us a call':>11} "
        f"{'TOPS (p10-p90)':>22}  {'best peer':<26} {'x peer (p10-p90)':>18} {'peak (drift)':>12} "
        f"{'bound':>14}  targets"
    )

    def lines(self) -> Iterator[Line]:
        for measured in self.measured:
            for threads in self.threads:
                for name in (*OWN, BARE):
                    for mode in measured.modes(name):
                        own = measured.own(name, mode, threads)
                        if own is not None:
                            verdicts = judge(measured, name, mode, threads)
                            yield Line(measured, name, mode, threads, own, verdicts)
            yield from self._capped(measured)

    def _capped(self, measured: Measured) -> Iterator[Line]:
        for (group, threads), seconds in measured.sets.items():
            cap = cap_of(group)
            for key in seconds if cap else ():
                name, mode, _ = key.split("|")
                if name.startswith(PYQUANT):
                    title, own = f"{name}{CAPPED}{cap}", Spread.of(seconds[key])
                    verdicts = judge(measured, name, mode, threads, cap)
                    yield Line(measured, title, mode, threads, own, verdicts)

    def rate(self, case: Case, contender: str, seconds: float) -> dict[str, float]:
        if contender.startswith(PEAK):  # seconds of one operation
            return {"operations_per_second": 1 / seconds}
        if contender in READ:
            return {"bytes_per_second": case.k * case.n / seconds}
        if contender in WRITE:
            return {"bytes_per_second": 4 * case.m * case.n / seconds}
        return {"operations_per_second": case.operations / seconds}

    def limits_text(self) -> list[str]:
        """The canary: the peak of the run, and how far it drifted within each case's rounds."""
        found: dict[tuple[str, str], list[list[float]]] = {}
        for measured in self.measured:
            for samples in measured.sets.values():
                for key, seconds in samples.items():
                    name, _, threads = key.split("|")
                    if name.startswith(PEAK):
                        found.setdefault((name.removeprefix(f"{PEAK} "), threads), []).append(
                            seconds
                        )
        return [_canary_text(isa, threads, rounds) for (isa, threads), rounds in found.items()]

    def text(self, line: Line, name: str) -> str:
        called, _, cap = line.name.partition(CAPPED)
        case, own = line.measured.case, line.own
        tops = f"{_tops(case, own.median)} ({_tops(case, own.high)}-{_tops(case, own.low)})"
        peer = times = percent = near = ""
        best = None
        if not cap and called != BARE:
            best = best_peer(line.measured, line.mode, line.threads, name=called)
        if best is not None:
            peer = f"{best.name} {_tops(case, best.seconds.median)}"
            times = f"{best.times.median:.2f} ({best.times.low:.2f}-{best.times.high:.2f})"
        share = share_of_peak(line.measured, called, line.mode, line.threads, cap)
        if share is not None:
            drift = drift_of_peak(line.measured, line.threads, cap)
            percent = f"{share.median:.0%} ({drift:.0%})"
        bound = None if cap else share_of_bound(line.measured, called, line.mode, line.threads)
        if bound is not None:
            near = f"{bound.times.median:.0%} {bound.name}"
        verdicts = "; ".join(map(_verdict_text, line.verdicts))
        return (
            f"{name:<22} {_short(line.name):<24} {line.threads:>3} {line.mode:>5} "
            f"{own.median * 1e6:>11.2f} {tops:>22}  {peer:<26} {times:>18} {percent:>12} "
            f"{near:>14}  {verdicts}"
        )


def _short(name: str) -> str:
    return name.removeprefix(PYQUANT).strip() or "packed"


def _tops(case: Case, seconds: float) -> str:
    return f"{case.operations / seconds / 1e12:.3g}"


def _canary_text(isa: str, threads: str, rounds: list[list[float]]) -> str:
    medians = [1 / Spread.of(seconds).median / 1e12 for seconds in rounds]
    drifts = sorted(map(drift, rounds))
    middle = drifts[len(drifts) // 2]
    return (
        f"peak {isa}, {threads} threads: {max(medians):.3g} TOPS at best, {min(medians):.3g} at "
        f"worst in {len(rounds)} sets; drift within a set (p90/p10) {middle:.1%}, at worst "
        f"{drifts[-1]:.1%}"
    )


def _verdict_text(verdict: Verdict) -> str:
    word = "pass" if verdict.met else "MISS"
    value: Any = verdict.times.median
    against = "" if verdict.target.kind == BARE_COST else f" ({verdict.against})"
    return f"{word} {value:.2f} {verdict.target.short}{against}"
