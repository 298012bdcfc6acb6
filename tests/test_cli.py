"""The command line: every command, its refusals, and what it leaves behind (or does not)."""

import json
import os
import pty
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from processes import default_signals

import pyquant as pq

pytest.importorskip("typer")
pytest.importorskip("rich")
safetensors_numpy = pytest.importorskip("safetensors.numpy")

from pyquant.cli import main  # noqa: E402


def normal(*shape, dtype="float32"):
    return np.random.default_rng(7).normal(size=shape).astype(dtype)


def run(*args, **options):
    """Run the command in a process of its own."""
    command = [sys.executable, "-m", "pyquant", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


class Outcome:
    def __init__(self, status, out, err):
        self.status, self.out, self.err = status, out, err


@pytest.fixture
def cli(monkeypatch, capsys):
    """Run the command in this process, which is faster."""

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["pyquant", *map(str, args)])
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
        try:
            main()
            status = 0
        except SystemExit as stop:
            status = stop.code
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return Outcome(status or 0, *capsys.readouterr())

    return call


def assert_refused(outcome, *words):
    """Exit status 1, one sentence, no traceback."""
    assert outcome.status == 1
    assert outcome.err.startswith("pyquant: ")
    assert outcome.err.count("\n") == 1
    for word in words:
        assert word in outcome.err


TENSORS = {
    "layer.weight": normal(12, 7),
    "layer.bias": normal(12),
    "conv.weight": normal(4, 3, 2, 2),
    "half": normal(6, 5, dtype="float16"),
    "double": normal(6, 5, dtype="float64"),
    "ids": np.arange(6).reshape(2, 3),
    "mask": np.ones((2, 2), bool),
    "step": np.array(3.0, "f"),
    "none": np.zeros((0, 4), "f"),
}
QUANTIZED = {"layer.weight", "conv.weight", "half", "double"}


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.safetensors"
    safetensors_numpy.save_file(TENSORS, path, metadata={"format": "pt", "note": "ünï"})
    return path


