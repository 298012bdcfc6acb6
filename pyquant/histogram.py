"""Histograms that do not depend on the order or the batches in which samples came.

A histogram with `half` bins on either side of zero has bins of width 2**e: bin 0 counts exact
zeros, bin i > 0 the values in [(i - 1) * 2**e, i * 2**e) and bin -i their negatives. The exponent
follows from the largest absolute value seen: it is the smallest e (not below -126) with
max |x| < half * 2**e.

Why any split into batches and any order of merging gives the same state: the bin of x at exponent
e is sign(x) * (floor(|x| / 2**e) + 1), exact because dividing by a power of two is, and widening
turns bin (m + 1) into (m // 2 + 1), where floor(floor(|x| / 2**e) / 2) = floor(|x| / 2**(e + 1)).
So after any number of widenings the counts are those of the samples binned at the final exponent.
That is a function of max |x|, which like the smallest, the largest and sums of integer counts is
the same however the samples are grouped.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pyquant._arguments import Array, Layout, refuse, refuse_unbounded
from pyquant._arrays import empty, on_device, on_host
from pyquant._backend import backend_of

LEAST_EXPONENT = -126
FEWEST_BINS, MOST_BINS = 16, 1 << 20


def half_of(bins: int) -> int:
    """Bins on either side of zero, so that at least `bins` lie between 0 and max |x|."""
    return 2 << (bins - 1).bit_length()


class Density(NamedTuple):
    """The non-empty bins of one channel: `samples`, evenly spread from `low` to `high`.

    The smallest and the largest sample, which are known, have a thin bin of their own each, and
    the others of their bins lie inside. `zeros` more samples are 0.
    """

    low: Array
    high: Array
    samples: Array
    zeros: float

    @property
    def total(self) -> float:
        return float(self.samples.sum()) + self.zeros


class Histogram:
    """Counts per channel (one channel: per tensor), with smallest and largest value.

    Without samples those are infinity and -infinity.
    """

    __slots__ = ("counts", "exponent", "high", "low")

    def __init__(self, counts: Array, exponent: Array, low: Array, high: Array) -> None:
        self.counts, self.exponent, self.low, self.high = counts, exponent, low, high

    @classmethod
    def of(cls, x: Array, code: int, layout: Layout, half: int, omit: bool) -> Histogram:
        """Of a C-contiguous float array, per channel of the layout (which has no blocks)."""
        channels = layout[1]
        counts = empty((channels, 2 * half + 1), np.uint64, x)
        exponent = empty((channels,), np.int32, x)
        low, high = (empty((channels,), np.float32, x) for _ in range(2))
        status = backend_of(x).histogram(
            x, code, layout, omit, half, counts, exponent, low, high
        )
        if status:
            refuse(status, x=x, x_code=code)
        if on_device(x):
            low, high = on_host(low), on_host(high)
            refuse_unbounded(low, high, x, code)
            counts, exponent = on_host(counts), on_host(exponent)
        return cls(counts, exponent, low, high)

    @property
    def half(self) -> int:
        return int(self.counts.shape[1] - 1) // 2

    def merge(self, other: Histogram) -> None:
        """Add the samples of a histogram with as many channels and bins."""
        exponent = np.maximum(self.exponent, other.exponent)
        self.counts = _widened(self.counts, exponent - self.exponent)
        self.counts += _widened(other.counts, exponent - other.exponent)
        self.exponent = exponent
        self.low = np.minimum(self.low, other.low)
        self.high = np.maximum(self.high, other.high)

    def is_sound(self) -> bool:
        """Are the extremes in the outermost bins that are not empty?"""
        for channel, counts in enumerate(self.counts):
            used = np.flatnonzero(counts) - self.half
            ends = float(self.low[channel]), float(self.high[channel])
            if not used.size:
                if ends != (math.inf, -math.inf):
                    return False
            elif not all(map(math.isfinite, ends)) or (
                [self._bin(channel, end) for end in ends] != [used[0], used[-1]]
            ):
                return False
        return True

    def _bin(self, channel: int, x: float) -> int:
        away = math.floor(abs(x) / self.width(channel)) + 1
        return 0 if x == 0.0 else away if x > 0.0 else -away

    def width(self, channel: int) -> float:
        """Of a bin."""
        return float(np.ldexp(1.0, int(self.exponent[channel])))

    def density(self, channel: int) -> Density:
        """The non-empty bins of a channel."""
        half, width = self.half, self.width(channel)
        counts = self.counts[channel].astype(np.float64)
        zeros = float(counts[half])
        least, most = float(self.low[channel]), float(self.high[channel])
        counts[half] = 0.0
        ends = [end for end in {least, most} if end != 0.0]
        for end in ends:
            counts[half + self._bin(channel, end)] -= 1.0
        index = np.flatnonzero(counts) - half
        left = np.where(index > 0, index - 1, index) * width
        low, high = np.maximum(left, least), np.minimum(left + width, most)
        thin = width * 2.0**-20
        high = np.maximum(high, low + thin)
        known = np.array(sorted(ends))
        return Density(
            np.concatenate([low, known - thin]),
            np.concatenate([high, known + thin]),
            np.concatenate([counts[index + half], np.ones(known.size)]),
            zeros,
        )


def _widened(counts: Array, octaves: npt.NDArray[np.int32]) -> Array:
    """Bins of 2**octaves times the width, per channel."""
    if not octaves.any():
        return counts
    half = (counts.shape[1] - 1) // 2
    wide = counts.copy()
    magnitude = np.arange(half)
    for channel in np.flatnonzero(octaves):
        row, shift = counts[channel], min(int(octaves[channel]), 62)
        first = np.flatnonzero(np.r_[True, np.diff(magnitude >> shift) > 0])
        wide[channel] = 0
        wide[channel, half] = row[half]
        wide[channel, half + 1 : half + 1 + first.size] = np.add.reduceat(row[half + 1 :], first)
        wide[channel, half - first.size : half] = np.add.reduceat(row[half - 1 :: -1], first)[::-1]
    return wide
