"""Weights and activations on grids of few bits: rounded after training, or trained with (QAT).

Weights are symmetric and narrow, a step per output channel (2 bits: -1, 0, 1); activations are
unsigned with zero point 0, a step per tensor. The pixels are left alone: they have 17 values.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

import pyquant as pq

from .convolution import convolve, input_gradient, patches, weight_gradient
from .network import LAST, LAYERS, Network
from .static import calibrate_inputs
from .training import Adam, batches, score_gradient

Array = npt.NDArray[Any]
Grids = dict[str, pq.QuantParams]
"""``NAME.weight`` of every layer and ``NAME.input`` of all but the first."""

INNER = LAYERS[1:]


def rounded_grids(network: Network, x: Array, bits: int, method: str) -> Grids:
    """What a calibrator makes of the weights and of the activations on the images `x`."""
    grids = {
        f"{layer.name}.weight": pq.calibrate(
            network[f"{layer.name}.weight"], method, dtype=f"int{bits}", axis=0
        )
        for layer in LAYERS
    }
    inputs = calibrate_inputs(network, x, method, dtype=f"uint{bits}", scheme="affine")
    return grids | {f"{layer.name}.input": inputs[layer.name] for layer in INNER}


def fake_forward(network: Network, grids: Grids, x: Array) -> Array:
    """Class scores of the network on these grids."""
    return _forward(network, grids, x)[0]


def packed_bytes(network: Network, grids: Grids) -> int:
    """Bytes of the weights' codes and steps."""
    names = [f"{layer.name}.weight" for layer in LAYERS]
    return sum(pq.quantize(network[name], grids[name]).pack().nbytes for name in names)


def learn(
    network: Network, x: Array, labels: Array, bits: int, epochs: int = 12, rate: float = 2e-3
) -> tuple[Network, Grids]:
    """Fine-tune weights, biases and steps together: LSQ, Esser et al. 2020.

    The steps start at ``2 mean|v| / sqrt(qmax)`` and get the gradient that
    `pyquant.fake_quantize_grad` gives.
    """
    rng = np.random.default_rng(2)
    network = {name: value.copy() for name, value in network.items()}
    steps = _first_steps(network, x, bits)
    optimizer = Adam(network | steps, rate, epochs * len(batches(len(x), rng)))
    for _ in range(epochs):
        for rows in batches(len(x), rng):
            gradients = _gradients(network, _grids(steps, bits), x[rows], labels[rows])
            optimizer.update(gradients)
            for step in steps.values():
                np.maximum(step, 1e-4, out=step)
    return network, _grids(steps, bits)


def _first_steps(network: Network, x: Array, bits: int) -> dict[str, Array]:
    steps = {}
    for layer in LAYERS:
        weight = np.abs(network[f"{layer.name}.weight"])
        top = 2 ** (bits - 1) - 1
        steps[f"{layer.name}.weight.step"] = 2 * weight.mean(axis=(1, 2, 3)) / np.float32(top**0.5)
    inputs = calibrate_inputs(network, x[:200], "minmax", dtype=f"uint{bits}", scheme="affine")
    top = 2**bits - 1
    for layer in INNER:
        largest = inputs[layer.name].scale * np.float32(top)
        steps[f"{layer.name}.input.step"] = np.array(largest / (2 * top**0.5), np.float32)
    return steps


def _grids(steps: dict[str, Array], bits: int) -> Grids:
    grids = {}
    for name, step in steps.items():
        name = name.removesuffix(".step")
        if name.endswith(".weight"):
            grids[name] = pq.QuantParams(step, 0, f"int{bits}", narrow_range=True, axis=0)
        else:
            grids[name] = pq.QuantParams(step, 0, f"uint{bits}")
    return grids


def _forward(network: Network, grids: Grids, x: Array) -> tuple[Array, list[Any]]:
    kept = []
    for layer in LAYERS:
        before = x  # after the ReLU of the layer before
        if layer in INNER:
            x = pq.fake_quantize(x, grids[f"{layer.name}.input"])
        weight = network[f"{layer.name}.weight"]
        weight = pq.fake_quantize(weight, grids[f"{layer.name}.weight"])
        seen = patches(x, layer.size, layer.stride, layer.padding)
        x = convolve(seen, weight) + network[f"{layer.name}.bias"][:, None, None]
        if layer is not LAST:
            x = np.maximum(x, 0)
        kept.append((before, weight, seen))
    return x.reshape(len(x), -1), kept


def _gradients(network: Network, grids: Grids, x: Array, labels: Array) -> dict[str, Array]:
    scores, kept = _forward(network, grids, x)
    gradients = {}
    gradient = score_gradient(scores, labels)[:, :, None, None]
    for layer, (before, weight, seen) in zip(reversed(LAYERS), reversed(kept), strict=True):
        name = f"{layer.name}.weight"
        gradients[f"{layer.name}.bias"] = gradient.sum(axis=(0, 2, 3))
        gradients[name], gradients[f"{name}.step"], _ = pq.fake_quantize_grad(
            weight_gradient(gradient, seen, weight), network[name], grids[name]
        )
        if layer in INNER:
            name = f"{layer.name}.input"
            gradient = input_gradient(gradient, weight, before.shape, layer.stride, layer.padding)
            gradient, gradients[f"{name}.step"], _ = pq.fake_quantize_grad(
                gradient, before, grids[name]
            )
            gradient = gradient * (before > 0)
    return gradients
