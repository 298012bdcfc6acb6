"""Builds libpyquant.a from csrc/, one object per source and instruction set; one extension on top.

csrc/isa.def names the instruction sets and their compiler flags. A set whose flags this compiler
does not know is left out; with PYQUANT_REQUIRE_ALL_ISAS=1 (CI) that is an error.
"""

import os
import platform
import re
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

CSRC = Path("csrc")
WARNINGS = ["-Wall", "-Wextra", "-Wconversion"]
# No contraction of a * b + c: the bits of a result must not depend on the instruction set.
# Nobody looks at floating-point flags and errno, which lets plain loops become vector loops; no
# value changes.
NO_TRAPS = ["-fno-trapping-math", "-fno-math-errno"]
CFLAGS = [
    *("-std=gnu11", "-O3", "-g0", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off"),
    *NO_TRAPS,
    *WARNINGS,
]
OPENMP = ["-fopenmp"]

MACHINES = {"AMD64": "x86_64", "arm64": "aarch64"}
MACHINE = MACHINES.get(platform.machine(), platform.machine())


def instruction_sets() -> list[tuple[str, str, list[str]]]:
    """(id, HAVE name, compiler flags) of the rows of isa.def that are for this machine."""
    row = re.compile(r'^PQ_ISA\((\w+),\s*(\w+),\s*(\w+),\s*"([^"]*)"', re.MULTILINE)
    rows = row.findall((CSRC / "isa.def").read_text())
    return [(i, have, flags.split()) for i, have, arch, flags in rows if arch in ("any", MACHINE)]


class BuildLibraryThenExtension(build_ext):
    def build_extensions(self):
        package = Path(self.get_ext_fullpath("pyquant._cpu")).parent
        archive = self.build_archive(package / "lib")
        include = package / "include"
        include.mkdir(parents=True, exist_ok=True)
        for header in (CSRC / "include").glob("*.h"):
            shutil.copy(header, include / header.name)
        for extension in self.extensions:
            extension.extra_objects.append(str(archive))
            extension.depends.append(str(archive))
        super().build_extensions()

    def copy_extensions_to_source(self):
        """An editable install takes the archive and the headers from the source tree as well."""
        super().copy_extensions_to_source()
        for part in ("lib", "include"):
            built = Path(self.build_lib) / "pyquant" / part
            shutil.copytree(built, Path("pyquant") / part, dirs_exist_ok=True)

    def build_archive(self, folder: Path) -> Path:
        jobs = [(source, OPENMP) for source in sorted(CSRC.glob("*.c"))]
        have = []
        for name, macro, flags in instruction_sets():
            if not self.compiler_knows(flags):
                if os.environ.get("PYQUANT_REQUIRE_ALL_ISAS") == "1":
                    raise RuntimeError(f"this compiler does not know {' '.join(flags)} ({name})")
                continue
            have.append(f"-DPQ_HAVE_{macro}=1")
            jobs += [(source, flags) for source in sorted(CSRC.glob(f"*/{name}.c"))]

        def compile_one(job):
            source, flags = job
            args = [*CFLAGS, *have, *flags]
            return self.compiler.compile([str(source)], self.build_temp, extra_postargs=args)[0]

        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            objects = list(pool.map(compile_one, jobs))
        folder.mkdir(parents=True, exist_ok=True)
        archive = folder / "libpyquant.a"
        archive.unlink(missing_ok=True)
        self.compiler.create_static_lib(objects, "pyquant", output_dir=str(folder))
        return archive

    def compiler_knows(self, flags: list[str]) -> bool:
        if not flags:
            return True
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "probe.c"
            source.write_text("int probe(void) { return 0; }\n")
            try:
                self.compiler.compile([str(source)], folder, extra_postargs=flags)
            except Exception:
                return False
        return True


cpu = Extension(
    "pyquant._cpu",
    ["pyquant/_cpu.pyx"],
    include_dirs=[numpy.get_include(), "csrc/include", "pyquant"],
    define_macros=[
        ("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION"),
        ("NPY_TARGET_VERSION", "NPY_1_25_API_VERSION"),
    ],
    extra_compile_args=["-O3", "-ffp-contract=off", *OPENMP],
    # libpyquant.a refers to OpenMP weakly, which alone would not make the linker keep the runtime.
    extra_link_args=["-Wl,--no-as-needed", *OPENMP],
    depends=[
        *(str(p) for p in CSRC.rglob("*") if p.suffix in (".c", ".h", ".inc", ".def")),
        "pyquant/_memory.h",
    ],
)

setup(
    ext_modules=cythonize([cpu], language_level=3),
    cmdclass={"build_ext": BuildLibraryThenExtension},
)
