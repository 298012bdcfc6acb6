"""`quantize`, `dequantize`, `calibrate` and `error` for Dask arrays: lazy, chunk by chunk.

The results have the bits that NumPy arrays give, whatever the chunks are:

- quantizing and dequantizing treat every element alone;
- calibration per tensor and per channel observes every chunk and merges the observers in a tree,
  which is exact in any order (`_dask_calibration`);
- per block, chunks are first made to hold whole blocks, and are then independent.

A scale and its zero point travel as one element of a structured array (`_lazy.record_dtype`), in
chunks that lie over those of the data.
"""

from __future__ import annotations

import math
from typing import Any

import dask.array as da
import numpy as np

from pyquant import ops
from pyquant._arguments import Array, layout_of, params_shape, scale_input
from pyquant._dask_calibration import records_of
from pyquant._grid import default_narrow, float_code, float_dtype, grid_of
from pyquant._lazy import LazyQuantizedArray, LazyQuantParams, record_dtype, record_of
from pyquant.array import QuantizedArray, QuantParams
from pyquant.calibration import calibrate as calibrate_array
from pyquant.metrics import SUMS, QuantizationError, figures, sums_of


def calibrate(
    x: Any,
    method: str,
    *,
    dtype: str,
    scheme: str,
    narrow_range: bool | None,
    axis: int | None,
    block_size: int | None,
    **options: Any,
) -> LazyQuantParams:
    """`pyquant.calibrate` for a Dask array."""
    _require_floats(x)
    grid = grid_of(dtype, default_narrow(narrow_range, dtype, scheme))
    settings = {"dtype": grid.name, "scheme": scheme, "narrow_range": grid.narrow, **options}
    along = _axis_of(x, axis, block_size)
    one = np.ones((1,) * x.ndim, np.float32)  # so that wrong arguments are refused now
    calibrate_array(one, method, axis=axis, block_size=block_size, **settings)
    if block_size is not None:
        x = _with_whole_blocks(x, along, block_size)
    chunks = _record_chunks(x.chunks, along, block_size)
    record = records_of(x, chunks, record_dtype(grid), method, along, block_size, settings)
    return LazyQuantParams(record, grid, axis, block_size)


def quantize(
    x: Any, params: QuantParams | None, *, packed: bool, out: Any, calibration: str, **settings: Any
) -> LazyQuantizedArray:
    """`pyquant.quantize` for a Dask array."""
    _require_floats(x)
    _require_none(out)
    if packed:
        raise ValueError("packed=True has no chunks: quantize, then .compute().pack()")
    if params is None:
        params = calibrate(x, calibration, **settings)
    x, record, along = _aligned(x, params)
    every = tuple(range(x.ndim))
    codes = da.blockwise(
        _quantize_chunk, every, x, every, record, _record_axes(x.ndim, params, along),
        dtype=params.storage, meta=np.empty((0,) * x.ndim, params.storage), align_arrays=False,
        grid=params.dtype, narrow=params.narrow_range, axis=along, block_size=params.block_size,
    )  # fmt: skip
    return LazyQuantizedArray(codes, params)


def dequantize(q: QuantizedArray, dtype: Any, out: Any) -> Any:
    """`pyquant.dequantize` for Dask arrays."""
    _require_none(out)
    target = float_dtype(dtype)
    codes, record, along = _aligned(q.data, q.params)
    every = tuple(range(codes.ndim))
    return da.blockwise(
        _dequantize_chunk, every, codes, every, record, _record_axes(codes.ndim, q.params, along),
        dtype=target, meta=np.empty((0,) * codes.ndim, target), align_arrays=False,
        target=target.name, axis=along, block_size=q.block_size,
    )  # fmt: skip


def error(x: Any, q: Any) -> QuantizationError:
    """`pyquant.error` where x or q is lazy: a tuple of Dask numbers."""
    real = None if isinstance(q, QuantizedArray) else _as_dask(q, "q")
    shape = q.shape if real is None else real.shape
    x = _as_dask(x, "x")
    _require_floats(x)
    if shape != x.shape and not any(math.isnan(n) for n in (*shape, *x.shape)):
        raise ValueError(f"q must have x's shape {x.shape}, not {shape}")
    every = tuple(range(x.ndim))
    if real is not None:
        operands = [real.rechunk(x.chunks), every]
        described = {}
    else:
        params = q.params
        codes = q.data if isinstance(q, LazyQuantizedArray) else _as_dask(q.unpack().data, "q")
        x, record, along = _aligned(x, params)
        operands = [codes.rechunk(x.chunks), every, record, _record_axes(x.ndim, params, along)]
        described = {"grid": params.dtype, "narrow": params.narrow_range, "axis": along}
        described["block_size"] = params.block_size
    sums = da.blockwise(
        _error_chunk, (*every, x.ndim), x, every, *operands, new_axes={x.ndim: SUMS},
        adjust_chunks=dict.fromkeys(every, 1), dtype=np.float64,
        meta=np.empty((0,) * (x.ndim + 1)), align_arrays=False, **described,
    )  # fmt: skip
    total = da.reduction(
        sums, _as_is, _added, axis=every, dtype=np.float64, meta=np.empty(0), concatenate=True
    )
    count = len(QuantizationError._fields)
    numbers = total.map_blocks(_figures, chunks=((count,),), dtype=np.float64, meta=np.empty(0))
    return QuantizationError(*(numbers[i] for i in range(count)))


