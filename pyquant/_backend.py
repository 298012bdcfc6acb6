"""Which module computes for an array: decided from its type, without importing anything for it."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from pyquant import _cpu

_FOREIGN = {"cupy": "CuPy", "torch": "PyTorch", "jax": "JAX", "jaxlib": "JAX"}


def backend_of(*arrays: Any) -> ModuleType:
    """The module that computes on these arrays; TypeError when none does."""
    for array in arrays:
        if array is None or type(array) is np.ndarray:
            continue
        if is_dask(array):
            raise TypeError(
                "Dask arrays are taken by pyquant.quantize, dequantize, calibrate and error; "
                "dask.array.map_blocks applies this function to every chunk"
            )
        library = _FOREIGN.get(_library(array))
        if library is not None:
            raise TypeError(
                f"arrays must be NumPy arrays or array-likes in this version, not {library}'s "
                f"{type(array).__name__}; convert with numpy.asarray first"
            )
    return _cpu


def is_dask(array: Any) -> bool:
    """Is it a Dask array, or a quantized array or params made of them?"""
    return type(array).__module__ == "pyquant._lazy" or _library(array) == "dask"


def _library(array: Any) -> str:
    return type(array).__module__.partition(".")[0]
