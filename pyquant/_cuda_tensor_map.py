"""Tensor maps: what Hopper's copy engine is told of an operand."""

from __future__ import annotations

import ctypes
from functools import cache, lru_cache
from typing import Any

import numpy as np

from pyquant._cuda_rows import Rows

_TENSOR_MAP = np.dtype("V128")


def tensor_map(x: Rows) -> np.ndarray[Any, Any]:
    """Of boxes of 128 x 128 bytes, swizzled."""
    separate = 1 if x.step == 0 else x.batches
    return _encoded_map(x.pointer, x.k, x.rows, separate, x.pitch, x.step or x.rows * x.pitch)


@lru_cache(maxsize=256)
def _encoded_map(
    pointer: int, k: int, rows: int, batches: int, pitch: int, step: int
) -> np.ndarray[Any, Any]:
    memory = np.zeros(192, np.uint8)
    start = -memory.ctypes.data % 64
    encoded = memory[start : start + 128].view(_TENSOR_MAP)
    status = _driver().cuTensorMapEncodeTiled(
        ctypes.c_void_p(encoded.ctypes.data),
        ctypes.c_int(0),  # CU_TENSOR_MAP_DATA_TYPE_UINT8
        ctypes.c_uint32(3),
        ctypes.c_void_p(pointer),
        (ctypes.c_uint64 * 3)(k, rows, batches),
        (ctypes.c_uint64 * 2)(pitch, step),
        (ctypes.c_uint32 * 3)(128, 128, 1),
        (ctypes.c_uint32 * 3)(1, 1, 1),
        ctypes.c_int(0),  # CU_TENSOR_MAP_INTERLEAVE_NONE
        ctypes.c_int(3),  # CU_TENSOR_MAP_SWIZZLE_128B
        ctypes.c_int(2),  # CU_TENSOR_MAP_L2_PROMOTION_L2_128B
        ctypes.c_int(0),  # CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE: zeros
    )
    if status:
        raise RuntimeError(
            f"the driver refused a tensor map of {batches} matrices of {rows} rows of {k} bytes, "
            f"{pitch} apart (CUresult {status})"
        )
    return encoded


@cache
def _driver() -> ctypes.CDLL:
    """The CUDA driver, which CuPy has loaded already; CuPy has no name for tensor maps."""
    import sys

    return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
