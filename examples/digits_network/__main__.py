"""Train, quantize in every way, print the table.

    python -m examples.digits_network [--plot FILE.png] [--save FILE.safetensors] [--json FILE.json]

Needs pyquant[examples]: scikit-learn for the digits, matplotlib for the picture.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import pyquant as pq

from . import noise
from .data import digits
from .recipes import Row, measure
from .training import train

HEADER = (
    f"{'recipe':24} {'calibrator':13} {'weights':>8} {'activations':>12} {'accuracy':>9} "
    f"{'weights':>10} {'an image':>10}"
)


def line(row: Row) -> str:
    """A row of the table."""
    weights, activations = (
        "float32" if bits == 32 else f"{bits} bits"
        for bits in (row.weight_bits, row.activation_bits)
    )
    return (
        f"{row.recipe:24} {row.calibrator:13} {weights:>8} {activations:>12} "
        f"{row.accuracy:7.1f} % {row.weight_bytes / 1000:7.2f} kB {row.microseconds:7.0f} us"
    )


def print_conclusions(rows: list[Row]) -> None:
    """The figures that the recipes are judged by."""
    exact = rows[0].accuracy
    static = [row for row in rows if row.recipe == "static"]
    worst = min(static, key=lambda row: row.accuracy)
    blocks = next(row for row in rows if row.recipe.startswith("weights only, block"))
    print(
        f"\nstatic int8 against float: {static[0].accuracy - exact:+.1f} points with "
        f"{static[0].calibrator}, {worst.accuracy - exact:+.1f} with the worst calibrator, "
        f"{worst.calibrator}"
    )
    print(
        f"4-bit weights per block against float: {blocks.accuracy - exact:+.1f} points with "
        f"{blocks.calibrator}"
    )
    for bits in sorted({row.weight_bits for row in rows if row.recipe == "QAT"}, reverse=True):
        few = [row for row in rows if row.weight_bits == row.activation_bits == bits]
        trained = next(row for row in few if row.recipe == "QAT")
        best = max((row for row in few if row.recipe == "rounded"), key=lambda row: row.accuracy)
        gain = trained.accuracy - best.accuracy
        print(
            f"QAT at {bits} bits: {trained.accuracy:.1f} %, {gain:+.1f} points against the best "
            f"rounding ({best.calibrator}, {best.accuracy:.1f} %)"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m examples.digits_network", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the table")
    parser.add_argument("--save", type=Path, metavar="FILE", help="keep the float network")
    parser.add_argument("--json", type=Path, metavar="FILE.json", help="keep the table")
    parser.add_argument("--epochs", type=int, default=20, help="of the float network")
    parser.add_argument("--qat-epochs", type=int, default=12)
    arguments = parser.parse_args()
    data = digits()
    start = time.perf_counter()
    network = train(data.train, data.train_labels, arguments.epochs)
    print(f"trained the float network in {time.perf_counter() - start:.1f} s\n\n{HEADER}")
    rows = []
    for row in measure(network, data, arguments.qat_epochs):
        print(line(row), flush=True)
        rows.append(row)
    print_conclusions(rows)
    print(
        "500 images: a difference of less than about a point may be chance.\n"
        "An image takes its share of a batch of 500. Recipes whose activations have fewer than\n"
        "8 bits are imitated in floats, and their times are those of the imitation.\n"
    )
    print("\n".join(noise.lines(network, data)))
    if arguments.save:
        pq.save(arguments.save, network)
    if arguments.json:
        arguments.json.write_text(json.dumps([row._asdict() for row in rows], indent=1) + "\n")
    if arguments.plot:
        from .picture import draw

        draw(rows, arguments.plot)


if __name__ == "__main__":
    main()
