"""The smallest and largest values."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pyquant import _cpu
from pyquant._arguments import (
    Array,
    float_input,
    layout_of,
    params_shape,
    refuse,
    refuse_unbounded,
)
from pyquant._arrays import empty, on_device, on_host
from pyquant._backend import backend_of
from pyquant._tensors import takes_tensors

_range_plain = _cpu.range_plain


def _range_arguments(
    x: npt.ArrayLike, axis: int | None, block_size: int | None, nan_policy: str
) -> tuple[Array, int, tuple[int, int, int, int], tuple[int, ...], bool]:
    if nan_policy not in ("raise", "omit"):
        raise ValueError(f"nan_policy must be 'raise' or 'omit', not {nan_policy!r}")
    array, code = float_input(x)
    layout = layout_of(array.shape, axis, block_size)
    return array, code, layout, params_shape(array.shape, axis, block_size), nan_policy == "omit"


def minmax(
    x: npt.ArrayLike,
    *,
    axis: int | None = None,
    block_size: int | None = None,
    nan_policy: str = "raise",
) -> tuple[Array, Array]:
    """The smallest and largest value, per tensor, per channel or per block.

    Parameters
    ----------
    x : float array
    axis, block_size
        As in `quantize_linear`.
    nan_policy : "raise" or "omit"
        What NaN and infinities do.

    Returns
    -------
    (low, high)
        float32, of the shape that a scale would have; 0 and 0 where there is nothing.

    Raises
    ------
    TypeError, ValueError
        As `dynamic_quantize`.

    Examples
    --------
    >>> import numpy as np
    >>> from pyquant import ops
    >>> low, high = ops.minmax(np.float32([[1, -2], [3, 4]]), axis=0)
    >>> low, high
    (array([-2.,  3.], dtype=float32), array([1., 4.], dtype=float32))
    """
    made = _range_plain(x, axis, block_size, False) if nan_policy == "raise" else None
    if made is not None:
        return made  # type: ignore[no-any-return]
    return _minmax(x, axis, block_size, nan_policy)


@takes_tensors()
def _minmax(
    x: Any, axis: int | None, block_size: int | None, nan_policy: str
) -> tuple[Array, Array]:
    backend = backend_of(x)
    array, code, layout, shape, omit = _range_arguments(x, axis, block_size, nan_policy)
    low, high = empty(shape, np.float32, array), empty(shape, np.float32, array)
    status = backend.minmax(array, code, layout, omit, low, high)
    if status:
        refuse(status, x=array, x_code=code)
    return low, high


def host_range(
    x: Array, axis: int | None, block_size: int | None, nan_policy: str
) -> tuple[Array, Array]:
    """`minmax` on the host; data on a device that have no finite one are refused there."""
    low, high = minmax(x, axis=axis, block_size=block_size, nan_policy=nan_policy)
    if on_device(low):
        low, high = on_host(low), on_host(high)
        refuse_unbounded(low, high, *float_input(x))
    return low, high


def absmax(
    x: npt.ArrayLike,
    *,
    axis: int | None = None,
    block_size: int | None = None,
    nan_policy: str = "raise",
) -> Array:
    """The largest absolute value, per tensor, per channel or per block.

    Parameters, errors and shapes are those of `minmax`.

    Examples
    --------
    >>> import numpy as np
    >>> from pyquant import ops
    >>> float(ops.absmax(np.float32([1, -2, 0.5])))
    2.0
    """
    made = _range_plain(x, axis, block_size, True) if nan_policy == "raise" else None
    if made is not None:
        return made  # type: ignore[no-any-return]
    return _absmax(x, axis, block_size, nan_policy)


@takes_tensors()
def _absmax(x: Any, axis: int | None, block_size: int | None, nan_policy: str) -> Array:
    backend = backend_of(x)
    array, code, layout, shape, omit = _range_arguments(x, axis, block_size, nan_policy)
    high = empty(shape, np.float32, array)
    status = backend.absmax(array, code, layout, omit, high)
    if status:
        refuse(status, x=array, x_code=code)
    return high
