"""Every unit of pyquant/cuda for every architecture, compiled as the library does it."""

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import pytest
from c_build import ROOT, must

from pyquant import _cuda_loader

ARCHITECTURES = ["sm_75", "sm_80", "sm_90", "sm_90a", "sm_120"]
# Close relatives of sm_80 and sm_120, whose code differs little: a slow test.
RELATIVES = ["sm_86", "sm_89", "sm_100a"]
# One of each generation of machine code; the others differ little, and disassembling takes long.
DISASSEMBLED = ["sm_75", "sm_90", "sm_120"]
FOLDER = ROOT / "build" / "cuda-cubins"
_TYPES_OF_MATRICES = re.compile(r"(?:gemm|conv)_\w+?_([iu]8(?:[iu]8)?)")
_PROGRAM = """
import sys
from pyquant._cuda_loader import cubin
for job in sys.argv[1:]:
    cubin(*job.split(":"))
"""


def need_nvrtc() -> None:
    """CuPy and NVRTC may be absent on a developer's machine; CI says that they may not."""
    try:
        _cuda_loader._nvrtc()
    except RuntimeError as error:
        if os.environ.get("PYQUANT_REQUIRE_CUDA_COMPILER") == "1":
            pytest.fail(str(error))
        pytest.skip(str(error))


def jobs() -> list[tuple[str, str]]:
    """What there is to compile; a unit for one architecture for that one alone."""
    return [
        (unit, arch)
        for arch in ARCHITECTURES
        for unit in _cuda_loader.units()
        if _cuda_loader.architecture(unit, arch[3:]) == arch and not _is_one_too_many(unit, arch)
    ]


def jobs_left_out() -> list[tuple[str, str]]:
    """The architectures that `jobs` has relatives of, and all types of matrices everywhere."""
    plain = [unit for unit in _cuda_loader.units() if not unit.endswith("sm_90a")]
    architectures = [arch for arch in (*ARCHITECTURES, *RELATIVES) if arch != "sm_90a"]
    everything = {(unit, arch) for unit in plain for arch in architectures}
    return sorted(everything - set(jobs()))


def _is_one_too_many(unit: str, arch: str) -> bool:
    """On sm_90a run those units alone that are for it.

    Matrix kernels for other types than int8 differ in a suffix of one instruction.
    """
    if arch == "sm_90a":
        return not unit.endswith("sm_90a")
    types = _TYPES_OF_MATRICES.match(unit)
    return types is not None and types[1] not in ("i8i8", "i8") and arch != "sm_90"


def compile_units(chosen: Sequence[tuple[str, str]]) -> None:
    """Into the folder, by as many processes as there are processors."""
    need_nvrtc()
    workers = min(os.cpu_count() or 1, 8)
    environment = {**os.environ, "PYQUANT_CACHE_DIR": str(FOLDER)}
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    names = [":".join(job) for job in chosen]
    running = [
        subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, *names[i::workers]],
            env=environment, stderr=subprocess.PIPE, text=True,
        )
        for i in range(workers)
    ]  # fmt: skip
    said = [process.communicate()[1] for process in running]
    for process, errors in zip(running, said, strict=True):
        assert process.returncode == 0, errors


@cache
def compile_all() -> None:
    """What `jobs` lists; nothing else stays in the folder."""
    compile_units(jobs())
    used = {cubin_path(*job).name for job in jobs()}
    for old in FOLDER.glob("*.cubin"):
        if old.name not in used:
            old.unlink()


def cubin_path(unit: str, arch: str) -> Path:
    return FOLDER / _cuda_loader._entry(unit, arch).name


@cache
def cubin(unit: str, arch: str) -> Path:
    """A file of the machine code alone, for NVIDIA's tools."""
    if not cubin_path(unit, arch).exists():
        compile_all()
    path = cubin_path(unit, arch).with_suffix(".elf")
    path.write_bytes(cubin_path(unit, arch).read_bytes()[32:])
    return path


def _tool(name: str) -> str:
    """From the wheels nvidia-cuda-cuobjdump and nvidia-cuda-nvdisasm, or the toolkit."""
    import sysconfig

    for folder in Path(sysconfig.get_path("purelib")).glob("nvidia/*/bin"):
        if (folder / name).exists():
            return str(folder / name)
    from c_build import need

    return need(name, "nvidia-cuda-toolkit")


@cache
def resources(unit: str, arch: str) -> dict[str, dict[str, int]]:
    """Per kernel: registers (REG), stack and local memory in bytes (STACK, LOCAL), SHARED."""
    text = must([_tool("cuobjdump"), "--dump-resource-usage", str(cubin(unit, arch))])
    found = re.findall(r"Function (\w+):\n\s*(.*)", text)
    return {
        name: {key: int(n) for key, n in re.findall(r"(\w+):(\d+)", row)} for name, row in found
    }


@cache
def instructions(unit: str, arch: str) -> dict[str, list[str]]:
    """Per kernel: its instructions, by name."""
    text = must([_tool("nvdisasm"), "-c", str(cubin(unit, arch))])
    kernels: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text.splitlines():
        if line.startswith(".text."):
            current = kernels.setdefault(line[6:].rstrip(":").strip(), [])
        match = re.match(r"\s+/\*[0-9a-f]+\*/\s+(?:\{\s*)?(?:@!?U?P\d+\s+)?([A-Z][\w.]+)", line)
        if match:
            current.append(match[1])
    return kernels


def count(names: Iterable[str], *prefixes: str, width: str = "") -> int:
    """How many instructions of this kind; with `width`, such as "128", of that width."""
    return sum(n.startswith(prefixes) and (not width or f".{width}" in n) for n in names)
