"""Which module computes for an array: decided from its type, without importing anything for it."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from pyquant import _cpu

_FOREIGN = {"cupy": "CuPy", "torch": "PyTorch", "jax": "JAX", "jaxlib": "JAX", "dask": "Dask"}


def backend_of(*arrays: Any) -> ModuleType:
    """The module that computes on these arrays; TypeError when none does."""
    for array in arrays:
        if array is None or type(array) is np.ndarray:
            continue
        library = _FOREIGN.get(type(array).__module__.partition(".")[0])
        if library is not None:
            raise TypeError(
                f"arrays must be NumPy arrays or array-likes in this version, not {library}'s "
                f"{type(array).__name__}; convert with numpy.asarray first"
            )
    return _cpu