@pytest.fixture
def shards(tmp_path):
    folder = tmp_path / "shards"
    folder.mkdir()
    names = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    where = {}
    for shard, chosen in zip(names, (["layer.weight", "layer.bias"], ["half", "ids"]), strict=True):
        safetensors_numpy.save_file({n: TENSORS[n] for n in chosen}, folder / shard)
        where |= dict.fromkeys(chosen, shard)
    total = sum(TENSORS[name].nbytes for name in where)
    index = {"metadata": {"total_size": total, "kept": "yes"}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


# --- quantize -----------------------------------------------------------------------------------


def test_quantize_in_a_process(model, tmp_path):
    out = tmp_path / "q.safetensors"
    done = run("quantize", model, out)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == len(TENSORS) + 1
    assert "layer.weight  float32 (12, 7) -> int8" in done.stdout
    assert "layer.bias  kept  float32 (12)" in done.stdout
    assert lines[-1].startswith(f"{out}: 4 of 9 tensors quantized")


def test_quantize_is_the_same_as_in_python(cli, model, tmp_path):
    assert cli("quantize", model, tmp_path / "q.safetensors").status == 0
    loaded = pq.load(tmp_path / "q.safetensors")
    assert set(loaded) == set(TENSORS)
    for name, array in TENSORS.items():
        if name in QUANTIZED:
            expected = pq.quantize(array)
            assert loaded[name].params == expected.params
            np.testing.assert_array_equal(loaded[name].data, expected.data)
        else:
            assert loaded[name].tobytes() == array.tobytes()
            assert (loaded[name].dtype, loaded[name].shape) == (array.dtype, array.shape)


@pytest.mark.parametrize(
    ("options", "keywords"),
    [
        (["--axis", "0"], {"axis": 0}),
        (["--axis", "-1", "--scheme", "affine"], {"axis": -1, "scheme": "affine"}),
        (["--dtype", "uint8", "--scheme", "affine"], {"dtype": "uint8", "scheme": "affine"}),
        (["--dtype", "int4", "--block-size", "4"], {"dtype": "int4", "axis": -1, "block_size": 4}),
        (["--dtype", "int3", "--axis", "0"], {"dtype": "int3", "axis": 0}),
        (["--dtype", "uint2", "--axis", "0", "--block-size", "2", "--scheme", "affine"],
         {"dtype": "uint2", "axis": 0, "block_size": 2, "scheme": "affine"}),
        (["--dtype", "int12"], {"dtype": "int12"}),
        (["--calibration", "minmax"], {}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_options(cli, model, tmp_path, options, keywords, suffix):
    out = tmp_path / f"q{suffix}"
    assert cli("quantize", model, out, *options).status == 0
    loaded = pq.load(out)
    for name in QUANTIZED:
        q, expected = loaded[name], pq.quantize(TENSORS[name], **keywords)
        assert q.params == expected.params
        assert q.packed == (expected.params.bits < 8)
        np.testing.assert_array_equal(q.dequantize(), expected.dequantize())


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
@pytest.mark.parametrize("dtype", ["uint8", "uint12"])
def test_zero_points_are_absent_when_all_zero(cli, tmp_path, dtype, suffix):
    """Known only from the data, after the header was laid out."""
    tensors = {"a": normal(5, 3), "b": abs(normal(5, 3)), "c": normal(4, 3), "d": np.ones((3, 3))}
    np.savez(tmp_path / "m.npz", **tensors)
    out = tmp_path / f"q{suffix}"
    options = ["--scheme", "affine", "--dtype", dtype, "--axis", 1]
    assert cli("quantize", tmp_path / "m.npz", out, *options).status == 0
    stored = safetensors_numpy.load_file(out) if suffix == ".safetensors" else np.load(out)
    points = {name for name in stored if name.endswith(".zero_point")}
    assert points == {"a.zero_point", "c.zero_point"}
    loaded = pq.load(out)
    for name, array in tensors.items():
        assert loaded[name] == pq.quantize(array, scheme="affine", dtype=dtype, axis=1)


def test_large_tensors_are_not_read_ahead(cli, model, tmp_path, monkeypatch):
    from pyquant.checkpoint import rewrite

    assert cli("quantize", model, tmp_path / "ahead.npz").status == 0
    monkeypatch.setattr(rewrite, "_READ_AHEAD_BYTES", 0)
    assert cli("quantize", model, tmp_path / "alone.npz").status == 0
    assert (tmp_path / "ahead.npz").read_bytes() == (tmp_path / "alone.npz").read_bytes()


def test_bfloat16(cli, tmp_path):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    w = normal(6, 5, dtype=ml_dtypes.bfloat16)
    path = tmp_path / "m.safetensors"
    safetensors_numpy.save_file({"w": w, "b": w[0]}, path)
    assert cli("quantize", path, tmp_path / "q.safetensors", "--axis", 0).status == 0
    loaded = pq.load(tmp_path / "q.safetensors")
    np.testing.assert_array_equal(loaded["w"].data, pq.quantize(w, axis=0).data)
    assert loaded["b"].tobytes() == w[0].tobytes()
    assert cli("dequantize", tmp_path / "q.safetensors", tmp_path / "d.safetensors").status == 0
    assert pq.load(tmp_path / "d.safetensors")["w"].dtype == ml_dtypes.bfloat16
    refused = cli("quantize", path, tmp_path / "q.npz")
    assert_refused(refused, "'b'", "bfloat16", ".npz")


def test_metadata_is_kept(cli, model, tmp_path):
    assert cli("quantize", model, tmp_path / "q.npz").status == 0
    assert cli("dequantize", tmp_path / "q.npz", tmp_path / "d.safetensors").status == 0
    from safetensors import safe_open

    with safe_open(tmp_path / "d.safetensors", "numpy") as file:
        assert file.metadata() == {"format": "pt", "note": "ünï"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--include", "layer.*"], {"layer.weight", "layer.bias"}),
        (["--include", "layer.bias"], {"layer.bias"}),
        (["--include", "*", "--exclude", "layer.*"], {"conv.weight", "half", "double", "step"}),
        (["--include", "half", "--include", "d*"], {"half", "double"}),
        (["--exclude", "*"], set()),
        (["--exclude", "nothing", "--exclude", "half"], QUANTIZED - {"half"}),
    ],
)
def test_include_and_exclude(cli, model, tmp_path, options, expected):
    assert cli("quantize", model, tmp_path / "q.safetensors", *options).status == 0
    loaded = pq.load(tmp_path / "q.safetensors")
    assert {n for n, v in loaded.items() if isinstance(v, pq.QuantizedArray)} == expected


def test_include_that_names_nothing(cli, model, tmp_path):
    assert_refused(cli("quantize", model, tmp_path / "q.npz", "--include", "weigth"), "'weigth'")


def test_two_passes_make_mixed_precision(cli, model, tmp_path):
    first, second = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    assert cli("quantize", model, first, "--include", "half", "--dtype", "int4").status == 0
    assert cli("quantize", first, second, "--axis", 0).status == 0
    loaded = pq.load(second)
    assert (loaded["half"].dtype, loaded["half"].packed) == ("int4", True)
    assert (loaded["double"].dtype, loaded["double"].axis) == ("int8", 0)


def test_npy(cli, tmp_path):
    x = np.asfortranarray(normal(6, 5))
    np.save(tmp_path / "x.npy", x)
    assert cli("quantize", tmp_path / "x.npy", tmp_path / "q.npz", "--axis", 1).status == 0
    q = pq.load(tmp_path / "q.npz")["arr_0"]
    np.testing.assert_array_equal(q.data, pq.quantize(x, axis=1).data)
    assert cli("dequantize", tmp_path / "q.npz", tmp_path / "d.npy").status == 0
    np.testing.assert_array_equal(np.load(tmp_path / "d.npy"), q.dequantize())
    refused = cli("quantize", tmp_path / "x.npy", tmp_path / "q.npy")
    assert_refused(refused, ".npy", ".safetensors or .npz")
    assert not (tmp_path / "q.npy").exists()


def test_report(cli, model, tmp_path):
    report = tmp_path / "r.json"
    done = cli("quantize", model, tmp_path / "q.npz", "--axis", 0, "--report", report)
    assert done.status == 0
    assert "SQNR" in done.out
    tree = json.loads(report.read_text())
    assert {entry["name"] for entry in tree["tensors"]} == QUANTIZED
    assert tree["settings"]["axis"] == 0
    for entry in tree["tensors"]:
        x = TENSORS[entry["name"]]
        error = pq.error(x, pq.quantize(x, axis=0))
        for figure in ("mse", "sqnr_db", "max_abs", "clipped"):
            assert entry[figure] == pytest.approx(getattr(error, figure))


def test_report_of_an_exact_tensor_is_json(cli, tmp_path):
    np.savez(tmp_path / "m.npz", w=np.zeros((3, 3), "f"))
    report = tmp_path / "r.json"
    done = cli("quantize", tmp_path / "m.npz", tmp_path / "q.npz", "--report", report)
    assert done.status == 0
    entry = json.loads(report.read_text(), parse_constant=pytest.fail)["tensors"][0]
    assert (entry["mse"], entry["max_abs"]) == (0, 0)


# --- folders ------------------------------------------------------------------------------------


def test_folder_of_shards(cli, shards, tmp_path):
    out = tmp_path / "out"
    assert cli("quantize", shards, out, "--axis", 0, "--scheme", "affine").status == 0
    assert sorted(os.listdir(out)) == sorted(os.listdir(shards))
    index = json.loads((out / "model.safetensors.index.json").read_text())
    stored = {}
    for name, shard in index["weight_map"].items():
        stored[name] = safetensors_numpy.load_file(out / shard)[name]
    assert {"layer.weight.scale", "layer.weight.zero_point", "half.scale"} <= set(stored)
    assert index["metadata"]["total_size"] == sum(array.nbytes for array in stored.values())
    assert index["metadata"]["kept"] == "yes"
    loaded = pq.load(out)
    assert set(loaded) == {"layer.weight", "layer.bias", "half", "ids"}

    back = tmp_path / "back"
    assert cli("dequantize", out, back).status == 0
    index = json.loads((back / "model.safetensors.index.json").read_text())
    assert index == json.loads((shards / "model.safetensors.index.json").read_text())
    np.testing.assert_array_equal(
        pq.load(back)["layer.weight"], loaded["layer.weight"].dequantize()
    )
    assert json.loads(cli("compare", shards, back, "--json").out)["tensors"]
    assert "half" in cli("inspect", out).out


def test_folder_without_index(cli, shards, tmp_path):
    (shards / "model.safetensors.index.json").unlink()
    assert cli("quantize", shards, tmp_path / "out").status == 0
    assert sorted(os.listdir(tmp_path / "out")) == sorted(os.listdir(shards))


def test_folder_overwrite(cli, shards, tmp_path):
    out = tmp_path / "out"
    assert cli("quantize", shards, out).status == 0
    assert_refused(cli("quantize", shards, out), "exists", "--overwrite")
    assert cli("quantize", shards, out, "--overwrite", "--dtype", "int4").status == 0
    assert pq.load(out)["half"].dtype == "int4"
    (out / "thesis.txt").write_text("mine")
    assert_refused(cli("quantize", shards, out, "--overwrite"), "thesis.txt")
    assert (out / "thesis.txt").read_text() == "mine"
    assert sorted(os.listdir(tmp_path)) == ["out", "shards"]


def test_folder_and_file_do_not_mix(cli, shards, model, tmp_path):
    assert_refused(cli("quantize", shards, tmp_path / "q.safetensors"), "must be a folder")
    assert_refused(cli("quantize", model, tmp_path / "q"), "must be a file")


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ('{"weight_map": {"w": "../model.safetensors"}}', "../model.safetensors"),
        ('{"weight_map": {"w": "/etc/passwd"}}', "/etc/passwd"),
        ('{"weight_map": {"w": "gone.safetensors"}}', "gone.safetensors"),
        ('{"weight_map": {"w": 3}}', "weight_map"),
        ('{"weight_map": []}', "weight_map"),
        ("[" * 100_000, "index"),
        ("\xff", "index"),
    ],
)
def test_bad_index(cli, shards, tmp_path, index, words):
    (shards / "model.safetensors.index.json").write_text(index, encoding="latin-1")
    assert_refused(cli("quantize", shards, tmp_path / "out"), words)
    assert not (tmp_path / "out").exists()


def test_collision_across_shards(cli, shards, tmp_path):
    (shards / "model.safetensors.index.json").unlink()
    safetensors_numpy.save_file({"half.scale": np.ones(2)}, shards / "extra.safetensors")
    assert_refused(cli("quantize", shards, tmp_path / "out"), "'half.scale'", "'half'")


def test_tensor_in_two_shards(cli, shards, tmp_path):
    (shards / "model.safetensors.index.json").unlink()
    safetensors_numpy.save_file({"half": TENSORS["half"]}, shards / "extra.safetensors")
    assert_refused(cli("inspect", shards), "'half'")


# --- dequantize, inspect, compare, info ---------------------------------------------------------


def test_dequantize(cli, model, tmp_path):
    q, d = tmp_path / "q.safetensors", tmp_path / "d.safetensors"
    assert cli("quantize", model, q, "--dtype", "int6", "--axis", "0").status == 0
    done = run("dequantize", q, d)
    assert (done.returncode, done.stderr) == (0, "")
    back, quantized = safetensors_numpy.load_file(d), pq.load(q)
    assert set(back) == set(TENSORS)
    for name, array in TENSORS.items():
        assert (back[name].dtype, back[name].shape) == (array.dtype, array.shape)
        if name in QUANTIZED:
            expected = quantized[name].dequantize().astype(array.dtype)
            np.testing.assert_array_equal(back[name], expected)
    assert_refused(cli("dequantize", model, tmp_path / "x.npz"), "no quantized tensors")
    assert_refused(cli("dequantize", q, d), "exists")


def test_inspect(cli, model, tmp_path):
    q = tmp_path / "q.safetensors"
    assert cli("quantize", model, q, "--dtype", "int4", "--block-size", "4").status == 0
    done = run("inspect", q)
    assert done.returncode == 0
    assert re.search(
        r"layer\.weight +int4 +\(12, 7\) .*axis -1 in blocks of 4, packed", done.stdout
    )
    tree = json.loads(cli("inspect", q, "--json").out)
    entries = {entry["name"]: entry for entry in tree["tensors"]}
    assert set(entries) == set(TENSORS)
    assert entries["ids"]["quantized"] is None
    assert entries["double"]["quantized"]["source_dtype"] == "float64"
    assert entries["double"]["shape"] == [6, 5]
    assert entries["double"]["bytes"] == pq.load(q)["double"].nbytes
    assert tree["metadata"] == [{"format": "pt", "note": "ünï"}]


def test_compare(cli, model, tmp_path):
    q = tmp_path / "q.npz"
    assert cli("quantize", model, q, "--dtype", "int4", "--exclude", "half").status == 0
    done = run("compare", model, q)
    assert done.returncode == 0
    assert done.stdout.splitlines()[0].split()[0] == "tensor"
    tree = json.loads(cli("compare", model, q, "--json").out, parse_constant=pytest.fail)
    assert (tree["only_a"], tree["only_b"]) == ([], [])
    rows = tree["tensors"]
    assert {row["name"] for row in rows} == set(TENSORS)
    measured = [row["sqnr_db"] for row in rows if row["name"] in QUANTIZED - {"half"}]
    assert measured == sorted(measured)
    assert [row["name"] for row in rows][:3] == [r["name"] for r in rows if r["mse"] > 0]
    weight = next(row for row in rows if row["name"] == "layer.weight")
    error = pq.error(TENSORS["layer.weight"], pq.load(q)["layer.weight"])
    assert weight["mse"] == pytest.approx(error.mse)
    assert weight["max_abs"] == pytest.approx(error.max_abs)


def test_compare_with_other_names_and_shapes(cli, model, tmp_path):
    np.savez(tmp_path / "other.npz", **{"half": TENSORS["half"], "new": np.ones(2)})
    tree = json.loads(cli("compare", model, tmp_path / "other.npz", "--json").out)
    assert tree["only_b"] == ["new"]
    assert set(tree["only_a"]) == set(TENSORS) - {"half"}
    assert tree["tensors"][0]["mse"] == 0
    assert "only in" in cli("compare", model, tmp_path / "other.npz").out
    np.savez(tmp_path / "other.npz", half=np.ones(2))
    assert_refused(cli("compare", model, tmp_path / "other.npz"), "'half'", "(6, 5)", "(2)")
    np.savez(tmp_path / "other.npz", new=np.ones(2))
    assert_refused(cli("compare", model, tmp_path / "other.npz"), "no tensor name in common")


def test_compare_plot(cli, model, tmp_path):
    pytest.importorskip("matplotlib")
    q, plot = tmp_path / "q.npz", tmp_path / "plot.png"
    assert cli("quantize", model, q).status == 0
    assert cli("compare", model, q, "--plot", plot).status == 0
    assert plot.read_bytes().startswith(b"\x89PNG\r\n")
    assert_refused(cli("compare", model, q, "--plot", tmp_path / "plot.gif"), ".png")
    assert sorted(os.listdir(tmp_path)) == ["model.safetensors", "plot.png", "q.npz"]


def test_info():
    done = run("info")
    assert done.returncode == 0
    assert done.stdout.strip()


# --- refusals and usage -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args",
    [
        ["quantize"],
        ["quantise", "a", "b"],
        ["quantize", "a.npz", "b.npz", "--dtype", "int99"],
        ["quantize", "a.npz", "b.npz", "--dtype", "float32"],
        ["quantize", "a.npz", "b.npz", "--scheme", "best"],
        ["quantize", "a.npz", "b.npz", "--axis", "x"],
        ["quantize", "a.npz", "b.npz", "--block-size", "0"],
        ["quantize", "a.npz", "b.npz", "--calibration", "magic"],
        ["inspect", "a.npz", "--yaml"],
    ],
)
def test_usage_is_status_2(cli, args):
    outcome = cli(*args)
    assert outcome.status == 2
    assert "Traceback" not in outcome.err


