"""Reading and writing NumPy's ``.npz`` one array at a time, never with pickle.

A size is believed only when it agrees with what is there: an array's bytes with its member's, a
member's with what its compressed bytes can hold, those with the file.
"""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

from pyquant.checkpoint.npy import Header, read_data, read_header, storable
from pyquant.checkpoint.record import KEY
from pyquant.checkpoint.tensors import Array, Layout, TensorSpec, bytes_of, stored_array

SUFFIX = ".npz"
_MEMBER = ".npy"
_RECORD_MEMBER = f"__{KEY}__"
_METHODS = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: 1032}  # most bytes one byte can become
_HEADER_SLACK = 2**20  # a few compressed bytes have a fixed cost that a ratio does not see
# Weights do not shrink a hundredfold; a member that does may fill this many bytes, no more.
_BOMB_RATIO = 100
_BOMB_BYTES = 2**28
_MAX_RECORD = 2**27

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

    def _read_headers(self) -> dict[str, Header]:
        members = self._zip.infolist()
        if sum(member.compress_size for member in members) > self.path.stat().st_size:
            raise ValueError("its members overlap or reach beyond the end")
        headers: dict[str, Header] = {}
        for member in members:
            _check_member(member)
            name = member.filename.removesuffix(_MEMBER)
            if name in headers:
                raise ValueError(f"array {name!r} is there twice")
            with self._zip.open(member) as stream:
                headers[name] = read_header(stream, name, member.file_size)
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

    def _data(self, header: Header, buffer: Array | None) -> Array:
        with self._zip.open(header.spec.name + _MEMBER) as stream:
            stream.read(header.begin)
            return read_data(stream, header, buffer)

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
    most = member.compress_size * _METHODS[member.compress_type] + _HEADER_SLACK
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
            self._specs[spec.name] = storable(spec, SUFFIX)
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
