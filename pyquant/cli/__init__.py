"""The ``pyquant`` command: exit status 0, 1 (the data was refused) or 2 (usage)."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import NoReturn

_NEEDED = ("typer", "rich")


def main() -> None:
    """Run the command line; refuse bad data with one sentence and exit status 1."""
    try:
        from pyquant.cli.app import app
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in _NEEDED:
            raise
        _refuse("the command line needs more packages: pip install pyquant[cli]")
    signal.signal(signal.SIGTERM, _stop)
    try:
        app()
    except (ValueError, OSError, MemoryError, ImportError) as error:
        _refuse(str(error) or type(error).__name__)


def _refuse(sentence: str) -> NoReturn:
    print(f"pyquant: {sentence}", file=sys.stderr)
    raise SystemExit(1)


def _stop(signum: int, _frame: FrameType | None) -> NoReturn:
    """Turn a request to end into an exception, so that unfinished output is removed."""
    raise SystemExit(128 + signum)
