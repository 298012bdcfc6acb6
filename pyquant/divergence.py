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

from pyquant import _cpu
from pyquant._arguments import Array, refuse
from pyquant._grid import Grid


def least(counts: Array, grid: Grid, scheme: str) -> int:
    """The number of bins on either side of zero to keep, at most as many as hold data.

    Where two clips are equally good it is the larger; codes are never finer than bins.
    """
    half = (counts.size - 1) // 2
    used = np.flatnonzero(counts) - half
    most = int(max(-used[0], used[-1], 1))
    # Codes on either side of zero. An affine grid spends all its codes on one side if that is all.
    codes = (1 << (grid.bits - 1)) - 1
    if scheme == "affine" and (used[0] >= 0 or used[-1] <= 0):
        codes = (1 << grid.bits) - 1
    if most <= codes:
        return most
    divergences = np.empty(most - codes + 1)
    status = _cpu.histogram_divergence(counts, half, codes, codes, divergences)
    if status:
        refuse(status)
    return most - int(np.argmin(divergences[::-1]))
