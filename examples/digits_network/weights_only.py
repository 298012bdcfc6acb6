"""Small weights, float arithmetic: what matters when memory is the limit."""

from __future__ import annotations

from typing import Any

import pyquant as pq

from .network import LAYERS, Network

BLOCK = 32
# A layer is (outputs, everything else): axis 0 has a scale per output.
GRANULARITIES: dict[str, dict[str, Any]] = {
    "tensor": {},
    "channel": {"axis": 0},
    f"block {BLOCK}": {"axis": -1, "block_size": BLOCK},
}


def quantize_weights(network: Network, **options: Any) -> tuple[Network, int]:
    """The network with rounded weights, and the bytes of the codes, packed, with their scales.

    `options` go to `pyquant.quantize`, which sees each layer as (outputs, everything else).
    """
    rounded, nbytes = dict(network), 0
    for layer in LAYERS:
        name = f"{layer.name}.weight"
        weight = network[name]
        q = pq.quantize(weight.reshape(len(weight), -1), packed=True, **options)
        rounded[name] = q.dequantize().reshape(weight.shape)
        nbytes += q.nbytes
    return rounded, nbytes
