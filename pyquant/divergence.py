"""The clip whose quantized distribution is nearest to the data's, in Kullback-Leibler divergence.

For a clip of i bins on either side, P is the distribution of the clipped data over the bins: what
lies beyond is counted in the end bins, where saturation puts it. Q is what the codes can tell of
the data inside: code j covers the bins between (j - 1/2) and (j + 1/2) steps, and the data of a
code are spread evenly over those of its bins where P is not empty. The clip minimises
sum P log(P / Q). Where P is empty nothing is added; where Q is empty and P is not (an end bin
holds outliers, and nothing else lies in its code) the divergence is infinite, and the clip is not
taken. Migacz, "8-bit inference with TensorRT", 2017, without its smoothing.
"""

from __future__ import annotations

import numpy as np

from pyquant._arguments import Array
from pyquant._grid import Grid

_CANDIDATES = 256  # at a time: rows of one code each


def _log(x: Array) -> Array:
    return np.log(np.where(x > 0, x, 1.0))


def least(counts: Array, grid: Grid, scheme: str) -> int:
    """The number of bins on either side of zero to keep, at most as many as hold data."""
    half = (counts.size - 1) // 2
    used = np.flatnonzero(counts)
    most = int(max(half - used[0], used[-1] - half, 1))
    one_sided = used[0] >= half or used[-1] <= half
    return divergences(counts, grid, scheme, most, bool(one_sided))[1]


def divergences(
    counts: Array, grid: Grid, scheme: str, most: int, one_sided: bool
) -> tuple[Array, int]:
    """The divergence of each clip that leaves codes a bin or more, and the clip with the least."""
    half = (counts.size - 1) // 2
    # Codes on either side of zero. An affine grid spends all its codes on one side if that is all.
    codes = (1 << (grid.bits - 1)) - 1
    if scheme == "affine" and one_sided:
        codes = (1 << grid.bits) - 1
    if most <= codes:
        return np.zeros(0), most
    n = counts.astype(np.float64)
    mass = np.concatenate([[0.0], np.cumsum(n)])
    filled = np.concatenate([[0.0], np.cumsum(n > 0)])
    plogp = np.concatenate([[0.0], np.cumsum(n * _log(n))])
    total = mass[-1]
    clips = np.arange(codes, most + 1)
    result = np.empty(clips.size)
    # Code j > 0 begins at the bin that holds (j - 1/2) steps; the zeros' bin belongs to code 0.
    inner = 2 * np.arange(codes) + 1
    for first in range(0, clips.size, _CANDIDATES):
        clip = clips[first : first + _CANDIDATES, None]
        edge = (inner * clip + codes) // (2 * codes)
        edges = np.concatenate(
            [half - clip, half - edge[:, ::-1], half + 1 + edge, half + 1 + clip], axis=1
        )
        inside = np.diff(mass[edges], axis=1)
        bins = np.diff(filled[edges], axis=1)
        ends = np.concatenate([half - clip, half + clip], axis=1)
        beyond = np.concatenate([mass[ends[:, :1]], total - mass[ends[:, 1:] + 1]], axis=1)
        held = n[ends]
        # The end bins of P hold the outliers too, and are not empty where there are any.
        bins[:, [0, -1]] += (held == 0) & (beyond > 0)
        p = inside.copy()
        p[:, [0, -1]] += beyond
        within = inside.sum(axis=1)
        entropy = plogp[edges[:, -1]] - plogp[edges[:, 0]]
        entropy += ((held + beyond) * _log(held + beyond) - held * _log(held)).sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            q = np.where(p > 0, np.log(inside / (bins * within[:, None])), 0.0)
            cross = np.where(p > 0, p * q, 0.0).sum(axis=1)
        value = (entropy - cross) / total - np.log(total)
        result[first : first + _CANDIDATES] = np.where(np.isfinite(value), value, np.inf)
    return result, int(clips[len(result) - 1 - int(np.argmin(result[::-1]))])
