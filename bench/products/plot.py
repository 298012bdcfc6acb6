"""A picture of one run: pyquant and the peers on every shape, as bars, with the peak as a line."""

from __future__ import annotations

from pathlib import Path

from bench.contenders import PYQUANT
from bench.measured import LIMITS, Measured
from bench.products.cases import DYNAMIC, STATIC
from bench.products.contenders.machine import PEAK
from bench.products.contenders.pyquant_calls import UNPACKED
from bench.products.report import ProductReport
from bench.timing import Spread

FAMILIES = {  # by how a contender's name begins; the fastest of a family is drawn
    PYQUANT: "#d1495b",
    UNPACKED: "#e9a3ac",
    "oneDNN": "#ee964b",
    "torch": "#ee964b",
    "ONNX Runtime": "#00798c",
    "MKL": "#6a994e",
    "NumKong": "#7b5ea7",
    "NumPy float32": "#8d99ae",
}
PANEL = 6  # cases in a row of panels


def _family(contender: str) -> str | None:
    if contender.startswith(PYQUANT):
        return contender if contender in FAMILIES else None
    return next((name for name in FAMILIES if contender.startswith(name)), None)


def _bars(measured: Measured, threads: int) -> tuple[dict[str, float], float | None]:
    """TOPS by family, and the peak."""
    best: dict[str, float] = {}
    peak = None
    for (group, _), samples in measured.sets.items():
        for key, seconds in samples.items():
            contender, _, count = key.split("|")
            beside_a_peer = contender.startswith(PYQUANT) and group != LIMITS
            if int(count) != threads or beside_a_peer:
                continue
            if contender.startswith(PEAK):
                peak = 1 / Spread.of(seconds).median / 1e12 if group == LIMITS else peak
            elif (family := _family(contender)) is not None:
                speed = measured.case.operations / Spread.of(seconds).median / 1e12
                best[family] = max(speed, best.get(family, 0.0))
    return best, peak


def draw(report: ProductReport, path: Path) -> None:
    """Write a PNG: shapes from left to right, speed on a logarithmic scale."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.patches import Patch

    threads = report.threads[0]
    cases = [(one, *_bars(one, threads)) for one in report.measured]
    cases = [(one, bars, peak) for one, bars, peak in cases if bars]
    if not cases:
        raise SystemExit("--plot needs a case that was measured")
    rows = -(-len(cases) // PANEL)
    figure, axes = plt.subplots(
        rows, 1, figsize=(1.7 * min(PANEL, len(cases)) + 1.6, 2.6 * rows), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    shown = [name for name in FAMILIES if any(name in bars for _, bars, _ in cases)]
    width = 0.85 / len(shown)
    for row, axis in enumerate(axes[:, 0]):
        part = cases[row * PANEL : (row + 1) * PANEL]
        for place, (_, bars, peak) in enumerate(part):
            for index, name in enumerate(shown):
                left = place - 0.425 + index * width
                axis.bar(left, bars.get(name, 0.0), width, align="edge", color=FAMILIES[name])
            if peak is not None:
                axis.hlines(peak, place - 0.46, place + 0.46, colors="#222222", linestyles=":")
        axis.set(yscale="log", ylabel="TOPS", xlim=(-0.6, PANEL - 0.4 if rows > 1 else None))
        axis.set_xticks(range(len(part)), [_label(one) for one, _, _ in part], fontsize=8)
        axis.grid(True, axis="y", which="major", alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    handles = [Patch(color=FAMILIES[name], label=_title(name)) for name in shown]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    noun = "thread" if threads == 1 else "threads"
    title = f"{report.machine['cpu']}, {threads} {noun}; dotted: the multipliers on registers"
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _label(measured: Measured) -> str:
    case = measured.case
    size = f"{case.m} x {case.n} x {case.k}"
    return f"{case.op}\n{size}" if case.op in (DYNAMIC, STATIC) else f"{size}\n{case.op}"


def _title(family: str) -> str:
    return f"{PYQUANT}, packed" if family == PYQUANT else family