def test_refusal_in_a_process(tmp_path):
    done = run("quantize", tmp_path / "gone.safetensors", tmp_path / "q.npz")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"pyquant: {tmp_path / 'gone.safetensors'} does not exist\n"


def test_axis_that_does_not_fit(cli, model, tmp_path):
    refused = cli("quantize", model, tmp_path / "q.npz", "--axis", "3")
    assert_refused(refused, "axis 3 does not fit shape", "-2 to 1")
    assert os.listdir(tmp_path) == [model.name]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_bad_values_leave_nothing(cli, tmp_path, value):
    good, bad = normal(50, 50), normal(5, 5)
    bad[2, 3] = value
    np.savez(tmp_path / "m.npz", a=good, b=bad)
    refused = cli("quantize", tmp_path / "m.npz", tmp_path / "q.safetensors")
    assert_refused(refused, "tensor 'b'")
    assert os.listdir(tmp_path) == ["m.npz"]


def test_names_that_collide(cli, tmp_path):
    np.savez(tmp_path / "m.npz", **{"w": normal(3, 3), "w.scale": np.ones(1)})
    refused = cli("quantize", tmp_path / "m.npz", tmp_path / "q.npz")
    assert_refused(refused, "'w.scale'", "'w'")
    assert cli("quantize", tmp_path / "m.npz", tmp_path / "q.npz", "--exclude", "w").status == 0


