"""Threads, CPU variants, and where the C library is."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Any

from pyquant import _cpu

_HERE = Path(__file__).resolve().parent


class _Threads:
    """What `set_num_threads` returns: leaving it as a context puts the old number back."""

    def __init__(self, before: int) -> None:
        self._before = before

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _cpu.set_num_threads(self._before)


def set_num_threads(n: int) -> _Threads:
    """Use at most `n` threads, from now on or for a ``with`` block.

    The default is ``PYQUANT_NUM_THREADS``, then ``OMP_NUM_THREADS``, then the CPUs that this
    process may use. Results do not depend on it.

    Raises
    ------
    ValueError
        `n` is not a positive integer.

    Examples
    --------
    >>> import pyquant as pq
    >>> with pq.set_num_threads(1):
    ...     pq.get_num_threads()
    1
    """
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= 1024:
        raise ValueError(f"n={n!r} must be an integer from 1 to 1024")
    before = _cpu.get_num_threads()
    _cpu.set_num_threads(n)
    return _Threads(before)


def get_num_threads() -> int:
    """How many threads a large call uses."""
    return int(_cpu.get_num_threads())


def runtime_info() -> dict[str, Any]:
    """What runs here: threads, CPU variants, and per operation the chosen and available ones.

    Examples
    --------
    >>> import pyquant as pq
    >>> sorted(pq.runtime_info())
    ['gpu', 'isa', 'operations', 'threads', 'version']
    """
    from pyquant import _cuda_loader

    names = _cpu.isa_names()
    return {
        "version": _version(),
        "threads": get_num_threads(),
        "isa": {
            "usable": [n for n in names if _cpu.isa_usable(n)],
            "compiled": [n for n in names if _cpu.isa_compiled(n)],
            "known": names,
            "cap": os.environ.get("PYQUANT_ISA", ""),
        },
        "operations": {
            op: {"chosen": chosen, "available": list(usable)}
            for op, (chosen, usable) in _cpu.operations().items()
        },
        "gpu": _cuda_loader.describe(),
    }


def show_runtime() -> None:
    """Print `runtime_info` for people and bug reports."""
    info = runtime_info()
    isa = info["isa"]
    print(f"pyquant {info['version']}")
    print(f"threads: {info['threads']}")
    print(f"CPU variants usable here: {' '.join(isa['usable'])}")
    print(f"compiled in: {' '.join(isa['compiled'])}")
    print(f"PYQUANT_ISA: {isa['cap'] or '(no cap)'}")
    print(f"GPU: {_gpu_line(info['gpu'])}")
    print("operations:")
    width = max(map(len, info["operations"]))
    for op, row in info["operations"].items():
        print(f"  {op:{width}}  {row['chosen']:8} of {' '.join(row['available'])}")


def _gpu_line(gpu: dict[str, Any] | None) -> str:
    if gpu is None:
        return "none (CuPy is not installed: pip install 'pyquant[cuda13]' or 'pyquant[cuda12]')"
    if gpu["devices"] is None:
        return f"CuPy {gpu['cupy']} is installed and not imported"
    from pyquant import _cuda_loader

    found = ", ".join(gpu["devices"]) or f"none ({gpu['reason']})"
    return f"{found}; CuPy {gpu['cupy']}, kernels kept in {_cuda_loader.cache_folder()}"


def warmup() -> None:
    """Compile the CUDA kernels for CuPy's current device now, and not at their first use.

    They are kept on disk, in ``PYQUANT_CACHE_DIR`` or the user's cache folder, so this takes its
    seconds once per machine and version.

    Raises
    ------
    RuntimeError
        There is no GPU, no driver, or no CuPy.

    Examples
    --------
    >>> import pyquant as pq
    >>> if (pq.runtime_info()["gpu"] or {}).get("devices"):
    ...     pq.warmup()
    """
    from pyquant import _cuda_loader

    _cuda_loader.warmup()


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("pyquant")
    except PackageNotFoundError:
        return "unknown (not installed)"


def get_include() -> str:
    """The folder of ``pyquant.h``, for a compiler's ``-I``.

    Examples
    --------
    >>> import os, pyquant as pq
    >>> os.path.exists(os.path.join(pq.get_include(), "pyquant.h"))
    True
    """
    return str(_HERE / "include")


def get_lib() -> str:
    """The path of the static library ``libpyquant.a``.

    It needs nothing but the C library, and then computes on the calling thread. Linked with
    ``-fopenmp -Wl,--no-as-needed`` it uses OpenMP's threads (its references to them are weak, and
    a linker would otherwise leave the library out).

    Examples
    --------
    >>> import os, pyquant as pq
    >>> os.path.basename(pq.get_lib())
    'libpyquant.a'
    """
    return str(_HERE / "lib" / "libpyquant.a")


def _positive(name: str) -> int | None:
    """A number of threads from the environment; OMP_NUM_THREADS may be a list by nesting level."""
    text = os.environ.get(name, "").split(",")[0].strip()
    return int(text) if text.isdigit() and 0 < int(text) <= 1024 else None


def configure() -> None:
    """Take PYQUANT_ISA, PYQUANT_NUM_THREADS and PYQUANT_KEEP_BYTES from the environment.

    Called once, by the import.
    """
    isa = os.environ.get("PYQUANT_ISA", "")
    if _cpu.set_isa(isa):
        names = ", ".join(_cpu.isa_names())
        raise ImportError(f"PYQUANT_ISA={isa!r} must be empty or one of {names}")
    threads = _positive("PYQUANT_NUM_THREADS") or _positive("OMP_NUM_THREADS")
    if threads is not None:
        _cpu.set_num_threads(threads)
    keep = os.environ.get("PYQUANT_KEEP_BYTES", "")
    if keep:
        if not keep.isdigit():
            raise ImportError(f"PYQUANT_KEEP_BYTES={keep!r} must be a number of bytes")
        _cpu.keep_at_most(int(keep))
