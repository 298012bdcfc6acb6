"""All or nothing: what is written appears under its name only when it is complete."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path, *, workplace: Path | None = None) -> Iterator[Path]:
    """Yield a free name beside `path`; what the caller makes there becomes `path` at the end.

    With `workplace` the name is in that folder, which is on the same file system.

    If the body raises, an interrupt included, what was made is removed and `path` is as before.
    """
    require_folder(path)
    path = Path(os.path.realpath(path))
    temporary = _beside(workplace / path.name if workplace else path, "partial")
    try:
        yield temporary
        swap_in(temporary, path)
    finally:
        _remove(temporary)


def swap_in(new: Path, path: Path) -> None:
    """Make `new` become `path`, in place of a file or folder of that name."""
    if new.is_dir() and path.exists():
        _swap_folder(new, path)
    else:
        os.replace(new, path)


def require_folder(path: Path) -> None:
    """Raise ``ValueError`` unless the folder that `path` would be in exists."""
    if not path.resolve().parent.is_dir():
        raise ValueError(f"the folder of {path} does not exist")


def _beside(path: Path, what: str) -> Path:
    # The suffix stays last: it tells the format. A long stem is cut: names have a limit.
    return path.with_name(f".{path.stem[:50]}.{secrets.token_hex(4)}.{what}{path.suffix}")


def _swap_folder(new: Path, path: Path) -> None:
    old = _beside(path, "replaced")
    os.rename(path, old)
    try:
        os.rename(new, path)
    except BaseException:
        os.rename(old, path)
        raise
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
