"""Static int8: integers from the input quantizer to the output dequantizer.

Layer by layer: int8 codes times int8 weights in int32, plus an int32 bias at scale x * w,
requantized with a 32-bit multiplier and a shift to the int8 codes of the next layer. Those codes
are affine: real 0.0 is -128 after a ReLU, so clamping at the end of the grid is the ReLU.
Jacob et al. 2018.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import pyquant as pq
from pyquant.ops import conv_integer, requantize

from .network import LAST, LAYERS, Layer, Network, forward

Array = npt.NDArray[Any]

BATCH = 50


def calibrate_inputs(
    network: Network, x: Array, method: str, **options: Any
) -> dict[str, pq.QuantParams]:
    """Params for the input of every layer, from calibration images that come in batches."""
    observers = {layer.name: pq.Observer(method, **options) for layer in LAYERS}
    for start in range(0, len(x), BATCH):
        forward(network, x[start : start + BATCH], see=lambda name, v: observers[name].update(v))
    return {name: observer.params() for name, observer in observers.items()}


class Step(NamedTuple):
    """A layer in integers."""

    layer: Layer
    weight: Array  # int8
    bias: Array  # int32, (outputs, 1, 1)
    zero_point: int  # of the input
    multiplier: Array  # input scale * weight scale / output scale, float32, (outputs,)
    output_zero_point: int


class StaticNetwork:
    """A folded network with int8 weights, per channel, and int8 activations."""

    def __init__(self, network: Network, inputs: dict[str, pq.QuantParams]) -> None:
        self.input_params = inputs[LAYERS[0].name]
        self.steps: list[Step] = []
        self.weight_bytes = 0
        for i, layer in enumerate(LAYERS):
            q = pq.quantize(network[f"{layer.name}.weight"], axis=0)
            before = inputs[layer.name]
            scale = before.scale * q.scale
            bias = np.rint(network[f"{layer.name}.bias"] / scale.astype(np.float64))
            after = None if layer is LAST else inputs[LAYERS[i + 1].name]
            self.steps.append(
                Step(
                    layer,
                    q.data,
                    bias.astype(np.int32)[:, None, None],
                    int(before.zero_point),
                    scale if after is None else scale / after.scale,
                    0 if after is None else int(after.zero_point),
                )
            )
            self.weight_bytes += q.nbytes
        self.score_scale = self.steps[-1].multiplier

    def __call__(self, x: Array) -> Array:
        """Images to class scores."""
        codes = pq.quantize(x, self.input_params).data
        return pq.ops.dequantize_linear(self.integers(codes), self.score_scale, axis=1)

    def integers(self, codes: Array) -> Array:
        """int8 codes of images to int32 class scores (n, 10)."""
        for layer, weight, bias, zero_point, multiplier, output_zero_point in self.steps:
            acc = conv_integer(codes, weight, zero_point, strides=layer.strides, pads=layer.pads)
            acc += bias
            if layer is LAST:
                return acc.reshape(len(acc), -1)
            codes = requantize(acc, multiplier, output_zero_point, axis=1, mode="fixed")
        raise AssertionError("the last layer returns")
