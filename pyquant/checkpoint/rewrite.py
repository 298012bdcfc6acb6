"""A new checkpoint made from an old one, file by file, all or nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from pyquant.checkpoint import npy, npz
from pyquant.checkpoint.replacing import replacing, require_folder
from pyquant.checkpoint.safetensors_format import SUFFIX, SafetensorsWriter
from pyquant.checkpoint.source import INDEX_SUFFIX, Checkpoint, Part
from pyquant.checkpoint.tensors import Array, Layout, TensorFile, TensorWriter

Tensors = Generator[tuple[str, Array], None, None]

_WRITERS: dict[str, Callable[[Path, Layout], TensorWriter]] = {
    SUFFIX: SafetensorsWriter,
    npz.SUFFIX: npz.NpzWriter,
    npy.SUFFIX: npy.NpyWriter,
}
# Above this a tensor is not read ahead: two of them would be twice the memory.
_READ_AHEAD_BYTES = 2**27


@contextmanager
def new_file(path: Path, layout: Layout) -> Iterator[TensorWriter]:
    """Write one file of tensors under `path`; it is valid only if the body ends well."""
    if path.suffix not in _WRITERS:
        raise ValueError(f"{path.name} must end in {', '.join(_WRITERS)}")
    writer = _WRITERS[path.suffix](path, layout)
    with closing(writer):
        yield writer
        writer.finish()


def refuse_target(source: Checkpoint, out: Path, overwrite: bool) -> None:
    """Raise ``ValueError`` where `out` cannot or must not be written, before any work."""
    if out.exists() and os.path.samefile(out, source.path):
        raise ValueError(f"OUT {out} is IN itself, choose another name")
    refuse_existing(out, overwrite)
    if source.is_folder:
        if out.suffix in _WRITERS or out.is_file():
            raise ValueError(f"OUT {out} must be a folder, because {source.path} is one")
        strangers = [p.name for p in out.iterdir() if not _is_shard(p)] if out.exists() else []
        if strangers:
            raise ValueError(f"OUT {out} holds {strangers[0]!r}, which is not of a checkpoint")
        return
    if out.is_dir() or out.suffix not in _WRITERS:
        raise ValueError(f"OUT {out} must be a file that ends in {', '.join(_WRITERS)}")


def refuse_existing(out: Path, overwrite: bool) -> None:
    if out.exists() and not overwrite:
        raise ValueError(f"{out} exists; --overwrite replaces it")
    require_folder(out)


def _is_shard(path: Path) -> bool:
    return path.is_file() and path.name.endswith((SUFFIX, INDEX_SUFFIX))


def rewrite(
    source: Checkpoint,
    out: Path,
    layouts: list[Layout],
    produce: Callable[[Part], Tensors],
) -> int:
    """Write `out` with the tensors `produce` makes of every part; return their bytes."""
    where: dict[str, str] = {}
    total = 0
    with replacing(out) as temporary:
        if source.is_folder:
            temporary.mkdir()
        for part, layout in zip(source.parts, layouts, strict=True):
            target = temporary / part.file.path.name if source.is_folder else temporary
            written = write_part(target, layout, produce(part))
            where.update(dict.fromkeys(written, part.file.path.name))
            total += sum(written.values())
        if source.index_file:
            write_index(temporary / source.index_file.name, source.index_file, where, total)
    return total


def write_part(path: Path, layout: Layout, tensors: Tensors) -> dict[str, int]:
    """Write one file of tensors; return the bytes of each."""
    # Closed here and not when it is collected: it may own a reading thread.
    with new_file(path, layout) as writer, closing(tensors):
        for name, array in tensors:
            writer.write(name, array)
    return writer.written


def write_index(path: Path, old: Path, where: dict[str, str], total: int) -> None:
    """Write the index of a folder: which file has which tensor; the rest is as in `old`."""
    metadata = json.loads(old.read_bytes()).get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    metadata = {**metadata, "total_size": total}
    tree = {"metadata": metadata, "weight_map": dict(sorted(where.items()))}
    path.write_text(json.dumps(tree, indent=2) + "\n", encoding="utf-8")


def read_ahead(file: TensorFile, names: list[str]) -> Tensors:
    """Yield the tensors `names`, reading the next one while the caller works on this one.

    An array is valid only until the next step: two buffers serve them all.
    """
    if not names:
        return
    largest = max(file.specs[name].nbytes for name in names)
    if largest > _READ_AHEAD_BYTES:
        buffer = np.empty(largest, np.uint8)
        yield from ((name, file.read(name, buffer)) for name in names)
        return
    buffers = [np.empty(largest, np.uint8) for _ in range(2)]
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(file.read, names[0], buffers[0])
        for i, name in enumerate(names):
            array = coming.result()
            if i + 1 < len(names):
                coming = thread.submit(file.read, names[i + 1], buffers[(i + 1) % 2])
            yield name, array
