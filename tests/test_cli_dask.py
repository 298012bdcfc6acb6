"""A folder of shards on a cluster: the same bytes, whoever dies and however often it begins."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from processes import default_signals

import pyquant as pq

pytest.importorskip("distributed", reason="needs dask: pip install pyquant[dask]")
pytest.importorskip("typer")
pytest.importorskip("rich")
safetensors_numpy = pytest.importorskip("safetensors.numpy")

from local_cluster import two_processes  # noqa: E402
from test_cli import Outcome, assert_refused, cli  # noqa: E402, F401

SHARDS = 6
OPTIONS = ["--dtype", "int4", "--axis", "0"]
ROOT = Path(pq.__file__).resolve().parent.parent

# So that there is time to kill: every tensor takes a moment to write.
SLOW = """
import time
from pyquant.checkpoint.safetensors_format import SafetensorsWriter as Writer
def write(self, name, array, write=Writer.write):
    time.sleep(0.1)
    write(self, name, array)
Writer.write = write
"""


@pytest.fixture
def shards(tmp_path):
    folder, where, total = tmp_path / "in", {}, 0
    folder.mkdir()
    rng = np.random.default_rng(5)
    for i in range(SHARDS):
        name = f"model-{i + 1}-of-{SHARDS}.safetensors"
        tensors = {f"{i}.w{j}": rng.normal(size=(16, 40)).astype("f") for j in range(3)}
        tensors |= {f"{i}.bias": np.ones(16, "f"), f"{i}.half": np.ones((3, 2), "float16")}
        safetensors_numpy.save_file(tensors, folder / name, metadata={"format": "pt"})
        where |= dict.fromkeys(tensors, name)
        total += sum(array.nbytes for array in tensors.values())
    index = {"metadata": {"total_size": total, "kept": "yes"}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture
def plain(cli, shards, tmp_path):  # noqa: F811
    """What a run without a cluster makes."""
    out = tmp_path / "plain"
    assert cli("quantize", shards, out, *OPTIONS).status == 0
    return out


@pytest.fixture(scope="module")
def address():
    with two_processes() as local:
        yield local.scheduler_address


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def started(*args, slow=None):
    """Start the command in a session of its own, as a terminal does."""
    environment = dict(os.environ)
    if slow:
        (slow / "slow").mkdir(exist_ok=True)
        (slow / "slow" / "sitecustomize.py").write_text(SLOW)
        paths = [str(slow / "slow"), str(ROOT), *environment.get("PYTHONPATH", "").split(":")]
        environment["PYTHONPATH"] = ":".join(path for path in paths if path)
    command = [sys.executable, "-m", "pyquant", *map(str, args)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        start_new_session=True, preexec_fn=default_signals,
    )  # fmt: skip


def ended(process, timeout=60):
    out, err = process.communicate(timeout=timeout)
    return Outcome(process.returncode, out, err)


def eventually(found, seconds=30):
    """Wait until `found()` is something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        result = found()
        if result:
            return result
        time.sleep(0.01)
    raise AssertionError("it never came")


def unfinished(out):
    return out.with_name(f".{out.name}.unfinished")


def writer_of_a_shard(out):
    """The process that is in the middle of a shard."""
    for folder in Path("/proc").glob("[0-9]*/fd"):
        try:
            targets = [os.readlink(link) for link in folder.iterdir()]
        except OSError:
            continue
        if any(t.startswith(f"{unfinished(out)}/.") and ".partial." in t for t in targets):
            return int(folder.parent.name)
    return None


def test_workers_make_the_same_bytes(shards, plain, tmp_path):
    out, report = tmp_path / "out", tmp_path / "report.json"
    done = ended(started("quantize", shards, out, *OPTIONS, "--workers", 2, "--report", report))
    assert (done.status, done.err) == (0, "")
    assert contents(out) == contents(plain)
    assert len(done.out.splitlines()) == SHARDS * 5 + 1
    assert f"{SHARDS * 4} of {SHARDS * 5} tensors quantized" in done.out
    names = [tensor["name"] for tensor in json.loads(report.read_text())["tensors"]]
    assert names == sorted(names, key=lambda name: name[0])  # shard by shard
    assert not unfinished(out).exists()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc to find the worker")
