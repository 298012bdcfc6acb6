"""What quantization is described by (`QuantParams`) and what it makes (`QuantizedArray`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from pyquant import ops
from pyquant._arguments import (
    Array,
    check_scale,
    check_zero_point,
    layout_of,
    params_shape,
    zero_point_input,
)
from pyquant._arrays import as_array, contiguous, module_of, on_device
from pyquant._backend import backend_of, is_dask, library_of
from pyquant._grid import Grid, default_narrow, grid_of
from pyquant._tensors import takes_tensors, values_of
from pyquant.calibration import calibrate

_new = object.__new__


class QuantParams:
    """Scale, zero point and grid, and which elements share them. Immutable.

    Parameters
    ----------
    scale : float or array
        Real units per integer step, positive and finite in float32: shape ``()`` per tensor,
        ``(channels,)`` with `axis`, and with `block_size` the quantized array's shape with
        ``ceil(n / block_size)`` along `axis`.
    zero_point : int or array of scale's shape
        The integer that stands for 0.0; inside the grid.
    dtype : str
        "int2" ... "int16", "uint2" ... "uint16".
    narrow_range : bool
        The grid without its lowest value.
    axis, block_size : int, optional

    Raises
    ------
    ValueError, TypeError
        A value or shape that the description above excludes.

    Examples
    --------
    >>> import pyquant as pq
    >>> pq.QuantParams(0.5, dtype="int4")
    QuantParams(scale=0.5, zero_point=0, dtype='int4')
    """

    __slots__ = ("_axis", "_block_size", "_centred", "_grid", "_scale", "_zero_point")

    _centred: bool | None
    """Is every zero point 0? None: nobody has looked yet."""

    def __init__(
        self,
        scale: npt.ArrayLike,
        zero_point: npt.ArrayLike = 0,
        dtype: str = "int8",
        narrow_range: bool = False,
        axis: int | None = None,
        block_size: int | None = None,
    ) -> None:
        grid = grid_of(dtype, narrow_range)
        self._scale, self._zero_point = _parts(scale, zero_point, grid, axis, block_size)
        self._grid, self._axis = grid, None if axis is None else int(axis)
        self._block_size = None if block_size is None else int(block_size)
        self._centred = True if type(zero_point) is int and zero_point == 0 else None

    @classmethod
    def _of(
        cls, scale: Array, zero_point: Array, grid: Grid, axis: int | None, block_size: int | None,
        centred: bool | None = None,
    ) -> QuantParams:  # fmt: skip
        """From read-only parts that are known to be right."""
        params: QuantParams = _new(cls)
        params._scale, params._zero_point, params._grid = scale, zero_point, grid
        params._axis, params._block_size, params._centred = axis, block_size, centred
        return params

    def _zero_points(self) -> Array | None:
        """For products: int32, or None where all are known to be 0.

        Those on a device are not looked at, which would be to wait for it.
        """
        if self._centred is None:
            self._centred = not (on_device(self._zero_point) or self._zero_point.any())
        return None if self._centred else self._zero_point.astype(np.int32)

    def _over(
        self, of_data: Callable[[Array], Array], of_params: Callable[[Array], Array]
    ) -> QuantParams:
        """The same with other arrays of the same values."""
        scale, zero_point = of_params(self._scale), of_params(self._zero_point)
        return QuantParams._of(
            scale, zero_point, self._grid, self._axis, self._block_size, self._centred
        )

    @property
    def scale(self) -> Array:
        """Real units per integer step, float32."""
        return self._scale

    @property
    def zero_point(self) -> Array:
        """The integers that stand for 0.0, of the storage type and scale's shape."""
        return self._zero_point

    @property
    def axis(self) -> int | None:
        """The axis along which scales differ."""
        return self._axis

    @property
    def block_size(self) -> int | None:
        """How many elements along the axis share a scale."""
        return self._block_size

    @property
    def dtype(self) -> str:
        """The grid's name."""
        return self._grid.name

    @property
    def narrow_range(self) -> bool:
        """Is the lowest value left out?"""
        return self._grid.narrow

    @property
    def qmin(self) -> int:
        """The lowest value of the grid."""
        return self._grid.qmin

    @property
    def qmax(self) -> int:
        """The highest value of the grid."""
        return self._grid.qmax

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return self._grid.bits

    @property
    def signed(self) -> bool:
        """Has the grid negative values?"""
        return self._grid.signed

    @property
    def storage(self) -> np.dtype[Any]:
        """The integer type that holds a code."""
        return self._grid.storage

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, QuantParams):
            return NotImplemented
        return (
            self._grid == other._grid
            and self.axis == other.axis
            and self.block_size == other.block_size
            and np.array_equal(values_of(self.scale), values_of(other.scale))
            and np.array_equal(values_of(self.zero_point), values_of(other.zero_point))
        )

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        parts = (self.scale, self.zero_point, self.dtype, self.narrow_range)
        return QuantParams, (*parts, self.axis, self.block_size)

    def __copy__(self) -> QuantParams:
        return self

    def __deepcopy__(self, memo: Any) -> QuantParams:
        return self

    def __repr__(self) -> str:
        if self.scale.ndim:
            parts = [f"scale={_shape_text(values_of(self.scale))}"]
            zeros = values_of(self.zero_point)
            parts.append(f"zero_point={_shape_text(zeros) if zeros.any() else 0}")
        else:
            parts = [f"scale={self.scale.item():.9g}", f"zero_point={self.zero_point.item()}"]
        parts.append(f"dtype={self.dtype!r}")
        parts += ["narrow_range=True"] if self.narrow_range else []
        parts += [f"axis={self.axis}"] if self.axis is not None else []
        parts += [f"block_size={self.block_size}"] if self.block_size is not None else []
        return f"QuantParams({', '.join(parts)})"


