"""The library inside other programs.

The installed headers and archive from C99 and C++, a build without any flags, and what the archive
holds and exports.
"""

import os
import re
import subprocess
import sys

import c_build
import pytest
from c_build import CC, CSRC, CXX, MACHINE, PROGRAMS, ROOT, must, run

import pyquant as pq

pytestmark = pytest.mark.timeout(600)

C99 = [CC, "-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror"]
CPP11 = [CXX, "-std=c++11", "-pedantic", "-Wall", "-Wextra", "-Werror"]


def embed(target, *link: str, compiler=C99, source="embed.c") -> str:
    must(
        [
            *compiler,
            f"-I{pq.get_include()}",
            str(PROGRAMS / source),
            pq.get_lib(),
            *link,
            "-o",
            str(target),
        ]
    )
    return str(target)


def test_c99_without_openmp_runs_on_one_thread(tmp_path):
    must([embed(tmp_path / "embed", "-lpthread"), "1"])


def test_c99_without_any_library(tmp_path):
    """glibc 2.34 and later have pthread_* in libc."""
    version = must(["ldd", "--version"]).splitlines()[0].split()[-1]
    if tuple(map(int, version.split("."))) < (2, 34):
        pytest.skip(f"glibc {version} wants -lpthread")
    must([embed(tmp_path / "embed")])


def test_c99_with_openmp_runs_on_two_threads(tmp_path):
    """The archive refers to OpenMP weakly: a program without OpenMP code asks for the runtime."""
    must([embed(tmp_path / "embed", "-Wl,--no-as-needed", "-fopenmp"), "2"])


def test_python_runs_on_two_threads():
    code = (
        "import re, numpy, pyquant as pq; pq.set_num_threads(2);"
        "pq.quantize(numpy.ones(1 << 23, 'f4'));"
        "print(re.search(r'Threads:\\s*(\\d+)', open('/proc/self/status').read())[1])"
    )
    alone = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    assert must([sys.executable, "-c", code], env=os.environ | alone).strip() == "2"


def test_cpp11(tmp_path):
    must([embed(tmp_path / "embed", compiler=CPP11, source="embed.cpp")])


@pytest.mark.parametrize("header", ["pyquant.h", "pyquant_semantics.h"])
@pytest.mark.parametrize("compiler, suffix", [(C99, "c"), (CPP11, "cpp")], ids=["c99", "cpp11"])
def test_a_header_compiles_alone(header, compiler, suffix, tmp_path):
    source = tmp_path / f"alone.{suffix}"
    source.write_text(f"#include <{header}>\n#include <{header}>\n")
    quiet = ["-Wno-unused-function"]  # the functions of the semantics are static
    must(
        [
            *compiler,
            *quiet,
            f"-I{pq.get_include()}",
            "-c",
            str(source),
            "-o",
            str(tmp_path / "alone.o"),
        ]
    )


def test_installed_headers_are_those_of_the_sources():
    for header in (CSRC / "include").glob("*.h"):
        installed = os.path.join(pq.get_include(), header.name)
        with open(installed, "rb") as file:
            assert file.read() == header.read_bytes(), header.name


def test_a_build_without_flags_works(tmp_path):
    """cc -c csrc/*.c csrc/*/scalar.c, one object a source, linked with a program."""
    sources = [*CSRC.glob("*.c"), *CSRC.glob("*/scalar.c")]
    objects = []
    for source in sources:
        objects.append(str(tmp_path / ("_".join(source.relative_to(CSRC).parts) + ".o")))
        must([CC, "-c", str(source), "-o", objects[-1]])
    program = str(tmp_path / "embed")
    must(
        [
            *C99,
            f"-I{CSRC / 'include'}",
            str(PROGRAMS / "embed.c"),
            *objects,
            "-lpthread",
            "-o",
            program,
        ]
    )
    must([program, "1"])


def members() -> list[str]:
    return must(["ar", "t", pq.get_lib()]).split()


def test_the_archive_holds_every_object():
    """Several sources share a name (avx2.c ...); a member must not have replaced another."""
    expected = len(list(CSRC.glob("*.c")))
    for isa in compiled():
        expected += len(list(CSRC.glob(f"*/{isa}.c")))
    assert len(members()) == expected
    defined = set(re.findall(r" T (\w+)", must(["nm", pq.get_lib()])))
    for isa in compiled():
        kernels = re.compile(rf"pq_\w+_{isa}$")
        for source in CSRC.glob(f"*/{isa}.c"):
            assert any(kernels.match(name) for name in defined), source


