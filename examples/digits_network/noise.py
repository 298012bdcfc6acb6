"""Signal to quantization noise of one layer's weights and input: why the recipes differ.

Accuracy on 500 images moves in steps of 0.2 points and hides what SQNR shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

import pyquant as pq

from .data import Digits
from .network import Network, forward
from .recipes import METHODS, methods_for
from .weights_only import GRANULARITIES

Array = npt.NDArray[Any]

LAYER = "conv3"


def lines(network: Network, data: Digits) -> Iterator[str]:
    """Yield two tables as lines of text."""
    yield f"SQNR (dB) of the weights of {LAYER}, symmetric"
    yield _header("granularity", "bits a weight")
    weight = network[f"{LAYER}.weight"]
    weight = weight.reshape(len(weight), -1)
    for bits in (8, 4, 2):
        for name, where in GRANULARITIES.items():
            made = {
                m: pq.quantize(weight, dtype=f"int{bits}", calibration=m, **where, packed=True)
                for m in methods_for(where)
            }
            stored = 8 * made["minmax"].nbytes / weight.size
            errors = {m: pq.error(weight, q).sqnr_db for m, q in made.items()}
            yield _line(f"int{bits} {name}", f"{stored:.2f}", errors)
    yield ""
    yield f"SQNR (dB) of the input of {LAYER}, after a ReLU, per tensor, on the test images"
    yield _header("grid and scheme", "zero point")
    seen, test = _inputs(network, data.calibration), _inputs(network, data.test)
    for bits in (8, 4, 2):
        for scheme in ("symmetric", "affine"):
            params = {
                m: pq.calibrate(seen, m, dtype=f"int{bits}", scheme=scheme) for m in METHODS
            }
            errors = {m: pq.error(test, pq.quantize(test, p)).sqnr_db for m, p in params.items()}
            yield _line(f"int{bits} {scheme}", str(int(params["minmax"].zero_point)), errors)


def _inputs(network: Network, x: Array) -> Array:
    kept: dict[str, Array] = {}
    forward(network, x, see=kept.__setitem__)
    return np.ascontiguousarray(kept[LAYER])


def _header(what: str, second: str) -> str:
    return f"{what:16} {second:>13} " + " ".join(f"{name:>12}" for name in METHODS)


def _line(name: str, second: str, errors: dict[str, float]) -> str:
    cells = (f"{errors[m]:.1f}" if m in errors else "-" for m in METHODS)
    return f"{name:16} {second:>13} " + " ".join(f"{cell:>12}" for cell in cells)
