"""Convolutions of integers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from pyquant import _cpu
from pyquant._arguments import (
    Array,
    apart,
    delivered,
    int32_input,
    output,
    refuse,
)
from pyquant._arrays import on_device
from pyquant._backend import backend_of
from pyquant._geometry import Geometry, channels_last, geometry, numbers
from pyquant._grid import grid_of
from pyquant._operands import (
    Operand,
    Result,
    codes_input,
    one_scale,
    one_zero_point,
    refuse_multiplier,
    refuse_overflow,
    scales,
    zero_points,
)
from pyquant._tensors import takes_tensors
from pyquant.ops.requantizing import requantize_mode


@takes_tensors()
def conv_integer(
    x: npt.ArrayLike,
    w: npt.ArrayLike,
    x_zero_point: npt.ArrayLike = 0,
    w_zero_point: npt.ArrayLike = 0,
    *,
    strides: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    group: int = 1,
    auto_pad: str = "NOTSET",
    kernel_shape: Sequence[int] | None = None,
    layout: str = "NCHW",
    out: Array | None = None,
) -> Array:
    """Convolve int8 or uint8 into int32, exactly.

    ``sum((x - x_zero_point) * (w - w_zero_point))`` over the kernel and the channels of a group.
    Outside `x` stands its zero point, which is the real 0.0.

    Parameters
    ----------
    x : array of int8 or uint8, shape (N, C, *size) or, with layout "NHWC", (N, *size, C)
        One, two or three spatial dimensions.
    w : array of int8 or uint8, shape (M, C / group, *kernel)
    x_zero_point : int
    w_zero_point : int or array of shape (M,)
    strides, dilations : sequence of int
        One for each spatial dimension; 1 by default.
    pads : sequence of int
        Before each spatial dimension, then after each; 0 by default.
    group : int
        Output m sees the channels of group ``m // (M / group)`` only.
    auto_pad : str
        "NOTSET", "VALID" (no padding), "SAME_UPPER" or "SAME_LOWER": the result has
        ``ceil(size / stride)`` elements, and the odd one of an odd padding is after or before.
    kernel_shape : sequence of int
        Must be w's, if given.
    layout : "NCHW" or "NHWC"
        Channels second or last, in `x` and in the result.
    out : int32 array, optional
        Where to put the result.

    Returns
    -------
    int32 array of shape (N, M, *result) or, with layout "NHWC", (N, *result, M)

    Raises
    ------
    TypeError
        `x` or `w` is not int8 or uint8.
    ValueError
        Shapes, attributes or zero points do not fit.
    OverflowError
        The sums have so many products that int32 could overflow: from 33026 on in the worst case.

    Notes
    -----
    ONNX ConvInteger.

    Examples
    --------
    >>> import numpy as np
    >>> from pyquant import ops
    >>> x = np.uint8([[[1, 2, 3, 4]]])
    >>> ops.conv_integer(x, np.int8([[[1, -1]]]), 1, pads=[1, 0])
    array([[[ 0, -1, -1, -1]]], dtype=int32)
    """
    backend = backend_of(x, w, out, given=(x_zero_point, w_zero_point))
    last = channels_last(layout)
    left, right, g = _operands(
        x, w, x_zero_point, w_zero_point, strides, pads, dilations, group, auto_pad, kernel_shape,
        last,
    )  # fmt: skip
    refuse_overflow(g.products, left, right)
    left, right = (o._replace(array=apart(o.array, out)) for o in (left, right))
    result = output(out, g.result, np.dtype(np.int32), left.array)
    status = backend.convolve(g, last, left, right, Result(result, _cpu.I32))
    if status:
        refuse(status)
    return delivered(result, out)


@takes_tensors()
def qlinear_conv(
    x: npt.ArrayLike,
    x_scale: npt.ArrayLike,
    x_zero_point: npt.ArrayLike,
    w: npt.ArrayLike,
    w_scale: npt.ArrayLike,
    w_zero_point: npt.ArrayLike,
    y_scale: npt.ArrayLike,
    y_zero_point: npt.ArrayLike,
    B: npt.ArrayLike | None = None,
    *,
    strides: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    group: int = 1,
    auto_pad: str = "NOTSET",
    kernel_shape: Sequence[int] | None = None,
    layout: str = "NCHW",
    dtype: str | None = None,
    mode: str = "float",
    rounding: str = "double",
    out: Array | None = None,
) -> Array:
    """Convolve int8 or uint8, and requantize.

    ``clamp(rint((acc + B) * (x_scale * w_scale / y_scale)) + y_zero_point)``, where ``acc`` is what
    `conv_integer` gives.

    Parameters
    ----------
    x, w, strides, pads, dilations, group, auto_pad, kernel_shape, layout
        As in `conv_integer`.
    x_scale, y_scale : float
    w_scale : float or array of shape (M,)
    x_zero_point, y_zero_point : int
    w_zero_point : int or array of shape (M,)
    B : int32 array of shape (M,), optional
        The bias, at scale ``x_scale * w_scale``.
    dtype : str, optional
        The grid of the result. Default: the type of `y_zero_point`, and of `x` if that is a plain
        int.
    mode, rounding
        As in `requantize`.
    out : array, optional
        Where to put the result.

    Returns
    -------
    array of codes, shaped as the result of `conv_integer`

    Raises
    ------
    TypeError
        `x` or `w` is not int8 or uint8, or `B` not int32.
    ValueError
        Shapes, attributes, zero points or scales do not fit, or mode or rounding is unknown.

    Notes
    -----
    ONNX QLinearConv.

    Examples
    --------
    >>> import numpy as np
    >>> from pyquant import ops
    >>> x, w = np.uint8([[[10, 20, 30]]]), np.int8([[[2, -1]]])
    >>> ops.qlinear_conv(x, 0.5, 10, w, 0.25, 0, 0.5, np.uint8(128))
    array([[[126, 128]]], dtype=uint8)
    """
    given = (x_scale, x_zero_point, w_scale, w_zero_point, y_scale, y_zero_point, B)
    backend = backend_of(x, w, out, given=given)
    code = requantize_mode(mode, rounding)
    last = channels_last(layout)
    left, right, g = _operands(
        x, w, x_zero_point, w_zero_point, strides, pads, dilations, group, auto_pad, kernel_shape,
        last,
    )  # fmt: skip
    left = left._replace(scale=scales(x_scale, (1, 1), -1, "x_scale"))
    right = right._replace(scale=scales(w_scale, (1, g.outputs), -1, "w_scale"))
    scale = one_scale(y_scale, "y_scale")
    grid = grid_of(dtype if dtype is not None else _result_type(y_zero_point, left), False)
    zero_point = one_zero_point(y_zero_point, grid, "y_zero_point")
    bias = None if B is None else apart(_bias(B, g.outputs), out)
    left, right = (o._replace(array=apart(o.array, out)) for o in (left, right))
    result = output(out, g.result, grid.storage, left.array)
    y = Result(
        result, grid.code, bias, scale=scale, zero_point=zero_point, qmin=grid.qmin,
        qmax=grid.qmax, mode=code,
    )  # fmt: skip
    if on_device(left.array):
        refuse_multiplier(left, right, scale)
    status = backend.convolve(g, last, left, right, y)
    if status:
        convolution_refused(status, left, right, scale)
    return delivered(result, out)


def convolution_refused(status: int, x: Operand, w: Operand, y_scale: float) -> NoReturn:
    """The exception for a status of a convolution whose operands were checked."""
    if status == _cpu.ERROR_SCALE:
        refuse_multiplier(x, w, y_scale)
    refuse(status)


def _result_type(zero_point: Any, x: Operand) -> str:
    """The grid that ONNX takes from the type of y_zero_point."""
    name = str(getattr(zero_point, "dtype", ""))
    if name in ("int8", "uint8", "int16", "uint16"):
        return name
    return "int8" if x.code == _cpu.I8 else "uint8"


def _bias(bias: Any, outputs: int) -> Array:
    array = int32_input(bias, "B")
    if array.shape != (outputs,):
        raise ValueError(f"B must have shape ({outputs},), not {array.shape}")
    return array


def _operands(
    x: Any,
    w: Any,
    x_zero_point: Any,
    w_zero_point: Any,
    strides: Any,
    pads: Any,
    dilations: Any,
    group: int,
    auto_pad: str,
    kernel_shape: Any,
    last: bool,
) -> tuple[Operand, Operand, Geometry]:
    """The operands and the geometry, checked."""
    images, x_code = codes_input(x, "x")
    filters, w_code = codes_input(w, "w")
    dimensions = max(filters.ndim - 2, 0)
    if kernel_shape is not None and tuple(kernel_shape) != filters.shape[2:]:
        raise ValueError(f"kernel_shape={kernel_shape} must be that of w, {filters.shape[2:]}")
    if isinstance(group, bool) or not isinstance(group, (int, np.integer)):
        raise TypeError(f"group must be an integer, not {group!r}")
    if auto_pad not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise ValueError(
            f"auto_pad must be 'NOTSET', 'VALID', 'SAME_UPPER' or 'SAME_LOWER', not {auto_pad!r}"
        )
    padding: Any = auto_pad
    if pads is not None:
        sides = numbers(pads, 2 * dimensions, 0, "pads")
        if auto_pad == "NOTSET":
            padding = sides[:dimensions], sides[dimensions:]
        elif any(sides):
            raise ValueError(f"pads={pads!r} must be left alone with auto_pad={auto_pad!r}")
    g = geometry(
        images.shape, filters.shape, last, numbers(strides, dimensions, 1, "strides"),
        numbers(dilations, dimensions, 1, "dilations"), padding, int(group),
    )  # fmt: skip
    left = Operand(images, x_code, zero_points(x_zero_point, (1, 1), -1, x_code, "x_zero_point"))
    right = Operand(
        filters, w_code, zero_points(w_zero_point, (1, g.outputs), -1, w_code, "w_zero_point")
    )
    return left, right, g
