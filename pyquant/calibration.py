"""From data to parameters."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy.typing as npt

from pyquant import ops
from pyquant._arrays import as_array
from pyquant._backend import backend_of, is_dask
from pyquant._grid import default_narrow, grid_of
from pyquant._tensors import takes_tensors
from pyquant.ops.ranges import host_range

if TYPE_CHECKING:
    from pyquant.array import QuantParams

METHODS = (
    "minmax", "moving_average", "percentile", "mse", "entropy", "aciq_laplace", "aciq_gauss",
)  # fmt: skip


def choose_params(
    alpha: npt.ArrayLike,
    beta: npt.ArrayLike,
    *,
    dtype: str = "int8",
    scheme: str = "symmetric",
    narrow_range: bool | None = None,
    axis: int | None = None,
    block_size: int | None = None,
) -> QuantParams:
    """Parameters for the real range [alpha, beta], or for one range per channel or block.

    Symmetric: ``scale = max(|alpha|, |beta|) / (2**(bits - 1) - 1)``, zero point 0, or
    ``2**(bits - 1)`` on an unsigned grid. Affine: the range widened to hold 0,
    ``scale = (beta - alpha) / (qmax - qmin)``, ``zero_point = rint(qmin - alpha / scale)``. In
    float32; a range of a single 0 has scale 1.

    Parameters
    ----------
    alpha, beta : float or arrays of the shape that the scale shall have
        Finite, alpha <= beta.
    dtype, scheme, narrow_range, axis, block_size
        As in `pyquant.quantize`.

    Raises
    ------
    ValueError
        A range is not finite or upside down, or an argument is out of its range.

    Notes
    -----
    Jacob et al., "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference", 2018, section 2.1; ONNX DynamicQuantizeLinear.

    Examples
    --------
    >>> import pyquant as pq
    >>> pq.choose_params(-1.0, 3.0, dtype="uint8", scheme="affine")
    QuantParams(scale=0.0156862754, zero_point=64, dtype='uint8')
    """
    from pyquant.array import QuantParams

    narrow = default_narrow(narrow_range, dtype, scheme)
    name = grid_of(dtype, narrow).name
    scale, zero_point = ops.choose_params(
        alpha, beta, dtype=name, scheme=scheme, narrow_range=narrow
    )
    return QuantParams(scale, zero_point, name, narrow, axis, block_size)


@takes_tensors()
def calibrate(
    x: npt.ArrayLike,
    method: str = "minmax",
    *,
    dtype: str = "int8",
    scheme: str = "symmetric",
    narrow_range: bool | None = None,
    axis: int | None = None,
    block_size: int | None = None,
    nan_policy: str = "raise",
    percentile: float | tuple[float, float] = 99.99,
    bins: int = 2048,
    momentum: float = 0.9,
) -> QuantParams:
    """Choose parameters from data.

    Parameters
    ----------
    x : float array
    method : str
        How the range is chosen:

        - "minmax": from the smallest to the largest value (symmetric: the largest absolute value).
        - "moving_average": the exponential moving average of the batches' "minmax". It depends on
          the order of batches; of one array it is "minmax".
        - "percentile": between two percentiles.
        - "mse": the least expected squared error of the quantized values.
        - "entropy": the least Kullback-Leibler divergence of the quantized distribution.
        - "aciq_laplace", "aciq_gauss": the least expected squared error if the data were Laplace's
          or Gauss's with the mean and spread measured; data on one side of 0 are taken for half
          of such a density.
    dtype, scheme, narrow_range, axis, block_size
        As in `pyquant.quantize`. "entropy" takes no `block_size`: a block has too few
        samples.
    nan_policy : "raise" or "omit"
        What NaN and infinities do.
    percentile : float or (low, high)
        In percent; 99.99 means (0.01, 99.99). A symmetric range ends at the larger of the two.
    bins : int
        Between 0 and the largest absolute value there are so many or up to twice as many: all
        methods but the first two know the data to the width of a bin.
    momentum : float
        What remains of the moving average at every new batch.

    Raises
    ------
    TypeError
        `x` is not floating-point.
    ValueError
        `x` holds NaN or infinity, or an argument is out of its range.

    See Also
    --------
    Observer : the same for data that come in batches.

    Examples
    --------
    >>> import numpy as np, pyquant as pq
    >>> pq.calibrate(np.float32([-1.0, 3.0]), dtype="uint8", scheme="affine")
    QuantParams(scale=0.0156862754, zero_point=64, dtype='uint8')
    """
    if is_dask(x):
        from pyquant import _dask

        return _dask.calibrate(
            x, method, dtype=dtype, scheme=scheme, narrow_range=narrow_range, axis=axis,
            block_size=block_size, nan_policy=nan_policy, percentile=percentile, bins=bins,
            momentum=momentum,
        )  # fmt: skip
    backend_of(x)
    array = as_array(x)
    if method == "minmax":
        low, high = host_range(array, axis, block_size, nan_policy)
    else:
        from pyquant import blocks
        from pyquant.observers import Observer

        observer = partial(
            Observer, method, dtype=dtype, scheme=scheme, narrow_range=narrow_range,
            nan_policy=nan_policy, percentile=percentile, bins=bins, momentum=momentum,
        )  # fmt: skip
        if block_size is None or axis is None or method not in blocks.METHODS:
            return observer(axis=axis, block_size=block_size).update(array).params()
        observer(axis=0)  # are its arguments right?
        host_range(array, axis, block_size, nan_policy)  # and the data?
        low, high = blocks.ranges(array, axis, block_size, bins, partial(observer, axis=0))
    return choose_params(
        low, high, dtype=dtype, scheme=scheme, narrow_range=narrow_range, axis=axis,
        block_size=block_size,
    )  # fmt: skip
