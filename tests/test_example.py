"""The example from end to end: train, save, quantize with the tool, load, measure."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sklearn")
pytest.importorskip("typer")

SCRIPT = Path(__file__).resolve().parent.parent / "examples" / "digits_checkpoint.py"
ROW = re.compile(r"^(.+?)\s+([\d.]+) %\s+([\d.]+) kB\s+([\d.]+)$", re.MULTILINE)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """{weights: (accuracy in %, file in kB, bits a weight)} and the folder with the files."""
    folder = tmp_path_factory.mktemp("digits")
    command = [sys.executable, str(SCRIPT), "--out", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {name: tuple(map(float, figures)) for name, *figures in ROW.findall(done.stdout)}
    assert len(rows) == 13, done.stdout
    return rows, folder


GRANULARITIES = ("per tensor", "per channel", "per block of 32")


def test_the_model_learned_something(table):
    rows, _ = table
    assert rows["float32"][0] > 95


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_8_bits_cost_nothing(table, granularity):
    rows, _ = table
    assert abs(rows[f"int8 {granularity}"][0] - rows["float32"][0]) <= 0.5


@pytest.mark.parametrize("granularity", GRANULARITIES[1:])
def test_4_bits_cost_little(table, granularity):
    rows, _ = table
    assert rows[f"int4 {granularity}"][0] >= rows["float32"][0] - 2


def test_finer_scales_rescue_2_bits(table):
    rows, _ = table
    tensor, channel, block = (rows[f"int2 {granularity}"][0] for granularity in GRANULARITIES)
    assert tensor < channel < block


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_fewer_bits_are_smaller(table, granularity):
    rows, folder = table
    sizes = [rows["float32"], *(rows[f"int{bits} {granularity}"] for bits in (8, 4, 3, 2))]
    assert [s[1] for s in sizes] == sorted((s[1] for s in sizes), reverse=True)
    assert [s[2] for s in sizes] == sorted((s[2] for s in sizes), reverse=True)
    assert len(set(sizes)) == 5
    for bits in (8, 4, 3, 2):
        path = folder / f"digits-int{bits}-{granularity.replace(' ', '-')}.safetensors"
        assert round(path.stat().st_size / 1000, 1) == rows[f"int{bits} {granularity}"][1]


def test_bits_a_weight_are_the_grid_and_the_scales(table):
    rows, _ = table
    assert rows["float32"][2] == 32
    assert rows["int4 per tensor"][2] == pytest.approx(4, abs=0.01)
    assert rows["int4 per block of 32"][2] == pytest.approx(4 + 32 / 32, abs=0.01)
