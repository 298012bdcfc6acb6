"""What quantization costs a real model: a digit classifier at 8, 4, 3 and 2 bits.

Trains a small multilayer perceptron on scikit-learn's digits (1797 images of 8 x 8 pixels) with
NumPy, saves it as safetensors, quantizes the file with the command-line tool in every combination
of bits and granularity, reads each result back and prints the accuracy on held-out images beside
the size.

    python examples/digits_checkpoint.py [--out FOLDER]

Needs pyquant[cli] and scikit-learn.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits

import pyquant as pq

Array = npt.NDArray[Any]
Model = dict[str, Array]

SIZES = (64, 256, 128, 10)
HELD_OUT = 500
BITS = (8, 4, 3, 2)
# Weights are (outputs, inputs): axis 0 has a scale per output, a block is 32 inputs of one output.
GRANULARITIES = {
    "per tensor": [],
    "per channel": ["--axis", "0"],
    "per block of 32": ["--axis", "-1", "--block-size", "32"],
}


class Row(NamedTuple):
    """One checkpoint: what it is, how well it does, what it weighs."""

    name: str
    accuracy: float
    file_kb: float
    bits_per_weight: float


def digits() -> tuple[Array, Array, Array, Array]:
    """Training images and labels, then held-out ones; pixels scaled to 0 ... 1."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    x, y = (images[order] / 16).astype(np.float32), labels[order]
    return x[HELD_OUT:], y[HELD_OUT:], x[:HELD_OUT], y[:HELD_OUT]


def forward(model: Model, x: Array) -> list[Array]:
    """The activations of every layer; the last are the class scores."""
    activations = [x]
    last = len(SIZES) - 2
    for i in range(last + 1):
        z = activations[-1] @ model[f"layers.{i}.weight"].T + model[f"layers.{i}.bias"]
        activations.append(z if i == last else np.maximum(z, 0))
    return activations


def train(x: Array, y: Array, epochs: int = 40, batch: int = 64, rate: float = 0.05) -> Model:
    """Stochastic gradient descent with momentum on the cross entropy."""
    rng = np.random.default_rng(1)
    model: Model = {}
    for i, (k, n) in enumerate(pairwise(SIZES)):
        weight = rng.standard_normal((n, k), dtype=np.float32) * np.float32(np.sqrt(2 / k))
        model |= {f"layers.{i}.weight": weight, f"layers.{i}.bias": np.zeros(n, np.float32)}
    velocity = {name: np.zeros_like(value) for name, value in model.items()}
    for _ in range(epochs):
        order = rng.permutation(len(x))
        for start in range(0, len(x), batch):
            rows = order[start : start + batch]
            activations = forward(model, x[rows])
            scores = activations[-1] - activations[-1].max(axis=1, keepdims=True)
            delta = np.exp(scores)
            delta /= delta.sum(axis=1, keepdims=True)
            delta[np.arange(len(rows)), y[rows]] -= 1
            delta /= len(rows)
            for i in reversed(range(len(SIZES) - 1)):
                gradients = {
                    f"layers.{i}.weight": delta.T @ activations[i],
                    f"layers.{i}.bias": delta.sum(axis=0),
                }
                delta = (delta @ model[f"layers.{i}.weight"]) * (activations[i] > 0)
                for name, gradient in gradients.items():
                    velocity[name] = 0.9 * velocity[name] - rate * gradient
                    model[name] += velocity[name]
    return model


def quantize_file(source: Path, target: Path, bits: int, options: list[str]) -> None:
    """The command line, as one would type it."""
    arguments = ["quantize", source, target, "--dtype", f"int{bits}", *options, "--overwrite"]
    command = [sys.executable, "-m", "pyquant", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


def measure(name: str, path: Path, x: Array, y: Array) -> Row:
    """Load a checkpoint, quantized or not, and try it on the held-out images."""
    stored = pq.load(path)
    model = {
        key: value.dequantize() if isinstance(value, pq.QuantizedArray) else value
        for key, value in stored.items()
    }
    correct = np.argmax(forward(model, x)[-1], axis=1) == y
    weights = [value for key, value in stored.items() if key.endswith("weight")]
    bits = 8 * sum(w.nbytes for w in weights) / sum(w.size for w in weights)
    return Row(name, 100 * float(correct.mean()), path.stat().st_size / 1000, bits)


def run(folder: Path) -> list[Row]:
    """Train, save, quantize in every way, and measure; the files stay in `folder`."""
    x, y, x_test, y_test = digits()
    original = folder / "digits.safetensors"
    pq.save(original, train(x, y))
    rows = [measure("float32", original, x_test, y_test)]
    for bits in BITS:
        for granularity, options in GRANULARITIES.items():
            target = folder / f"digits-int{bits}-{granularity.replace(' ', '-')}.safetensors"
            quantize_file(original, target, bits, options)
            rows.append(measure(f"int{bits} {granularity}", target, x_test, y_test))
    return rows


def print_table(rows: list[Row]) -> None:
    print(f"{'weights':24} {'accuracy':>9} {'file':>10} {'bits a weight':>14}")
    for row in rows:
        print(
            f"{row.name:24} {row.accuracy:7.1f} % {row.file_kb:7.1f} kB {row.bits_per_weight:14.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="keep the files there")
    out = parser.parse_args().out
    if out:
        out.mkdir(parents=True, exist_ok=True)
        print_table(run(out))
    else:
        with tempfile.TemporaryDirectory() as folder:
            print_table(run(Path(folder)))


if __name__ == "__main__":
    main()
