"""Calibration of blocks by histograms: each is a channel for as long as its turn lasts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from pyquant._arguments import Array, float_input, layout_of, params_shape
from pyquant._arrays import module_of
from pyquant.histogram import half_of

if TYPE_CHECKING:
    from pyquant.observers import Observer

METHODS = ("percentile", "mse", "aciq_laplace", "aciq_gauss")
"""Entropy is not among them: the few samples of a block are no distribution over its bins."""

_BYTES = 1 << 25  # of histograms at a time


def ranges(
    x: Array, axis: int, block_size: int, bins: int, observer: Callable[[], Observer]
) -> tuple[Array, Array]:
    """The range of every block, of the shape that a scale has; `observer` makes one for axis 0."""
    array, _ = float_input(x)
    layout_of(array.shape, axis, block_size)
    shape = params_shape(array.shape, axis, block_size)
    low, high = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    lows, highs = np.moveaxis(low, axis, -1), np.moveaxis(high, axis, -1)
    along = module_of(array).moveaxis(array, axis, -1)
    whole = along.shape[-1] // block_size
    slab = max(_BYTES // (16 * half_of(bins)), 1)
    for place in np.ndindex(along.shape[:-1]) if array.size else ():
        row = along[place]
        for first in range(0, whole, slab):
            last = min(first + slab, whole)
            blocks = row[first * block_size : last * block_size].reshape(-1, block_size)
            found = observer().update(blocks).range()
            lows[(*place, slice(first, last))], highs[(*place, slice(first, last))] = found
        if whole < lows.shape[-1]:
            found = observer().update(row[None, whole * block_size :]).range()
            lows[(*place, -1)], highs[(*place, -1)] = (end[0] for end in found)
    return low, high