def test_overwrite(cli, model, tmp_path):
    out, report = tmp_path / "q.safetensors", tmp_path / "r.json"
    out.write_text("old")
    assert_refused(cli("quantize", model, out), str(out), "exists", "--overwrite")
    assert out.read_text() == "old"
    assert cli("quantize", model, out, "--overwrite").status == 0
    assert pq.load(out)
    report.write_text("old")
    refused = cli("quantize", model, tmp_path / "q.npz", "--report", report)
    assert_refused(refused, str(report), "exists")
    assert not (tmp_path / "q.npz").exists()


def test_never_onto_itself(cli, model, tmp_path):
    before = model.read_bytes()
    assert_refused(cli("quantize", model, model, "--overwrite"), "is IN itself")
    link = tmp_path / "link.safetensors"
    link.symlink_to(model)
    assert_refused(cli("quantize", model, link, "--overwrite"), "is IN itself")
    assert model.read_bytes() == before


@pytest.mark.parametrize("out", ["q.pt", "q", "gone/q.npz"])
def test_outputs_that_cannot_be(cli, model, tmp_path, out):
    assert_refused(cli("quantize", model, tmp_path / out), out.split("/")[0])


def test_damaged_input(cli, model, tmp_path):
    model.write_bytes(model.read_bytes()[:-3])
    assert_refused(cli("quantize", model, tmp_path / "q.npz"), "model.safetensors", "not a valid")
    assert_refused(cli("inspect", model), "not a valid")


