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
    _end_by_exception()
    try:
        app()
    except (ValueError, OSError, MemoryError, ImportError) as error:
        _refuse(str(error) or type(error).__name__)


def _refuse(sentence: str) -> NoReturn:
    print(f"pyquant: {sentence}", file=sys.stderr)
    raise SystemExit(1)


def _end_by_exception() -> None:
    """Let requests to end become exceptions, so that unfinished output is removed."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        # nohup ignores SIGHUP, and that should stay so.
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _stop)


def _stop(signum: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + signum)
