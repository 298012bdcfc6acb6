"""Exact int32 products under the names they have in ONNX, in NumPy's integer arithmetic.

They stand in for kernels: right to the last bit, and slow, because NumPy has no fast integer
matrix product. That is what the times of the integer recipes show.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .convolution import convolve, patches

Array = npt.NDArray[Any]

_MOST = 33025  # products of two uint8 that an int32 holds


def matmul_integer(a: Array, b: Array, a_zero_point: int = 0, b_zero_point: int = 0) -> Array:
    """``(a - a_zero_point) @ (b - b_zero_point)`` of int8 or uint8 in int32 (MatMulInteger)."""
    _refuse_overflow(a.shape[-1])
    return _shifted(a, a_zero_point) @ _shifted(b, b_zero_point)


def conv_integer(
    x: Array,
    w: Array,
    x_zero_point: int = 0,
    w_zero_point: int = 0,
    *,
    stride: int = 1,
    padding: int = 0,
) -> Array:
    """Convolution of int8 or uint8 in int32; padding stands for 0.0 (ConvInteger)."""
    _refuse_overflow(w[0].size)
    seen = patches(_shifted(x, x_zero_point), w.shape[-1], stride, padding)
    return convolve(seen, _shifted(w, w_zero_point))


def _shifted(codes: Array, zero_point: int) -> Array:
    if codes.dtype not in (np.int8, np.uint8):
        raise TypeError(f"operands must be int8 or uint8, not {codes.dtype}")
    return codes.astype(np.int32) - np.int32(zero_point)


def _refuse_overflow(k: int) -> None:
    if k > _MOST:
        raise OverflowError(f"{k} products could overflow int32, at most {_MOST} are allowed")