def test_a_killed_worker_loses_nothing(shards, plain, tmp_path):
    out = tmp_path / "out"
    process = started("quantize", shards, out, *OPTIONS, "--workers", 2, slow=tmp_path)
    victim = eventually(lambda: writer_of_a_shard(out))
    assert victim != process.pid
    os.kill(victim, signal.SIGKILL)
    done = ended(process)
    assert (done.status, done.err) == (0, "")
    assert contents(out) == contents(plain)
    assert not unfinished(out).exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_goes_on(number, cli, address, shards, plain, tmp_path):  # noqa: F811
    out = tmp_path / "out"
    process = started("quantize", shards, out, *OPTIONS, "--workers", 2, slow=tmp_path)
    eventually(lambda: list(unfinished(out).glob("[!.]*.json")))
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as Ctrl-C does
    else:
        os.kill(process.pid, number)
    stopped = ended(process)
    assert stopped.status != 0
    assert "Traceback" not in stopped.err
    assert not out.exists()
    finished = {p.name.removesuffix(".json") for p in unfinished(out).glob("[!.]*.json")}
    assert 0 < len(finished) < SHARDS
    if number == signal.SIGINT:
        assert f"{len(finished)} of {SHARDS} shards are finished" in stopped.err
    places = {name: os.stat(unfinished(out) / "shards" / name).st_ino for name in finished}

    done = cli("quantize", shards, out, *OPTIONS, "--dask", address)
    assert (done.status, done.err) == (0, "")
    assert done.out.count("finished by an earlier run") == len(finished)
    assert f"{SHARDS * 4} of {SHARDS * 5} tensors quantized" in done.out
    assert contents(out) == contents(plain)
    assert {name: os.stat(out / name).st_ino for name in finished} == places
    assert not unfinished(out).exists()


# --- on a cluster that is there -----------------------------------------------------------------


def test_dask_address(cli, address, shards, plain, tmp_path):  # noqa: F811
    out = tmp_path / "out"
    done = cli("quantize", shards, out, *OPTIONS, "--dask", address)
    assert (done.status, done.err) == (0, "")
    assert contents(out) == contents(plain)
    again = cli("quantize", shards, out, *OPTIONS, "--dask", address)
    assert_refused(again, "exists", "--overwrite")
    (shards / "model.safetensors.index.json").unlink()
    done = cli("quantize", shards, out, *OPTIONS, "--dask", address, "--overwrite")
    assert done.status == 0
    assert set(contents(out)) == {path.name for path in shards.iterdir()}


def test_refused_data_leave_nothing(cli, address, shards, tmp_path):  # noqa: F811
    bad = {"9.w": np.full((2, 2), np.nan, "f")}
    safetensors_numpy.save_file(bad, shards / "model-5-of-5.safetensors")
    (shards / "model.safetensors.index.json").unlink()
    out = tmp_path / "out"
    done = cli("quantize", shards, out, "--dask", address)
    assert_refused(done, "tensor '9.w'", "nan")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_what_is_finished_is_recognised(cli, address, shards, plain, tmp_path):  # noqa: F811
    """A shard is made again where it, its marker, its source or the settings are not as before."""
    out = tmp_path / "out"
    first, second, third, *others = sorted(shards.glob("*.safetensors"))

    def call(*options):
        return cli("quantize", shards, out, *(options or OPTIONS), "--dask", address)

    made = unfinished(out) / "shards"

    from pyquant.checkpoint import resumable

    def interrupted(self, write_index):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resumable.Unfinished, "publish", interrupted)
        assert call().status not in (0, None)
    assert len(list(made.iterdir())) == SHARDS
    damaged = bytearray((made / first.name).read_bytes())
    damaged[-1] ^= 1
    (made / first.name).write_bytes(damaged)
    (unfinished(out) / f"{second.name}.json").write_text("{}")
    os.utime(third)
    (unfinished(out) / ".left.1234.partial.safetensors").write_bytes(b"")
    done = call()
    assert done.status == 0
    finished = [line for line in done.out.splitlines() if "earlier run" in line]
    assert finished == [f"{file.name}  finished by an earlier run" for file in others]
    assert contents(out) == contents(plain)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resumable.Unfinished, "publish", interrupted)
        call("--overwrite")
    done = call(*OPTIONS, "--overwrite")
    assert "earlier run" not in done.out
    assert contents(out) == contents(plain)


def test_two_runs_do_not_meet(cli, address, shards, plain, tmp_path):  # noqa: F811
    from pyquant.checkpoint.resumable import Unfinished

    out = tmp_path / "out"
    other = Unfinished(out, list(shards.glob("*.safetensors")), {})
    other.open()
    assert_refused(cli("quantize", shards, out, "--dask", address), "another run", str(out))
    assert other.close() == 0
    assert not unfinished(out).exists()
    assert cli("quantize", shards, out, *OPTIONS, "--dask", address).status == 0
    assert contents(out) == contents(plain)


def test_refusals(cli, shards, tmp_path, monkeypatch):  # noqa: F811
    out = tmp_path / "out"
    both = cli("quantize", shards, out, "--workers", 2, "--dask", "tcp://127.0.0.1:1")
    assert (both.status, "exclude" in both.err) == (2, True)
    assert cli("quantize", shards, out, "--workers", 0).status == 2
    file = next(shards.glob("*.safetensors"))
    done = cli("quantize", file, tmp_path / "out.safetensors", "--workers", 2)
    assert_refused(done, "one file")
    monkeypatch.setattr("pyquant.cli.cluster._PATIENCE", "1s")
    assert_refused(cli("quantize", shards, out, "--dask", "tcp://127.0.0.1:1"), "127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert_refused(cli("quantize", shards, out, "--workers", 2), "pip install 'pyquant[dask]'")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]
