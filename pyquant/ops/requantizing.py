"""int32 accumulators to a grid."""

from __future__ import annotations

import numpy.typing as npt

from pyquant import _cpu
from pyquant._arguments import Array, apart, delivered, int32_input, output, params_input, refuse
from pyquant._backend import backend_of
from pyquant._grid import grid_of
from pyquant._tensors import takes_tensors

_REQUANTIZE = {
    ("float", "double"): _cpu.FLOAT,
    ("float", "single"): _cpu.FLOAT,
    ("fixed", "double"): _cpu.FIXED_DOUBLE,
    ("fixed", "single"): _cpu.FIXED_SINGLE,
}


@takes_tensors()
def requantize(
    acc: npt.ArrayLike,
    multiplier: npt.ArrayLike,
    zero_point: npt.ArrayLike = 0,
    *,
    dtype: str = "int8",
    narrow_range: bool = False,
    axis: int | None = None,
    mode: str = "float",
    rounding: str = "double",
    out: Array | None = None,
) -> Array:
    """int32 accumulators to a grid: ``clamp(round(acc * multiplier) + zero_point)``.

    Parameters
    ----------
    acc : int32 array
    multiplier : float or array of shape ``(acc.shape[axis],)``
        ``a_scale * b_scale / y_scale``, positive and finite in float32.
    zero_point, dtype, narrow_range, axis, out
        As in `quantize_linear`.
    mode : "float" or "fixed"
        "float" (ONNX QLinearMatMul): ``rint(float32(acc) * multiplier)``, ties to even.
        "fixed" (gemmlowp, TFLite): integers only, from a 32-bit multiplier and a shift.
    rounding : "double" or "single"
        Of mode "fixed". "double": saturating rounding doubling high multiply, then a rounding
        division by a power of two, ties away from zero. "single": one 64-bit rounding shift, ties
        up.

    Returns
    -------
    array of acc's shape

    Raises
    ------
    TypeError
        `acc` is not int32.
    ValueError
        An unknown mode or rounding; multiplier, zero point or shape as in `quantize_linear`.

    Examples
    --------
    >>> import numpy as np
    >>> from pyquant import ops
    >>> ops.requantize(np.int32([100, -300, 70000]), 0.01, mode="fixed")
    array([  1,  -3, 127], dtype=int8)
    """
    backend = backend_of(acc, out, given=(multiplier, zero_point))
    code = requantize_mode(mode, rounding)
    grid = grid_of(dtype, narrow_range)
    array = int32_input(acc, "acc")
    scales, zero_points, layout = params_input(
        multiplier, zero_point, grid, array.shape, axis, None, array, name="multiplier"
    )
    scales = apart(scales, out)
    result = output(out, array.shape, grid.storage, array, acc)
    status = backend.requantize(
        array, scales, zero_points, result, grid.code, layout, grid.qmin, grid.qmax, code
    )
    if status:
        refuse(status, scale=scales, scale_name="multiplier", zero_point=zero_points, grid=grid)
    return delivered(result, out)


def requantize_mode(mode: str, rounding: str) -> int:
    """pq_requantize_mode of the names."""
    code = _REQUANTIZE.get((mode, rounding))
    if code is None:
        raise ValueError(
            "mode must be 'float' or 'fixed' and rounding 'double' or 'single', "
            f"not {mode!r} and {rounding!r}"
        )
    return int(code)
