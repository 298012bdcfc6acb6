"""Reading and writing NumPy's ``.npz`` and ``.npy`` one array at a time, never with pickle.

A size is believed only when it agrees with what is there: an array's bytes with its member's, a
member's with what its compressed bytes can hold, those with the file.
"""

from __future__ import annotations

import ast
import json
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from pyquant.checkpoint.record import KEY
from pyquant.checkpoint.tensors import (
    ML_DTYPES,
    Array,
    Layout,
    TensorSpec,
    bytes_of,
    checked_shape,
    dtype_name,
    numpy_dtype,
    place_for,
    stored_array,
)

NPZ_SUFFIX = ".npz"
NPY_SUFFIX = ".npy"
NPY_TENSOR = "arr_0"
"""Name of the only tensor of a ``.npy`` file: the one ``numpy.savez`` gives it."""

# version: (bytes of the length field, encoding)
_HEADERS = {b"\1\0": (2, "latin-1"), b"\2\0": (4, "latin-1"), b"\3\0": (4, "utf-8")}
_MAX_HEADER = 10_000  # the limit NumPy has too: a literal costs the parser far more than its bytes

_MEMBER = ".npy"
_RECORD_MEMBER = f"__{KEY}__"
_METHODS = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: 1032}  # most bytes one byte can become
_CHUNK = 2**20
# Weights do not shrink a hundredfold; a member that does may fill this many bytes, no more.
_BOMB_RATIO = 100
_BOMB_BYTES = 2**28
_MAX_RECORD = 2**27


class _Header(NamedTuple):
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


def _read_header(stream: IO[bytes], name: str, total: int) -> _Header:
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
    return _Header(spec, dtype, header["fortran_order"], begin)


def _read_data(stream: IO[bytes], header: _Header, buffer: Array | None) -> Array:
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
            self._header = _read_header(self._file, NPY_TENSOR, path.stat().st_size)
        except BaseException as error:
            self._file.close()
            if isinstance(error, ValueError):
                raise ValueError(f"{path}: {error}") from None
            raise
        self.specs = {NPY_TENSOR: self._header.spec}

    def read(self, name: str, buffer: Array | None = None) -> Array:
        self._file.seek(self._header.begin)
        try:
            return _read_data(self._file, self._header, buffer)
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from None

    def close(self) -> None:
        self._file.close()


_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    OverflowError,
    ValueError,
    NotImplementedError,
    RuntimeError,
    UnicodeError,
)


