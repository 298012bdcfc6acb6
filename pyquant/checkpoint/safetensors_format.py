"""Reading and writing ``.safetensors`` files one tensor at a time.

The header is read and checked by the safetensors library. The data is read here, with ordinary
reads: the library maps the file, and every page of the mapping that was touched counts as memory
of this process. Its writer wants all tensors at once, hence ours.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pyquant.checkpoint.record import KEY
from pyquant.checkpoint.tensors import (
    Array,
    Layout,
    TensorSpec,
    bytes_of,
    checked_shape,
    name_of_code,
    numpy_dtype,
    place_for,
    safetensors_code,
    stored_array,
)

SUFFIX = ".safetensors"
_METADATA = "__metadata__"
_LENGTH_BYTES = 8
_ALIGNMENT = 8


def _library() -> Any:
    try:
        import safetensors
    except ImportError:
        raise ImportError(
            ".safetensors files need the safetensors package: pip install 'pyquant[files]'"
        ) from None
    return safetensors


class SafetensorsFile:
    """A ``.safetensors`` file opened for reading."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.specs: dict[str, TensorSpec] = {}
        self._begin: dict[str, int] = {}
        self.metadata = self._read_header()
        self.record = self.metadata.pop(KEY, None)
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - close() does

    def _read_header(self) -> dict[str, str]:
        library = _library()
        try:
            with library.safe_open(str(self.path), framework="numpy") as header:
                begin = _data_start(self.path)
                for name in header.offset_keys():
                    entry = header.get_slice(name)
                    spec = _spec(name, entry.get_dtype(), entry.get_shape())
                    self.specs[name] = spec
                    # The library has made sure that the tensors follow each other without holes.
                    self._begin[name] = begin
                    begin += spec.nbytes
                # The library leaves the places of empty tensors and the metadata's order to chance.
                self.specs = dict(sorted(self.specs.items(), key=self._place))
                return dict(sorted((header.metadata() or {}).items()))
        except (library.SafetensorError, ValueError) as error:
            raise ValueError(f"{self.path} is not a valid .safetensors file: {error}") from None

    def _place(self, item: tuple[str, TensorSpec]) -> tuple[int, str]:
        name, spec = item
        return (self._begin[name], "") if spec.nbytes else (0, name)

    def read(self, name: str, buffer: Array | None = None) -> Array:
        spec = self.specs[name]
        dtype = numpy_dtype(spec)
        place = place_for(spec.nbytes, buffer)
        self._file.seek(self._begin[name])
        view, filled = place.data, 0
        while filled < spec.nbytes:
            count = self._file.readinto(view[filled:])
            if not count:
                raise ValueError(f"{self.path} ended inside tensor {name!r}")
            filled += count
        return place.view(dtype).reshape(spec.shape)

    def close(self) -> None:
        self._file.close()


def _data_start(path: Path) -> int:
    with open(path, "rb") as file:
        return _LENGTH_BYTES + int.from_bytes(file.read(_LENGTH_BYTES), "little")


def _spec(name: str, code: str, shape: list[int]) -> TensorSpec:
    try:
        return TensorSpec(name, name_of_code(code), checked_shape(shape))
    except ValueError as error:
        raise ValueError(f"tensor {name!r}: {error}") from None


class SafetensorsWriter:
    """A ``.safetensors`` file being written, tensors in any order.

    Room for the header is kept in front, as long as it can become; the tensors have fixed places
    behind it, larger elements first so that all are aligned. Optional tensors go to the end as
    they come, because the format allows no holes.
    """

    def __init__(self, path: Path, layout: Layout) -> None:
        self._specs = {spec.name: spec for spec in _arranged(layout.specs)}
        self._metadata = dict(layout.metadata)
        if layout.record is not None:
            self._metadata[KEY] = layout.record
        self._begin: dict[str, int] = {}
        self._end = 0
        for spec in self._specs.values():
            if not spec.optional:
                self._place(spec)
        self._start = _LENGTH_BYTES + self._header_room()
        self.written: dict[str, int] = {}
        self._file = open(path, "xb", buffering=0)  # noqa: SIM115 - close() does

    def _place(self, spec: TensorSpec) -> int:
        self._begin[spec.name] = self._end
        self._end += spec.nbytes
        return self._begin[spec.name]

    def _header_room(self) -> int:
        """Return a length no header of this file can exceed: all tensors, longest offsets."""
        total = sum(spec.nbytes for spec in self._specs.values())
        length = len(self._header({name: total for name in self._specs}))
        return -(-length // _ALIGNMENT) * _ALIGNMENT

    def _header(self, begin: dict[str, int]) -> bytes:
        tree: dict[str, Any] = {_METADATA: self._metadata} if self._metadata else {}
        for name, offset in begin.items():
            spec = self._specs[name]
            tree[name] = {
                "dtype": safetensors_code(spec),
                "shape": spec.shape,
                "data_offsets": (offset, offset + spec.nbytes),
            }
        return json.dumps(tree, separators=(",", ":"), ensure_ascii=False).encode()

    def write(self, name: str, array: Array) -> None:
        spec = self._specs[name]
        data = bytes_of(stored_array(array, spec))
        begin = self._place(spec) if spec.optional else self._begin[name]
        self._write_at(self._start + begin, data)
        self.written[name] = spec.nbytes

    def _write_at(self, position: int, data: memoryview | bytes) -> None:
        self._file.seek(position)
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]

    def finish(self) -> None:
        """Write the header; without it the file is none."""
        missing = set(self._begin) - set(self.written)
        if missing:
            raise ValueError(f"tensors {sorted(missing)} were announced but not written")
        room = self._start - _LENGTH_BYTES
        header = self._header(self._begin).ljust(room)
        self._write_at(0, room.to_bytes(_LENGTH_BYTES, "little") + header)

    def close(self) -> None:
        self._file.close()


def _arranged(specs: tuple[TensorSpec, ...]) -> list[TensorSpec]:
    seen: set[str] = set()
    for spec in specs:
        if spec.name == _METADATA:
            raise ValueError(f"tensor name {spec.name!r} is reserved in .safetensors files")
        if spec.name in seen:
            raise ValueError(f"tensor name {spec.name!r} is used twice")
        seen.add(spec.name)
    return sorted(specs, key=lambda spec: -numpy_dtype(spec).itemsize)
