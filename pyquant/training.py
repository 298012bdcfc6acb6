"""Fake quantization and its gradients, for training with quantization in the loop."""

from __future__ import annotations

import numpy.typing as npt

from pyquant import ops
from pyquant._arguments import Array
from pyquant.array import QuantParams


def fake_quantize(x: npt.ArrayLike, params: QuantParams, out: Array | None = None) -> Array:
    """``dequantize(quantize(x, params))`` in one pass, in x's own float type.

    Parameters
    ----------
    x : float array
    params : QuantParams
    out : array, optional
        Of x's shape and dtype; may be `x` itself.

    Raises
    ------
    TypeError, ValueError
        As `pyquant.quantize`.

    Examples
    --------
    >>> import numpy as np, pyquant as pq
    >>> pq.fake_quantize(np.float32([0.3, 9.0]), pq.QuantParams(0.25, dtype="int4"))
    array([0.25, 1.75], dtype=float32)
    """
    return ops.fake_quantize_linear(
        x, params.scale, params.zero_point, dtype=params.dtype, narrow_range=params.narrow_range,
        axis=params.axis, block_size=params.block_size, out=out,
    )  # fmt: skip


def fake_quantize_grad(
    grad: npt.ArrayLike, x: npt.ArrayLike, params: QuantParams
) -> tuple[Array, Array, Array]:
    """Gradients of `fake_quantize` by the masked straight-through estimator.

    With ``r = x / scale`` and z the zero point, inside the grid (``qmin <= rint(r) + z <= qmax``)
    the derivatives are 1 by x, ``rint(r) - r`` by the scale and 0 by z; outside they are 0,
    ``qmin - z`` or ``qmax - z``, and ``-scale``. NaN has none.

    Parameters
    ----------
    grad : float array of x's shape
        The loss's gradient by the result of `fake_quantize`.
    x : float array
    params : QuantParams

    Returns
    -------
    (dx, dscale, dzero_point)
        dx of x's shape and grad's dtype; the others float32 of scale's shape, summed in float64
        in an order that does not depend on the number of threads.

    Raises
    ------
    TypeError, ValueError
        As `pyquant.quantize`.

    Notes
    -----
    Computed in float32, in float64 when x or grad is. Bengio et al. 2013 (straight-through); Esser
    et al. 2020, "Learned Step Size Quantization", equation 3; Bhalgat et al. 2020, "LSQ+", for the
    zero point.

    Examples
    --------
    >>> import numpy as np, pyquant as pq
    >>> params = pq.QuantParams(0.5, dtype="int4")
    >>> dx, dscale, dzero_point = pq.fake_quantize_grad(np.ones(2, "f4"), [0.4, 9.0], params)
    >>> dx
    array([1., 0.], dtype=float32)
    """
    return ops.fake_quantize_grad_linear(
        grad, x, params.scale, params.zero_point, dtype=params.dtype,
        narrow_range=params.narrow_range, axis=params.axis, block_size=params.block_size,
    )  # fmt: skip
