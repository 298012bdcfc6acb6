"""The well-formed call on CuPy arrays, recognised at once: one scale and zero point, of the host.

As with `quantize_plain` and the like of `_cpu`: C-contiguous arrays on the current device; what
is anything else returns None and takes the road through pyquant.ops, errors included.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import cupy
import numpy as np

from pyquant._cpu import F16, F32, F64
from pyquant._cuda_elementwise import (
    _CODES,
    _LARGEST_SCALE,
    _MOST_ELEMENTS,
    _THREADS,
    FLOATS,
    _plan,
)
from pyquant._cuda_loader import kernel
from pyquant._grid import float_code, grid_of

_SMALLEST_SCALE = 2.0**-149
_STORED = {
    grid.storage: _CODES[grid.code]
    for grid in (grid_of(name, False) for name in ("int8", "uint8", "int16", "uint16"))
}
_TARGETS = {
    name: (*FLOATS[code], np.dtype(name))
    for name, code in (("float32", F32), ("float16", F16), ("float64", F64))
}


def quantize_plain(
    x: Any,
    scale: Any,
    zero_point: Any,
    dtype: Any,
    narrow_range: Any,
    axis: Any,
    block_size: Any,
    out: Any,
    fake: bool = False,
) -> Any:
    code = float_code(x.dtype)
    if code is None or axis is not None or block_size is not None:
        return None
    grid = grid_of(dtype, narrow_range)
    ends = grid.qmin, grid.qmax
    name, size = FLOATS[code]
    if fake:
        return _map(
            "fake_quantize", f"fake_quantize_{name}_one", x, size, out, x.dtype, size, scale,
            zero_point, *ends, ends, in_place=True,
        )  # fmt: skip
    q_name, q_size, *_ = _CODES[grid.code]
    return _map(
        "quantize", f"quantize_{name}_{q_name}_one", x, size, out, grid.storage, q_size, scale,
        zero_point, *ends, ends,
    )  # fmt: skip


fake_quantize_plain = partial(quantize_plain, fake=True)


def dequantize_plain(
    q: Any, scale: Any, zero_point: Any, axis: Any, block_size: Any, dtype: Any, out: Any
) -> Any:
    grid = _STORED.get(q.dtype)
    target = _TARGETS.get(dtype) if type(dtype) is str else None
    if grid is None or target is None or axis is not None or block_size is not None:
        return None
    q_name, q_size, sign, low, high = grid
    x_name, x_size, x_dtype = target
    return _map(
        "dequantize", f"dequantize_{q_name}_{x_name}_one", q, q_size, out, x_dtype, x_size, scale,
        zero_point, low, high, (sign,),
    )  # fmt: skip


def _number(value: Any, kind: str) -> Any:
    """A number, or an array of one; None for what needs a closer look."""
    if type(value) is np.ndarray:
        return value.item() if value.ndim == 0 and value.dtype.kind in kind else None
    return value if type(value) in (float, int, np.float32) else None


def _map(
    unit: str,
    name: str,
    source: Any,
    source_size: int,
    out: Any,
    dtype: np.dtype[Any],
    target_size: int,
    scale: Any,
    zero_point: Any,
    low: int,
    high: int,
    own: tuple[int, ...],
    in_place: bool = False,
) -> Any:
    number, zero = _number(scale, "f"), _number(zero_point, "iu")
    if number is None or not _SMALLEST_SCALE <= number <= _LARGEST_SCALE:
        return None
    if type(zero) is not int or not low <= zero <= high:
        return None
    n, data = source.size, source.data
    if not 0 < n <= _MOST_ELEMENTS or not source.flags.c_contiguous:
        return None
    if data.device_id != cupy.cuda.runtime.getDevice():
        return None
    begin = data.ptr
    if out is None:
        result = cupy.empty(source.shape, dtype)
        end = result.data.ptr
    else:
        if type(out) is not type(source) or out.dtype != dtype or out.shape != source.shape:
            return None
        result, end = out, out.data.ptr
        apart = begin + n * source_size <= end or end + n * target_size <= begin
        if not (apart or (in_place and begin == end)) or not out.flags.c_contiguous:
            return None
        if out.data.device_id != data.device_id:
            return None
    _, blocks, counts, _ = _plan((1, 1, n, 0), source_size, target_size, begin % 16, end % 16)
    kernel(unit, name)(
        (blocks,), (_THREADS,), (begin, end, *counts, 0, float(number), 0, zero, *own)
    )
    return result