class NpzFile:
    """A ``.npz`` file opened for reading."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except _ZIP_ERRORS as error:
            raise ValueError(f"{path} is not a valid .npz file: {error}") from None
        try:
            self._headers = self._read_headers()
            self.metadata, self.record = self._read_record()
        except _ZIP_ERRORS as error:
            self._zip.close()
            raise ValueError(f"{path}: {error}") from None
        self.specs = {name: header.spec for name, header in self._headers.items()}

    def _read_headers(self) -> dict[str, _Header]:
        members = self._zip.infolist()
        if sum(member.compress_size for member in members) > self.path.stat().st_size:
            raise ValueError("its members overlap or reach beyond the end")
        headers: dict[str, _Header] = {}
        for member in members:
            _check_member(member)
            name = member.filename.removesuffix(_MEMBER)
            if name in headers:
                raise ValueError(f"array {name!r} is there twice")
            with self._zip.open(member) as stream:
                headers[name] = _read_header(stream, name, member.file_size)
        return headers

    def _read_record(self) -> tuple[dict[str, str], str | None]:
        header = self._headers.pop(_RECORD_MEMBER, None)
        if header is None:
            return {}, None
        if header.spec.dtype != "uint8" or header.spec.nbytes > _MAX_RECORD:
            raise ValueError(f"member {_RECORD_MEMBER!r} must be uint8, up to {_MAX_RECORD} bytes")
        try:
            tree = json.loads(self._data(header, None).tobytes())
        except RecursionError:
            raise ValueError(f"member {_RECORD_MEMBER!r} is nested too deeply") from None
        except ValueError as error:
            raise ValueError(f"member {_RECORD_MEMBER!r} is no JSON text: {error}") from None
        if not isinstance(tree, dict) or not all(isinstance(text, str) for text in tree.values()):
            raise ValueError(f"member {_RECORD_MEMBER!r} must be a JSON object of strings")
        return tree, tree.pop(KEY, None)

    def _data(self, header: _Header, buffer: Array | None) -> Array:
        with self._zip.open(header.spec.name + _MEMBER) as stream:
            stream.read(header.begin)
            return _read_data(stream, header, buffer)

    def read(self, name: str, buffer: Array | None = None) -> Array:
        try:
            return self._data(self._headers[name], buffer)
        except _ZIP_ERRORS as error:
            raise ValueError(f"{self.path}: array {name!r} is damaged: {error}") from None

    def close(self) -> None:
        self._zip.close()


def _check_member(member: zipfile.ZipInfo) -> None:
    name = member.filename
    if not name.endswith(_MEMBER):
        raise ValueError(f"member {name!r} is no array: names of arrays end in {_MEMBER!r}")
    if member.flag_bits & 1:
        raise ValueError(f"member {name!r} is encrypted")
    if member.compress_type not in _METHODS:
        raise ValueError(f"member {name!r} is neither stored nor deflated")
    most = member.compress_size * _METHODS[member.compress_type] + _CHUNK
    if member.compress_type == zipfile.ZIP_STORED:
        most = member.compress_size
    if member.file_size > most:
        raise ValueError(
            f"member {name!r} declares {member.file_size} bytes, more than its "
            f"{member.compress_size} compressed bytes can hold"
        )
    if member.file_size > max(_BOMB_BYTES, _BOMB_RATIO * member.compress_size):
        raise ValueError(
            f"member {name!r} would grow from {member.compress_size} to {member.file_size} bytes: "
            f"above {_BOMB_BYTES} bytes at most {_BOMB_RATIO} times is allowed, "
            f"save such arrays uncompressed"
        )


class NpzWriter:
    """A ``.npz`` file being written, uncompressed as ``numpy.savez`` does."""

    def __init__(self, path: Path, layout: Layout) -> None:
        self._specs: dict[str, TensorSpec] = {}
        for spec in layout.specs:
            self._specs[spec.name] = _npy_spec(spec, NPZ_SUFFIX)
        if len(self._specs) != len(layout.specs):
            raise ValueError("a tensor name is used twice")
        for name in self._specs:
            if name == _RECORD_MEMBER or "\0" in name:
                raise ValueError(f"tensor name {name!r} is not allowed in .npz files")
        self.written: dict[str, int] = {}
        self._zip = zipfile.ZipFile(path, "x", zipfile.ZIP_STORED)
        tree = dict(layout.metadata)
        if layout.record is not None:
            tree[KEY] = layout.record
        if tree:
            self._write_member(_RECORD_MEMBER, np.frombuffer(json.dumps(tree).encode(), np.uint8))

    def write(self, name: str, array: Array) -> None:
        self._write_member(name, stored_array(array, self._specs[name]))
        self.written[name] = array.nbytes

    def _write_member(self, name: str, array: Array) -> None:
        # A ZipInfo without a date: the same tensors make the same file.
        info = zipfile.ZipInfo(name + _MEMBER)
        with self._zip.open(info, "w", force_zip64=True) as stream:
            header = np.lib.format.header_data_from_array_1_0(array)
            np.lib.format.write_array_header_1_0(stream, header)
            stream.write(bytes_of(array))

    def finish(self) -> None:
        missing = {s.name for s in self._specs.values() if not s.optional} - set(self.written)
        if missing:
            raise ValueError(f"tensors {sorted(missing)} were announced but not written")
        self._zip.close()

    def close(self) -> None:
        self._zip.close()


class NpyWriter:
    """A ``.npy`` file being written: one tensor, and nothing that tells how it was quantized."""

    def __init__(self, path: Path, layout: Layout) -> None:
        if len(layout.specs) != 1 or layout.record is not None:
            raise ValueError(
                f"a .npy file holds one plain array, not {len(layout.specs)} tensors: "
                f"choose a name that ends in .safetensors or .npz"
            )
        self._spec = _npy_spec(layout.specs[0], NPY_SUFFIX)
        self.written: dict[str, int] = {}
        self._file = open(path, "xb")  # noqa: SIM115 - close() does

    def write(self, name: str, array: Array) -> None:
        np.lib.format.write_array(self._file, stored_array(array, self._spec), allow_pickle=False)
        self.written[name] = array.nbytes

    def finish(self) -> None:
        self._file.close()

    def close(self) -> None:
        self._file.close()


def _npy_spec(spec: TensorSpec, suffix: str) -> TensorSpec:
    if numpy_dtype(spec).hasobject:
        raise ValueError(f"tensor {spec.name!r} holds Python objects, which are never stored")
    if spec.dtype in ML_DTYPES:  # NumPy would store these as nameless bytes
        raise ValueError(
            f"tensor {spec.name!r} has dtype {spec.dtype}, which {suffix} files cannot hold: "
            f"choose a name that ends in .safetensors"
        )
    return spec
