"""Conversions on the GPU that CuPy's own kernels would round otherwise; see cuda/convert.cu."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyquant._cuda_loader import kernel

_NAMES = {"float16": "f16", "bfloat16": "bf16", "float32": "f32", "float64": "f64"}
_THREADS = 256
_MOST_BLOCKS = 1 << 20


def _grid(n: int) -> tuple[int]:
    return (min(-(-n // _THREADS), _MOST_BLOCKS),)


def casts(source: np.dtype[Any], target: np.dtype[Any]) -> bool:
    """Is there a kernel for these two element types?"""
    return source.name in _NAMES and target.name in _NAMES and source != target


def cast(source: Any, target: Any) -> None:
    """From one C-contiguous float array to another, rounded to nearest even."""
    if source.size:
        name = f"cast_{_NAMES[source.dtype.name]}_{_NAMES[target.dtype.name]}"
        kernel("convert", name)(_grid(source.size), (_THREADS,), (source, target, source.size))


def dequantize_int32(
    q: Any, scale: Any, zero_point: Any, x: Any, layout: tuple[int, int, int, int]
) -> None:
    """``(q - zero_point) * scale``; scale is float32 and zero_point int64, of one shape."""
    if q.size:
        kernel("convert", f"dequantize_i32_{_NAMES[x.dtype.name]}")(
            _grid(q.size), (_THREADS,), (q, scale, zero_point, x, *layout)
        )
