"""Calibrators on the same batches: how long they take, and what their int8 costs.

Everything is symmetric int8 per tensor. PyTorch's HistogramObserver minimises the squared error;
ONNX Runtime's collectors are what its PercentileCalibrator and EntropyCalibrator keep for every
tensor, fed with one batch after the other. (Its DistributionCalibrator is for 8-bit floats.)
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

import pyquant as pq
from bench.machine import describe
from bench.timing import Spread, ratio

TIMES = 10.0  # at least so many times as fast as each library's fastest calibrator
METHODS = ("percentile", "mse", "entropy", "aciq_laplace", "aciq_gauss")
Batches = list[np.ndarray]


def batches_of(count: int, size: int) -> Batches:
    """Activations as of a layer whose outputs grow from batch to batch, without its rectifier."""
    rng = np.random.default_rng(4)
    return [
        rng.laplace(size=size).astype(np.float32) * np.float32(1 + 0.5 * k / count)
        for k in range(count)
    ]


def _pyquant(method: str) -> Callable[[Batches], pq.QuantParams]:
    def run(batches: Batches) -> pq.QuantParams:
        observer = pq.Observer(method)
        for batch in batches:
            observer.update(batch)
        return observer.params()

    return run


def _histogram_alone(batches: Batches) -> None:
    observer = pq.Observer("percentile")
    for batch in batches:
        observer.update(batch)


def _torch(batches: Batches) -> pq.QuantParams:
    import torch
    from torch.ao.quantization import HistogramObserver

    observer = HistogramObserver(dtype=torch.qint8, qscheme=torch.per_tensor_symmetric)
    for batch in batches:
        observer(torch.from_numpy(batch))
    scale, _ = observer.calculate_qparams()
    return pq.QuantParams(float(scale), 0, "int8")


def _onnxruntime(method: str) -> Callable[[Batches], pq.QuantParams]:
    def run(batches: Batches) -> pq.QuantParams:
        from onnxruntime.quantization.calibrate import HistogramCollector

        bins = {"percentile": 2048, "entropy": 128}[method]  # what its calibrators start with
        collector = HistogramCollector(
            method=method, symmetric=True, num_bins=bins, num_quantized_bins=128,
            percentile=99.99, scenario="same",
        )  # fmt: skip
        with redirect_stdout(StringIO()):  # it tells about every batch
            for batch in batches:
                collector.collect({"x": [batch]})
            low, high, *_ = collector.compute_collection_result()["x"]
        return pq.choose_params(low, high)

    return run


def contenders() -> dict[str, Callable[[Batches], Any]]:
    """Everything that can run here, by name."""
    found: dict[str, Callable[[Batches], Any]] = {"pyquant histogram alone": _histogram_alone}
    found |= {f"pyquant {method}": _pyquant(method) for method in METHODS}
    try:
        import torch  # noqa: F401

        found["torch HistogramObserver"] = _torch
    except ImportError:
        print("torch is not installed: left out")
    try:
        import onnxruntime.quantization.calibrate  # noqa: F401

        for method in ("percentile", "entropy"):
            found[f"onnxruntime {method}"] = _onnxruntime(method)
    except ImportError:
        print("onnxruntime's quantization tools are not installed: left out")
    return found


def _error(batches: Iterable[np.ndarray], params: pq.QuantParams) -> float:
    return float(np.mean([pq.error(x, pq.quantize(x, params)).mse for x in batches]))


def run(
    count: int, size: int, rounds: int, threads: int | None, path: Path | None, peers: bool = True
) -> bool:
    """Measure in turns, print a table, write JSON; are the targets met?"""
    batches = batches_of(count, size)
    some = batches[:: max(count // 10, 1)]
    if threads is not None:
        pq.set_num_threads(threads)
        try:
            import torch

            torch.set_num_threads(threads)
        except ImportError:
            pass
    everyone = contenders()
    everyone = {n: call for n, call in everyone.items() if peers or n.startswith("pyquant")}
    seconds: dict[str, list[float]] = {name: [] for name in everyone}
    errors: dict[str, float | None] = {}
    for call in everyone.values():
        call(batches[:1])  # imports, threads, memory
    for _ in range(rounds):
        for name, call in everyone.items():
            started = time.perf_counter()
            params = call(batches)
            seconds[name].append(time.perf_counter() - started)
            errors[name] = None if params is None else _error(some, params)
    return _report(seconds, errors, (count, size, rounds), path)


def _fastest(seconds: dict[str, list[float]], library: str) -> str | None:
    names = [name for name in seconds if name.startswith(library)]
    return min(names, key=lambda name: Spread.of(seconds[name]).median, default=None)


def _report(
    seconds: dict[str, list[float]],
    errors: dict[str, float | None],
    shape: tuple[int, int, int],
    path: Path | None,
) -> bool:
    count, size, rounds = shape
    peers = [name for name in (_fastest(seconds, p) for p in ("torch", "onnxruntime")) if name]
    print(f"{count} batches of {size:,} float32, {rounds} rounds, {pq.get_num_threads()} threads")
    heads = "".join(f"{'x ' + peer.split()[0]:>14}" for peer in peers)
    print(f"{'calibrator':<28}{'ms a batch':>12}{'p10-p90':>16}{'MSE of int8':>14}{heads}")
    met, rows = True, []
    for name, spent in seconds.items():
        spread = Spread.of([1e3 * s / count for s in spent])
        error = errors[name]
        row: dict[str, Any] = {
            "calibrator": name, "ms a batch": spread.median, "p10": spread.low,
            "p90": spread.high, "mse": error,
        }  # fmt: skip
        line = f"{name:<28}{spread.median:>12.3f}{spread.low:>8.3f}-{spread.high:<7.3f}"
        line += f"{'':>14}" if error is None else f"{error:>14.3e}"
        for peer in peers if name.startswith("pyquant") else ():
            faster = ratio(seconds[peer], spent).median
            row[f"times {peer}"] = faster
            met &= faster >= TIMES
            line += f"{faster:>9.1f} {'pass' if faster >= TIMES else 'MISS'}"
        rows.append(row)
        print(line)
    if peers:
        print(f"target: every pyquant row >= {TIMES:.0f} x {' and '.join(peers)}")
    if path is not None:
        everything = {"machine": describe(), "batches": count, "size": size, "rows": rows}
        path.write_text(json.dumps(everything, indent=1, default=str) + "\n")
    return met
