"""``pyquant compare``: the errors between the tensors of two checkpoints, worst first."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import pyquant as pq
from pyquant.checkpoint.replacing import replacing, require_folder
from pyquant.checkpoint.source import Part, opened
from pyquant.checkpoint.tensors import REAL_TYPES, Array, dtype_name, shape_text
from pyquant.cli.console import finite, json_text, print_table


class Row(NamedTuple):
    """One tensor that both checkpoints have."""

    name: str
    dtype_a: str
    dtype_b: str
    shape: tuple[int, ...]
    mse: float
    sqnr_db: float
    max_abs: float


def run(a_path: Path, b_path: Path, as_json: bool, plot: Path | None) -> None:
    """Print the error of every tensor of `b_path` against that of `a_path`."""
    if plot:
        _refuse_plot(plot)
    with opened(a_path) as a, opened(b_path) as b:
        in_a, in_b = a.where(), b.where()
        shared = [name for name in in_a if name in in_b]
        if not shared:
            raise ValueError(f"{a_path} and {b_path} have no tensor name in common")
        rows = sorted((_row(name, in_a[name], in_b[name]) for name in shared), key=_badness)
    only_a = [name for name in in_a if name not in in_b]
    only_b = [name for name in in_b if name not in in_a]
    if plot:
        _draw(rows, plot, f"{b_path.name} against {a_path.name}")
    if as_json:
        print(json_text({"tensors": [_json(r) for r in rows], "only_a": only_a, "only_b": only_b}))
        return
    columns = ("tensor", "A", "B", "shape", "MSE", "SQNR (dB)", "max error")
    print_table(columns, [_cells(row) for row in rows])
    for path, names in ((a_path, only_a), (b_path, only_b)):
        if names:
            print(f"only in {path}: {', '.join(names)}")


def _row(name: str, a: Part, b: Part) -> Row:
    x, y = a.read(name), b.read(name)
    if x.shape != y.shape:
        raise ValueError(
            f"tensor {name!r} has shape {shape_text(x.shape)} in A and {shape_text(y.shape)} in B"
        )
    figures = (0.0, math.inf, 0.0)  # of no elements
    if x.size:
        error = pq.error(*_comparable(name, x, y))
        figures = (error.mse, error.sqnr_db, error.max_abs)
    return Row(name, str(x.dtype), str(y.dtype), tuple(x.shape), *figures)


def _comparable(
    name: str, x: Array | pq.QuantizedArray, y: Array | pq.QuantizedArray
) -> tuple[Array, Array]:
    """Return both as floats that hold every value they have: float32 or float64."""
    plain = [v.dequantize() if isinstance(v, pq.QuantizedArray) else v for v in (x, y)]
    for v in plain:
        if dtype_name(v.dtype) not in REAL_TYPES:
            raise ValueError(f"tensor {name!r} is {v.dtype}, only real numbers can be compared")
    wide = any(v.dtype.kind in "iu" or v.dtype == np.float64 for v in plain)
    dtype = np.float64 if wide else np.float32
    a, b = (np.asarray(v, dtype) for v in plain)
    return a, b


def _badness(row: Row) -> float:
    return -math.inf if math.isnan(row.sqnr_db) else row.sqnr_db


def _json(row: Row) -> dict[str, Any]:
    figures = {key: finite(getattr(row, key)) for key in ("mse", "sqnr_db", "max_abs")}
    return {**row._asdict(), **figures}


def _cells(row: Row) -> tuple[str, ...]:
    sqnr = "exact" if row.mse == 0 else f"{row.sqnr_db:.2f}"
    shape = shape_text(row.shape)
    return row.name, row.dtype_a, row.dtype_b, shape, f"{row.mse:.3e}", sqnr, f"{row.max_abs:.3e}"


_MOST_BARS = 40


def _refuse_plot(path: Path) -> None:
    if path.suffix != ".png":
        raise ValueError(f"--plot {path} must end in .png")
    require_folder(path)
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ImportError("--plot needs matplotlib: pip install pyquant[plot]") from None


def _draw(rows: list[Row], path: Path, title: str) -> None:
    """Draw the SQNR of the worst tensors; exact ones have none."""
    from matplotlib.figure import Figure

    worst = [row for row in rows if math.isfinite(row.sqnr_db)][:_MOST_BARS]
    figure = Figure(figsize=(8, 1.5 + 0.25 * len(worst)), layout="constrained")
    axes = figure.add_subplot()
    axes.barh([row.name for row in worst], [row.sqnr_db for row in worst])
    axes.invert_yaxis()
    axes.set_xlabel("SQNR (dB)")
    left_out = len(rows) - len(worst)
    axes.set_title(f"{title}\nworst first" + (f", {left_out} more not shown" if left_out else ""))
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)
