"""Reading and writing NumPy's ``.npy``, never with pickle."""

from __future__ import annotations

import ast
import warnings
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from pyquant.checkpoint.tensors import (
    ML_DTYPES,
    Array,
    Layout,
    TensorSpec,
    checked_shape,
    dtype_name,
    numpy_dtype,
    place_for,
    stored_array,
)

SUFFIX = ".npy"
TENSOR = "arr_0"
"""Name of the only tensor of a ``.npy`` file: the one ``numpy.savez`` gives it."""

# version: (bytes of the length field, encoding)
_HEADERS = {b"\1\0": (2, "latin-1"), b"\2\0": (4, "latin-1"), b"\3\0": (4, "utf-8")}
_MAX_HEADER = 10_000  # the limit NumPy has too: a literal costs the parser far more than its bytes
_CHUNK = 2**20


class Header(NamedTuple):
    spec: TensorSpec
    dtype: np.dtype[Any]  # as stored: of any byte order
    fortran_order: bool
    begin: int


def _literal(stream: IO[bytes]) -> dict[str, Any]:
    """Read the front of a ``.npy`` stream and return its header as a dictionary.

    ``numpy.lib.format`` would first allocate what the length field asks for, up to 4 GB.
    """
    front = stream.read(8)
    if front[:6] != b"\x93NUMPY" or front[6:] not in _HEADERS:
        raise ValueError("it does not begin with the magic string of a known version")
    size, encoding = _HEADERS[front[6:]]
    length = int.from_bytes(stream.read(size), "little")
    if length > _MAX_HEADER:
        raise ValueError(f"it has {length} bytes, at most {_MAX_HEADER} are read")
    text = stream.read(length).decode(encoding)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the parser's, about odd escapes in damaged headers
            header = ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise ValueError("it is no literal of Python") from None
    if not isinstance(header, dict) or set(header) != {"descr", "fortran_order", "shape"}:
        raise ValueError("it must have descr, fortran_order and shape")
    return header


def _dtype(descr: Any) -> np.dtype[Any]:
    try:
        return np.lib.format.descr_to_dtype(descr)
    except Exception as error:  # NumPy raises about anything for a descr that is none
        raise ValueError(f"descr {str(descr)[:40]!r} is not understood") from error


def read_header(stream: IO[bytes], name: str, total: int) -> Header:
    """Read the header of a ``.npy`` stream of `total` bytes and check that they add up."""
    try:
        header = _literal(stream)
        dtype = _dtype(header["descr"])
        if not isinstance(header["shape"], tuple) or not isinstance(header["fortran_order"], bool):
            raise ValueError("shape must be a tuple and fortran_order a bool")
    except ValueError as error:
        raise ValueError(f"array {name!r} has a damaged header: {error}") from None
    begin = stream.tell()
    if dtype.hasobject:
        raise ValueError(f"array {name!r} holds pickled objects, which are never loaded")
    if dtype.itemsize == 0:
        raise ValueError(f"array {name!r} has elements of no size ({dtype})")
    try:
        spec = TensorSpec(name, dtype_name(dtype), checked_shape(header["shape"], dtype.itemsize))
    except ValueError as error:
        raise ValueError(f"array {name!r}: {error}") from None
    if begin + spec.nbytes != total:
        raise ValueError(
            f"array {name!r} declares {spec.nbytes} bytes ({spec}), but {total - begin} are there"
        )
    return Header(spec, dtype, header["fortran_order"], begin)


def read_data(stream: IO[bytes], header: Header, buffer: Array | None) -> Array:
    """Read the array of `header` from `stream`, which stands at its first byte."""
    place = place_for(header.spec.nbytes, buffer)
    view = place.data
    for begin in range(0, len(view), _CHUNK):
        piece = view[begin : begin + _CHUNK]
        filled = 0
        while filled < len(piece):
            count = stream.readinto(piece[filled:])  # type: ignore[attr-defined]
            if not count:
                raise ValueError(f"array {header.spec.name!r} ends before its last element")
            filled += count
    flat = place.view(header.dtype)
    if header.fortran_order:
        return flat.reshape(header.spec.shape[::-1]).T
    return flat.reshape(header.spec.shape)


class NpyFile:
    """A ``.npy`` file opened for reading: one tensor, ``"arr_0"``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metadata: dict[str, str] = {}
        self.record: str | None = None
        self._file = open(path, "rb")  # noqa: SIM115 - close() does
        try:
            self._header = read_header(self._file, TENSOR, path.stat().st_size)
        except BaseException as error:
            self._file.close()
            if isinstance(error, ValueError):
                raise ValueError(f"{path}: {error}") from None
            raise
        self.specs = {TENSOR: self._header.spec}

    def read(self, name: str, buffer: Array | None = None) -> Array:
        self._file.seek(self._header.begin)
        try:
            return read_data(self._file, self._header, buffer)
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from None

    def close(self) -> None:
        self._file.close()


class NpyWriter:
    """A ``.npy`` file being written: one tensor, and nothing that tells how it was quantized."""

    def __init__(self, path: Path, layout: Layout) -> None:
        if len(layout.specs) != 1 or layout.record is not None:
            raise ValueError(
                f"a .npy file holds one plain array, not {len(layout.specs)} tensors: "
                f"choose a name that ends in .safetensors or .npz"
            )
        self._spec = storable(layout.specs[0], SUFFIX)
        self.written: dict[str, int] = {}
        self._file = open(path, "xb")  # noqa: SIM115 - close() does

    def write(self, name: str, array: Array) -> None:
        np.lib.format.write_array(self._file, stored_array(array, self._spec), allow_pickle=False)
        self.written[name] = array.nbytes

    def finish(self) -> None:
        self._file.close()

    def close(self) -> None:
        self._file.close()


def storable(spec: TensorSpec, suffix: str) -> TensorSpec:
    if numpy_dtype(spec).hasobject:
        raise ValueError(f"tensor {spec.name!r} holds Python objects, which are never stored")
    if spec.dtype in ML_DTYPES:  # NumPy would store these as nameless bytes
        raise ValueError(
            f"tensor {spec.name!r} has dtype {spec.dtype}, which {suffix} files cannot hold: "
            f"choose a name that ends in .safetensors"
        )
    return spec
