"""What the commands print: a progress bar on a terminal, plain lines anywhere else."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

_UNITS = ("B", "kB", "MB", "GB", "TB")


class Steps(Protocol):
    """Told of every tensor that is done."""

    def __call__(self, name: str, line: str, nbytes: int) -> None: ...


@contextmanager
def steps(total: int) -> Iterator[Steps]:
    """Show progress over `total` bytes."""
    console = Console()
    if not console.is_terminal:
        yield lambda name, line, nbytes: print(line, flush=True)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda name, line, nbytes: bar.update(task, advance=nbytes, description=escape(name))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on a terminal, else lines of columns two spaces apart."""
    console = Console()
    if console.is_terminal:
        table = Table(*columns)
        for row in rows:
            table.add_row(*map(escape, row))
        console.print(table)
        return
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    for row in (columns, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def bytes_text(nbytes: int) -> str:
    """Return a size in the largest unit that keeps it above 1."""
    power = min(int(math.log10(max(nbytes, 1)) // 3), len(_UNITS) - 1)
    value = nbytes / 1000**power
    return f"{value:.1f} {_UNITS[power]}" if power else f"{nbytes} B"


def ratio_text(before: int, after: int) -> str:
    return f"{before / after:.2f} x smaller" if after else "no bytes"


def finite(value: float) -> float | None:
    """Return `value` as JSON can hold it: None for infinity and NaN."""
    value = float(value)
    return value if math.isfinite(value) else None


def json_text(tree: Any) -> str:
    return json.dumps(tree, indent=2, allow_nan=False)
