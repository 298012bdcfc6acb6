"""Products of quantized matrices: `matmul`, `linear`, and `pack` for a matrix used again."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from pyquant import _cpu
from pyquant._arguments import Array
from pyquant._arrays import contiguous, empty, module_of, on_device
from pyquant._backend import backend_of
from pyquant._batches import multiply
from pyquant._epilogue import Epilogue, code_bias, epilogue, is_real, quantized, real_bias
from pyquant._operands import (
    Operand,
    Shape,
    as_matrices,
    codes_input,
    floats_input,
    product_refused,
    product_shape,
    refuse_multiplier,
    refuse_overflow,
)
from pyquant._placement import arrays_of
from pyquant._tensors import takes_tensors
from pyquant.array import QuantizedArray, QuantParams
from pyquant.packed_matrix import PackedMatrix

_linear_plain = _cpu.linear_plain
_USUAL = ("float32", "float")  # out_dtype and mode


@takes_tensors(differentiable=True)
def matmul(
    a: QuantizedArray,
    b: QuantizedArray | PackedMatrix,
    *,
    bias: npt.ArrayLike | None = None,
    out_params: QuantParams | None = None,
    out_dtype: Any = "float32",
    relu: bool = False,
    clip: tuple[float, float] | None = None,
    mode: str = "float",
    rounding: str = "double",
) -> Array | QuantizedArray:
    """The product of two quantized arrays, multiplied as integers.

    Parameters
    ----------
    a : QuantizedArray, shape (..., M, K) or (K,)
        Per tensor, per row (``axis=-2``), or in blocks along K (``axis=-1`` with `block_size`).
    b : QuantizedArray, shape (..., K, N) or (K,), or a PackedMatrix
        Per tensor, per column (``axis=-1``), or in blocks along K (``axis=-2``). Blocks of both
        operands have one size. Grids of at most 8 bits; dimensions before the last two broadcast.
    bias : array of shape (N,), optional
        Floats. With `out_params` or int32 results they are rounded to int32 at scale
        ``a.scale * b.scale``; there, int32 is taken as such codes.
    out_params : QuantParams, optional
        Per tensor; the result is then a QuantizedArray. No blocks.
    out_dtype : str
        "float32"; "float16", "bfloat16" or "float64", which are the float32 result converted; or
        "int32": the sums themselves, less the zero points. No blocks.
    relu : bool
        Negative results become 0.
    clip : pair of floats, optional
        Real bounds of the result.
    mode, rounding
        With `out_params`: as in `ops.requantize`.

    Returns
    -------
    array or, with `out_params`, QuantizedArray, of the shape that ``numpy.matmul`` gives

    Raises
    ------
    TypeError
        An operand is not a QuantizedArray, or its grid has more than 8 bits.
    ValueError
        Shapes or granularities do not fit, or an argument is out of its range.
    OverflowError
        ``out_dtype="int32"``, and the sums could overflow; see `ops.matmul_integer`.

    Notes
    -----
    A float result is ``float32(acc) * (a_scale * b_scale) + bias``, each operation rounded to
    float32; blocks are added up in the order of K, the bias last. Codes are
    ``requantize(acc + bias, a_scale * b_scale / out_scale)``; where `a` has a scale per row, a bias
    of floats is added in float32, and the sum quantized.

    Examples
    --------
    >>> import numpy as np, pyquant as pq
    >>> a = pq.quantize(np.float32([[1.0, -0.5], [0.25, 2.0]]), axis=0)
    >>> b = pq.quantize(np.float32([[3.0, 0.1], [-1.0, 0.2]]), axis=1)
    >>> pq.matmul(a, b).round(2)  # the real product is [[3.5, 0], [-1.25, 0.425]]
    array([[ 3.5 ,  0.  ],
           [-1.23,  0.43]], dtype=float32)
    """
    backend = _backend_of((a, b), bias)
    end = epilogue(out_params, out_dtype, relu, clip, mode, rounding)
    left, right = _left(a), _right(backend, b, "b")
    shape = product_shape(a.shape, b.shape)
    return _product(backend, *_in_blocks(left, right[:2], shape.k), shape, bias, end)


def linear(
    x: npt.ArrayLike | QuantizedArray,
    weight: QuantizedArray | PackedMatrix,
    bias: npt.ArrayLike | None = None,
    *,
    x_params: QuantParams | None = None,
    out_params: QuantParams | None = None,
    out_dtype: Any = "float32",
    relu: bool = False,
    clip: tuple[float, float] | None = None,
    mode: str = "float",
    rounding: str = "double",
) -> Array | QuantizedArray:
    """A fully connected layer, ``x @ weight.T + bias``, multiplied as integers.

    Parameters
    ----------
    x : float array or QuantizedArray, shape (..., K)
        Floats are quantized on the way in: with `x_params`, or else symmetric int8 with a scale for
        each row. A QuantizedArray is as `a` in `matmul`.
    weight : QuantizedArray of shape (N, K), or PackedMatrix of shape (K, N)
        As layers store it: per tensor, per output (``axis=0``), or in blocks along K (``axis=1``
        with `block_size`). `pack` with ``transposed=True`` prepares it once for many calls.
    bias : array of shape (N,), optional
        As in `matmul`.
    x_params : QuantParams, optional
        Static parameters of a float `x`: per tensor, at most 8 bits.
    out_params, out_dtype, relu, clip, mode, rounding
        As in `matmul`; "int32" not with a float `x` that has no `x_params`.

    Returns
    -------
    array or, with `out_params`, QuantizedArray, of shape (..., N)

    Raises
    ------
    TypeError, ValueError, OverflowError
        As `matmul`; ValueError also where a float `x` without `x_params` holds NaN or infinity,
        naming the first one's index.

    Examples
    --------
    >>> import numpy as np, pyquant as pq
    >>> rng = np.random.default_rng(0)
    >>> x, w = rng.standard_normal((8, 256)), rng.standard_normal((64, 256), dtype=np.float32)
    >>> packed = pq.pack(pq.quantize(w, axis=0), transposed=True)
    >>> y = pq.linear(x, packed)
    >>> y.shape, y.dtype, bool(pq.error(x @ w.T, y).sqnr_db > 38)
    ((8, 64), dtype('float32'), True)
    """
    if type(weight) is PackedMatrix and clip is None and (out_dtype, mode) == _USUAL:
        if type(x) is QuantizedArray and x_params is None and not x.packed:
            y = _linear_plain(x.data, True, x.params, weight._operand, bias, out_params, relu)
        else:
            y = _linear_plain(x, False, x_params, weight._operand, bias, out_params, relu)
        if y is not None:
            return y if out_params is None else QuantizedArray._of(y, out_params)
    return _linear(
        x, weight, bias, x_params=x_params, out_params=out_params, out_dtype=out_dtype, relu=relu,
        clip=clip, mode=mode, rounding=rounding,
    )  # fmt: skip


@takes_tensors(differentiable=True)
def _linear(
    x: Any,
    weight: Any,
    bias: Any,
    *,
    x_params: QuantParams | None,
    out_params: QuantParams | None,
    out_dtype: Any,
    relu: bool,
    clip: tuple[float, float] | None,
    mode: str,
    rounding: str,
) -> Array | QuantizedArray:
    backend = _backend_of((x, weight), bias)
    end = epilogue(out_params, out_dtype, relu, clip, mode, rounding)
    if not isinstance(weight, PackedMatrix):
        _check_matrix(np.shape(weight))
    right = _right(backend, weight, "weight", transposed=True)
    k, n = weight.shape if isinstance(weight, PackedMatrix) else weight.shape[::-1]
    if not isinstance(x, QuantizedArray):
        left = _from_floats(x, x_params), 0
    elif x_params is None:
        left = _left(x, "x")
    else:
        raise ValueError("x_params must be left alone where x is quantized already")
    of_x = np.shape(x)
    if of_x[-1] != k:
        raise ValueError(f"x must have shape (..., {k}) for this weight, not {of_x}")
    shape = product_shape(of_x, (k, n))
    return _product(backend, *_in_blocks(left, right[:2], k), shape, bias, end)


@takes_tensors()
def pack(weight: QuantizedArray | npt.ArrayLike, *, transposed: bool = False) -> PackedMatrix:
    """Prepare a matrix once for many products.

    Parameters
    ----------
    weight : QuantizedArray or array of int8 or uint8, shape (K, N)
        A QuantizedArray keeps its scales: per tensor, per column, or in blocks along K. The scale
        of plain integers is 1.
    transposed : bool
        `weight` has shape (N, K), as layers store it.

    Returns
    -------
    PackedMatrix of shape (K, N)

    Raises
    ------
    TypeError
        `weight` is neither, or its grid has more than 8 bits.
    ValueError
        `weight` is no matrix, or its granularity does not fit.

    Examples
    --------
    >>> import numpy as np, pyquant as pq
    >>> w = np.int8([[1, 2, 3], [4, 5, 6]])
    >>> pq.ops.matmul_integer(np.int8([[1, 1]]), pq.pack(w))
    array([[5, 7, 9]], dtype=int32)
    >>> pq.ops.matmul_integer(np.int8([[1, 1]]), pq.pack(w.T, transposed=True))
    array([[5, 7, 9]], dtype=int32)
    """
    if isinstance(weight, PackedMatrix):
        raise TypeError("weight must be a QuantizedArray or an array, and it is packed already")
    backend = _backend_of((weight,))
    _check_matrix(np.shape(weight))
    if isinstance(weight, QuantizedArray):
        operand, block, params = _right(backend, weight, "weight", transposed=transposed)
    else:
        array, code = codes_input(weight, "weight")
        operand, block, params = Operand(array.T if transposed else array, code), 0, None
    k, n = operand.array.shape
    packed = backend.pack_matrix(operand.array, operand.code, block)
    return PackedMatrix._of(backend, operand._replace(array=packed), (k, n), params)


def _backend_of(operands: tuple[Any, ...], bias: Any = None) -> ModuleType:
    """Where to compute: where plain arrays and the codes of quantized ones are."""
    arrays, given = arrays_of(operands, bias, PackedMatrix)
    return backend_of(*arrays, given=given)


def _check_matrix(shape: tuple[int, ...]) -> None:
    if len(shape) != 2:
        raise ValueError(f"weight must have two dimensions, not shape {shape}")


def _product(
    backend: ModuleType,
    left: Operand,
    right: Operand,
    block: int,
    shape: Shape,
    bias: Any,
    end: Epilogue,
) -> Array | QuantizedArray:
    """left @ right and what the epilogue makes of it."""
    params = end.params
    if block and (params is not None or end.dtype == np.int32):
        given = "out_params" if params is not None else "out_dtype='int32'"
        raise ValueError(f"{given} must be left alone: products in blocks along K are floats")
    dynamic = left.code <= _cpu.F64 and left.scale is None
    rows = dynamic or (left.scale is not None and left.scale.ndim > 0)
    if params is not None and rows and is_real(bias):
        real = end._replace(dtype=np.dtype(np.float32), params=None)
        y = _product(backend, left, right, 0, shape, bias, real)
        assert not isinstance(y, QuantizedArray)
        return quantized(y, params)
    if params is None and end.dtype != np.int32:
        # A GPU writes the narrow types itself; on the CPU float32 is made first and converted then.
        narrow = on_device(left.array) and end.dtype.itemsize == 2
        array = empty(shape.result, end.dtype if narrow else np.float32, left.array)
        result = end.floats(array[shape.with_vectors], real_bias(bias, shape.n))
    else:
        codes = code_bias(bias, shape.n, left, right)
        array = empty(shape.result, end.dtype, left.array)
        if params is not None:
            result = end.codes(array[shape.with_vectors], codes)
            if not dynamic:
                refuse_multiplier(left, right, result.scale)
        else:
            if dynamic:
                raise ValueError("out_dtype='int32' needs a quantized x, or x_params")
            result = end.sums(array[shape.with_vectors], codes)
            refuse_overflow(shape.k, left, right, codes)
    status = multiply(backend, left, right, result, block)
    if status:
        product_refused(status, left)
    return end.finished(array)


def _left(a: Any, name: str = "a") -> tuple[Operand, int]:
    """The left operand and its block size, 0 for none."""
    data, params = _checked(a, name)
    return _side(data, params, -2) or _refuse_granularity(
        name, a, "per tensor, per row (axis=-2) or in blocks along K (axis=-1)"
    )


def _right(
    backend: ModuleType, b: Any, name: str, *, transposed: bool = False
) -> tuple[Operand, int, QuantParams | None]:
    """The right operand, its block size, 0 for none, and its parameters as a (K, N) matrix."""
    if isinstance(b, PackedMatrix):
        operand = b._operand_for(backend, name)
        return operand, operand.array.block, b.params
    data, params = _checked(b, name)
    if transposed:
        data, params = data.T, _transposed(params)
    operand_and_block = _side(data, params, -1) or _refuse_granularity(
        name, b, f"per tensor, {'per output (axis=0)' if transposed else 'per column (axis=-1)'} "
        f"or in blocks along K (axis={1 if transposed else -2})",
    )  # fmt: skip
    return *operand_and_block, params


def _checked(x: Any, name: str) -> tuple[Array, QuantParams]:
    """The codes of a QuantizedArray and their parameters."""
    if not isinstance(x, QuantizedArray):
        kind = f"an array of {x.dtype}" if isinstance(x, np.ndarray) else type(x).__name__
        raise TypeError(f"{name} must be a QuantizedArray, not {kind}; pyquant.quantize makes one")
    if x.params.bits > 8:
        raise TypeError(f"{name} must be on a grid of at most 8 bits, not {x.dtype}")
    if x.ndim == 0:
        raise ValueError(f"{name} must have at least one dimension")
    return x.unpack().data, x.params


def _transposed(params: QuantParams) -> QuantParams:
    """Of the transpose of a matrix."""
    if params.axis is None:
        return params
    scale, zero_point = (contiguous(v.T, v.dtype) for v in (params.scale, params.zero_point))
    if not on_device(scale):
        scale.flags.writeable = zero_point.flags.writeable = False
    axis = 1 - params.axis % 2
    return QuantParams._of(
        scale, zero_point, params._grid, axis, params.block_size, params._centred
    )


def _side(data: Array, params: QuantParams, lines: int) -> tuple[Operand, int] | None:
    """An operand with `lines` of its own scale (-2: rows of a, -1: columns of b), or blocks."""
    row, along = lines == -2, -3 - lines
    array, code = as_matrices(data, row=row), params._grid.code
    operand = Operand(array, code, params._zero_points(), params.scale)
    if params.axis is None:
        return operand, 0
    axis = params.axis % data.ndim - data.ndim
    if params.block_size is None:
        return (operand, 0) if data.ndim > 1 and axis == lines else None
    if axis != (along if data.ndim > 1 else -1):
        return None
    k = data.shape[axis]
    if params.block_size < k:
        return _mapped(operand, lambda p: as_matrices(p, row=row)), params.block_size
    if k == 0:  # no block, no scale, and nothing to scale
        return operand._replace(scale=None, zero_point=None), 0
    return _mapped(operand, lambda p: as_matrices(p, row=row).take(0, along)), 0


def _mapped(x: Operand, change: Callable[[Array], Array]) -> Operand:
    """With the arrays of parameters changed."""
    scale, zero_point = (
        p if p is None or p.ndim == 0 else change(p) for p in (x.scale, x.zero_point)
    )
    return x._replace(scale=scale, zero_point=zero_point)


def _refuse_granularity(name: str, x: QuantizedArray, allowed: str) -> NoReturn:
    given = f"axis={x.axis}" + (f", block_size={x.block_size}" if x.block_size else "")
    raise ValueError(f"{name} must be {allowed}, not {given} with shape {x.shape}")


def _from_floats(x: Any, params: QuantParams | None) -> Operand:
    """A float operand that the product quantizes: with static parameters, or row by row."""
    array, code = floats_input(x, "x")
    operand = Operand(as_matrices(array, row=True), code)
    if params is None:
        return operand
    if not isinstance(params, QuantParams):
        raise TypeError(f"x_params must be QuantParams or None, not {type(params).__name__}")
    if params.bits > 8:
        raise TypeError(f"x_params must be of a grid of at most 8 bits, not {params.dtype}")
    if params.axis is not None:
        raise ValueError(f"x_params must be per tensor, not with axis={params.axis}")
    return operand._replace(scale=params.scale, zero_point=params._zero_points(), grid=params._grid)


def _in_blocks(
    left: tuple[Operand, int], right: tuple[Operand, int], k: int
) -> tuple[Operand, Operand, int]:
    """Both operands with parameters for each block, where one has blocks; and the block size."""
    (a, a_block), (b, b_block) = left, right
    block = max(a_block, b_block)
    if block == 0:
        return a, b, 0
    if (a_block and b_block and a_block != b_block) or (
        not b_block and not hasattr(b.array, "strides")
    ):
        raise ValueError(
            f"blocks along K must have one size, and those of the left operand have "
            f"{a_block or k} elements, those of the right one {b_block or k}"
        )
    blocks = -(-k // block)
    if not a_block:
        a = _mapped(a, lambda p: module_of(p).repeat(p[..., :, None], blocks, -1))
    if not b_block:
        b = _mapped(b, lambda p: module_of(p).repeat(p[..., None, :], blocks, -2))
    return a, b, block
