"""Matrix products of integers."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy.typing as npt

from pyquant import _cpu
from pyquant._arguments import Array, delivered
from pyquant._arrays import empty
from pyquant._backend import backend_of
from pyquant._batches import multiply
from pyquant._grid import grid_of
from pyquant._operands import (
    Operand,
    Result,
    Shape,
    as_matrices,
    codes_input,
    int32_output,
    one_scale,
    one_zero_point,
    product_refused,
    product_shape,
    refuse_multiplier,
    refuse_overflow,
    scales,
    zero_points,
)
from pyquant._tensors import takes_tensors
from pyquant.ops.requantizing import requantize_mode
from pyquant.packed_matrix import PackedMatrix

_matmul_integer_plain = _cpu.matmul_integer_plain


def matmul_integer(
    a: npt.ArrayLike,
    b: npt.ArrayLike | PackedMatrix,
    a_zero_point: npt.ArrayLike = 0,
    b_zero_point: npt.ArrayLike = 0,
    *,
    out: Array | None = None,
) -> Array:
    """``(a - a_zero_point) @ (b - b_zero_point)`` in int32, exactly.

    Parameters
    ----------
    a : array of int8 or uint8, shape (..., M, K) or (K,)
    b : array of int8 or uint8, shape (..., K, N) or (K,), or a PackedMatrix
        Of any strides, transposed views among them; dimensions before the last two broadcast. Of a
        PackedMatrix the codes count, and neither its scale nor its zero point.
    a_zero_point : int or array
        Of shape (), or one a row of a: ``(M,)`` or ``(..., M, 1)``.
    b_zero_point : int or array
        Of shape (), or one a column of b: ``(N,)`` or ``(..., 1, N)``.
    out : int32 array, optional
        Where to put the result; it may be strided, and not overlap the operands.

    Returns
    -------
    int32 array, of the shape that ``numpy.matmul(a, b)`` has

    Raises
    ------
    TypeError
        An operand is not int8 or uint8.
    ValueError
        Shapes do not fit, or a zero point is outside its operand's type.
    OverflowError
        K products of these types and zero points could overflow int32: beyond 131071 for int8 and
        int8, 65793 for uint8 and int8, 33025 for uint8 and uint8, fewer with zero points.

    Notes
    -----
    ONNX MatMulInteger.

    Examples
    --------
    >>> import numpy as np
    >>> from pyquant import ops
    >>> ops.matmul_integer(np.uint8([[200, 100]]), np.int8([[-128, 1], [127, 2]]), 100)
    array([[-12800,    100]], dtype=int32)
    """
    right = b._operand.array if type(b) is PackedMatrix else b
    result = _matmul_integer_plain(a, right, a_zero_point, b_zero_point, out)
    if result is not None:
        return result
    return _matmul_integer(a, b, a_zero_point, b_zero_point, out=out)


@takes_tensors()
def _matmul_integer(
    a: Any, b: Any, a_zero_point: Any, b_zero_point: Any, *, out: Array | None
) -> Array:
    backend = backend_of(*_arrays(a, b), out, given=(a_zero_point, b_zero_point))
    left, right, shape = _operands(backend, a, b, a_zero_point, b_zero_point)
    refuse_overflow(shape.k, left, right)
    written = int32_output(out, shape.result, left, right)
    y = Result(written[shape.with_vectors], _cpu.I32)
    status = multiply(backend, left, right, y)
    if status:
        product_refused(status, left)
    return delivered(written, out)


@takes_tensors()
def qlinear_matmul(
    a: npt.ArrayLike,
    a_scale: npt.ArrayLike,
    a_zero_point: npt.ArrayLike,
    b: npt.ArrayLike | PackedMatrix,
    b_scale: npt.ArrayLike,
    b_zero_point: npt.ArrayLike,
    y_scale: npt.ArrayLike,
    y_zero_point: npt.ArrayLike,
    *,
    dtype: Any = None,
    mode: str = "float",
    rounding: str = "double",
) -> Array:
    """A product of codes as codes: `matmul_integer` and `requantize` in one pass.

    ``clamp(round(acc * m) + y_zero_point)`` with ``m = a_scale * b_scale / y_scale`` in float32 and
    ``acc`` the exact sums, which may be larger than int32.

    Parameters
    ----------
    a, b, a_zero_point, b_zero_point
        As in `matmul_integer`.
    a_scale, b_scale : float or array
        Positive and finite in float32, of the shapes that the zero points may have.
    y_scale, y_zero_point : float and int, or arrays of shape () or (1,)
    dtype : str, optional
        The grid of the result, "int2" ... "uint16". Default: the type of `y_zero_point` where that
        is an array or NumPy scalar of 8 or 16 bits (ONNX), else the type of `a`.
    mode, rounding
        As in `requantize`.

    Returns
    -------
    array of codes, of the shape that ``numpy.matmul(a, b)`` has

    Raises
    ------
    TypeError
        An operand is not int8 or uint8.
    ValueError
        Shapes do not fit, a zero point is off its grid, a scale or the multiplier is not positive
        and finite, or mode or rounding is unknown.

    Notes
    -----
    ONNX QLinearMatMul.

    Examples
    --------
    >>> import numpy as np
    >>> from pyquant import ops
    >>> a, b = np.uint8([[200, 100]]), np.int8([[-128, 1], [127, 2]])
    >>> ops.qlinear_matmul(a, 0.02, 100, b, 0.01, 0, 0.05, np.uint8(128))
    array([[ 77, 128]], dtype=uint8)
    """
    given = (a_scale, a_zero_point, b_scale, b_zero_point, y_scale, y_zero_point)
    backend = backend_of(*_arrays(a, b), given=given)
    code = requantize_mode(mode, rounding)
    left, right, shape = _operands(backend, a, b, a_zero_point, b_zero_point, a_scale, b_scale)
    scale = one_scale(y_scale, "y_scale")
    grid = grid_of(dtype if dtype is not None else _result_type(y_zero_point, left), False)
    zero_point = one_zero_point(y_zero_point, grid, "y_zero_point")
    refuse_multiplier(left, right, scale)
    result = empty(shape.result, grid.storage, left.array)
    y = Result(
        result[shape.with_vectors], grid.code, scale=scale, zero_point=zero_point,
        qmin=grid.qmin, qmax=grid.qmax, mode=code,
    )  # fmt: skip
    status = multiply(backend, left, right, y)
    if status:
        product_refused(status, left)
    return result


def _result_type(zero_point: Any, a: Operand) -> str:
    """The grid that ONNX takes from the type of y_zero_point."""
    name = str(getattr(zero_point, "dtype", ""))
    if name in ("int8", "uint8", "int16", "uint16"):
        return name
    return "int8" if a.code == _cpu.I8 else "uint8"


def _arrays(a: Any, b: Any) -> tuple[Any, ...]:
    """What decides where to compute; a PackedMatrix must be for there."""
    return (a,) if type(b) is PackedMatrix else (a, b)


def _operands(
    backend: ModuleType,
    a: Any,
    b: Any,
    a_zero_point: Any,
    b_zero_point: Any,
    a_scale: Any = None,
    b_scale: Any = None,
) -> tuple[Operand, Operand, Shape]:
    """The operands of a product of plain arrays, checked."""
    left, left_code = codes_input(a, "a")
    if type(b) is PackedMatrix:
        right, right_code = b._operand_for(backend, "b")[:2]
        if right.block:
            raise ValueError(
                f"b must be packed without blocks here, not in blocks of {right.block} along K"
            )
        shape = product_shape(left.shape, b.shape)
        of_b = b.shape
    else:
        right, right_code = codes_input(b, "b")
        shape = product_shape(left.shape, right.shape)
        right = as_matrices(right, row=False)
        of_b = right.shape
    left = as_matrices(left, row=True)
    return (
        Operand(
            left, left_code,
            zero_points(a_zero_point, left.shape, -2, left_code, "a_zero_point"),
            None if a_scale is None else scales(a_scale, left.shape, -2, "a_scale"),
        ),
        Operand(
            right, right_code,
            zero_points(b_zero_point, of_b, -1, right_code, "b_zero_point"),
            None if b_scale is None else scales(b_scale, of_b, -1, "b_scale"),
        ),
        shape,
    )  # fmt: skip