def test_without_the_extra():
    """One sentence that names the extra, not a traceback."""
    hide = "import sys; sys.modules['typer'] = None; from pyquant.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", hide], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "pip install pyquant[cli]" in done.stderr
    assert done.stderr.count("\n") == 1


# --- interruption, failure, terminal, memory ----------------------------------------------------


@pytest.fixture
def many(tmp_path):
    """More tensors than fit their lines into a pipe: the command waits in the middle."""
    folder = tmp_path / "many"
    folder.mkdir()
    names = [f"{'long-name-' * 20}{i}" for i in range(700)]
    tensors = dict.fromkeys(names, np.ones((2, 2), "f"))
    safetensors_numpy.save_file(tensors, folder / "a.safetensors")
    return folder


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_interrupted_in_the_middle(many, tmp_path, stop, kind):
    source, out = (many / "a.safetensors", "q.npz") if kind == "file" else (many, "q")
    command = [sys.executable, "-m", "pyquant", "quantize", source, tmp_path / out]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdout=pipe, stderr=pipe, preexec_fn=default_signals
    ) as process:
        deadline = time.monotonic() + 30
        while not list(tmp_path.glob(".q.*partial*")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.2)
        assert process.poll() is None
        process.send_signal(stop)
        process.communicate(timeout=30)
    assert process.returncode not in (0, None)
    assert os.listdir(tmp_path) == ["many"]


