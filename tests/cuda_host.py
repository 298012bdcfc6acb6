"""The kernels of pyquant/cuda on the host: compiled as C++ with cuda/shim.h, called like the GPU's.

`kernel` has the signature of `pyquant._cuda_loader.kernel`; its arguments may be NumPy arrays or
whatever has `.data.ptr`.
"""

import ctypes
import hashlib
import itertools
import os
import re
import tempfile
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from c_build import CXX, ROOT, alone, must

SHIM = ROOT / "tests" / "cuda"
KERNELS = ROOT / "pyquant" / "cuda"
FLAGS = [
    *("-std=c++17", "-O2", "-g1", "-fPIC", "-shared", "-ffp-contract=off", "-fno-strict-aliasing"),
    *("-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-unused-function", "-Wno-unknown-pragmas"),
]
SANITIZERS = [
    *(
        "-O1",
        "-g0",
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=all",
        "-fno-omit-frame-pointer",
    ),
    "-fsanitize=float-divide-by-zero",
]
INCLUDES = [f"-I{SHIM}", f"-I{KERNELS}", f"-I{ROOT / 'csrc' / 'include'}", "-DPQ_HOST"]
_ENTRY = re.compile(r"__global__\s+void\s+(\w+)\s*\(")
_seeds = itertools.count(int(os.environ.get("PYQUANT_SHIM_SEED", "1")))


def _processor_flags() -> list[str]:
    """A fused multiply-add in one instruction, where there is one: much faster than a call."""
    try:
        return ["-mfma"] if " fma " in Path("/proc/cpuinfo").read_text() else []
    except OSError:
        return []


def sanitized() -> bool:
    return os.environ.get("PYQUANT_SHIM_SANITIZE") == "1"


def build(text: str, stem: str, *, sanitize: bool = False) -> Path:
    """A shared library of the kernels in a text of CUDA; kept under build/ until something changes.

    Every `extern "C" __global__` function gets a launcher.
    """
    flags = [*FLAGS, *_processor_flags(), *(SANITIZERS if sanitize else [])]
    state = hashlib.sha256(repr((text, flags, must([CXX, "--version"]))).encode())
    includes = [*SHIM.glob("*.h"), *KERNELS.glob("*.cuh"), *(ROOT / "csrc/include").glob("*.h")]
    for path in sorted(includes):
        state.update(path.read_bytes())
    folder = ROOT / "build" / "cuda-host"
    target = folder / f"{stem}-{'sanitized-' * sanitize}{state.hexdigest()[:16]}.so"
    with alone(folder, stem):
        if not target.exists():
            _compile(text, stem, flags, target)
            for old in folder.glob(f"{stem}-{'sanitized-' * sanitize}*.so"):
                if old != target and ("sanitized" in old.name) == sanitize:
                    old.unlink(missing_ok=True)
    return target


def _compile(text: str, stem: str, flags: list[str], target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as work:
        plain = Path(work) / f"{stem}.cu"
        plain.write_text(text)
        language = ["-x", "c++", *INCLUDES]
        listed = must([CXX, "-std=c++17", "-E", "-P", "-DSHIM_LIST", *language, str(plain)])
        names = _ENTRY.findall(listed)
        assert names, f"{stem} has no kernels"
        exports = "".join(f"SHIM_EXPORT({name})\n" for name in names)
        entry = '#define SHIM_ENTRY __attribute__((visibility("default")))\n'
        unit = Path(work) / f"{stem}.cpp"
        unit.write_text(f'#line 1 "{stem}.cu"\n{text}\n#line 1 "exports"\n{entry}{exports}')
        part = Path(work) / "part.so"
        must([CXX, *flags, *language, str(unit), "-o", str(part)])
        os.replace(part, target)


class DeviceArray:
    """NumPy memory as far as the launches look at an array."""

    device = nullcontext()

    def __init__(self, array: np.ndarray) -> None:
        assert array.flags.c_contiguous
        self.array, self.size = array, array.size
        self.data = SimpleNamespace(ptr=array.ctypes.data)

    def fill(self, value) -> None:
        self.array.fill(value)


class Library:
    """The kernels of one unit."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))

    def launch(self, name, grid, block, args, shared_mem=0, seed=None) -> None:
        """Run a kernel; RuntimeError says what went wrong in it."""
        entry = getattr(self._library, f"launch_{name}")
        entry.restype = ctypes.c_char_p
        entry.argtypes = [
            ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint64, ctypes.c_void_p,
            ctypes.c_void_p, ctypes.c_size_t,
        ]  # fmt: skip
        cells = [_cell(a) for a in args]
        addresses = (ctypes.c_void_p * len(cells))(*(c.ctypes.data for c in cells))
        kinds = (ctypes.c_char_p * len(cells))(*map(_kind, args, cells))
        # CuPy makes a grid of nothing one block.
        sizes = [np.array([max(1, n) for n in (*s, 1, 1)[:3]], np.uint32) for s in (grid, block)]
        said = entry(
            *(s.ctypes.data for s in sizes), shared_mem, next(_seeds) if seed is None else seed,
            addresses, kinds, len(cells),
        )  # fmt: skip
        if said:
            raise RuntimeError(f"{name}: {said.decode()}")


def _cell(argument) -> np.ndarray:
    """The memory that holds a kernel argument, as CuPy would pass it."""
    if isinstance(argument, np.ndarray) and argument.dtype.kind == "V":
        return np.ascontiguousarray(argument)
    if isinstance(argument, np.ndarray):
        return np.array([argument.ctypes.data], np.uint64)
    if isinstance(argument, np.generic):
        return np.array([argument])
    if isinstance(argument, float):
        return np.array([argument], np.float64)
    if isinstance(argument, int):
        return np.array([argument], np.int64)
    return np.array([argument.data.ptr], np.uint64)


def _kind(argument, cell: np.ndarray) -> bytes:
    """What the driver finds there, and of how many bytes: see is_passed_as in cuda/shim.h."""
    if isinstance(argument, (np.ndarray, np.generic, float, int)):
        if isinstance(argument, bool):
            return b"b1"
        if isinstance(argument, np.ndarray) and argument.dtype.kind != "V":
            return b"p8"
        kind = cell.dtype.kind.replace("u", "i")
        return f"{kind}{cell.itemsize}".encode()
    return b"p8"


def library_of(text: str, stem: str = "text", *, sanitize: bool | None = None) -> Library:
    """The kernels of a text of CUDA, which may include the headers of pyquant/cuda."""
    return Library(build(text, stem, sanitize=sanitized() if sanitize is None else sanitize))


@cache
def library(unit: str) -> Library:
    return library_of((KERNELS / f"{unit}.cu").read_text(), unit)


def kernel(unit: str, name: str):
    """What `_cuda_loader.kernel` gives, for the host."""

    def call(grid, block, args, shared_mem=0, stream=None) -> None:
        library(unit).launch(name, grid, block, args, shared_mem)

    return call
