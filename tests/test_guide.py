"""The user guide: its figures are lines the example printed, its code and commands run."""

import ast
import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pyquant as pq

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = [
    "README.md", "choosing.md", "integer_network.md", "products.md", "report.md", "tensors.md",
    "training.md",
]  # fmt: skip
RESULT = re.compile(r"^(?P<code>.*?)\s+# -> (?P<shown>.*)$", re.MULTILINE)


def blocks(page, language):
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", (DOCS / page).read_text(), re.M | re.S)
    return [text for name, text in fenced if name == language]


@pytest.mark.parametrize("page", PAGES)
def test_figures_are_lines_that_the_example_printed(page):
    printed = (DOCS / "digits_network.txt").read_text().splitlines()
    for line in "".join(blocks(page, "")).splitlines():
        assert line in printed, line


def test_pages_quote_figures():
    assert sum(len(blocks(page, "")) for page in PAGES) >= 8


@pytest.mark.parametrize("page", PAGES)
def test_python_runs_and_shows_what_it_gives(page):
    names = {}
    for block in blocks(page, "python"):
        if "torch" in block and importlib.util.find_spec("torch") is None:
            pytest.skip("PyTorch is not installed: pip install pyquant[torch]")
        shown = {m["code"]: m["shown"] for m in RESULT.finditer(block)}
        for statement in ast.parse(block).body:
            source = ast.get_source_segment(block, statement)
            if source in shown:
                assert repr(eval(source, names)) == shown.pop(source), source
            else:
                exec(compile(ast.Module([statement], []), page, "exec"), names)
        assert not shown, "no statement of its own"


@pytest.mark.parametrize("page", PAGES)
def test_links_exist(page):
    for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", (DOCS / page).read_text()):
        assert (DOCS / target).exists(), target


def test_commands_run(tmp_path):
    for package in ("safetensors", "typer"):
        pytest.importorskip(package)
    x = np.random.default_rng(0).standard_normal((32, 128), dtype=np.float32)
    pq.save(tmp_path / "model.safetensors", {"w": x})
    lines = [line for page in PAGES for b in blocks(page, "sh") for line in b.splitlines()]
    commands = [line for line in lines if line.startswith("pyquant ")]
    assert commands
    for command in commands:
        done = subprocess.run(
            [sys.executable, "-m", "pyquant", *shlex.split(command)[1:]],
            cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stderr}"


def test_pictures_are_small():
    for picture in DOCS.glob("*.png"):
        assert picture.stat().st_size < 300_000, picture.name
