"""What the documentation says is run: README blocks, commands, links, docstring examples."""

import ast
import doctest
import importlib
import inspect
import pkgutil
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pyquant as pq

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "bench/README.md", "csrc/simd/README.md",
    "docs/dask.md", "docs/gpu.md",
]  # fmt: skip
IMAGINED = ("negate", "pack/avx512vnni")  # the examples of CONTRIBUTING's recipes
RESULT = re.compile(r"^(?P<code>.*?)\s+# -> (?P<shown>.*)$", re.MULTILINE)


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S)


def page_python(page: str) -> dict[str, object]:
    """Run a page's Python from top to bottom in one namespace, checking what it shows."""
    names: dict[str, object] = {}
    for block in blocks(page, "python"):
        shown = {m["code"]: m["shown"] for m in RESULT.finditer(block)}
        for statement in ast.parse(block).body:
            source = ast.get_source_segment(block, statement)
            if source not in shown:
                exec(compile(ast.Module([statement], []), page, "exec"), names)
                continue
            value = eval(source, names)
            assert repr(value) == shown.pop(source), source
        assert not shown, "no statement of its own"
    return names


def test_readme_python_shows_what_it_gives(tmp_path, monkeypatch):
    pytest.importorskip("safetensors")
    monkeypatch.chdir(tmp_path)
    names = page_python("README.md")
    back = pq.load(tmp_path / "model.safetensors")
    assert np.array_equal(back["layer.weight"].data, pq.quantize(names["w"], axis=0).data)


def command_line(command: str, folder: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "pyquant", *shlex.split(command)[1:]],
        cwd=folder, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_readme_commands_run(tmp_path):
    for package in ("safetensors", "typer", "matplotlib"):
        pytest.importorskip(package)
    w = np.random.default_rng(0).standard_normal((32, 128), dtype=np.float32)
    pq.save(tmp_path / "model.safetensors", {"w": w})
    lines = [line for block in blocks("README.md", "sh") for line in block.splitlines()]
    commands = [line for line in lines if line.startswith("pyquant ")]
    assert len(commands) >= 5
    for command in commands:
        done = command_line(command, tmp_path)
        assert done.returncode == 0, f"{command}\n{done.stderr}"


def test_readme_scripts_are_there():
    scripts = re.findall(r"scripts/\w+\.sh", "".join(map(str, blocks("README.md", "sh"))))
    assert set(scripts) >= {"scripts/demo.sh", "scripts/test.sh"}
    ours = sorted((ROOT / "scripts").glob("*.sh"))
    for path in [*ours, ROOT / ".ci" / "run", *(ROOT / name for name in scripts)]:
        subprocess.run(["bash", "-n", str(path)], check=True)
        assert path.name == "environment.sh" or path.stat().st_mode & 0o100, path


@pytest.mark.parametrize("page", PAGES)
def test_links_and_named_files_exist(page):
    text = (ROOT / page).read_text()
    folder = (ROOT / page).parent
    for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", text):
        assert (folder / target).exists(), target
    prefix = r"(?:csrc|pyquant|tests|bench|scripts|examples)"
    for name in re.findall(rf"`({prefix}/[\w./-]+)`", text):
        assert (ROOT / name).exists() or any(word in name for word in IMAGINED), name


def modules() -> list[str]:
    found = pkgutil.walk_packages(pq.__path__, "pyquant.")
    return sorted(m.name for m in found if not m.name.endswith(("_cpu", "__main__")))


@pytest.mark.parametrize("name", ["pyquant", *modules()])
def test_docstring_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        pytest.skip(str(error))
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0
    assert "doctest: +SKIP" not in inspect.getsource(module)


FUNCTIONS = [(m, n) for m in (pq, pq.ops) for n in m.__all__ if inspect.isfunction(getattr(m, n))]


@pytest.mark.parametrize("module, name", FUNCTIONS, ids=[n for _, n in FUNCTIONS])
def test_public_functions_have_a_docstring_and_an_example(module, name):
    text = inspect.getdoc(getattr(module, name)) or ""
    assert text.partition("\n")[0].endswith((".", "``", ":"))
    assert ">>>" in text or not inspect.signature(getattr(module, name)).parameters