@takes_tensors()
def _parts(
    scale: Any, zero_point: Any, grid: Grid, axis: int | None, block_size: int | None
) -> tuple[Array, Array]:
    """Scale and zero point of parameters: checked, of their types, with memory of their own."""
    backend_of(given=(scale, zero_point))
    array = as_array(scale)
    if array.dtype.kind not in "fiu" and array.dtype.name != "bfloat16":
        raise TypeError(f"scale must be real numbers, not {array.dtype}")
    with np.errstate(over="ignore"):
        scales = contiguous(array, np.dtype(np.float32))
    if array.dtype == np.float32:  # it may be the array itself
        scales = scales.copy()
    if axis is None:
        if block_size is not None:
            raise ValueError(f"block_size={block_size} needs an axis to run along")
        if scales.size != 1 or scales.ndim > 1:
            raise ValueError(f"scale must have shape () without an axis, not {scales.shape}")
        scales = scales.reshape(())
    else:
        if isinstance(axis, bool) or not isinstance(axis, (int, np.integer)):
            raise TypeError(f"axis must be an integer or None, not {axis!r}")
        if block_size is None and scales.ndim != 1:
            raise ValueError(f"scale must have one dimension with an axis, not {scales.shape}")
        if block_size is not None:
            if isinstance(block_size, bool) or not isinstance(block_size, (int, np.integer)):
                raise TypeError(f"block_size must be an integer or None, not {block_size!r}")
            if block_size < 1:
                raise ValueError(f"block_size={block_size} must be at least 1")
            if not -scales.ndim <= axis < scales.ndim:
                raise ValueError(
                    f"axis={axis} is out of range for a scale of {scales.ndim} dimensions"
                )
    if not on_device(scales):
        check_scale(scales)
    wide = zero_point_input(zero_point, scales.shape, f"{grid.qmin} ... {grid.qmax}")
    if wide is None:
        wide = np.zeros(scales.shape, np.int32)
    if not on_device(wide):
        check_zero_point(wide, grid)
    zeros = wide.astype(grid.storage)
    if on_device(scales) or on_device(zeros):
        xp = module_of(scales if on_device(scales) else zeros)
        return xp.asarray(scales), xp.asarray(zeros)
    scales.flags.writeable = zeros.flags.writeable = False
    return scales, zeros


def _shape_text(array: Array) -> str:
    return f"<{array.dtype} {'x'.join(map(str, array.shape))}>"


