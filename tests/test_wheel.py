"""What others install: sdist and wheel built from the tree, tried in a new environment.

One build (about half a minute) serves all tests: tree -> sdist -> wheel -> new virtual environment.
"""

import email
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("build")

ROOT = Path(__file__).resolve().parent.parent
# What a build or a run leaves in a tree; a wheel must come out right without it.
MADE = shutil.ignore_patterns(
    ".*", "build", "dist", "demo", "__pycache__", "*.egg-info", "*.so", "_cpu.c", "lib"
)  # fmt: skip


def run(*command: object, **options) -> subprocess.CompletedProcess:
    done = subprocess.run(
        [str(part) for part in command],
        **{"capture_output": True, "text": True, "timeout": 400, "check": False} | options,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, folder / "tree", ignore=MADE)
    shutil.rmtree(folder / "tree" / "pyquant" / "include", ignore_errors=True)
    # The requirements of the build are those of the tests too: no environment is made for it.
    build = [sys.executable, "-m", "build", "--no-isolation"]
    run(*build, "--outdir", folder / "dist", folder / "tree")
    return folder


@pytest.fixture(scope="module")
def wheel(folder) -> Path:
    return next((folder / "dist").glob("*.whl"))


class Environment:
    """A new virtual environment with the wheel and NumPy; code runs outside of the repository."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.folder = folder / "outside"
        self.folder.mkdir()
        venv.create(folder / "venv", with_pip=False)
        self.python = folder / "venv" / "bin" / "python"
        self.install(wheel)

    def install(self, *packages: object) -> None:
        pip = [sys.executable, "-m", "pip", "--python", self.python]
        run(*pip, "install", "--quiet", *packages, cwd=self.folder)

    def __call__(self, code: str) -> str:
        return self.run(self.python, "-c", code).stdout

    def run(self, *command: object, check: bool = True) -> subprocess.CompletedProcess:
        clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYQUANT_ISA")}
        options = {"cwd": self.folder, "env": clean}
        if check:
            return run(*command, **options)
        command = [str(part) for part in command]
        return subprocess.run(command, capture_output=True, text=True, check=False, **options)


@pytest.fixture(scope="module")
def environment(folder, wheel) -> Environment:
    return Environment(folder, wheel)


def test_the_sdist_holds_every_source(folder):
    with tarfile.open(next((folder / "dist").glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    sources = {str(p.relative_to(ROOT)) for p in (ROOT / "csrc").rglob("*") if p.is_file()}
    packaged = {str(p.relative_to(ROOT)) for p in (ROOT / "pyquant").rglob("*.p[xy]*")}
    packaged = {name for name in packaged if not name.endswith(".pyc")}
    others = {"setup.py", "pyproject.toml", "README.md", "LICENSE", "pyquant/_memory.h"}
    assert names >= sources | packaged | others
    assert not [n for n in names if n.endswith((".so", ".a", "_cpu.c", ".pyc")) or "/." in n]


def test_the_wheel_holds_what_is_used_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = next(n for n in names if n.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(info))
    parts = ("include/pyquant.h", "include/pyquant_semantics.h", "lib/libpyquant.a", "py.typed",
             "_cpu.pyi", "capi.pxd", "cli/app.py", "cli/report.html",
             "checkpoint/record.py", "cuda/quantize.cu", "cuda/primitives.cuh")  # fmt: skip
    assert names >= {f"pyquant/{part}" for part in parts}
    assert any(re.fullmatch(r"pyquant-.*\.dist-info/licenses/LICENSE", name) for name in names)
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"pyquant"}
    assert not [n for n in names if n.endswith((".pyx", ".pxi", ".c")) or n.endswith("_memory.h")]
    needed = [r for r in metadata.get_all("Requires-Dist") if "extra ==" not in r]
    assert [re.match(r"[\w.-]+", r)[0] for r in needed] == ["numpy"]
    assert metadata["License-Expression"] == "Apache-2.0"


def test_import_brings_in_numpy_alone(environment):
    code = """
