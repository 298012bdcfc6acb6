"""``pyquant report``: what every recipe would do to every tensor, before anything is written."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pyquant.checkpoint.replacing import replacing
from pyquant.checkpoint.rewrite import refuse_existing
from pyquant.checkpoint.source import Checkpoint, opened
from pyquant.checkpoint.tensors import Array, shape_text
from pyquant.cli import report_page
from pyquant.cli.console import bytes_text, finite, json_text, print_table, steps
from pyquant.cli.recipe import Recipe, measured
from pyquant.cli.selection import refuse_idle_globs, wanted

BINS = 120


def run(
    path: Path,
    recipes: list[Recipe],
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    top: int,
    json_file: Path | None,
    html_file: Path | None,
    overwrite: bool,
) -> None:
    """Measure the checkpoint `path`; print the worst, write what is asked for."""
    for file in (json_file, html_file):
        if file:
            refuse_existing(file, overwrite)
    with opened(path) as source:
        refuse_idle_globs(source, include)
        tree = _measured(source, recipes, include, exclude)
    if not tree["tensors"]:
        raise ValueError(f"{path} has no float tensors to report on; --include names 1-D ones")
    if json_file:
        _write(json_file, json_text(tree) + "\n")
    if html_file:
        _write(html_file, report_page.html(tree))
    _print(tree, top)


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _measured(
    source: Checkpoint, recipes: list[Recipe], include: tuple[str, ...], exclude: tuple[str, ...]
) -> dict[str, Any]:
    where = source.where()
    chosen = {
        name: part
        for name, part in where.items()
        if name not in part.records and wanted(part.file.specs[name], include, exclude)
    }
    total = sum(part.file.specs[name].nbytes for name, part in chosen.items())
    tensors = []
    with steps(total) as done:
        for name, part in chosen.items():
            spec = part.file.specs[name]
            tensors.append(_tensor(name, part.file.read(name), recipes) | {"dtype": spec.dtype})
            done(name, f"{name}  {spec}", spec.nbytes)
    return {
        "in": source.path.name,
        "bytes": total,
        "recipes": [{"name": recipe.name, **recipe._asdict()} for recipe in recipes],
        "tensors": tensors,
        "skipped": [name for name in where if name not in chosen],
        "worst": list(_worst(tensors, recipes)),
    }


def _tensor(name: str, x: Array, recipes: list[Recipe]) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": name, "shape": list(x.shape), "bytes": x.nbytes}
    nonfinite = x.size - int(np.count_nonzero(np.isfinite(x)))
    if nonfinite:
        return entry | {
            "problem": f"{nonfinite} of {x.size} values are NaN or infinite", "results": [],
        }  # fmt: skip
    try:
        results = [measured(x, recipe) for recipe in recipes if recipe.fits(x.shape)]
    except ValueError as error:  # a range beyond float32, say: the others are still worth a look
        return entry | {"problem": str(error), "results": []}
    wide = x.astype(np.float64 if x.dtype == np.float64 else np.float32, copy=False)
    low, high = float(wide.min()), float(wide.max())
    counts, _ = np.histogram(wide, BINS, (low, high) if low < high else (low - 0.5, high + 0.5))
    return entry | {
        "problem": None,
        "min": low,
        "max": high,
        "mean": finite(wide.mean(dtype=np.float64)),
        "rms": finite(math.sqrt(np.mean(np.square(wide, dtype=np.float64)))),
        "histogram": counts.tolist(),
        "results": results,
    }


def _badness(result: dict[str, Any]) -> float:
    """SQNR; without noise it is infinite, and JSON's None."""
    if result["sqnr_db"] is None:
        return math.inf if result["mse"] == 0 else -math.inf
    return float(result["sqnr_db"])


def _worst(tensors: list[dict[str, Any]], recipes: list[Recipe]) -> Iterator[dict[str, Any]]:
    """Yield for each recipe the tensor that comes out worst."""
    for recipe in recipes:
        found = [
            (_badness(result), tensor["name"])
            for tensor in tensors
            for result in tensor["results"]
            if result["recipe"] == recipe.name
        ]
        if found:
            sqnr, name = min(found)
            yield {"recipe": recipe.name, "tensor": name, "sqnr_db": finite(sqnr)}


def _print(tree: dict[str, Any], top: int) -> None:
    rows = [(tensor, result) for tensor in tree["tensors"] for result in tensor["results"]]
    order = {recipe["name"]: i for i, recipe in enumerate(tree["recipes"])}
    least: dict[str, float] = {}
    for tensor, result in rows:
        name = tensor["name"]
        least[name] = min(least.get(name, math.inf), _badness(result))
    rows.sort(key=lambda r: (least[r[0]["name"]], r[0]["name"], order[r[1]["recipe"]]))
    shown = list(dict.fromkeys(tensor["name"] for tensor, _ in rows))[:top]
    columns = ("tensor", "shape", "recipe", "SQNR (dB)", "clip range", "clipped", "worst channel")
    print_table(columns, [_cells(t, r) for t, r in rows if t["name"] in shown])
    left_out = len(least) - len(shown)
    if left_out:
        print(f"and {left_out} tensors that come out better; --top, --json and --html have them")
    print("\nworst offenders")
    print_table(
        ("recipe", "bits a value", "mean SQNR (dB)", "worst tensor", "its SQNR (dB)"),
        [_summary(worst, rows) for worst in tree["worst"]],
    )
    for tensor in tree["tensors"]:
        if tensor["problem"]:
            print(f"{tensor['name']}: {tensor['problem']}")
    print(f"{tree['in']}: {len(tree['tensors'])} tensors, {bytes_text(tree['bytes'])}")


def _decibels(value: float) -> str:
    return "exact" if value == math.inf else f"{value:.1f}"


def _cells(tensor: dict[str, Any], result: dict[str, Any]) -> tuple[str, ...]:
    channel = ""
    if result["worst_channel"] is not None:
        sqnr = result["worst_channel_sqnr_db"]
        channel = f"{result['worst_channel']} ({'-inf' if sqnr is None else f'{sqnr:.1f}'} dB)"
    return (
        tensor["name"],
        shape_text(tensor["shape"]),
        result["recipe"],
        _decibels(_badness(result)),
        f"{result['clip_low']:.4g} ... {result['clip_high']:.4g}",
        f"{100 * result['clipped']:.3f} %",
        channel,
    )


def _summary(
    worst: dict[str, Any], rows: list[tuple[dict[str, Any], dict[str, Any]]]
) -> tuple[str, ...]:
    of_recipe = [(t, r) for t, r in rows if r["recipe"] == worst["recipe"]]
    sizes = [math.prod(t["shape"]) for t, _ in of_recipe]
    bits = sum(r["bits_per_value"] * n for (_, r), n in zip(of_recipe, sizes, strict=True))
    figures = [value for _, r in of_recipe if math.isfinite(value := _badness(r))]
    mean = f"{sum(figures) / len(figures):.1f}" if figures else "exact"
    its = math.inf if worst["sqnr_db"] is None else worst["sqnr_db"]
    return worst["recipe"], f"{bits / sum(sizes):.2f}", mean, worst["tensor"], _decibels(its)
