"""The table as a picture: accuracy against size, and what training with the grid is worth."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from .recipes import METHODS, Row

_MARKS = {
    "float": "*", "dynamic": "D", "static": "s", "weights only": "o", "rounded": "v", "QAT": "^",
}  # fmt: skip
_LOWEST = 94.0


def draw(rows: list[Row], path: Path) -> None:
    """Write the picture to `path`."""
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    _sizes(left, rows)
    _bits(right, rows)
    figure.savefig(path, dpi=110)


def _sizes(axes, rows: list[Row]) -> None:
    shown = set()
    for i, (family, mark) in enumerate(_MARKS.items()):
        of_family = [r for r in rows if r.recipe.partition(",")[0] == family]
        points = [r for r in of_family if r.accuracy >= _LOWEST]
        shown |= set(points)
        axes.scatter(
            [r.weight_bytes / 1000 for r in points], [r.accuracy for r in points],
            marker=mark, s=130 if family == "float" else 45, label=family, color=f"C{i}",
            alpha=0.75,
        )  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_xticks([4, 8, 16, 32, 64], ["4", "8", "16", "32", "64"])
    axes.set_ylim(_LOWEST, 99)
    axes.set_xlabel("weights with their scales (kB)")
    axes.set_ylabel("accuracy on 500 test images (%)")
    hidden = len(rows) - len(shown)
    axes.set_title(f"Every recipe and calibrator\n({hidden} below {_LOWEST:.0f} % are not shown)")
    axes.legend(loc="lower right")
    axes.grid(alpha=0.3)


def _bits(axes, rows: list[Row]) -> None:
    few = [r for r in rows if r.weight_bits == r.activation_bits < 8]
    widths = sorted({r.weight_bits for r in few}, reverse=True)
    names = [*METHODS, "learned"]
    for i, name in enumerate(names):
        heights = [next(r.accuracy for r in few if (r.weight_bits, r.calibrator) == (b, name))
                   for b in widths]  # fmt: skip
        places = [j + (i - (len(names) - 1) / 2) * 0.12 for j in range(len(widths))]
        label = "QAT, learned steps" if name == "learned" else f"rounded, {name}"
        color = "black" if name == "learned" else f"C{i}"
        axes.bar(places, heights, 0.11, label=label, color=color)
    exact = rows[0].accuracy
    axes.axhline(exact, color="gray", linestyle=":", label=f"float, {exact:.1f} %")
    axes.set_xticks(range(len(widths)), [f"{b} bits" for b in widths])
    axes.set_ylim(0, 135)
    axes.set_yticks(range(0, 101, 20))
    axes.set_xlabel("weights and activations")
    axes.set_ylabel("accuracy (%)")
    axes.set_title("Rounding after training, and training with the grid")
    axes.legend(loc="upper center", ncols=3, fontsize=8)
