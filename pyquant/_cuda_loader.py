"""CUDA kernels from source to a call: compiled by NVRTC, kept on disk, loaded once per device.

CuPy's own `RawModule` is no help: it appends `-ftz=true` to the options, and subnormals would be
lost. What NVRTC makes of a unit depends on its text, the options, the compiler and the
architecture, which together name the file in the cache.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

_EXTRAS = "pip install 'pyquant[cuda13]' or 'pyquant[cuda12]'"
_HERE = Path(__file__).resolve().parent
OPTIONS = (
    "--std=c++17",
    "-ftz=false",
    "-fmad=false",
    "-prec-div=true",
    "-prec-sqrt=true",
    "--disable-warnings",
)
_INCLUDE = re.compile(r'#include "([\w.]+)"$')
_FOR_ONE_ARCHITECTURE = re.compile(r"_(sm_\d+[af])$")
_MIXED_SIGNS = re.compile(r"gemm_hopper_(i8u8|u8i8)_")
_OLDEST = 75  # compute capability of Turing, whose matrix instructions the kernels need
_DYNAMIC_SHARED_LIMIT = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
_STATIC_SHARED = 1  # CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES
_PROCESSORS = 16  # cudaDevAttrMultiProcessorCount
_SHARED_BY_OPTING_IN = 97  # cudaDevAttrMaxSharedMemoryPerBlockOptin

Kernel = Callable[..., None]
_kernels: dict[tuple[int, str, str], Kernel] = {}
_modules: dict[tuple[int, str], Any] = {}
_lock = threading.Lock()
_usable: Any = None  # the CuPy module that has a device


def units() -> list[str]:
    """The names of all sources."""
    return sorted(path.stem for path in (_HERE / "cuda").glob("*.cu"))


@cache
def source(unit: str) -> str:
    """The text of a unit with what it includes, each file once."""
    seen: set[str] = set()

    def lines_of(name: str) -> Iterator[str]:
        seen.add(name)
        folder = "include" if name.endswith(".h") else "cuda"
        text = (_HERE / folder / name).read_text(encoding="utf-8")
        yield f'#line 1 "{name}"'
        for number, line in enumerate(text.splitlines(), 1):
            match = _INCLUDE.match(line)
            if match is None:
                yield line
            elif match[1] in seen or match[1] == "shim.h":
                yield ""
            else:
                yield from lines_of(match[1])
                yield f'#line {number + 1} "{name}"'

    return "\n".join([*lines_of(f"{unit}.cu"), ""])


def require() -> None:
    """RuntimeError, in one sentence, where arrays on a GPU cannot be computed with."""
    global _usable
    if _usable is not None and _usable is sys.modules.get("cupy"):
        return
    try:
        import cupy
    except ImportError as error:
        raise RuntimeError(f"arrays on a GPU need CuPy ({_EXTRAS}): {error}") from None
    reason = _no_device(cupy)
    if reason:
        raise RuntimeError(f"arrays on a GPU need an NVIDIA GPU and its driver: {reason}")
    _usable = cupy


def _no_device(cupy: Any) -> str:
    """Why CuPy has no GPU; empty if it has. Makes no context."""
    try:
        devices = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return str(error)
    return "" if devices else "the driver has none"


def describe() -> dict[str, Any] | None:
    """For `runtime_info`: CuPy and its devices, as far as nothing need be imported for it."""
    cupy = sys.modules.get("cupy")
    if cupy is None:
        found = [d for d in ("cupy-cuda13x", "cupy-cuda12x", "cupy") if _version(d)]
        return {"cupy": _version(found[0]), "devices": None, "reason": ""} if found else None
    reason, devices = _no_device(cupy), []
    if not reason:
        for i in range(cupy.cuda.runtime.getDeviceCount()):
            properties = cupy.cuda.runtime.getDeviceProperties(i)
            arch = f"sm_{properties['major']}{properties['minor']}"
            devices.append(f"{properties['name'].decode()} ({arch})")
    return {"cupy": cupy.__version__, "devices": devices, "reason": reason}


def _version(distribution: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def _nvrtc() -> Any:
    try:
        from cupy.cuda import nvrtc

        nvrtc.getVersion()
    except Exception as error:  # CuPy raises what the library's absence makes it raise
        raise RuntimeError(
            f"compiling for the GPU needs CuPy and NVRTC ({_EXTRAS}): {error}"
        ) from None
    return nvrtc


def compile(unit: str, arch: str) -> bytes:
    """The machine code of a unit for "sm_90" and the like; for "compute_90", PTX."""
    nvrtc = _nvrtc()
    program = nvrtc.createProgram(source(unit), f"{unit}.cu", (), ())
    try:
        try:
            nvrtc.compileProgram(program, (*OPTIONS, f"-arch={arch}"))
        except nvrtc.NVRTCError as error:
            log = nvrtc.getProgramLog(program).strip()
            version = ".".join(map(str, nvrtc.getVersion()))
            raise RuntimeError(
                f"NVRTC {version} did not compile {unit}.cu for {arch}: {error}\n{log}"
            ) from None
        # CuPy takes the last byte for a terminating zero; it is one, and both forms need it.
        made = nvrtc.getPTX if arch.startswith("compute_") else nvrtc.getCUBIN
        return bytes(made(program)) + b"\0"
    finally:
        nvrtc.destroyProgram(program)


def cache_folder() -> Path:
    """Where compiled kernels are kept."""
    chosen = os.environ.get("PYQUANT_CACHE_DIR")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "pyquant"


def _entry(unit: str, arch: str) -> Path:
    version = _nvrtc().getVersion()
    key = hashlib.sha256(repr((source(unit), OPTIONS, version, arch)).encode())
    return cache_folder() / f"{unit}-{arch}-{key.hexdigest()[:20]}.cubin"


def cubin(unit: str, arch: str) -> bytes:
    """The same from the cache, where it is there and undamaged; else compiled and put there.

    A file begins with the digest of the rest and appears whole, by renaming, so that processes
    need not wait for one another. Without a folder to write to there is no cache.
    """
    path = _entry(unit, arch)
    try:
        kept = path.read_bytes()
        if hashlib.sha256(kept[32:]).digest() == kept[:32]:
            return kept[32:]
    except OSError:
        pass
    code = compile(unit, arch)
    part = None
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            part = file.name
            file.write(hashlib.sha256(code).digest() + code)
        os.replace(part, path)
    except OSError:
        if part is not None:
            Path(part).unlink(missing_ok=True)
    return code


def architecture(unit: str, capability: str) -> str:
    """What to compile a unit for: the device's own, or the one that its name ends with."""
    match = _FOR_ONE_ARCHITECTURE.search(unit)
    return match[1] if match else f"sm_{capability}"