class QuantizedArray:
    """Integers and the parameters that give them meaning. `quantize` makes them.

    Parameters
    ----------
    data : array of params.storage, or with `packed` a 1-D uint8 bit stream (`ops.pack_bits`)
    params : QuantParams
    shape : tuple, optional
        Of the array; needed when packed.
    packed : bool

    Examples
    --------
    >>> import numpy as np, pyquant as pq
    >>> q = pq.quantize(np.float32([[-1.0, 0.5], [0.25, 1.0]]))
    >>> q
    QuantizedArray(shape=(2, 2), dtype='int8', scale=0.00787401572, nbytes=8)
    >>> q.data
    array([[-127,   64],
           [  32,  127]], dtype=int8)
    """

    __slots__ = ("data", "packed", "params", "shape")

    data: Array
    """The integers, in the smallest standard type that holds the grid; or the packed bytes."""
    params: QuantParams
    shape: tuple[int, ...]
    packed: bool

    # NumPy hands arithmetic back, so that q + 1 is a TypeError and not a silent wrong number.
    __array_ufunc__ = None

    def __new__(cls, data: Any, *_: Any, **__: Any) -> QuantizedArray:
        """A Dask array makes the lazy kind."""
        if cls is QuantizedArray and type(data) is not np.ndarray and is_dask(data):
            from pyquant._lazy import LazyQuantizedArray

            return _new(LazyQuantizedArray)
        return _new(cls)

    def __init__(
        self,
        data: Array,
        params: QuantParams,
        *,
        shape: tuple[int, ...] | None = None,
        packed: bool = False,
    ) -> None:
        if library_of(type(data)) == "NumPy":
            data = np.asarray(data)
        dtype = str(data.dtype).removeprefix("torch.")
        if packed:
            if shape is None:
                raise ValueError("shape must be given for packed data")
            shape = tuple(int(n) for n in shape)
            count = int(np.prod(shape, dtype=object))
            needed = (count * params.bits + 7) // 8
            if dtype != "uint8" or data.shape != (needed,):
                raise ValueError(
                    f"data must be {needed} packed bytes for shape {shape} and {params.dtype}, "
                    f"not {dtype} of shape {tuple(data.shape)}"
                )
        else:
            if dtype != params.storage.name:
                raise ValueError(
                    f"data must be {params.storage} for {params.dtype}, not {dtype}"
                )
            if shape is not None and tuple(shape) != data.shape:
                raise ValueError(f"shape must be that of data {data.shape}, not {shape}")
            shape = tuple(data.shape)
        layout_of(shape, params.axis, params.block_size)  # refuses an axis that is not there
        expected = params_shape(shape, params.axis, params.block_size)
        if params.scale.shape != expected:
            raise ValueError(
                f"scale must have shape {expected} for shape {shape}, not {params.scale.shape}"
            )
        self.data, self.params, self.shape, self.packed = data, params, shape, packed

    @classmethod
    def _of(cls, data: Array, params: QuantParams) -> QuantizedArray:
        """From parts that are known to fit."""
        q: QuantizedArray = _new(cls)
        q.data, q.params, q.shape, q.packed = data, params, tuple(data.shape), False
        return q

    def _over(
        self, of_data: Callable[[Array], Array], of_params: Callable[[Array], Array]
    ) -> QuantizedArray:
        """The same with other arrays of the same values."""
        q: QuantizedArray = _new(QuantizedArray)
        q.data, q.params = of_data(self.data), self.params._over(of_data, of_params)
        q.shape, q.packed = self.shape, self.packed
        return q

    @property
    def scale(self) -> Array:
        """Real units per integer step, float32."""
        return self.params.scale

    @property
    def zero_point(self) -> Array:
        """The integers that stand for 0.0."""
        return self.params.zero_point

    @property
    def axis(self) -> int | None:
        """The axis along which scales differ."""
        return self.params.axis

    @property
    def block_size(self) -> int | None:
        """How many elements along the axis share a scale."""
        return self.params.block_size

    @property
    def dtype(self) -> str:
        """The grid's name."""
        return self.params.dtype

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=object))

    @property
    def nbytes(self) -> int:
        """Bytes of the integers and of what is needed to read them."""
        zero_points = self.zero_point.nbytes if values_of(self.zero_point).any() else 0
        return int(self.data.nbytes + self.scale.nbytes + zero_points)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a QuantizedArray of no dimensions has no length")
        return self.shape[0]

    def pack(self) -> QuantizedArray:
        """The same array with its codes as a bit stream, `params.bits` bits each."""
        if self.packed:
            return self
        packed = ops.pack_bits(self.data, self.params.bits)
        return QuantizedArray(packed, self.params, shape=self.shape, packed=True)

    def unpack(self) -> QuantizedArray:
        """The same array with one integer an element."""
        if not self.packed:
            return self
        params = self.params
        return QuantizedArray._of(
            ops.unpack_bits(self.data, params.bits, self.shape, signed=params.signed), params
        )

    def dequantize(self, dtype: Any = "float32", out: Array | None = None) -> Array:
        """See `pyquant.dequantize`."""
        return dequantize(self, dtype, out)

    def copy(self) -> QuantizedArray:
        """With its own integers; the parameters are immutable and shared."""
        data: Any = self.data
        data = data.clone() if library_of(type(data)) == "PyTorch" else data.copy()
        return QuantizedArray(data, self.params, shape=self.shape, packed=self.packed)

    __copy__ = copy

    def __deepcopy__(self, memo: Any) -> QuantizedArray:
        return self.copy()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        raise TypeError(
            "a QuantizedArray does not become an array by itself: "
            "take its integers with .data or its real values with .dequantize()"
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, QuantizedArray):
            return NotImplemented
        return (
            self.params == other.params
            and self.shape == other.shape
            and self.packed == other.packed
            and np.array_equal(values_of(self.data), values_of(other.data))
        )

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.data, self.params, self.shape, self.packed)

    def __repr__(self) -> str:
        params = self.params
        parts = [f"shape={self.shape}", f"dtype={self.dtype!r}"]
        if params.scale.ndim:
            parts.append(f"scale={_shape_text(values_of(params.scale))}")
        else:
            parts.append(f"scale={params.scale.item():.9g}")
            if params.zero_point.item():
                parts.append(f"zero_point={params.zero_point.item()}")
        parts += [f"axis={self.axis}"] if self.axis is not None else []
        parts += [f"block_size={self.block_size}"] if self.block_size is not None else []
        parts += ["packed=True"] if self.packed else []
        return f"QuantizedArray({', '.join(parts)}, nbytes={self.nbytes})"


