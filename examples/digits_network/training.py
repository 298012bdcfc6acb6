"""Training the float network with batch norm, and folding batch norm away."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .convolution import convolve, input_gradient, patches, weight_gradient
from .network import LAST, LAYERS, Network

Array = npt.NDArray[Any]

EPSILON = np.float32(1e-5)
BATCH = 64


def batches(n: int, rng: np.random.Generator) -> list[Array]:
    """The indices of an epoch, shuffled; a batch too small for its statistics is left out."""
    order = rng.permutation(n)
    return [order[i : i + BATCH] for i in range(0, n - BATCH // 2, BATCH)]


def score_gradient(scores: Array, labels: Array) -> Array:
    """The gradient of the mean cross entropy by the class scores."""
    scores = scores - scores.max(axis=1, keepdims=True)
    gradient = np.exp(scores)
    gradient /= gradient.sum(axis=1, keepdims=True)
    gradient[np.arange(len(labels)), labels] -= 1
    return gradient / np.float32(len(labels))


class Adam:
    """Adam (Kingma and Ba 2015) with a rate that falls along a half cosine."""

    def __init__(self, values: dict[str, Array], rate: float, steps: int) -> None:
        self._values, self._rate, self._steps, self._step = values, rate, steps, 0
        self._mean = {name: np.zeros_like(v) for name, v in values.items()}
        self._square = {name: np.zeros_like(v) for name, v in values.items()}

    def update(self, gradients: dict[str, Array]) -> None:
        """Change the values in place."""
        self._step += 1
        rate = self._rate * 0.5 * (1 + np.cos(np.pi * self._step / self._steps))
        rate *= np.sqrt(1 - 0.999**self._step) / (1 - 0.9**self._step)
        for name, gradient in gradients.items():
            mean, square = self._mean[name], self._square[name]
            mean += np.float32(0.1) * (gradient - mean)
            square += np.float32(0.001) * (gradient * gradient - square)
            self._values[name] -= np.float32(rate) * mean / (np.sqrt(square) + np.float32(1e-8))


def train(x: Array, labels: Array, epochs: int = 30, rate: float = 3e-3) -> Network:
    """Train from scratch, seeded; the result has batch norm folded into its weights."""
    rng = np.random.default_rng(1)
    values: dict[str, Array] = {}
    moments: dict[str, tuple[Array, Array]] = {}
    for layer in LAYERS:
        shape = (layer.outputs, layer.inputs, layer.size, layer.size)
        deviation = np.float32(np.sqrt(2 / np.prod(shape[1:])))
        values[f"{layer.name}.weight"] = rng.standard_normal(shape, dtype=np.float32) * deviation
        values[f"{layer.name}.bias"] = np.zeros(layer.outputs, np.float32)
        if layer is not LAST:
            values[f"{layer.name}.gain"] = np.ones(layer.outputs, np.float32)
            moments[layer.name] = (np.zeros(layer.outputs), np.ones(layer.outputs))
    optimizer = Adam(values, rate, epochs * len(batches(len(x), np.random.default_rng(0))))
    for _ in range(epochs):
        for rows in batches(len(x), rng):
            optimizer.update(_gradients(values, moments, x[rows], labels[rows]))
    return fold(values, moments)


def _gradients(
    values: dict[str, Array], moments: dict[str, tuple[Array, Array]], x: Array, labels: Array
) -> dict[str, Array]:
    """The gradients of one batch; the running moments move towards those of the batch."""
    kept = []
    for layer in LAYERS:
        seen = patches(x, layer.size, layer.stride, layer.padding)
        z = convolve(seen, values[f"{layer.name}.weight"])
        shape, normal, deviation = x.shape, z, None
        if layer is LAST:
            x = z + values[f"{layer.name}.bias"][:, None, None]
        else:
            mean, variance = z.mean(axis=(0, 2, 3)), z.var(axis=(0, 2, 3))
            old_mean, old_variance = moments[layer.name]
            moments[layer.name] = (
                0.9 * old_mean + 0.1 * mean, 0.9 * old_variance + 0.1 * variance,
            )  # fmt: skip
            deviation = np.sqrt(variance + EPSILON)[:, None, None]
            normal = (z - mean[:, None, None]) / deviation
            gain, bias = values[f"{layer.name}.gain"], values[f"{layer.name}.bias"]
            x = np.maximum(normal * gain[:, None, None] + bias[:, None, None], 0)
        kept.append((seen, shape, normal, deviation, x))
    gradients = {}
    gradient = score_gradient(x.reshape(len(x), -1), labels)[:, :, None, None]
    for layer, (seen, shape, normal, deviation, y) in zip(
        reversed(LAYERS), reversed(kept), strict=True
    ):
        if layer is not LAST:
            gradient = gradient * (y > 0)
            gradients[f"{layer.name}.gain"] = (gradient * normal).sum(axis=(0, 2, 3))
        gradients[f"{layer.name}.bias"] = gradient.sum(axis=(0, 2, 3))
        if layer is not LAST:
            gradient = gradient * values[f"{layer.name}.gain"][:, None, None]
            average = gradient.mean(axis=(0, 2, 3), keepdims=True)
            along = (gradient * normal).mean(axis=(0, 2, 3), keepdims=True)
            gradient = (gradient - average - normal * along) / deviation
        weight = values[f"{layer.name}.weight"]
        gradients[f"{layer.name}.weight"] = weight_gradient(gradient, seen, weight)
        if layer is not LAYERS[0]:
            gradient = input_gradient(gradient, weight, shape, layer.stride, layer.padding)
    return gradients


def fold(values: dict[str, Array], moments: dict[str, tuple[Array, Array]]) -> Network:
    """The network without batch norm: ``w * gain / deviation`` and ``bias - mean * gain / ...``.

    Jacob et al. 2018, section 3.2.
    """
    network = {}
    for layer in LAYERS:
        weight, bias = values[f"{layer.name}.weight"], values[f"{layer.name}.bias"]
        if layer is not LAST:
            mean, variance = moments[layer.name]
            factor = values[f"{layer.name}.gain"] / np.sqrt(variance + EPSILON)
            weight = (weight * factor[:, None, None, None]).astype(np.float32)
            bias = (bias - mean * factor).astype(np.float32)
        network[f"{layer.name}.weight"], network[f"{layer.name}.bias"] = weight, bias
    return network
