"""A folder of shards that is made piece by piece, by many hands, and survives being interrupted.

Until all shards are there they gather beside OUT, in ``.OUT.unfinished``::

    shards/NAME.safetensors   a finished shard: it comes here under its name when it is complete
    NAME.safetensors.json     its marker: what it was made of and how, and its own checksum
    lock                      locked by the run that is at it

A shard counts as finished when its marker fits: the same file, as it was, made with the same
settings, and the shard's bytes are those of the checksum. Whoever dies leaves at most a temporary
file; whoever does a shard again writes the same bytes under the same name. At last the index is
written and ``shards`` becomes OUT.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pyquant.checkpoint.replacing import replacing, swap_in

_FORMAT = 1
_CHUNK = 2**20
_LENGTH_BYTES = 8
_MOST_HEADER = 2**27


@dataclass(frozen=True)
class Shard:
    """One shard to make: from which file, in which folder, and what its marker has to say."""

    source: Path
    folder: Path
    made_from: dict[str, Any]

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def path(self) -> Path:
        return self.folder / "shards" / self.name

    @property
    def _marker(self) -> Path:
        return self.folder / f"{self.name}.json"

    @contextmanager
    def making(self) -> Iterator[Path]:
        """Yield a free name; what is made there becomes the shard."""
        with replacing(self.path, workplace=self.folder) as temporary:
            yield temporary

    def finish(self, result: dict[str, Any]) -> None:
        """Write the marker of a shard that is in its place; `result` goes with it."""
        marker = {"made_from": self.made_from, "sha256": _digest(self.path), "result": result}
        with replacing(self._marker) as temporary:
            temporary.write_text(json.dumps(marker), encoding="utf-8")

    def finished(self) -> dict[str, Any] | None:
        """Return the result that went with the marker, None where the shard is to be made."""
        try:
            marker = json.loads(self._marker.read_bytes())
            if marker["made_from"] != self.made_from or marker["sha256"] != _digest(self.path):
                return None
            result: dict[str, Any] = marker["result"]
            return result
        except (OSError, ValueError, KeyError, TypeError):
            return None


class Unfinished:
    """The shards of `out` until they are all there."""

    def __init__(self, out: Path, sources: list[Path], settings: dict[str, Any]) -> None:
        self._lock: IO[bytes] | None = None
        self._out = Path(os.path.realpath(out))
        self.folder = self._out.with_name(f".{self._out.name}.unfinished")
        self.shards = [
            Shard(source, self.folder, _made_from(source, settings))
            for source in map(Path.absolute, sources)  # links keep their names
        ]

    def open(self) -> None:
        """Make the folder, unless another run is at it, and remove what was not finished."""
        (self.folder / "shards").mkdir(parents=True, exist_ok=True)
        try:
            self._lock = _locked(self.folder / "lock")
        except BlockingIOError:
            raise OSError(f"another run is writing {self._out}") from None
        for left in self.folder.glob(".*.partial.*"):
            left.unlink(missing_ok=True)

    def close(self) -> int:
        """Keep what is finished for the next run; return how many shards that are."""
        finished = len(list(self.folder.glob("[!.]*.json")))
        if not finished:
            self.discard()
        elif self._lock:
            self._lock.close()
        return finished

    def publish(self, write_index: Callable[[Path], None]) -> None:
        """Make the shards OUT, with the index that `write_index` puts into the folder."""
        shards = self.folder / "shards"
        expected = {shard.name for shard in self.shards}
        for path in shards.iterdir():  # of another IN, or an index that was interrupted
            if path.name not in expected:
                path.unlink()
        write_index(shards)
        swap_in(shards, self._out)
        self.discard()

    def discard(self) -> None:
        """Leave nothing."""
        # Renamed first: a worker that does not know yet that it is over finds no place to write.
        leaving = self.folder.with_name(f"{self.folder.name}.{secrets.token_hex(4)}")
        with suppress(OSError):
            os.rename(self.folder, leaving)
        shutil.rmtree(leaving, ignore_errors=True)
        if self._lock:
            self._lock.close()


def _locked(path: Path) -> IO[bytes] | None:
    """Open the file, locked for the life of this process where the system can do that."""
    try:
        import fcntl
    except ImportError:
        return None
    file = open(path, "ab", buffering=0)  # noqa: SIM115 - whoever unlocks closes it
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise
    except OSError:  # not on this file system
        pass
    return file


def _made_from(source: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """What a shard depends on, as JSON gives it back."""
    status = source.stat()
    with open(source, "rb") as file:
        length = file.read(_LENGTH_BYTES)
        header = file.read(min(int.from_bytes(length, "little"), _MOST_HEADER))
    described = {
        "format": _FORMAT,
        "file": str(source),
        "bytes": status.st_size,
        "modified_ns": status.st_mtime_ns,
        "header": hashlib.sha256(length + header).hexdigest(),
        "settings": settings,
    }
    plain: dict[str, Any] = json.loads(json.dumps(described))
    return plain


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