def _restore(
    data: Array, params: QuantParams, shape: tuple[int, ...], packed: bool
) -> QuantizedArray:
    return QuantizedArray(data, params, shape=shape, packed=packed)


def quantize(
    x: npt.ArrayLike,
    params: QuantParams | None = None,
    *,
    dtype: str = "int8",
    scheme: str = "symmetric",
    narrow_range: bool | None = None,
    axis: int | None = None,
    block_size: int | None = None,
    calibration: str = "minmax",
    packed: bool = False,
    out: Array | None = None,
    **options: Any,
) -> QuantizedArray:
    """Quantize an array, with parameters from its own values or with given ones.

    Parameters
    ----------
    x : array of float16, bfloat16, float32 or float64
        Of NumPy, CuPy, torch or JAX: the result's arrays are of the same library and device. Of
        Dask: the result is lazy, chunk by chunk.
    params : QuantParams, optional
        Parameters made earlier ("static"). The arguments that describe parameters must then be
        left alone.
    dtype : str
        The grid: "int2" ... "int16", "uint2" ... "uint16".
    scheme : "symmetric" or "affine"
        Scale from the largest absolute value, or scale and zero point from the range.
    narrow_range : bool, optional
        Leave out the grid's lowest value. Default: for symmetric signed grids only.
    axis : int, optional
        One scale for each index of this axis (per channel); None: one for all.
    block_size : int, optional
        With `axis`: one scale for that many consecutive elements along it.
    calibration : str
        How the range is found; see `pyquant.calibrate`. Further options go there.
    packed : bool
        Keep the codes as a bit stream of the grid's bits.
    out : integer array, optional
        Where to put the codes.

    Returns
    -------
    QuantizedArray

    Raises
    ------
    TypeError
        `x` is not floating-point.
    ValueError
        Data with NaN or infinity (naming the first), or an argument out of its range.

    Notes
    -----
    On a GPU nothing is waited for: data with NaN or infinity are not refused, but get a scale of
    NaN, and dequantize to NaN.

    Examples
    --------
    >>> import numpy as np, pyquant as pq
    >>> w = np.float32([[1.0, -0.5], [0.01, 0.02]])
    >>> pq.quantize(w, axis=0).data
    array([[127, -64],
           [ 63, 127]], dtype=int8)
    """
    if params is not None:
        described = (dtype, scheme, narrow_range, axis, block_size, calibration)
        _check_static(params, described, options)
    if type(x) is not np.ndarray and is_dask(x):
        from pyquant import _dask

        return _dask.quantize(
            x, params, packed=packed, out=out, calibration=calibration, dtype=dtype,
            scheme=scheme, narrow_range=narrow_range, axis=axis, block_size=block_size, **options,
        )  # fmt: skip
    if params is None and calibration == "minmax" and not options:
        grid = grid_of(dtype, default_narrow(narrow_range, dtype, scheme))
        made = ops.dynamic_quantize(
            x, dtype=grid.name, scheme=scheme, narrow_range=grid.narrow, axis=axis,
            block_size=block_size, out=out,
        )  # fmt: skip
        if axis is not None:  # checked by now; NumPy's integers become plain ones
            axis, block_size = int(axis), None if block_size is None else int(block_size)
        centred = True if scheme == "symmetric" and grid.signed else None
        q = QuantizedArray._of(
            made[0], QuantParams._of(made[1], made[2], grid, axis, block_size, centred)
        )
        return q.pack() if packed else q
    if params is None:
        params = calibrate(
            x, calibration, dtype=dtype, scheme=scheme, narrow_range=narrow_range, axis=axis,
            block_size=block_size, **options,
        )  # fmt: skip
    elif type(params) is not QuantParams and is_dask(params):
        raise TypeError("params must have values where x has: params.compute()")
    codes = ops.quantize_linear(
        x, params.scale, params.zero_point, dtype=params.dtype, narrow_range=params.narrow_range,
        axis=params.axis, block_size=params.block_size, out=out,
    )  # fmt: skip
    q = QuantizedArray._of(codes, params)
    return q.pack() if packed else q


