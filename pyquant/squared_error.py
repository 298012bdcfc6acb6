"""The range with the least expected squared quantization error."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from pyquant._grid import Grid
from pyquant.histogram import Density

_COARSE = 96
_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0


def expected(density: Density, scale: float, lowest: int, highest: int) -> float:
    """The summed squared error of rounding to scale * (lowest ... highest).

    With u = x / scale and k the nearest of lowest ... highest, the antiderivative of (u - k)**2
    is G(u) = k / 12 + (u - k)**3 / 3: every whole step adds 1 / 12, and beyond the ends k stands
    still and the cube grows. A bin of n samples from a to b has n * scale**2 times the mean
    (G(b) - G(a)) / (b - a). Exact zeros have no error.
    """
    u, v = density.low / scale, density.high / scale
    j, k = np.clip(np.rint(u), lowest, highest), np.clip(np.rint(v), lowest, highest)
    r, s = u - j, v - k
    wide = v > u
    mean = np.where(
        wide, ((k - j) / 12 + (s**3 - r**3) / 3) / np.where(wide, v - u, 1.0), r * r
    )
    return float((density.count * mean).sum()) * scale * scale


def least(density: Density, grid: Grid, scheme: str) -> tuple[float, float]:
    """The range inside that of the data; symmetric ones are cut to it at the end."""
    low, high = float(density.low.min(initial=0.0)), float(density.high.max(initial=0.0))
    if scheme == "symmetric":
        zero = 0 if grid.signed else 1 << (grid.bits - 1)
        steps = (1 << (grid.bits - 1)) - 1
        most = max(-low, high)

        def cost(a: float) -> float:
            return expected(density, a / steps, grid.qmin - zero, grid.qmax - zero)

        a = _minimum(cost, most)
        return max(low, -a), min(high, a)
    return _affine(density, grid, low, high)


def _affine(density: Density, grid: Grid, low: float, high: float) -> tuple[float, float]:
    """The scale for every zero point around the best of a coarse search."""
    steps = grid.qmax - grid.qmin
    most = (high - low) / steps
    found: dict[int, tuple[float, float]] = {}

    def best(below: int) -> tuple[float, float]:
        """(cost, scale) with that many codes below zero."""
        if below not in found:
            ends = []
            if below:
                ends.append(-low / below)
            if below < steps:
                ends.append(high / (steps - below))

            def cost(scale: float) -> float:
                return expected(density, scale, -below, steps - below)

            scale = _minimum(cost, max(ends) or most)
            found[below] = (cost(scale), scale)
        return found[below]

    coarse = {round(steps * part / 16) for part in range(17)} if low < 0.0 < high else set()
    coarse.add(round(steps * -low / (high - low)))
    centre = min(coarse, key=best)
    stride = max(steps // 16, 1)
    while stride:
        around = {max(centre - stride, 0), centre, min(centre + stride, steps)}
        nearest = min(sorted(around), key=best)
        if nearest == centre:
            stride //= 2
        centre = nearest
    scale = best(centre)[1]
    return -centre * scale, (steps - centre) * scale


def _minimum(cost: Callable[[float], float], most: float) -> float:
    """Of a function that falls and rises but for ripples: a scan, then golden section."""
    scan = most * np.arange(1, _COARSE + 1) / _COARSE
    costs = [cost(float(a)) for a in scan]
    at = int(np.argmin(costs))
    low, high = most * at / _COARSE, most * min(at + 2, _COARSE) / _COARSE
    a, b = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    cost_a, cost_b = cost(a), cost(b)
    best = min((costs[at], float(scan[at])), (cost_a, a), (cost_b, b))
    while high - low > 1e-6 * most:
        if cost_a <= cost_b:
            high, b, cost_b = b, a, cost_a
            a = high - _GOLDEN * (high - low)
            cost_a = cost(a)
            best = min(best, (cost_a, a))
        else:
            low, a, cost_a = a, b, cost_b
            b = low + _GOLDEN * (high - low)
            cost_b = cost(b)
            best = min(best, (cost_b, b))
    return best[1]
