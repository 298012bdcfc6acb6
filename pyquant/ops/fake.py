"""Fake quantization and its straight-through gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pyquant import _cpu
from pyquant._arguments import Array, apart, delivered, float_input, output, params_input, refuse
from pyquant._arrays import contiguous, empty
from pyquant._backend import backend_of, beyond_numpy
from pyquant._grid import grid_of
from pyquant._tensors import takes_tensors

_fake_quantize_plain = _cpu.fake_quantize_plain


def fake_quantize_linear(
    x: npt.ArrayLike,
    scale: npt.ArrayLike,
    zero_point: npt.ArrayLike = 0,
    *,
    dtype: str = "int8",
    narrow_range: bool = False,
    axis: int | None = None,
    block_size: int | None = None,
    out: Array | None = None,
) -> Array:
    """``dequantize_linear(quantize_linear(x))`` in one pass, in x's own float type.

    Parameters and errors are those of `quantize_linear`; `out` may be `x` itself.

    Examples
    --------
    >>> import numpy as np
    >>> from pyquant import ops
    >>> ops.fake_quantize_linear(np.float32([-1.1, 0.2, 100.0]), 0.5)
    array([-1. ,  0. , 63.5], dtype=float32)
    """
    result = _fake_quantize_plain(x, scale, zero_point, dtype, narrow_range, axis, block_size, out)
    if result is None:
        given = scale, zero_point, dtype, narrow_range, axis, block_size
        return beyond_numpy("fake_quantize_plain", _fake_quantize, x, *given, out=out)
    return result


@takes_tensors(differentiable=True)
def _fake_quantize(
    x: Any, scale: Any, zero_point: Any, dtype: str, narrow_range: bool, axis: int | None,
    block_size: int | None, *, out: Any,
) -> Array:  # fmt: skip
    backend = backend_of(x, out, given=(scale, zero_point))
    grid = grid_of(dtype, narrow_range)
    array, code = float_input(x)
    scales, zero_points, layout = params_input(
        scale, zero_point, grid, array.shape, axis, block_size, array
    )
    result = output(out, array.shape, array.dtype, array, x)
    status = backend.fake_quantize(
        array, code, apart(scales, out), zero_points, result, layout, grid.qmin, grid.qmax
    )
    if status:
        refuse(status, scale=scales, zero_point=zero_points, grid=grid)
    return delivered(result, out)


@takes_tensors()
def fake_quantize_grad_linear(
    grad: npt.ArrayLike,
    x: npt.ArrayLike,
    scale: npt.ArrayLike,
    zero_point: npt.ArrayLike = 0,
    *,
    dtype: str = "int8",
    narrow_range: bool = False,
    axis: int | None = None,
    block_size: int | None = None,
) -> tuple[Array, Array, Array]:
    """Straight-through gradients of `fake_quantize_linear`; see `pyquant.fake_quantize_grad`.

    Returns
    -------
    (dx, dscale, dzero_point)
        dx of x's shape and grad's dtype; the others float32 of scale's shape.

    Examples
    --------
    >>> import numpy as np
    >>> from pyquant import ops
    >>> dx, ds, dz = ops.fake_quantize_grad_linear(np.ones(2, "f4"), np.float32([0.4, 9.0]), 0.5,
    ...                                            dtype="int4")
    >>> dx, round(float(ds), 3), float(dz)
    (array([1., 0.], dtype=float32), 7.2, -0.5)
    """
    backend = backend_of(grad, x, given=(scale, zero_point))
    grid = grid_of(dtype, narrow_range)
    array, _ = float_input(x)
    upstream, _ = float_input(grad, "grad")
    if upstream.shape != array.shape:
        raise ValueError(f"grad must have x's shape {array.shape}, not {upstream.shape}")
    scales, zero_points, layout = params_input(
        scale, zero_point, grid, array.shape, axis, block_size, array
    )
    code = _cpu.F64 if np.float64 in (array.dtype, upstream.dtype) else _cpu.F32
    wide = np.dtype(np.float64 if code == _cpu.F64 else np.float32)
    dx = empty(array.shape, wide, array)
    dscale, dzero_point = (empty(scales.shape, np.float64, array) for _ in range(2))
    status = backend.fake_quantize_grad(
        contiguous(upstream, wide), contiguous(array, wide), code, scales, zero_points, dx,
        dscale, dzero_point, layout, grid.qmin, grid.qmax,
    )  # fmt: skip
    if status:
        refuse(status, scale=scales, zero_point=zero_points, grid=grid)
    return (
        contiguous(dx, upstream.dtype),
        contiguous(dscale, np.dtype(np.float32)),
        contiguous(dzero_point, np.dtype(np.float32)),
    )
