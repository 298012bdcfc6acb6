"""The layers, and the float network as it is deployed: batch norm folded into the weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .convolution import convolve, patches

Array = npt.NDArray[Any]
Network = dict[str, Array]
"""``NAME.weight`` (outputs, inputs, size, size) and ``NAME.bias`` (outputs,) of every layer."""


class Layer(NamedTuple):
    """A convolution; all but the last are followed by batch norm (until folded) and ReLU."""

    name: str
    inputs: int
    outputs: int
    size: int
    stride: int
    padding: int

    @property
    def strides(self) -> tuple[int, int]:
        """As ONNX has them: down, across."""
        return self.stride, self.stride

    @property
    def pads(self) -> tuple[int, int, int, int]:
        """As ONNX has them: top, left, bottom, right."""
        return self.padding, self.padding, self.padding, self.padding


LAYERS = (
    Layer("conv1", 1, 16, size=3, stride=1, padding=1),  # 8 x 8
    Layer("conv2", 16, 32, size=3, stride=2, padding=1),  # 4 x 4
    Layer("conv3", 32, 32, size=3, stride=2, padding=1),  # 2 x 2
    Layer("classifier", 32, 10, size=2, stride=1, padding=0),  # all of it, once per class
)
LAST = LAYERS[-1]


def forward(network: Network, x: Array, see: Callable[[str, Array], None] | None = None) -> Array:
    """Class scores (n, 10) in float32; `see` is shown the input of every layer."""
    for layer in LAYERS:
        if see is not None:
            see(layer.name, x)
        seen = patches(x, layer.size, layer.stride, layer.padding)
        x = convolve(seen, network[f"{layer.name}.weight"])
        x = x + network[f"{layer.name}.bias"][:, None, None]
        if layer is not LAST:
            x = np.maximum(x, 0)
    return x.reshape(len(x), -1)


def weight_bytes(network: Network) -> int:
    """Bytes of the float weights, biases not counted."""
    return sum(network[f"{layer.name}.weight"].nbytes for layer in LAYERS)