def _check_static(
    params: QuantParams, described: tuple[Any, ...], options: dict[str, Any]
) -> None:
    if not isinstance(params, QuantParams):
        raise TypeError(f"params must be QuantParams or None, not {type(params).__name__}")
    if described != ("int8", "symmetric", None, None, None, "minmax") or options:
        raise ValueError(
            "params must be the only description of the quantization: leave dtype, scheme, "
            "narrow_range, axis, block_size and calibration alone"
        )


def dequantize(q: QuantizedArray, dtype: Any = "float32", out: Array | None = None) -> Array:
    """The real values of a quantized array: ``(q - zero_point) * scale``.

    Parameters
    ----------
    q : QuantizedArray
    dtype : str
        "float32", "float16", "bfloat16" or "float64".
    out : array, optional
        Where to put them; of that dtype and q's shape.

    Raises
    ------
    TypeError
        `q` is not a QuantizedArray.

    Examples
    --------
    >>> import numpy as np, pyquant as pq
    >>> pq.dequantize(pq.quantize(np.float32([-1.0, 0.5])))
    array([-1.      ,  0.503937], dtype=float32)
    """
    if not isinstance(q, QuantizedArray):
        raise TypeError(
            f"q must be a QuantizedArray, not {type(q).__name__}; "
            f"ops.dequantize_linear takes plain arrays"
        )
    if type(q) is not QuantizedArray and is_dask(q):
        from pyquant import _dask

        return _dask.dequantize(q, dtype, out)  # type: ignore[no-any-return]
    p = q.params
    return ops.dequantize_linear(
        q.unpack().data, p.scale, p.zero_point, axis=p.axis, block_size=p.block_size,
        dtype=dtype, out=out,
    )  # fmt: skip
