"""Compile and call limits.c, the machine's own limits; what peaks.py compiles with too."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

SOURCE = Path(__file__).with_name("limits.c")
# No NaN and no signed zero: otherwise the clamp does not become one min and one max.
FLAGS = [
    *("-O3", "-march=native", "-ffp-contract=off", "-fopenmp", "-fPIC", "-shared"),
    *("-fno-math-errno", "-fno-trapping-math", "-ffinite-math-only", "-fno-signed-zeros"),
]


class LimitsUnavailable(RuntimeError):
    """There is no C compiler, or it does not take the flags."""


def load(source: Path) -> Any:
    """Compile a C file of this folder and load it."""
    with tempfile.TemporaryDirectory() as folder:
        return ctypes.CDLL(str(_compile(source, Path(folder))))


def _compile(source: Path, folder: Path) -> Path:
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise LimitsUnavailable("no C compiler (cc) found")
    library = folder / f"lib{source.stem}.so"
    command = [*compiler.split(), *FLAGS, str(source), "-o", str(library), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise LimitsUnavailable(f"{compiler} fails: {last}")
    return library


@cache
def _library() -> tuple[Any, dict[str, int]]:
    library = load(SOURCE)
    library.limit_name.restype = ctypes.c_char_p
    library.limit_name.argtypes = [ctypes.c_size_t]
    library.limit_run.restype = None
    size, pointer, integer = ctypes.c_size_t, ctypes.c_void_p, ctypes.c_int
    library.limit_run.argtypes = [size, pointer, pointer, size, integer, integer, size]
    names: dict[str, int] = {}
    while (name := library.limit_name(len(names))) is not None:
        names[name.decode()] = len(names)
    return library.limit_run, names


class Loop:
    """One loop of limits.c with its arguments; calling it runs the work `repeats` times."""

    def __init__(
        self, name: str, x: np.ndarray, out: np.ndarray, n: int, threads: int, streaming: bool
    ) -> None:
        self._run, indices = _library()
        # A call through ctypes costs a microsecond: many runs in one, where a run is short.
        self.repeats = max(1, 10**6 // n)
        self._arrays = (x, out)  # alive as long as their addresses are in use
        self._arguments = (
            ctypes.c_size_t(indices[name]),
            ctypes.c_void_p(x.ctypes.data),
            ctypes.c_void_p(out.ctypes.data),
            ctypes.c_size_t(n),
            ctypes.c_int(threads),
            ctypes.c_int(streaming),
            ctypes.c_size_t(self.repeats),
        )

    def __call__(self) -> None:
        self._run(*self._arguments)
