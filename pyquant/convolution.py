"""Convolutions of quantized images: `conv2d`, and `pack_convolution` for weights used again."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from pyquant import ops
from pyquant._arguments import Array
from pyquant._arrays import empty, on_device
from pyquant._backend import backend_of
from pyquant._epilogue import code_bias, epilogue, real_bias
from pyquant._geometry import channels_last, geometry, numbers
from pyquant._grid import grid_of
from pyquant._operands import Operand, floats_input, refuse_multiplier, refuse_overflow
from pyquant._placement import arrays_of
from pyquant._tensors import takes_tensors
from pyquant.array import QuantizedArray, QuantParams
from pyquant.calibration import calibrate
from pyquant.ops.convolution import convolution_refused


class PackedConvolution:
    """The weights of a convolution in the layout that this processor multiplies.

    `pack_convolution` makes them, for any stride, padding and dilation. Immutable; it keeps the
    quantized weights as well, and pickles as those.

    Examples
    --------
    >>> import numpy as np, pyquant as pq
    >>> w = np.random.default_rng(0).standard_normal((64, 3, 7, 7), dtype=np.float32)
    >>> packed = pq.pack_convolution(pq.quantize(w, axis=0))
    >>> packed.shape, packed.groups, packed.weight.dtype
    ((64, 3, 7, 7), 1, 'int8')
    """

    __slots__ = ("_backend", "_operand", "groups", "weight")

    weight: QuantizedArray
    """What was packed."""
    groups: int
    _operand: Operand
    _backend: ModuleType

    def __init__(self) -> None:
        raise TypeError("a PackedConvolution is made by pyquant.pack_convolution")

    @property
    def shape(self) -> tuple[int, ...]:
        """(outputs, channels / groups, height, width)."""
        return self.weight.shape

    @property
    def nbytes(self) -> int:
        """Bytes of the packed codes; the quantized weights come on top."""
        return int(self._operand.array.nbytes)

    @property
    def isa(self) -> str:
        """The variant whose layout it has, one of those that `show_runtime` lists."""
        return str(self._operand.array.isa)

    def __copy__(self) -> PackedConvolution:
        return self

    def __deepcopy__(self, memo: Any) -> PackedConvolution:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _packed, (self.weight, self.groups)

    def __repr__(self) -> str:
        return (
            f"PackedConvolution(shape={self.shape}, groups={self.groups}, "
            f"dtype={self.weight.dtype!r}, isa={self.isa!r}, nbytes={self.nbytes})"
        )


@takes_tensors()
def pack_convolution(weight: QuantizedArray, *, groups: int = 1) -> PackedConvolution:
    """Prepare the weights of a convolution once for many calls.

    Parameters
    ----------
    weight : QuantizedArray, shape (outputs, channels / groups, height, width)
        Per tensor or per output (``axis=0``), at most 8 bits.
    groups : int

    Returns
    -------
    PackedConvolution

    Raises
    ------
    TypeError
        `weight` is no QuantizedArray, or its grid has more than 8 bits.
    ValueError
        Its shape or granularity does not fit.

    Examples
    --------
    >>> import numpy as np, pyquant as pq
    >>> w = pq.quantize(np.ones((8, 1, 3, 3), np.float32))
    >>> packed = pq.pack_convolution(w, groups=8)
    >>> pq.conv2d(np.ones((1, 8, 16, 16), np.float32), packed, padding=1).shape
    (1, 8, 16, 16)
    """
    return _packed(weight, groups)


def _packed(weight: QuantizedArray, groups: int) -> PackedConvolution:
    backend = _backend_of((weight,))
    operand = _filters(weight)
    count = _groups(groups)
    shape = (1, weight.shape[1] * count, *weight.shape[2:])
    ones, zeros = (1, 1), (0, 0)
    g = geometry(shape, weight.shape, False, ones, ones, (zeros, zeros), count, ("x", "weight"))
    packed: PackedConvolution = object.__new__(PackedConvolution)
    filters = backend.pack_convolution(g, operand.array, operand.code)
    packed._operand, packed._backend = operand._replace(array=filters), backend
    packed.weight, packed.groups = weight, count
    return packed


@takes_tensors(differentiable=True)
def conv2d(
    x: npt.ArrayLike | QuantizedArray,
    weight: QuantizedArray | PackedConvolution,
    bias: npt.ArrayLike | None = None,
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] | str = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    x_params: QuantParams | None = None,
    out_params: QuantParams | None = None,
    out_dtype: Any = "float32",
    relu: bool = False,
    clip: tuple[float, float] | None = None,
    layout: str = "NCHW",
    mode: str = "float",
    rounding: str = "double",
) -> Array | QuantizedArray:
    """A convolutional layer, multiplied as integers.

    Parameters
    ----------
    x : float array or QuantizedArray, shape (N, C, H, W) or, with layout "NHWC", (N, H, W, C)
        Floats are quantized on the way in: with `x_params`, or else symmetric int8 with one scale.
        A QuantizedArray is per tensor, of at most 8 bits.
    weight : QuantizedArray of shape (outputs, C / groups, height, width), or PackedConvolution
        Per tensor or per output (``axis=0``). `pack_convolution` prepares it once for many calls.
    bias : array of shape (outputs,), optional
        Floats; with `out_params` or int32 results they are rounded to int32 at scale
        ``x.scale * weight.scale``, and int32 is taken as such codes.
    stride, dilation : int or pair
    padding : int, pair, pair of pairs, "same" or "valid"
        Of real zeros: for both dimensions, for each, or ((top, bottom), (left, right)). "same":
        the result has ``ceil(size / stride)`` rows and columns.
    groups : int
        Output m sees the channels of group ``m // (outputs / groups)`` only. A PackedConvolution
        knows it.
    x_params : QuantParams, optional
        Static parameters of a float `x`: per tensor, at most 8 bits.
    out_params : QuantParams, optional
        Per tensor; the result is then a QuantizedArray.
    out_dtype : str
        "float32"; "float16", "bfloat16" or "float64", which are the float32 result converted; or
        "int32": the sums themselves, less the zero points.
    relu : bool
        Negative results become 0.
    clip : pair of floats, optional
        Real bounds of the result.
    layout : "NCHW" or "NHWC"
        Channels second or last, in `x` and in the result.
    mode, rounding
        With `out_params`: as in `ops.requantize`.

    Returns
    -------
    array or, with `out_params`, QuantizedArray

    Raises
    ------
    TypeError
        An operand is of another type, or its grid has more than 8 bits.
    ValueError
        Shapes or granularities do not fit, or an argument is out of its range; NaN or infinity in
        a float `x` without `x_params`.
    OverflowError
        ``out_dtype="int32"``, and the sums could overflow; see `ops.conv_integer`.

    Notes
    -----
    A float result is ``float32(acc) * (x_scale * w_scale) + bias``, each operation rounded to
    float32; codes are ``requantize(acc + bias, x_scale * w_scale / out_scale)``.

    Examples
    --------
    >>> import numpy as np, pyquant as pq
    >>> x = np.float32([[[[1.0, 2.0, 3.0]]]])
    >>> w = pq.quantize(np.float32([[[[1.0, -1.0]]]]))
    >>> pq.conv2d(x, w, padding=((0, 0), (1, 0))).round(2)
    array([[[[-0.99, -1.02, -0.99]]]], dtype=float32)
    """
    backend = _backend_of((x, weight), bias)
    end = epilogue(out_params, out_dtype, relu, clip, mode, rounding)
    last = channels_last(layout)
    if isinstance(weight, PackedConvolution):
        if groups not in (1, weight.groups):
            raise ValueError(f"groups={groups} must be the {weight.groups} of the packed weight")
        if weight._backend is not backend:
            raise TypeError("weight must be packed where x is: pack an array from there")
        right, groups = weight._operand, weight.groups
    else:
        right, groups = _filters(weight), _groups(groups)
    left = _images(x, x_params)
    g = geometry(
        left.array.shape, weight.shape, last, numbers(stride, 2, 1, "stride"),
        numbers(dilation, 2, 1, "dilation"), _padding(padding), groups, ("x", "weight"),
    )  # fmt: skip
    params = end.params
    if params is None and end.dtype != np.int32:
        # A GPU writes the narrow types itself; on the CPU float32 is made first and converted then.
        narrow = on_device(left.array) and end.dtype.itemsize == 2
        array = empty(g.result, end.dtype if narrow else np.float32, left.array)
        y = end.floats(array, real_bias(bias, g.outputs))
    else:
        codes = code_bias(bias, g.outputs, left, right)
        array = empty(g.result, end.dtype, left.array)
        if params is None:
            refuse_overflow(g.products, left, right, codes)
            y = end.sums(array, codes)
        else:
            y = end.codes(array, codes)
            if on_device(array):
                refuse_multiplier(left, right, y.scale)
    status = backend.convolve(g, last, left, right, y)
    if status:
        convolution_refused(status, left, right, y.scale)
    return end.finished(array)


def _backend_of(operands: tuple[Any, ...], bias: Any = None) -> ModuleType:
    """Where to compute: where plain arrays and the codes of quantized ones are."""
    arrays, given = arrays_of(operands, bias, PackedConvolution)
    return backend_of(*arrays, given=given)


def _images(x: Any, x_params: QuantParams | None) -> Operand:
    """The left operand."""
    if isinstance(x, QuantizedArray):
        if x_params is not None:
            raise ValueError("x_params are for floats, and x is quantized already")
        if x.params.axis is not None:
            raise ValueError(f"x must be quantized per tensor, not with axis={x.params.axis}")
        return Operand(_codes(x, "x"), x.params._grid.code, x.params._zero_points(), x.params.scale)
    array, code = floats_input(x, "x")
    if x_params is None:
        x_params = _dynamic(array)
    elif not isinstance(x_params, QuantParams):
        raise TypeError(f"x_params must be QuantParams or None, not {type(x_params).__name__}")
    elif x_params.axis is not None or x_params.bits > 8:
        raise ValueError(f"x_params must be per tensor and of at most 8 bits, not {x_params!r}")
    return Operand(array, code, x_params._zero_points(), x_params.scale, x_params._grid)


def _dynamic(x: Array) -> QuantParams:
    """Symmetric int8 with one scale, which stays on the device that x is on."""
    if not on_device(x):
        return calibrate(x)
    low, high = ops.minmax(x)
    scale, zero_point = ops.choose_params(low, high, dtype="int8", narrow_range=True)
    return QuantParams._of(scale, zero_point, grid_of("int8", True), None, None, centred=True)


def _filters(weight: Any) -> Operand:
    """The right operand, (outputs, channels, height, width)."""
    if not isinstance(weight, QuantizedArray):
        raise TypeError(
            "weight must be a QuantizedArray or a PackedConvolution, not "
            f"{type(weight).__name__}; pyquant.quantize makes one"
        )
    if weight.ndim != 4:
        raise ValueError(
            f"weight must have shape (outputs, channels, height, width), not {weight.shape}"
        )
    params = weight.params
    if params.block_size is not None or params.axis not in (None, 0, -4):
        raise ValueError(
            f"weight must be quantized per tensor or per output (axis=0), not {params!r}"
        )
    return Operand(_codes(weight, "weight"), params._grid.code, params._zero_points(), params.scale)


def _codes(x: QuantizedArray, name: str) -> Array:
    if x.params.bits > 8:
        raise TypeError(f"{name} must be on a grid of at most 8 bits, not {x.dtype}")
    return x.unpack().data


def _groups(groups: Any) -> int:
    if isinstance(groups, bool) or not isinstance(groups, (int, np.integer)):
        raise TypeError(f"groups must be an integer, not {groups!r}")
    return int(groups)


def _padding(padding: Any) -> str | tuple[tuple[int, ...], tuple[int, ...]]:
    """ONNX's auto_pad, or (before, after)."""
    if isinstance(padding, str):
        if padding not in ("same", "valid"):
            raise ValueError(f"padding must be numbers, 'same' or 'valid', not {padding!r}")
        return "SAME_UPPER" if padding == "same" else "VALID"
    given = np.asarray(padding)
    if given.shape == (2, 2):
        before, after = (numbers(given[:, side], 2, 0, "padding") for side in range(2))
        return before, after
    both = numbers(padding, 2, 0, "padding")
    return both, both
