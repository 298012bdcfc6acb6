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
from .recipes import METHODS
from .weights_only import BLOCK

Array = npt.NDArray[Any]

LAYER = "conv3"
GRANULARITIES: dict[str, dict[str, Any]] = {
    "tensor": {},
    "channel": {"axis": 0},
    f"block {BLOCK}": {"axis": -1, "block_size": BLOCK},
}


def lines(network: Network, data: Digits) -> Iterator[str]:
    """Yield two tables as lines of text."""
    yield f"SQNR (dB) of the weights of {LAYER}, symmetric"
    yield _header("granularity", "bits a weight")
    weight = network[f"{LAYER}.weight"]
    weight = weight.reshape(len(weight), -1)
    for bits in (8, 4, 2):
        for name, where in GRANULARITIES.items():
            methods = METHODS if "block_size" not in where else METHODS[:1]
            made = [
                pq.quantize(weight, dtype=f"int{bits}", calibration=m, **where, packed=True)
                for m in methods
            ]
            stored = 8 * made[0].nbytes / made[0].size
            errors = [pq.error(weight, q).sqnr_db for q in made]
            yield _line(f"int{bits} {name}", f"{stored:.2f}", errors)
    yield ""
    yield f"SQNR (dB) of the input of {LAYER}, after a ReLU, per tensor, on the test images"
    yield _header("grid and scheme", "zero point")
    seen, test = _inputs(network, data.calibration), _inputs(network, data.test)
    for bits in (8, 4, 2):
        for scheme in ("symmetric", "affine"):
            params = [
                pq.calibrate(seen, m, dtype=f"int{bits}", scheme=scheme) for m in METHODS
            ]
            errors = [pq.error(test, pq.quantize(test, p)).sqnr_db for p in params]
            yield _line(f"int{bits} {scheme}", str(int(params[0].zero_point)), errors)


def _inputs(network: Network, x: Array) -> Array:
    kept: dict[str, Array] = {}
    forward(network, x, see=kept.__setitem__)
    return np.ascontiguousarray(kept[LAYER])


def _header(what: str, second: str) -> str:
    return f"{what:16} {second:>13} " + " ".join(f"{name:>12}" for name in METHODS)


def _line(name: str, second: str, errors: list[float]) -> str:
    return f"{name:16} {second:>13} " + " ".join(f"{error:12.1f}" for error in errors)
