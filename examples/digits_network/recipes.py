"""Every recipe, measured on the test images."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy.typing as npt

from .data import Digits
from .dynamic import DynamicNetwork
from .few_bits import fake_forward, learn, packed_bytes, rounded_grids
from .network import Network, forward, weight_bytes
from .static import StaticNetwork, calibrate_inputs
from .weights_only import GRANULARITIES, quantize_weights

Array = npt.NDArray[Any]

METHODS = ("minmax", "percentile", "mse", "entropy", "aciq_laplace", "aciq_gauss")
FEW_BITS = (4, 3, 2)


def methods_for(where: dict[str, Any]) -> list[str]:
    """The calibrators that go with a granularity: a block has too few values for entropy."""
    return [method for method in METHODS if method != "entropy" or "block_size" not in where]


class Row(NamedTuple):
    """A recipe and what came of it."""

    recipe: str
    calibrator: str
    weight_bits: int
    activation_bits: int
    accuracy: float
    """Percent of the test images."""
    weight_bytes: int
    microseconds: float
    """Per image, on the batch of all test images."""


def measure(network: Network, data: Digits, qat_epochs: int = 12) -> Iterator[Row]:
    """Yield the rows, in an order that reads well."""
    x, labels = data.test, data.test_labels

    def row(
        recipe: str,
        calibrator: str,
        bits: tuple[int, int],
        predict: Callable[[Array], Array],
        nbytes: int,
    ) -> Row:
        scores, microseconds = _timed(predict, x)
        accuracy = 100 * float((scores.argmax(axis=1) == labels).mean())
        return Row(recipe, calibrator, *bits, accuracy, nbytes, microseconds)

    yield row("float", "", (32, 32), partial(forward, network), weight_bytes(network))

    dynamic = DynamicNetwork(network)
    yield row("dynamic", "minmax", (8, 8), dynamic, dynamic.weight_bytes)

    for method in METHODS:
        inputs = calibrate_inputs(
            network, data.calibration, method, dtype="int8", scheme="affine"
        )
        static = StaticNetwork(network, inputs)
        yield row("static", method, (8, 8), static, static.weight_bytes)

    for granularity, where in GRANULARITIES.items():
        for method in methods_for(where):
            rounded, nbytes = quantize_weights(
                network, dtype="int4", calibration=method, **where
            )
            name = f"weights only, {granularity}"
            yield row(name, method, (4, 32), partial(forward, rounded), nbytes)

    for bits in FEW_BITS:
        for method in METHODS:
            grids = rounded_grids(network, data.calibration, bits, method)
            predict = partial(fake_forward, network, grids)
            yield row("rounded", method, (bits, bits), predict, packed_bytes(network, grids))
        learned, grids = learn(network, data.train, data.train_labels, bits, qat_epochs)
        predict = partial(fake_forward, learned, grids)
        yield row("QAT", "learned", (bits, bits), predict, packed_bytes(learned, grids))


def _timed(predict: Callable[[Array], Array], x: Array) -> tuple[Array, float]:
    """The scores, and the best of three times per image in microseconds."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        scores = predict(x)
        times.append(time.perf_counter() - start)
    return scores, 1e6 * min(times) / len(x)