def compiled() -> list[str]:
    """The instruction sets in the archive, by the kernels it defines."""
    defined = must(["nm", pq.get_lib()])
    names = [name for name, _, _ in c_build.settings(MACHINE)["instruction_sets"]()]
    return [name for name in names if re.search(rf" T pq_\w+_{name}$", defined, re.MULTILINE)]


def test_the_archive_exports_pq_names_only():
    """And none is weak: the linker could keep the copy that was compiled for a newer CPU."""
    symbols = re.findall(r"^[0-9a-f]+ ([A-Za-z]) (\w+)$", must(["nm", pq.get_lib()]), re.MULTILINE)
    shown = {(kind, name) for kind, name in symbols if kind.isupper() and kind != "U"}
    assert {name for _, name in shown if not name.startswith("pq_")} == set()
    assert {name for kind, name in shown if kind in "WVuC"} == set()
    assert {name for kind, name in symbols if kind in "wvuWV"} == set()
    twice = [name for kind, name in symbols if kind.isupper()]
    assert len(twice) == len(set(twice))


def test_kernels_need_nothing_that_another_file_compiled():
    """An object with flags of its own calls libc's memory functions and knows its thread."""
    allowed = {
        "memcpy",
        "memset",
        "memmove",
        "_GLOBAL_OFFSET_TABLE_",
        "__stack_chk_fail",
        "__tls_get_addr",  # AMX: the tiles that this thread has configured
        "rintf",
        "rint",
    }
    folder = c_build.build_library("native").archive.parent
    kernels = [
        "_".join(p.relative_to(c_build.CSRC).parts) + ".o" for p in c_build.CSRC.glob("*/*.c")
    ]
    built = [folder / name for name in kernels if (folder / name).exists()]
    assert len(built) > len(kernels) / 2
    for path in built:
        undefined = set(re.findall(r"^\s+U (\w+)$", must(["nm", str(path)]), re.MULTILINE))
        assert undefined <= allowed, path.name


def build_with(tmp_path, reject: str, **environment: str) -> subprocess.CompletedProcess:
    """setup.py's archive, with a compiler that does not know one flag."""
    wrapper = tmp_path / "old-cc"
    wrapper.write_text(
        '#!/bin/sh\nfor a in "$@"; do case "$a" in '
        f'{reject}) echo "unknown option $a" >&2; exit 1;; esac; done\n'
        f'exec {CC} "$@" -O0\n'  # quick to compile
    )
    wrapper.chmod(0o755)
    script = (
        "import sys; sys.argv = ['setup.py', '--quiet', 'build_archive']\n"
        "import setuptools, pathlib\n"
        "from distutils.ccompiler import new_compiler\n"
        "from distutils.sysconfig import customize_compiler\n"
        "captured = {}\n"
        "setuptools.setup = lambda **k: captured.update(k)\n"
        "import Cython.Build; Cython.Build.cythonize = lambda e, **k: []\n"
        "exec(open('setup.py').read(), {'__name__': '__main__', '__file__': 'setup.py'})\n"
        "command = captured['cmdclass']['build_ext'](setuptools.dist.Distribution())\n"
        "command.compiler = new_compiler(); customize_compiler(command.compiler)\n"
        f"command.build_temp = {str(tmp_path / 'temp')!r}\n"
        f"print(command.build_archive(pathlib.Path({str(tmp_path / 'lib')!r})))\n"
    )
    return run([sys.executable, "-W", "ignore", "-c", script], cwd=ROOT,
               env=os.environ | {"CC": str(wrapper)} | environment)  # fmt: skip


@pytest.mark.skipif(MACHINE != "x86_64", reason="AVX-512 is an x86 matter")
def test_a_compiler_without_a_flag_drops_the_variant(tmp_path):
    done = build_with(tmp_path, "-mavx512f", PYQUANT_REQUIRE_ALL_ISAS="")
    assert done.returncode == 0, done.stderr
    archive = done.stdout.split()[-1]
    program = str(tmp_path / "embed")
    must(
        [
            *C99,
            f"-I{pq.get_include()}",
            str(PROGRAMS / "embed.c"),
            archive,
            "-lpthread",
            "-o",
            program,
        ]
    )
    must([program])
    defined = must(["nm", archive])
    assert "quantize_f32_i8_avx2" in defined
    assert "avx512" not in defined


@pytest.mark.skipif(MACHINE != "x86_64", reason="AVX-512 is an x86 matter")
def test_where_every_variant_is_required_a_missing_one_is_an_error(tmp_path):
    done = build_with(tmp_path, "-mavx512f", PYQUANT_REQUIRE_ALL_ISAS="1")
    assert done.returncode != 0
    assert "avx512" in done.stderr
