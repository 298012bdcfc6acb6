"""How much quantization changed an array."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pyquant import ops
from pyquant._arguments import Array, float_input
from pyquant.array import QuantizedArray

_CHUNK = 1 << 16


class QuantizationError(NamedTuple):
    """What `error` measures."""

    mse: float
    """Mean squared difference."""
    sqnr_db: float
    """Signal to quantization noise, ``10 log10(mean x^2 / mse)``; inf without noise."""
    max_abs: float
    """Largest absolute difference."""
    cosine: float
    """Cosine similarity; 1.0 when both are all zero."""
    clipped: float
    """Fraction of the elements that lie beyond the grid's real range."""


def error(x: npt.ArrayLike, q: QuantizedArray | npt.ArrayLike) -> QuantizationError:
    """Compare an array with its quantized form, or with any array of its shape.

    Parameters
    ----------
    x : float array
    q : QuantizedArray or float array of x's shape
        Against plain floats `clipped` is 0.

    Returns
    -------
    QuantizationError
        Named tuple (mse, sqnr_db, max_abs, cosine, clipped), summed in float64.

    Raises
    ------
    TypeError
        `x` is not floating-point.
    ValueError
        The shapes differ.

    Examples
    --------
    >>> import numpy as np, pyquant as pq
    >>> x = np.linspace(-1, 1, 1001, dtype=np.float32)
    >>> round(pq.error(x, pq.quantize(x)).sqnr_db, 1)
    48.1
    """
    array, _ = float_input(x)
    if isinstance(q, QuantizedArray):
        real = q.dequantize()
        clipped = _clipped(array, q)
    else:
        real, _ = float_input(q, "q")
        clipped = 0.0
    if real.shape != array.shape:
        raise ValueError(f"q must have x's shape {array.shape}, not {real.shape}")
    noise = signal = other = product = worst = 0.0
    flat, flat_real = array.reshape(-1), real.reshape(-1)
    for i in range(0, array.size, _CHUNK):
        a = flat[i : i + _CHUNK].astype(np.float64)
        b = flat_real[i : i + _CHUNK].astype(np.float64)
        difference = a - b
        noise += float(np.sum(difference * difference))
        signal += float(np.sum(a * a))
        other += float(np.sum(b * b))
        product += float(np.sum(a * b))
        worst = float(np.maximum(worst, np.max(np.abs(difference))))
    return QuantizationError(
        mse=noise / array.size if array.size else 0.0,
        sqnr_db=_decibels(signal, noise),
        max_abs=worst,
        cosine=_cosine(product, signal, other),
        clipped=clipped,
    )


def _decibels(signal: float, noise: float) -> float:
    if noise == 0.0:
        return math.inf
    return 10.0 * math.log10(signal / noise) if signal > 0.0 else -math.inf


def _cosine(product: float, a: float, b: float) -> float:
    if a == 0.0 or b == 0.0:
        return 1.0 if a == b else 0.0
    return product / (math.sqrt(a) * math.sqrt(b))


def _clipped(x: Array, q: QuantizedArray) -> float:
    """The fraction whose nearest integer is off the grid: a straight-through gradient of 0."""
    if x.size == 0:
        return 0.0
    p = q.params
    inside, _, _ = ops.fake_quantize_grad_linear(
        np.ones(x.shape, np.float32), x, p.scale, p.zero_point, dtype=p.dtype,
        narrow_range=p.narrow_range, axis=p.axis, block_size=p.block_size,
    )  # fmt: skip
    return 1.0 - float(np.count_nonzero(inside)) / x.size
