"""The main job on a big file: quantize a checkpoint per channel against reading and writing it.

The work to beat is plain safetensors in one process: read every tensor of the input, write the
quantized result (made before, outside the time). pyquant's time is its whole command: start of the
interpreter, imports, everything. Memory is the command's peak resident set as the kernel counts it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.timing import Spread, ratio

ALLOWED_TIMES = 1.5
ALLOWED_BYTES = 600e6
TENSOR_SHAPE = (5888, 4096)  # 96.5 MB of float32: no tensor is larger than 100 MB
_PLAIN = "plain"


def write_checkpoint(path: Path, gigabytes: float) -> None:
    """A safetensors file of weight matrices and their biases, float32, about `gigabytes` big."""
    import numpy as np
    from safetensors.numpy import save_file

    random = np.random.default_rng(7)
    rows, columns = TENSOR_SHAPE
    normal = random.standard_normal((rows, columns), dtype=np.float32)
    tensors: dict[str, np.ndarray] = {}
    for layer in range(max(1, round(gigabytes * 1e9 / normal.nbytes))):
        tensors[f"layers.{layer}.weight"] = normal * np.float32(0.02 * (1 + layer % 5))
        tensors[f"layers.{layer}.bias"] = normal[layer, :rows].copy()
    save_file(tensors, path)


def plain(source: Path, ready: Path, target: Path) -> None:
    """Time the plain way and print it: read tensor by tensor, read all at once, write."""
    from safetensors import safe_open
    from safetensors.numpy import load_file, save_file

    started = time.perf_counter()
    with safe_open(source, framework="numpy") as tensors:
        for name in tensors.keys():  # noqa: SIM118 - not a dict
            tensors.get_tensor(name)
    reading = time.perf_counter() - started
    started = time.perf_counter()
    everything = load_file(source)
    loading = time.perf_counter() - started
    del everything
    result = load_file(ready)
    started = time.perf_counter()
    save_file(result, target)
    writing = time.perf_counter() - started
    print(json.dumps({"read": reading, "load": loading, "write": writing}))


def _command(source: Path, target: Path) -> tuple[float, float]:
    """Seconds and peak bytes of the quantizing command."""
    arguments = [sys.executable, "-m", "pyquant", "quantize", str(source), str(target)]
    arguments += ["--axis", "0", "--overwrite"]
    started = time.perf_counter()
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL) as process:
        # A small parent matters: the kernel counts what it had resident at the fork as well.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - started
    if process.returncode:
        raise SystemExit(f"pyquant quantize ended with status {process.returncode}")
    return seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _call(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "bench.checkpoint", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=Path(__file__).resolve().parent.parent,
    )
    return done.stdout


def run(gigabytes: float = 2.0, rounds: int = 5, folder: Path | None = None) -> bool:
    """Make the file, take turns, print the comparison, say whether both targets are met."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        source, target = Path(place, "weights.safetensors"), Path(place, "int8.safetensors")
        copy = Path(place, "copy.safetensors")
        _call("make", str(source), str(gigabytes))
        _command(source, target)  # the result to write plainly; also brings the file into memory
        own, peaks, reading, whole = [], [], [], []
        for _ in range(rounds):
            os.sync()  # nobody pays for what another left to be written
            seconds, peak = _command(source, target)
            own.append(seconds)
            peaks.append(peak)
            os.sync()
            parts = json.loads(_call(_PLAIN, str(source), str(target), str(copy)))
            reading.append(parts["read"] + parts["write"])
            whole.append(parts["load"] + parts["write"])
        sizes = source.stat().st_size, target.stat().st_size
    times, loaded = ratio(own, reading), ratio(own, whole)
    command, plainly = Spread.of(own), Spread.of(reading)
    fast, small = times.median <= ALLOWED_TIMES, max(peaks) <= ALLOWED_BYTES
    print(f"{sizes[0] / 1e9:.2f} GB float32 -> {sizes[1] / 1e9:.2f} GB int8 per channel")
    print(
        f"pyquant quantize: {command.median:.2f} s ({command.low:.2f}-{command.high:.2f}); "
        f"plain read + write: {plainly.median:.2f} s ({plainly.low:.2f}-{plainly.high:.2f})"
    )
    print(
        f"times plain: {times.median:.2f} ({times.low:.2f}-{times.high:.2f}), "
        f"{'pass' if fast else 'MISS'} <= {ALLOWED_TIMES}; "
        f"against loading the whole file at once: {loaded.median:.2f}"
    )
    print(
        f"peak memory: {max(peaks) / 1e6:.0f} MB, "
        f"{'pass' if small else 'MISS'} <= {ALLOWED_BYTES / 1e6:.0f} MB"
    )
    return fast and small


if __name__ == "__main__":
    if sys.argv[1] == _PLAIN:
        plain(*map(Path, sys.argv[2:5]))
    else:
        write_checkpoint(Path(sys.argv[2]), float(sys.argv[3]))
