"""A way to quantize: grid, granularity, calibrator; and what it does to one tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import pyquant as pq
from pyquant.checkpoint.tensors import Array
from pyquant.cli.console import finite

GRANULARITIES = ("tensor", "channel", "block")
_ROWS = 1 << 18  # elements that are compared at a time


class Recipe(NamedTuple):
    """One column of the report."""

    dtype: str
    granularity: str
    calibration: str
    scheme: str
    axis: int | None
    block_size: int | None

    @property
    def name(self) -> str:
        words = [self.dtype, self.granularity, self.calibration]
        if self.block_size is not None:
            words[1] += f" {self.block_size}"
        return " / ".join(words)

    def quantize(self, x: Array) -> pq.QuantizedArray:
        return pq.quantize(
            x,
            dtype=self.dtype,
            scheme=self.scheme,
            axis=self.axis,
            block_size=self.block_size,
            calibration=self.calibration,
        )

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Has a tensor of this shape the axis?"""
        return self.axis is None or -len(shape) <= self.axis < len(shape)


def recipes(
    dtypes: Sequence[str],
    granularities: Sequence[str],
    calibrations: Sequence[str] | None,
    *,
    scheme: str,
    axis: int,
    block_axis: int,
    block_size: int,
) -> list[Recipe]:
    """Return every combination that the library allows; ValueError when a name is unknown.

    Calibrators that do not go with blocks are left out there. None for calibrations is "minmax"
    and "mse", but for blocks "minmax" alone: the others look at one block after the other.
    """
    made = []
    for dtype in dtypes:
        for granularity in granularities:
            if granularity not in GRANULARITIES:
                allowed = ", ".join(GRANULARITIES)
                raise ValueError(f"granularity must be one of {allowed}, not {granularity!r}")
            blocks = granularity == "block"
            where = {"tensor": None, "channel": axis, "block": block_axis}[granularity]
            for calibration in calibrations or (("minmax",) if blocks else ("minmax", "mse")):
                recipe = Recipe(
                    dtype, granularity, calibration, scheme, where, block_size if blocks else None
                )
                if _allowed(recipe):
                    made.append(recipe)
    if not made:
        raise ValueError("no recipe is left: these calibrations do not go with blocks")
    return list(dict.fromkeys(made))


def _allowed(recipe: Recipe) -> bool:
    """Does the calibrator go with blocks? ValueError when the recipe is wrong without them."""
    one = np.ones(1, np.float32)
    recipe._replace(axis=None, block_size=None).quantize(one)
    if recipe.block_size is None:
        return True
    try:
        recipe._replace(axis=0).quantize(one)
    except ValueError:
        return False
    return True


def measured(x: Array, recipe: Recipe) -> dict[str, Any]:
    """Return what the report says of a tensor under a recipe."""
    q = recipe.quantize(x)
    error = pq.error(x, q)
    params = q.params
    zero = params.zero_point.astype(np.int64)
    low = (params.qmin - zero) * params.scale.astype(np.float64)
    high = (params.qmax - zero) * params.scale.astype(np.float64)
    channel, channel_sqnr = worst_channel(x, q)
    stored = (q.size * params.bits + 7) // 8 + q.nbytes - q.data.nbytes
    return {
        "recipe": recipe.name,
        "sqnr_db": finite(error.sqnr_db),
        "mse": finite(error.mse),
        "max_abs": finite(error.max_abs),
        "clipped": finite(error.clipped),
        "bits_per_value": 8 * stored / q.size,
        # Scales differ per channel and block: the narrowest clip range and the widest.
        "clip_low": finite(low.min()),
        "clip_high": finite(high.max()),
        "inner_low": finite(low.max()),
        "inner_high": finite(high.min()),
        "qmin": params.qmin,
        "qmax": params.qmax,
        "scales": int(params.scale.size),
        "scale": finite(params.scale.item()) if params.scale.size == 1 else None,
        "zero_point": int(zero.item()) if zero.size == 1 else None,
        "worst_channel": channel,
        "worst_channel_sqnr_db": None if channel_sqnr is None else finite(channel_sqnr),
    }


def worst_channel(x: Array, q: pq.QuantizedArray) -> tuple[int | None, float | None]:
    """Return the index along the first axis that comes out worst, and its SQNR in dB.

    None where there is one index, or no error at all.
    """
    if x.ndim < 2 or len(x) < 2:
        return None, None
    real = q.dequantize()
    signal, noise = np.zeros(len(x)), np.zeros(len(x))
    step = max(1, _ROWS // (x.size // len(x)))
    for start in range(0, len(x), step):
        rows = slice(start, start + step)
        values = x[rows].astype(np.float64).reshape(len(x[rows]), -1)
        error = values - real[rows].astype(np.float64).reshape(values.shape)
        signal[rows] = np.einsum("ij,ij->i", values, values)
        noise[rows] = np.einsum("ij,ij->i", error, error)
    if not noise.any():
        return None, None
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(noise > 0, signal / noise, np.inf)
    worst = int(np.argmin(ratio))
    return worst, 10 * math.log10(ratio[worst]) if ratio[worst] > 0 else -math.inf
