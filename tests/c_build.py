"""Compiles csrc/ and the programs of tests/c, with the flags of setup.py and csrc/isa.def."""

import ast
import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
CSRC = ROOT / "csrc"
PROGRAMS = ROOT / "tests" / "c"
KEPT = ROOT / "build" / "c-tests"  # compiling takes longer than most tests
MACHINE = {"AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
CC = os.environ.get("CC", "gcc").split()[0]
CXX = os.environ.get("CXX", "g++").split()[0]

KERNELS = [
    "kernels.c",
    "arena.c",
    "report.c",
    "values.c",
    *sorted(p.name for p in PROGRAMS.glob("check_*.c")),
]
CONVOLUTION = ["convolution.c", "arena.c", "report.c", "values.c"]
TEST_FLAGS = ["-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-Werror"]
# The sweep's own division is vectorised by the compiler; no option here changes a result.
SWEEP_FLAGS = [
    "-std=gnu11",
    "-O3",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=off",
    "-Wall",
    "-Wextra",
]


def settings(machine: str) -> dict[str, Any]:
    """CFLAGS, OPENMP and instruction_sets() of setup.py, which builds when it is imported."""
    names = {"CFLAGS", "NO_TRAPS", "WARNINGS", "OPENMP", "instruction_sets"}

    def wanted(node: ast.stmt) -> bool:
        if isinstance(node, ast.Assign):
            return any(isinstance(t, ast.Name) and t.id in names for t in node.targets)
        return isinstance(node, ast.FunctionDef) and node.name in names

    tree = ast.parse((ROOT / "setup.py").read_text())
    tree.body = [node for node in tree.body if wanted(node)]
    namespace: dict[str, Any] = {"re": re, "CSRC": CSRC, "MACHINE": machine}
    exec(compile(tree, "setup.py", "exec"), namespace)
    return namespace


@dataclass
class Library:
    """The objects of csrc/, ready to link."""

    archive: Path
    defines: list[str]
    cc: str
    flags: list[str] = field(default_factory=list)

    @property
    def warnings(self) -> str:
        return (self.archive.parent / "warnings.txt").read_text()


def run(args: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(args, capture_output=True, text=True, check=False, **options)


def must(args: list[str], **options: Any) -> str:
    """Run a command that must succeed; what it printed."""
    done = run(args, **options)
    assert done.returncode == 0, f"{' '.join(args)}\n{done.stdout[-4000:]}\n{done.stderr[-8000:]}"
    return done.stdout


def need(tool: str, package: str) -> str:
    """A tool that may be absent on a developer's machine; CI says that it may not."""
    found = shutil.which(tool)
    if found:
        return found
    message = f"{tool} is not installed (Debian: {package})"
    if os.environ.get("PYQUANT_REQUIRE_EMULATORS") == "1":
        pytest.fail(message)
    pytest.skip(message)


def knows(cc: str, flags: list[str]) -> bool:
    return (
        run([cc, "-Werror", *flags, "-x", "c", "-c", os.devnull, "-o", os.devnull]).returncode == 0
    )


def digest(*parts: object) -> str:
    """Of the sources, the compiler and what else a build depends on."""
    state = hashlib.sha256()
    for path in sorted(CSRC.rglob("*")):
        if path.is_file():
            state.update(str(path.relative_to(CSRC)).encode() + b"\0" + path.read_bytes() + b"\0")
    state.update(repr(parts).encode())
    return state.hexdigest()[:16]


@contextmanager
def alone(folder: Path, name: str) -> Iterator[None]:
    """One process at a time makes `name`; another worker of the run waits and then finds it."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build_library(
    name: str,
    *,
    cc: str = CC,
    machine: str = MACHINE,
    extra: tuple[str, ...] = (),
    openmp: bool = True,
    isas: tuple[str, ...] | None = None,
) -> Library:
    """csrc/ for a machine, like setup.py's archive; `extra` flags come last.

    Kept until a source changes.
    """
    given = settings(machine)
    sets = [row for row in given["instruction_sets"]() if isas is None or row[0] in isas]
    sets = [row for row in sets if knows(cc, row[2])]
    defines = [f"-DPQ_HAVE_{have}=1" for _, have, _ in sets]
    jobs = [(source, given["OPENMP"] if openmp else []) for source in sorted(CSRC.glob("*.c"))]
    for isa, _, flags in sets:
        jobs += [(source, flags) for source in sorted(CSRC.glob(f"*/{isa}.c"))]
    key = digest(must([cc, "--version"]), given["CFLAGS"], jobs, defines, extra)
    folder = KEPT / f"{name}-{key}"
    library = Library(folder / "libpyquant.a", defines, cc, list(extra))
    commands = [
        (source, [cc, *given["CFLAGS"], *defines, *flags, *extra]) for source, flags in jobs
    ]
    with alone(KEPT, name):
        if not library.archive.exists():
            for old in KEPT.glob(f"{name}-*"):
                shutil.rmtree(old, ignore_errors=True)
            compile_archive(commands, folder)
    return library


def compile_archive(commands: list[tuple[Path, list[str]]], folder: Path) -> None:
    """Make `folder`, complete or not at all: the objects, their archive, what the compiler said."""
    part = Path(tempfile.mkdtemp(dir=KEPT))

    def compile_one(job: tuple[Path, list[str]]) -> tuple[str, str]:
        source, command = job
        target = part / ("_".join(source.relative_to(CSRC).parts) + ".o")
        args = [*command, "-c", str(source), "-o", str(target)]
        done = run(args)
        assert done.returncode == 0, f"{' '.join(args)}\n{done.stderr}"
        return str(target), done.stderr

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        compiled = list(pool.map(compile_one, commands))
    (part / "warnings.txt").write_text("".join(said for _, said in compiled))
    must(["ar", "rcs", str(part / "libpyquant.a"), *(path for path, _ in compiled)])
    part.rename(folder)


def arm_library() -> Library:
    """For AArch64, where its cross compiler and emulator are there."""
    cc = need("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu libc6-dev-arm64-cross")
    need("qemu-aarch64", "qemu-user")
    return build_library("aarch64", cc=cc, machine="aarch64")


def build_program(
    library: Library, target: Path, sources: list[str], flags: list[str], *link: str
) -> str:
    """A program of tests/c, linked with the library."""
    files = [str(PROGRAMS / name) for name in sources]
    include = [f"-I{CSRC}", f"-I{CSRC / 'include'}"]
    compiler = [library.cc, *flags, *library.flags, *library.defines, *include]
    libraries = ["-Wl,--no-as-needed", str(library.archive), *link, "-lm", "-lpthread"]
    must([*compiler, *files, *libraries, "-o", str(target)])
    return str(target)


def shared_program(
    library: Library, name: str, sources: list[str], flags: list[str], *link: str
) -> str:
    """build_program, once for all tests, workers and runs until a source changes."""
    texts = [path.read_bytes() for path in sorted(PROGRAMS.iterdir())]
    folder = library.archive.parent
    target = folder / f"{name}-{digest(texts, sources, flags, link)}"
    with alone(folder, name):
        if not target.exists():
            part = target.with_suffix(".part")
            build_program(library, part, sources, flags, *link)
            part.rename(target)
    return str(target)


def flags_of(isa: str) -> list[str]:
    """The compiler flags of one row of isa.def for this machine."""
    return next(flags for name, _, flags in settings(MACHINE)["instruction_sets"]() if name == isa)