def test_full_disk(model, tmp_path):
    np.savez(tmp_path / "big.npz", a=normal(300, 300), b=normal(300, 300))

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = run("quantize", tmp_path / "big.npz", tmp_path / "q.safetensors", preexec_fn=limit)
    assert done.returncode == 1
    assert done.stderr.startswith("pyquant: ")
    assert sorted(os.listdir(tmp_path)) == ["big.npz", model.name]


def test_progress_bar_on_a_terminal(model, tmp_path):
    """On a terminal there is a bar and a closing line, and no line per tensor."""
    main_end, terminal = pty.openpty()
    command = [sys.executable, "-m", "pyquant", "quantize", model, tmp_path / "q.npz"]
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "200"}
    process = subprocess.Popen(command, stdout=terminal, stderr=terminal, env=env)
    os.close(terminal)
    shown = bytearray()

    def drain():
        try:
            while piece := os.read(main_end, 4096):
                shown.extend(piece)
        except OSError:  # the other end is closed
            pass

    reader = threading.Thread(target=drain)
    reader.start()
    assert process.wait(timeout=60) == 0
    reader.join(timeout=10)
    os.close(main_end)
    assert b"4 of 9 tensors quantized" in shown
    assert b"->  int8" not in shown
    assert b"\x1b[" in shown


