"""A checkpoint opened for reading: one file, or a folder of safetensors shards."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from pyquant.array import QuantizedArray
from pyquant.checkpoint import npy, npz
from pyquant.checkpoint.record import Record, assembled, companions, read_records
from pyquant.checkpoint.safetensors_format import SUFFIX, SafetensorsFile
from pyquant.checkpoint.tensors import Array, TensorFile, TensorSpec

INDEX_SUFFIX = ".safetensors.index.json"
_MAX_INDEX = 2**27  # bytes

_READERS: dict[str, Callable[[Path], TensorFile]] = {
    SUFFIX: SafetensorsFile,
    npz.SUFFIX: npz.NpzFile,
    npy.SUFFIX: npy.NpyFile,
}


class Part(NamedTuple):
    """One file of a checkpoint and the quantized tensors in it."""

    file: TensorFile
    records: dict[str, Record]

    @property
    def names(self) -> list[str]:
        """Names of the tensors; scales and zero points belong to theirs."""
        owned = {name for quantized in self.records for name in companions(quantized)}
        return [name for name in self.file.specs if name not in owned]

    def specs(self, name: str) -> list[TensorSpec]:
        """Return what is stored of the tensor `name`: itself, scale and zero point."""
        names = [name, *companions(name)] if name in self.records else [name]
        return [self.file.specs[stored] for stored in names if stored in self.file.specs]

    def read(self, name: str) -> Array | QuantizedArray:
        if name in self.records:
            return assembled(name, self.records[name], self.file)
        return self.file.read(name)


class Checkpoint(NamedTuple):
    """All files of a checkpoint; `index_file` is the index of a folder that has one."""

    path: Path
    parts: list[Part]
    index_file: Path | None

    @property
    def is_folder(self) -> bool:
        return self.path.is_dir()

    def stored(self) -> dict[str, TensorSpec]:
        """Return everything that is stored: tensors, scales and zero points."""
        return {name: spec for part in self.parts for name, spec in part.file.specs.items()}

    def where(self) -> dict[str, Part]:
        """Return the part that holds each tensor, in the order of the files."""
        return {name: part for part in self.parts for name in part.names}


@contextmanager
def opened(path: Path) -> Iterator[Checkpoint]:
    """Open the checkpoint `path`, with everything but the data checked."""
    if not path.exists():
        raise ValueError(f"{path} does not exist")
    index = _index_of(path) if path.is_dir() else None
    files = _shards(path, index) if path.is_dir() else [path]
    with ExitStack() as stack:
        parts = [_open_part(file, stack) for file in files]
        checkpoint = Checkpoint(path, parts, index)
        _check_unique(checkpoint)
        yield checkpoint


def reader_for(path: Path) -> Callable[[Path], TensorFile]:
    if path.suffix not in _READERS:
        raise ValueError(
            f"{path} must end in {', '.join(_READERS)} or be a folder of {SUFFIX} shards"
        )
    return _READERS[path.suffix]


def _open_part(path: Path, stack: ExitStack) -> Part:
    if not path.is_file():
        raise ValueError(f"{path} is not a file")
    file = reader_for(path)(path)
    stack.callback(file.close)
    return Part(file, read_records(file))


def _index_of(folder: Path) -> Path | None:
    found = sorted(folder.glob(f"*{INDEX_SUFFIX}"))
    if len(found) > 1:
        raise ValueError(f"{folder} has {len(found)} files *{INDEX_SUFFIX}, one is allowed")
    return found[0] if found else None


def _shards(folder: Path, index: Path | None) -> list[Path]:
    names = _indexed(index) if index else {file.name for file in folder.glob(f"*{SUFFIX}")}
    if not names:
        raise ValueError(f"{folder} holds no {SUFFIX} files")
    return [folder / name for name in sorted(names)]


def _indexed(index: Path) -> set[str]:
    try:
        if index.stat().st_size > _MAX_INDEX:
            raise ValueError(f"it is larger than {_MAX_INDEX} bytes")
        tree = json.loads(index.read_bytes())
    except RecursionError:
        raise ValueError(f"{index} is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{index} is not a valid index: {error}") from None
    shards = tree.get("weight_map") if isinstance(tree, dict) else None
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise ValueError(f"{index} must have a 'weight_map' object of file names")
    for name in shards.values():
        if Path(name).name != name or not name.endswith(SUFFIX):
            raise ValueError(f"{index} names {name!r}, which is not a {SUFFIX} file beside it")
    return set(shards.values())


def _check_unique(checkpoint: Checkpoint) -> None:
    seen: dict[str, Path] = {}
    for part in checkpoint.parts:
        for name in part.file.specs:
            if name in seen:
                raise ValueError(f"tensor {name!r} is in {seen[name]} and in {part.file.path}")
            seen[name] = part.file.path
