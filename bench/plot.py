"""Speed against size, as a picture: pyquant, the peers and the machine's limit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.contenders import PYQUANT
from bench.elementwise_report import ElementwiseReport
from bench.measured import LIMITS, Measured
from bench.timing import FRESH, OUT, Spread

PANELS = ("quantize", "dynamic", "dequantize", "fake quantize", "min/max", "abs-max")
COLOURS = {
    PYQUANT: "#d1495b",
    "torch": "#ee964b",
    "ONNX Runtime": "#00798c",
    "numba": "#6a994e",
    "NumKong": "#7b5ea7",
    "NumPy": "#8d99ae",
    "limit": "#222222",
}

Curves = dict[tuple[str, str], dict[int, float]]  # (name, mode) -> n -> Gelem/s


def _name(contender: str) -> str | None:
    if contender.startswith("C "):
        return None if contender == "C divide" else "limit"
    name = contender.removesuffix(" arena").removesuffix(".compile")
    return name if name in COLOURS else None


def _curves(cases: list[Measured], threads: int) -> Curves:
    curves: Curves = {}
    for measured in cases:
        for (group, _), samples in measured.sets.items():
            for key, seconds in samples.items():
                contender, mode, count = key.split("|")
                name = _name(contender)
                beside_a_peer = name == PYQUANT and group != LIMITS
                if name is None or int(count) != threads or beside_a_peer:
                    continue
                speed = measured.case.n / Spread.of(seconds).median / 1e9
                points = curves.setdefault((name, mode), {})
                points[measured.case.n] = max(speed, points.get(measured.case.n, 0.0))
    return curves


def draw(report: ElementwiseReport, path: Path) -> None:
    """Write a PNG with one panel for each operation measured at three sizes or more."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    threads = report.threads[0]
    panels: list[tuple[str, Curves]] = []
    for op in PANELS:
        cases = [m for m in report.measured if m.case.op == op and m.case.n >= 1000]
        curves = _curves(cases, threads)
        if curves and max(map(len, curves.values())) >= 3:
            panels.append((op, curves))
    if not panels:
        raise SystemExit("--plot needs an operation measured at three sizes or more")
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(4.6 * columns, 3.4 * rows), squeeze=False, layout="constrained"
    )
    shown: set[str] = set()
    for axis, (op, curves) in zip(axes.flat, panels, strict=False):
        for (name, mode), points in curves.items():
            shown.add(name)
            sizes = sorted(points)
            style: dict[str, Any] = {"color": COLOURS[name], "marker": "o", "markersize": 3}
            style |= {"linestyle": ":" if name == "limit" else "--" if mode == OUT else "-"}
            style |= {"linewidth": 2.2 if name == PYQUANT else 1.3}
            style |= {"zorder": 3 if name == PYQUANT else 2}
            axis.plot(sizes, [points[n] for n in sizes], **style)
        axis.set(title=op, xscale="log", yscale="log", xlabel="elements", ylabel="Gelem/s")
        axis.grid(True, which="major", alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in list(axes.flat)[len(panels) :]:
        axis.set_visible(False)
    handles = [
        Line2D([], [], color=colour, linestyle=":" if name == "limit" else "-", label=name)
        for name, colour in COLOURS.items()
        if name in shown
    ]
    handles += [
        Line2D([], [], color="grey", linestyle="-", label=f"{FRESH} result"),
        Line2D([], [], color="grey", linestyle="--", label="out="),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    noun = "thread" if threads == 1 else "threads"
    figure.suptitle(f"{report.machine['cpu']}, {threads} {noun}", fontsize=11)
    figure.savefig(path, dpi=150)
    plt.close(figure)