import json, sys, sysconfig, pyquant
site = sysconfig.get_path("platlib")
files = {name: getattr(module, "__file__", None) or "" for name, module in sys.modules.items()}
found = {name.partition(".")[0] for name, path in files.items() if path.startswith(site)}
print(json.dumps([sorted(found), pyquant.__file__.startswith(site)]))
"""
    assert json.loads(environment(code)) == [["numpy", "pyquant"], True]


def test_it_computes_outside_of_the_repository(environment):
    code = """
import numpy as np, pyquant as pq
q = pq.quantize(np.linspace(-1, 1, 1001, dtype=np.float32), dtype="int4", packed=True)
pq.save("q.npz", {"q": q})
print(pq.load("q.npz")["q"] == q, round(pq.error(q.dequantize(), q).mse, 6))
pq.show_runtime()
"""
    lines = environment(code).splitlines()
    assert lines[0] == "True 0.0"
    assert lines[1].startswith("pyquant 0.1.0")


def test_what_is_not_installed_is_named(environment):
    command = environment.python.parent / "pyquant"
    for refused in (command, environment.python):
        arguments = ["info"] if refused == command else ["-m", "pyquant", "info"]
        done = environment.run(refused, *arguments, check=False)
        assert done.returncode == 1
        assert "pip install pyquant[cli]" in done.stderr and "Traceback" not in done.stderr
    code = "import pyquant as pq; pq.load('x.safetensors')"
    (environment.folder / "x.safetensors").write_bytes(b"")
    done = environment.run(environment.python, "-c", code, check=False)
    assert "ImportError" in done.stderr and "pip install 'pyquant[files]'" in done.stderr


def test_safetensors_is_all_that_files_need(environment, folder, wheel):
    environment.install("safetensors")
    code = """
import numpy as np, pyquant as pq
q = pq.quantize(np.ones((4, 8), np.float32), axis=0)
pq.save("q.safetensors", {"q": q, "b": np.zeros(3, np.float32)})
print(pq.load("q.safetensors")["q"] == q)
"""
    assert environment(code) == "True\n"


README_C = re.search(r"^```c\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)[1]


@pytest.mark.parametrize("language", ["c", "c++"])
@pytest.mark.parametrize("threads", [[], ["-fopenmp"]], ids=["plain", "openmp"])
def test_the_readme_program_links_against_the_installed_package(environment, language, threads):
    compiler = shutil.which({"c": "gcc", "c++": "g++"}[language])
    if compiler is None:
        pytest.skip(f"no compiler for {language}")
    include = environment("import pyquant; print(pyquant.get_include())").strip()
    library = environment("import pyquant; print(pyquant.get_lib())").strip()
    (environment.folder / "example.c").write_text(README_C)
    standard = {"c": "-std=c99", "c++": "-std=c++11"}[language]
    run(compiler, "-x", language, standard, "-Wall", "-Wextra", "-pedantic", "-Werror", *threads,
        "example.c", "-x", "none", "-I", include, "-o", "example", library, "-lpthread",
        cwd=environment.folder)  # fmt: skip
    done = run("./example", cwd=environment.folder)
    assert done.stdout.split() == ["-128", "-25", "0", "75", "100"]


def test_types_reach_the_user(environment):
    """mypy knows what quantize returns and refuses a wrong argument."""
    pytest.importorskip("mypy")
    (environment.folder / "user.py").write_text(
        "import numpy as np\nimport pyquant as pq\n"
        "reveal_type(pq.quantize(np.zeros(3, np.float32)))\npq.quantize(np.zeros(3), dtype=8)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(environment.python),
         "--cache-dir", str(environment.folder / "mypy"), "--config-file", os.devnull, "user.py"],
        cwd=environment.folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert 'Revealed type is "pyquant.array.QuantizedArray"' in done.stdout, done.stdout
    assert done.stdout.count("error:") == 1 and "arg-type" in done.stdout, done.stdout
