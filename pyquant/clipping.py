"""From one channel's histogram to the range that a method chooses.

The range lies inside that of the data, but for an affine "mse", whose end may be part of a step
beyond.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from pyquant import aciq, divergence, squared_error
from pyquant._grid import Grid
from pyquant.histogram import Density, Histogram

Range = tuple[float, float]
Clip = Callable[[Histogram, int, Grid, str, Range], Range]


def _percentile(h: Histogram, channel: int, grid: Grid, scheme: str, percent: Range) -> Range:
    """Like numpy.percentile of the samples, known to the width of a bin.

    The k-th of n samples in a bin is taken at (k + 1/2) / n of its width, the first and the last
    of all at their exact values; between samples the percentile is interpolated.
    """
    counts = h.counts[channel]
    before = np.concatenate([[0], np.cumsum(counts, dtype=np.uint64)])
    low, high, width = float(h.low[channel]), float(h.high[channel]), h.width(channel)
    last = int(before[-1]) - 1

    def sample(k: int) -> float:
        if k in (0, last):
            return high if k else low
        place = int(np.searchsorted(before, k, "right")) - 1
        index = place - h.half
        if index == 0:
            return 0.0
        part = (k - int(before[place]) + 0.5) / int(counts[place])
        left = (index - 1 if index > 0 else index) * width
        return min(max(left + part * width, low), high)

    def at(percent: float) -> float:
        position = last * (percent / 100.0)
        k = min(int(position), last)
        a, b = sample(k), sample(min(k + 1, last))
        return a + (b - a) * (position - k)

    return at(percent[0]), at(percent[1])


def _mse(h: Histogram, channel: int, grid: Grid, scheme: str, percent: Range) -> Range:
    low, high = squared_error.least(h.density(channel), grid, scheme)
    if scheme == "affine":  # as it is: its ends tell the zero point
        return low, high
    return _cut(h, channel, high)


def _entropy(h: Histogram, channel: int, grid: Grid, scheme: str, percent: Range) -> Range:
    return _cut(h, channel, divergence.least(h.counts[channel], grid, scheme) * h.width(channel))


def _cut(h: Histogram, channel: int, a: float) -> Range:
    """The range of the data, clipped to -a ... a."""
    low, high = float(h.low[channel]), float(h.high[channel])
    return min(max(low, -a), a), max(min(high, a), -a)


def _aciq(spread: Callable[[Density, float], float], clip: Callable[[int], float]) -> Clip:
    """Mean and spread from the bins' centres; the clip for that many bits, around the mean.

    Data on one side of zero are half of a density that is symmetric about zero, and its other
    half would double the codes: one more bit, mean 0. Exact zeros, which a rectifier makes of the
    other half, have no error at any scale and tell nothing of the spread there: left out.
    """

    def choose(h: Histogram, channel: int, grid: Grid, scheme: str, percent: Range) -> Range:
        low, high = float(h.low[channel]), float(h.high[channel])
        density = h.density(channel)
        if low >= 0.0 or high <= 0.0:
            return _cut(h, channel, spread(density._replace(zeros=0.0), 0.0) * clip(grid.bits + 1))
        centres = 0.5 * (density.low + density.high)
        mean = float((density.samples * centres).sum()) / density.total
        a = spread(density, mean) * clip(grid.bits)
        return max(low, mean - a), min(high, mean + a)

    return choose


def _absolute(density: Density, mean: float) -> float:
    """Mean |x - mean|."""
    centres = 0.5 * (density.low + density.high)
    total = float((density.samples * np.abs(centres - mean)).sum()) + density.zeros * abs(mean)
    return total / density.total


def _deviation(density: Density, mean: float) -> float:
    """The standard deviation; with the variance that samples have inside a bin, width**2 / 12."""
    a, b = density.low - mean, density.high - mean
    squares = (a * a + a * b + b * b) / 3.0
    total = float((density.samples * squares).sum()) + density.zeros * mean * mean
    return math.sqrt(total / density.total)


CLIPS: dict[str, Clip] = {
    "percentile": _percentile,
    "mse": _mse,
    "entropy": _entropy,
    "aciq_laplace": _aciq(_absolute, aciq.laplace),
    "aciq_gauss": _aciq(_deviation, aciq.gauss),
}
