"""Compile and call peaks.c: how many operations a second the multipliers do, on registers only."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

from bench.limits import load

SOURCE = Path(__file__).with_name("peaks.c")
# The caps of PYQUANT_ISA on x86, worst first; scalar and avx512 have no loop.
CAPS = ("scalar", "avx2", "avxvnni", "avx512", "avx512vnni", "amxint8")


@cache
def _library() -> Any:
    library = load(SOURCE)
    library.peak_name.restype = ctypes.c_char_p
    library.peak_operations.restype = ctypes.c_double
    library.peak_run.restype = None
    for function in (library.peak_name, library.peak_usable, library.peak_operations):
        function.argtypes = [ctypes.c_size_t]
    library.peak_run.argtypes = [ctypes.c_size_t, ctypes.c_int, ctypes.c_size_t]
    return library


@cache
def usable() -> dict[str, int]:
    """The instruction sets with a loop that this CPU runs, and where their loops are."""
    library, found, index = _library(), {}, 0
    while (name := library.peak_name(index)) is not None:
        if library.peak_usable(index):
            found[name.decode()] = index
        index += 1
    return found


def best(cap: str = "") -> str | None:
    """The fastest instruction set with a loop that is there, under a cap of PYQUANT_ISA."""
    allowed = CAPS[: CAPS.index(cap) + 1] if cap else CAPS
    return next((name for name in reversed(allowed) if name in usable()), None)


class Peak:
    """One loop of peaks.c on a number of threads; `operations` are those of one call on all."""

    OPERATIONS = 5e8  # of one call, roughly, on each thread: starting the call costs nothing

    def __init__(self, isa: str, threads: int) -> None:
        library, index = _library(), usable()[isa]
        once = library.peak_operations(index)
        repeats = round(self.OPERATIONS / once)
        self.operations = round(once * repeats * threads)
        self._run, self._arguments = library.peak_run, (index, threads, repeats)

    def __call__(self) -> None:
        self._run(*self._arguments)
