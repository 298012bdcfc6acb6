"""Saving and loading dictionaries of arrays, quantized or not; never with pickle."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pyquant._backend import is_dask, library_of
from pyquant._tensors import values_of
from pyquant.array import QuantizedArray

# pyquant.checkpoint is imported inside the functions: it costs more than the rest of the package.


def save(
    path: str | os.PathLike[str], tensors: Mapping[str, QuantizedArray | npt.NDArray[Any]]
) -> None:
    """Save arrays, quantized or not, under their names.

    The file appears only when it is complete, and replaces one of the same name.

    Parameters
    ----------
    path : str or path-like
        A name that ends in ``.safetensors`` or ``.npz``.
    tensors : mapping of str to QuantizedArray or array of NumPy, CuPy, torch or JAX
        The quantized array ``"w"`` is stored as ``"w"`` (integers), ``"w.scale"``,
        ``"w.zero_point"`` (absent when all zero) and an entry in the metadata.

    Raises
    ------
    ValueError
        If the name ends in anything else, two stored tensors would have the same name, or
        the format cannot hold an element type.
    TypeError
        If a name is no string or a value no array.

    Examples
    --------
    >>> import numpy as np, pyquant as pq
    >>> w, b = np.float32([[1.0, -0.5], [2.0, 4.0]]), np.zeros(2, np.float32)
    >>> pq.save("model.safetensors", {"w": pq.quantize(w, axis=0), "b": b})
    """
    from pyquant.checkpoint.npz import SUFFIX as NPZ_SUFFIX
    from pyquant.checkpoint.record import parts_of, record_of, records_text, refuse_collisions
    from pyquant.checkpoint.replacing import replacing
    from pyquant.checkpoint.rewrite import new_file
    from pyquant.checkpoint.safetensors_format import SUFFIX
    from pyquant.checkpoint.tensors import Layout, TensorSpec, dtype_name

    target = Path(path)
    if target.suffix not in (SUFFIX, NPZ_SUFFIX):
        raise ValueError(f"path {str(target)!r} must end in {SUFFIX} or {NPZ_SUFFIX}")
    for name, value in tensors.items():
        _check_item(name, value)
    quantized = {n: v for n, v in tensors.items() if isinstance(v, QuantizedArray)}
    records = {name: record_of(q) for name, q in quantized.items()}
    refuse_collisions(records, tensors)
    stored = [(name, values_of(v)) for name, v in tensors.items() if name not in quantized]
    stored += [
        part for name, q in quantized.items()
        for part in parts_of(name, q._over(values_of, values_of))
    ]  # fmt: skip
    specs = tuple(TensorSpec(name, dtype_name(array.dtype), array.shape) for name, array in stored)
    layout = Layout(specs, {}, records_text(records))
    with replacing(target) as temporary, new_file(temporary, layout) as writer:
        for name, array in stored:
            writer.write(name, array)


def _check_item(name: object, value: object) -> None:
    if not isinstance(name, str):
        raise TypeError(f"tensors has the name {name!r}, names must be strings")
    if isinstance(value, QuantizedArray) and is_dask(value):
        raise TypeError(f"tensor {name!r} must have values to be saved: .compute() it")
    if not isinstance(value, QuantizedArray | np.ndarray | np.generic) and (
        library_of(type(value)) not in ("CuPy", "PyTorch", "JAX")
    ):
        raise TypeError(
            f"tensor {name!r} is a {type(value).__name__}, allowed are QuantizedArray and ndarray"
        )


def load(path: str | os.PathLike[str]) -> dict[str, QuantizedArray | npt.NDArray[Any]]:
    """Load the arrays of a file, or of a folder of safetensors shards.

    Parameters
    ----------
    path : str or path-like
        A ``.safetensors``, ``.npz`` or ``.npy`` file or a folder. What `save` or the command line
        quantized comes back as `QuantizedArray`, everything else as ``ndarray``.

    Returns
    -------
    dict of str to QuantizedArray or ndarray

    Raises
    ------
    ValueError
        If the file is damaged. Nothing in a file is ever executed.
    ImportError
        If a ``.safetensors`` file is to be read and the safetensors package is missing.

    Examples
    --------
    >>> import numpy as np, pyquant as pq
    >>> pq.save("model.safetensors", {"w": pq.quantize(np.float32([[1.0, -0.5]]))})
    >>> pq.load("model.safetensors")["w"]
    QuantizedArray(shape=(1, 2), dtype='int8', scale=0.00787401572, nbytes=6)
    """
    from pyquant.checkpoint.source import opened

    with opened(Path(path)) as checkpoint:
        return {name: part.read(name) for name, part in checkpoint.where().items()}
