"""Dynamic int8: weights quantized ahead, the input of every layer on the fly.

Needs no calibration data. Between the integer products everything is float.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

import pyquant as pq

from .network import LAST, LAYERS, Network

Array = npt.NDArray[Any]


class DynamicNetwork:
    """A folded network with int8 weights, per channel."""

    def __init__(self, network: Network) -> None:
        names = [layer.name for layer in LAYERS]
        self.weights = {name: pq.quantize(network[f"{name}.weight"], axis=0) for name in names}
        self.biases = {name: network[f"{name}.bias"][:, None, None] for name in names}
        self.weight_bytes = sum(q.nbytes for q in self.weights.values())

    def __call__(self, x: Array) -> Array:
        """Images to class scores."""
        for layer in LAYERS:
            weight = self.weights[layer.name]
            codes, scale, zero_point = pq.ops.dynamic_quantize_linear(x)
            acc = pq.ops.conv_integer(
                codes, weight.data, zero_point, strides=layer.strides, pads=layer.pads
            )
            x = pq.ops.dequantize_linear(acc, scale * weight.scale, axis=1)
            x += self.biases[layer.name]
            if layer is not LAST:
                x = np.maximum(x, 0)
        return x.reshape(len(x), -1)
