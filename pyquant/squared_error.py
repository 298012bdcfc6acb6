"""The range with the least expected squared quantization error."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from pyquant import _cpu
from pyquant._grid import Grid
from pyquant.histogram import Density

_SCAN, _COARSE = 128, 32
_PRECISION = 1e-6
_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0

Cost = Callable[[float], float]


def least(density: Density, grid: Grid, scheme: str) -> tuple[float, float]:
    """The range whose scale and zero point cost least.

    The cost of a grid is the error of its rounding and clipping, integrated exactly over samples
    that are evenly spread inside their bins; zeros have none. With u = x / scale and k the nearest
    code, the antiderivative of (u - k)**2 is k / 12 + (u - k)**3 / 3.
    """
    low, high = float(density.low.min()), float(density.high.max())
    per_unit = density.samples / (density.high - density.low)

    def cost(scale: float, lowest: int, highest: int) -> float:
        return _cpu.histogram_error(density.low, density.high, per_unit, scale, lowest, highest)

    if scheme == "symmetric":
        zero = 0 if grid.signed else 1 << (grid.bits - 1)
        steps = (1 << (grid.bits - 1)) - 1
        lowest, highest = grid.qmin - zero, grid.qmax - zero
        a = steps * _minimum(lambda s: cost(s, lowest, highest), max(-low, high) / steps)
        return -a, a

    steps = grid.qmax - grid.qmin
    low, high = min(low, 0.0), max(high, 0.0)

    def cost_with(below: int) -> Cost:
        """By scale, with that many codes below zero."""
        return lambda scale: cost(scale, -below, steps - below)

    below, scale = _affine(cost_with, steps, low, high)
    return -below * scale, (steps - below) * scale


def _affine(
    cost_with: Callable[[int], Cost], steps: int, low: float, high: float
) -> tuple[int, float]:
    """Codes below zero, and scale: the best of a coarse search, then of its neighbours."""
    some = {round(steps * -low / (high - low))}
    if low < 0.0 < high:
        some |= {round(steps * part / 16) for part in range(17)}
    coarse = []
    for below in some:
        most = max(-low / below if below else 0.0, high / (steps - below) if below < steps else 0.0)
        cost = cost_with(below)
        scales = [most * k / _COARSE for k in range(1, _COARSE + 1)]
        coarse.append(min((cost(s), below, s) for s in scales))
    least_cost, below, scale = min(coarse)
    least_cost, scale = _narrow(cost_with(below), scale / 1.25, scale * 1.25)
    stride = max(steps // 32, 1)
    while stride:
        moved = False
        for near in (below - stride, below + stride):
            if 0 <= near <= steps and low < 0.0 < high:
                found, at = _narrow(cost_with(near), scale / 1.25, scale * 1.25)
                if found < least_cost:
                    least_cost, below, scale, moved = found, near, at, True
                    break
        if not moved:
            stride //= 2
    return below, scale


def _minimum(cost: Cost, most: float) -> float:
    """Of a function that falls and rises but for ripples: a scan, then golden section."""
    scan = [most * k / _SCAN for k in range(1, _SCAN + 1)]
    costs = [cost(a) for a in scan]
    at = int(np.argmin(costs))
    found, place = _narrow(cost, scan[max(at - 1, 0)] * (0.5 if at == 0 else 1.0), min(
        scan[min(at + 1, _SCAN - 1)], most
    ))  # fmt: skip
    return place if found <= costs[at] else scan[at]


def _narrow(cost: Cost, low: float, high: float) -> tuple[float, float]:
    """(least cost, where) between low and high, by golden section."""
    precision = _PRECISION * high
    a, b = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    cost_a, cost_b = cost(a), cost(b)
    while high - low > precision:
        if cost_a <= cost_b:
            high, b, cost_b = b, a, cost_a
            a = high - _GOLDEN * (high - low)
            cost_a = cost(a)
        else:
            low, a, cost_a = a, b, cost_b
            b = low + _GOLDEN * (high - low)
            cost_b = cost(b)
    return min((cost_a, a), (cost_b, b))