MEMORY = """
import re, sys
from pathlib import Path
sys.argv[0] = "pyquant"
from pyquant.cli import main
try:
    main()
finally:
    peak = re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())
    print("PEAK", int(peak[1]) * 1024)
"""


def peak_memory(*args):
    command = [sys.executable, "-c", MEMORY, *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.rpartition("PEAK ")[2])


def write_blocks(path, count, rows, columns):
    """Write a safetensors file of `count` equal float32 tensors without holding them."""
    block = np.tile(normal(rows // 100, columns), (100, 1))
    header = {
        f"t{i}": {
            "dtype": "F32",
            "shape": block.shape,
            "data_offsets": (i * block.nbytes, (i + 1) * block.nbytes),
        }
        for i in range(count)
    }
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _ in range(count):
            file.write(block.data)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_memory_follows_the_largest_tensor(tmp_path):
    big, out = tmp_path / "big.safetensors", tmp_path / "q.safetensors"
    write_blocks(big, 20, 2000, 2500)
    idle = peak_memory("info")
    # Two buffers of 20 MB (one is read while the other is worked on), the result and its scratch.
    assert peak_memory("quantize", big, out, "--axis", 0) - idle < 100e6
    assert peak_memory("dequantize", out, tmp_path / "d.npz") - idle < 100e6
    assert peak_memory("compare", big, out) - idle < 200e6
