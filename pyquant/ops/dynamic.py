"""Parameters from data: dynamic quantization, and scales from ranges."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pyquant import _cpu
from pyquant._arguments import (
    Array,
    delivered,
    float_input,
    layout_of,
    output,
    params_shape,
    refuse,
)
from pyquant._arrays import as_array, empty, on_device
from pyquant._backend import backend_of
from pyquant._grid import Grid, grid_of
from pyquant._tensors import takes_tensors

_SCHEMES = {"symmetric": _cpu.SYMMETRIC, "affine": _cpu.AFFINE}
_dynamic_quantize_plain = _cpu.dynamic_quantize_plain


def dynamic_quantize(
    x: npt.ArrayLike,
    *,
    dtype: str = "int8",
    scheme: str = "symmetric",
    narrow_range: bool = False,
    axis: int | None = None,
    block_size: int | None = None,
    out: Array | None = None,
) -> tuple[Array, Array, Array]:
    """Range, parameters and quantize in one call.

    Parameters
    ----------
    x, dtype, narrow_range, axis, block_size, out
        As in `quantize_linear`.
    scheme : "symmetric" or "affine"
        How the scale follows from the range; see `pyquant.choose_params`.

    Returns
    -------
    (q, scale, zero_point)
        scale float32, zero_point of q's dtype, with the shapes that `quantize_linear` takes; both
        read-only.

    Raises
    ------
    TypeError
        `x` is not floating-point.
    ValueError
        `x` holds NaN or infinity; the sentence names the first one's index. On a GPU, where that
        would have to be waited for, the scale becomes NaN instead.

    Examples
    --------
    >>> import numpy as np
    >>> from pyquant import ops
    >>> q, scale, zero_point = ops.dynamic_quantize(np.float32([-1.0, 0.5]), narrow_range=True)
    >>> q, float(scale), int(zero_point)
    (array([-127,   64], dtype=int8), 0.007874015718698502, 0)
    """
    grid = grid_of(dtype, narrow_range)
    made = _dynamic_quantize_plain(x, grid, scheme_code(scheme), axis, block_size, out)
    if made is not None:
        return made
    return _dynamic_quantize(x, grid, scheme_code(scheme), axis, block_size, out=out)


@takes_tensors()
def _dynamic_quantize(
    x: Any, grid: Grid, scheme: int, axis: int | None, block_size: int | None, *, out: Any
) -> tuple[Array, Array, Array]:
    backend = backend_of(x, out)
    array, code = float_input(x)
    layout = layout_of(array.shape, axis, block_size)
    shape = params_shape(array.shape, axis, block_size)
    scale = empty(shape, np.float32, array)
    zero_points = empty(shape, np.int32, array)
    result = output(out, array.shape, grid.storage, array, x)
    if result is out and not on_device(array):
        # Data that are refused half-way must not leave codes in out.
        result = _cpu.empty(array.shape, grid.storage)
    status = backend.dynamic_quantize(
        array, code, result, grid.code, layout, scheme, grid.qmin, grid.qmax, scale, zero_points
    )
    if status:
        refuse(status, x=array, x_code=code)
    zeros = zero_points.astype(grid.storage)
    if not on_device(array):
        scale.flags.writeable = zeros.flags.writeable = False
    return delivered(result, out), scale, zeros


def scheme_code(scheme: str) -> int:
    """pq_scheme of a name."""
    code = _SCHEMES.get(scheme)
    if code is None:
        raise ValueError(f"scheme must be 'symmetric' or 'affine', not {scheme!r}")
    return int(code)


def dynamic_quantize_linear(x: npt.ArrayLike) -> tuple[Array, Array, Array]:
    """ONNX DynamicQuantizeLinear: affine uint8 over the range of x, widened to hold 0.

    Parameters
    ----------
    x : float array of any shape

    Returns
    -------
    (q, scale, zero_point)
        q uint8 of x's shape; scale float32 and zero_point uint8, both of shape ``()``.

    Raises
    ------
    TypeError, ValueError
        As `dynamic_quantize`.

    Examples
    --------
    >>> import numpy as np
    >>> from pyquant import ops
    >>> q, scale, zero_point = ops.dynamic_quantize_linear(np.float32([0, 2, -3, -2.5, 1.34, 0.5]))
    >>> q, float(scale), int(zero_point)
    (array([153, 255,   0,  26, 221, 179], dtype=uint8), 0.019607843831181526, 153)
    """
    return dynamic_quantize(x, dtype="uint8", scheme="affine")


@takes_tensors()
def choose_params(
    alpha: npt.ArrayLike,
    beta: npt.ArrayLike,
    *,
    dtype: str = "int8",
    scheme: str = "symmetric",
    narrow_range: bool = False,
) -> tuple[Array, Array]:
    """Scale and zero point for the real ranges [alpha, beta].

    Parameters
    ----------
    alpha, beta : float or arrays of one shape
        Finite, alpha <= beta; taken as float32.
    dtype, scheme, narrow_range
        As in `dynamic_quantize`.

    Returns
    -------
    (scale, zero_point)
        float32, and integers of the grid's type, both of alpha's shape.

    Raises
    ------
    ValueError
        A range is not finite or upside down, or the scheme or dtype is unknown.

    Examples
    --------
    >>> from pyquant import ops
    >>> scale, zero_point = ops.choose_params(-1.0, 3.0, dtype="uint8", scheme="affine")
    >>> float(scale), int(zero_point)
    (0.01568627543747425, 64)
    """
    backend = backend_of(alpha, beta)
    grid = grid_of(dtype, narrow_range)
    code = scheme_code(scheme)
    low, high = _end(alpha), _end(beta)
    if low.shape != high.shape:
        raise ValueError(f"alpha and beta must have one shape, not {low.shape} and {high.shape}")
    if not on_device(low):
        bad = ~(np.isfinite(low) & np.isfinite(high) & (low <= high))
        if bad.any():
            a, b = low[bad].flat[0], high[bad].flat[0]
            raise ValueError(f"the range [{a}, {b}] must be finite in float32 with alpha <= beta")
    scale = empty(low.shape, np.float32, low)
    zero_points = empty(low.shape, np.int32, low)
    status = backend.choose_params(low, high, code, grid.qmin, grid.qmax, scale, zero_points)
    if status:
        refuse(status)
    return scale, zero_points.astype(grid.storage)


def _end(value: Any) -> Array:
    """The ends of ranges as float32."""
    with np.errstate(over="ignore"):
        return as_array(value).astype(np.float32, order="C")
