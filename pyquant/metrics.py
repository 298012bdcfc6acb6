"""How much quantization changed an array."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pyquant import ops
from pyquant._arguments import Array, float_input
from pyquant._arrays import contiguous, empty, module_of, on_device, on_host
from pyquant._backend import backend_of, is_dask
from pyquant._tensors import takes_tensors
from pyquant.array import QuantizedArray

_CHUNK, _CHUNK_ON_DEVICE = 1 << 16, 1 << 24


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


@takes_tensors()
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
        Named tuple (mse, sqnr_db, max_abs, cosine, clipped), summed in float64. Where x or q is a
        Dask array its numbers are lazy, and ``dask.compute`` takes the tuple.

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
    if is_dask(x) or is_dask(q):
        from pyquant import _dask

        return _dask.error(x, q)
    if isinstance(q, QuantizedArray):
        backend_of(x, q.data, given=(q.scale, q.zero_point))
    else:
        backend_of(x, q)
    return figures(sums_of(x, q))


SUMS = 7
"""How many numbers `sums_of` gives."""


def sums_of(x: npt.ArrayLike, q: QuantizedArray | npt.ArrayLike) -> Array:
    """What `figures` needs of arrays: numbers that add up over parts, but the last, a maximum.

    Sums of (x - q)^2, x^2, q^2 and x q; elements within the grid's range; elements; largest
    |x - q|.
    """
    array, _ = float_input(x)
    wide = np.dtype(np.float64)
    if isinstance(q, QuantizedArray):
        real = q.dequantize()
        inside = _inside(array, q)
    else:
        real, _ = float_input(q, "q")
        inside = array.size
    if real.shape != array.shape:
        raise ValueError(f"q must have x's shape {array.shape}, not {real.shape}")
    noise = signal = other = product = worst = 0.0
    flat, flat_real = array.reshape(-1), real.reshape(-1)
    chunk = _CHUNK_ON_DEVICE if on_device(array) else _CHUNK
    for i in range(0, array.size, chunk):
        a, b = (contiguous(values[i : i + chunk], wide) for values in (flat, flat_real))
        difference = a - b
        parts = [
            (difference * difference).sum(), (a * a).sum(), (b * b).sum(), (a * b).sum(),
            abs(difference).max(),
        ]  # fmt: skip
        found = on_host(module_of(array).stack(parts)).tolist()
        noise, signal = noise + found[0], signal + found[1]
        other, product = other + found[2], product + found[3]
        worst = float(np.maximum(worst, found[4]))
    return np.array([noise, signal, other, product, inside, array.size, worst], np.float64)


def figures(sums: Array) -> QuantizationError:
    """The measures from their sums."""
    noise, signal, other, product, inside, size, worst = map(float, sums)
    return QuantizationError(
        mse=noise / size if size else 0.0,
        sqnr_db=_decibels(signal, noise),
        max_abs=worst,
        cosine=_cosine(product, signal, other),
        clipped=1.0 - inside / size if size else 0.0,
    )


def _decibels(signal: float, noise: float) -> float:
    if noise == 0.0:
        return math.inf
    return 10.0 * math.log10(signal / noise) if signal > 0.0 else -math.inf


def _cosine(product: float, a: float, b: float) -> float:
    if a == 0.0 or b == 0.0:
        return 1.0 if a == b else 0.0
    return product / (math.sqrt(a) * math.sqrt(b))


def _inside(x: Array, q: QuantizedArray) -> int:
    """How many have their nearest integer on the grid: a straight-through gradient of 1."""
    if x.size == 0:
        return 0
    p = q.params
    ones = empty(x.shape, np.float32, x)
    ones.fill(1)
    inside, _, _ = ops.fake_quantize_grad_linear(
        ones, x, p.scale, p.zero_point, dtype=p.dtype,
        narrow_range=p.narrow_range, axis=p.axis, block_size=p.block_size,
    )  # fmt: skip
    return int(module_of(x).count_nonzero(inside))
