"""Fake quantization and its straight-through gradients."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pyquant import _cpu
from pyquant._arguments import (
    Array,
    apart,
    delivered,
    float_input,
    layout_of,
    output,
    params_shape,
    refuse,
    scale_input,
    zero_point_input,
)
from pyquant._backend import backend_of
from pyquant._grid import Grid, grid_of

_fake_quantize_plain = _cpu.fake_quantize_plain


def _fake_arguments(
    scale: npt.ArrayLike,
    zero_point: npt.ArrayLike,
    grid: Grid,
    shape: tuple[int, ...],
    axis: int | None,
    block_size: int | None,
) -> tuple[Array, Array | None, tuple[int, int, int, int]]:
    layout = layout_of(shape, axis, block_size)
    expected = params_shape(shape, axis, block_size)
    zero_points = zero_point_input(zero_point, expected, f"{grid.qmin} ... {grid.qmax}")
    return scale_input(scale, expected), zero_points, layout


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
    if result is not None:
        return result
    backend = backend_of(x, out)
    grid = grid_of(dtype, narrow_range)
    array, code = float_input(x)
    scales, zero_points, layout = _fake_arguments(
        scale, zero_point, grid, array.shape, axis, block_size
    )
    result = output(out, array.shape, array.dtype, np.asarray(x), array)
    status = backend.fake_quantize(
        array, code, apart(scales, out), zero_points, result, layout, grid.qmin, grid.qmax
    )
    if status:
        refuse(status, scale=scales, zero_point=zero_points, grid=grid)
    return delivered(result, out)


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
    backend = backend_of(grad, x)
    grid = grid_of(dtype, narrow_range)
    array, _ = float_input(x)
    upstream, _ = float_input(grad, "grad")
    if upstream.shape != array.shape:
        raise ValueError(f"grad must have x's shape {array.shape}, not {upstream.shape}")
    scales, zero_points, layout = _fake_arguments(
        scale, zero_point, grid, array.shape, axis, block_size
    )
    code = _cpu.F64 if np.float64 in (array.dtype, upstream.dtype) else _cpu.F32
    wide = np.dtype(np.float64 if code == _cpu.F64 else np.float32)
    dx = np.empty(array.shape, wide)
    dscale, dzero_point = np.empty(scales.shape), np.empty(scales.shape)
    status = backend.fake_quantize_grad(
        upstream.astype(wide, copy=False), array.astype(wide, copy=False), code, scales,
        zero_points, dx, dscale, dzero_point, layout, grid.qmin, grid.qmax,
    )  # fmt: skip
    if status:
        refuse(status, scale=scales, zero_point=zero_points, grid=grid)
    return (
        dx.astype(upstream.dtype, copy=False),
        dscale.astype(np.float32),
        dzero_point.astype(np.float32),
    )