def _require_floats(x: Any) -> None:
    if not isinstance(x, da.Array):
        raise TypeError(f"x must be an array, not Dask's {type(x).__name__}")
    if float_code(x.dtype.newbyteorder("=")) is None:
        raise TypeError(f"x must be a float16, bfloat16, float32 or float64 array, not {x.dtype}")


def _require_none(out: Any) -> None:
    if out is not None:
        raise TypeError("out must be None for Dask arrays: the result is another Dask array")


def _as_dask(array: Any, name: str) -> Any:
    if isinstance(array, da.Array):
        return array
    array = np.asarray(array)
    if array.dtype == object:
        raise TypeError(f"{name} must be an array of numbers, not {array.dtype}")
    return da.from_array(array)


def _axis_of(x: Any, axis: int | None, block_size: int | None) -> int | None:
    """The axis from 0 up, after the checks that NumPy arrays undergo."""
    layout_of(x.shape, axis, block_size)
    if axis is None:
        return None
    along = int(axis) % int(x.ndim)
    needed = x.shape if block_size is not None else (x.shape[along],)
    if any(math.isnan(n) for n in needed):
        raise ValueError(
            f"the chunk sizes of x must be known with axis={axis}: x.compute_chunk_sizes()"
        )
    return along


def _with_whole_blocks(x: Any, axis: int | None, block_size: int) -> Any:
    """x in chunks whose bounds along `axis` are bounds of blocks too: those in use, moved up."""
    assert axis is not None
    bounds = np.cumsum(x.chunks[axis])
    whole = np.minimum(-(-bounds // block_size) * block_size, x.shape[axis])
    sizes = np.diff(np.unique(whole), prepend=0)
    return x.rechunk({axis: tuple(map(int, sizes[sizes > 0])) or (0,)})


def _record_chunks(
    chunks: tuple[tuple[int, ...], ...], axis: int | None, block_size: int | None
) -> tuple[tuple[int, ...], ...]:
    if axis is None:
        return ()
    if block_size is None:
        return (chunks[axis],)
    blocks = tuple(-(-n // block_size) for n in chunks[axis])
    return (*chunks[:axis], blocks, *chunks[axis + 1 :])


def _record_axes(ndim: int, params: QuantParams, axis: int | None) -> tuple[int, ...]:
    """Which axes of the data scale and zero point have."""
    if axis is None:
        return ()
    return (axis,) if params.block_size is None else tuple(range(ndim))


def _aligned(x: Any, params: QuantParams) -> tuple[Any, Any, int | None]:
    """x, and scale and zero point in chunks that lie over x's; the axis from 0 up."""
    axis, block_size = params.axis, params.block_size
    along = _axis_of(x, axis, block_size)
    expected = params_shape(x.shape, axis, block_size)
    if block_size is not None:
        x = _with_whole_blocks(x, along, block_size)
    chunks = _record_chunks(x.chunks, along, block_size)
    if isinstance(params, LazyQuantParams):
        if params.scale.shape != expected:
            raise ValueError(f"scale must have shape {expected} here, not {params.scale.shape}")
        return x, params._record.rechunk(chunks), along
    scale_input(params.scale, expected)
    return x, da.from_array(record_of(params), chunks=chunks), along


def _quantize_chunk(
    x: Array, record: Array, *, grid: str, narrow: bool, axis: int | None, block_size: int | None
) -> Array:
    return ops.quantize_linear(
        x, record["scale"], record["zero_point"], dtype=grid, narrow_range=narrow, axis=axis,
        block_size=block_size,
    )  # fmt: skip


def _dequantize_chunk(
    q: Array, record: Array, *, target: str, axis: int | None, block_size: int | None
) -> Array:
    return ops.dequantize_linear(
        q, record["scale"], record["zero_point"], axis=axis, block_size=block_size, dtype=target
    )


def _error_chunk(
    x: Array, q: Array, record: Array | None = None, *, grid: str = "", narrow: bool = False,
    axis: int | None = None, block_size: int | None = None,
) -> Array:  # fmt: skip
    other: Any = q
    if record is not None:
        params = QuantParams(record["scale"], record["zero_point"], grid, narrow, axis, block_size)
        other = QuantizedArray(q, params)
    return sums_of(x, other).reshape((1,) * x.ndim + (SUMS,))


def _as_is(sums: Array, axis: Any, keepdims: bool) -> Array:
    return sums


def _added(sums: Array, axis: tuple[int, ...], keepdims: bool) -> Array:
    total = sums.sum(axis=axis, keepdims=keepdims)
    total[..., -1] = sums[..., -1].max(axis=axis, keepdims=keepdims, initial=0.0)
    return np.asarray(total)


def _figures(sums: Array) -> Array:
    return np.array(figures(sums))