def understood(arch: str) -> str:
    """The architecture, or what NVRTC makes for it where the device is newer than NVRTC.

    That is the code of the nearest older relative, which runs there too, or else PTX, which the
    driver translates.
    """
    nvrtc, device = _nvrtc(), int(arch[3:].rstrip("af"))
    if device < _OLDEST:
        raise RuntimeError(
            f"arrays on a GPU need compute capability {_OLDEST / 10} or newer, not {device / 10}"
        )
    older = [known for known in nvrtc.getSupportedArchs() if known <= device]
    if not older:
        version = ".".join(map(str, nvrtc.getVersion()))
        raise RuntimeError(f"NVRTC {version} does not compile for compute capability {device / 10}")
    nearest = max(older)
    if nearest == device:
        return arch
    return f"sm_{nearest}" if nearest // 10 == device // 10 else f"compute_{nearest}"


def compiles(unit: str) -> bool:
    """Does NVRTC know its instructions? Hopper's products of mixed signs came with CUDA 12.4."""
    return _MIXED_SIGNS.match(unit) is None or _nvrtc().getVersion() >= (12, 4)


@cache
def device_kind(number: int) -> tuple[int, int]:
    """Compute capability, 90 for 9.0, and multiprocessors."""
    import cupy

    processors = cupy.cuda.runtime.deviceGetAttribute(_PROCESSORS, number)
    return int(cupy.cuda.Device(number).compute_capability), int(processors)


def kernel(unit: str, name: str) -> Kernel:
    """A kernel on CuPy's current device, to be called with (grid, block, args, shared_mem=0).

    It runs on CuPy's current stream. Arguments are CuPy arrays for addresses, and Python's int and
    float for ``long long`` and ``double``; 0 is the null address.
    """
    require()
    import cupy

    device = cupy.cuda.runtime.getDevice()
    found = _kernels.get((device, unit, name))
    return found if found is not None else _load(device, unit, name)


def _module(device: int, unit: str) -> Any:
    import cupy

    module = _modules.get((device, unit))
    if module is None:
        arch = understood(architecture(unit, cupy.cuda.Device(device).compute_capability))
        module = cupy.cuda.Module()
        module.load(cubin(unit, arch))
        _modules[device, unit] = module
    return module


def _load(device: int, unit: str, name: str) -> Kernel:
    import cupy

    with _lock:
        kernel: Kernel = _module(device, unit).get_function(name)
        # Up to 48 KB need no permission; beyond, a kernel may have what the device has.
        driver, function = cupy.cuda.driver, kernel.ptr  # type: ignore[attr-defined]
        most = cupy.cuda.runtime.deviceGetAttribute(_SHARED_BY_OPTING_IN, device)
        own = driver.funcGetAttribute(_STATIC_SHARED, function)
        driver.funcSetAttribute(function, _DYNAMIC_SHARED_LIMIT, most - own)
        _kernels[device, unit, name] = kernel
        return kernel


def warmup() -> None:
    """Compile and load all that CuPy's current device can run."""
    require()
    import cupy

    device = cupy.cuda.runtime.getDevice()
    capability = cupy.cuda.Device(device).compute_capability
    for unit in units():
        runs = architecture(unit, capability).rstrip("af") == f"sm_{capability}"
        if runs and compiles(unit):
            with _lock:
                _module(device, unit)
