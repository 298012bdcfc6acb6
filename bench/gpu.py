"""Elementwise operations on a GPU, beside plain CuPy, ElementwiseKernel and torch.

The limits are the device's own, from the same rounds: a copy of memory, and a kernel that reads
only. Every call is timed by events on its stream; what Python does before a launch is hidden
behind the launches before it, and has a row of its own.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import pyquant as pq
from bench.machine import describe
from bench.timing import Spread, ratio
from pyquant import ops

OVERHEAD = 10e-6  # seconds of host time for a small call, at most
ROWS, BLOCK = 4096, 128
READ = r"""
extern "C" __global__ void read(const uint4 *x, size_t n, unsigned *never)
{
    unsigned sum = 0;
    size_t i = (size_t)blockIdx.x * 1024 + threadIdx.x;
    for (int k = 0; k < 4; k++, i += 256)
        if (i < n) {
            const uint4 v = __ldcs(x + i);
            sum ^= v.x ^ v.y ^ v.z ^ v.w;
        }
    if (sum == 0x9e3779b9u) *never = sum;
}
"""

Call = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """One operation: the bytes that it must move, its target as a share, and who does it."""

    name: str
    bytes: int
    share: float | None
    calls: dict[str, Call]
    limit: str = "copy"


@dataclass
class Row:
    """What a case measured."""

    case: Case
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def share(self, limit: list[float], limit_bytes: int) -> Spread:
        """pyquant's bytes a second over the limit's."""
        scaled = [s * self.case.bytes / limit_bytes for s in limit]
        return ratio(scaled, self.seconds["pyquant"])

    def best_peer(self) -> str | None:
        peers = [name for name in self.seconds if name != "pyquant"]
        return min(peers, key=lambda n: Spread.of(self.seconds[n]).median, default=None)


class Device:
    """CuPy, and torch where it has CUDA."""

    def __init__(self) -> None:
        from pyquant import _cuda_loader

        _cuda_loader.require()
        import cupy

        self.cp = cupy
        self.torch = self._torch()
        self.start, self.stop = cupy.cuda.Event(), cupy.cuda.Event()

    def _torch(self) -> Any:
        try:
            import torch
        except ImportError:
            return None
        return torch if torch.cuda.is_available() else None

    def seconds(self, call: Call) -> float:
        """Of the device, for one call that is in the middle of three."""
        stream = self.cp.cuda.get_current_stream()
        call()
        self.start.record(stream)
        call()
        self.stop.record(stream)
        self.stop.synchronize()
        return float(self.cp.cuda.get_elapsed_time(self.start, self.stop)) / 1e3

    def tensor(self, array: Any) -> Any:
        return self.torch.from_dlpack(array)


def _limits(device: Device, elements: int) -> Iterator[Case]:
    cp = device.cp
    x = cp.zeros(elements, cp.float32)
    y = cp.empty_like(x)
    stream = cp.cuda.get_current_stream()

    def copy() -> None:
        y.data.copy_from_device_async(x.data, x.nbytes, stream)

    module = cp.RawModule(code=READ)
    kernel, never, words = module.get_function("read"), cp.zeros(1, cp.uint32), elements // 4

    def read() -> None:
        kernel((-(-words // 1024),), (256,), (x, np.uint64(words), never))

    yield Case("copy", 2 * x.nbytes, None, {"pyquant": copy})
    yield Case("read", x.nbytes, None, {"pyquant": read})


def _quantize(device: Device, x: Any, name: str) -> Case:
    cp, scale, zero = device.cp, 0.02, 3
    q = cp.empty(x.shape, cp.int8)
    loop = cp.ElementwiseKernel(
        "T x, float32 s, float32 z", "int8 q",
        "q = (signed char)fminf(fmaxf(rintf((float)x / s) + z, -128.0f), 127.0f)", f"q_{name}",
    )  # fmt: skip

    def plain() -> Any:
        return cp.clip(cp.rint(x / np.float32(scale)) + zero, -128, 127).astype(cp.int8)

    calls: dict[str, Call] = {
        "pyquant": lambda: ops.quantize_linear(x, scale, zero, out=q),
        "ElementwiseKernel": lambda: loop(x, np.float32(scale), np.float32(zero), q),
    }
    if x.dtype == cp.float32:
        calls["CuPy"] = plain
        if device.torch is not None:
            torch, t = device.torch, device.tensor(x)
            calls["torch"] = lambda: torch.quantize_per_tensor(t, scale, zero, torch.qint8)
    return Case(f"quantize {name} -> int8", x.nbytes + q.nbytes, 0.93, calls)


def _dequantize(device: Device, x: Any, name: str) -> Case:
    cp = device.cp
    q = ops.quantize_linear(x, 0.02)
    y = cp.empty(x.shape, x.dtype)
    loop = cp.ElementwiseKernel(
        "int8 q, float32 s, int32 z", "T x", "x = (float)(q - z) * s", f"d_{name}"
    )
    calls: dict[str, Call] = {
        "pyquant": lambda: ops.dequantize_linear(q, 0.02, 3, dtype=name, out=y),
        "ElementwiseKernel": lambda: loop(q, np.float32(0.02), 3, y),
    }
    if x.dtype == cp.float32:
        calls["CuPy"] = lambda: (q.astype(cp.int32) - 3) * np.float32(0.02)
        if device.torch is not None:
            torch = device.torch
            t = torch.quantize_per_tensor(device.tensor(x), 0.02, 3, torch.qint8)
            calls["torch"] = t.dequantize
    return Case(f"dequantize int8 -> {name}", q.nbytes + y.nbytes, 0.93, calls)


def _fake_quantize(device: Device, x: Any, name: str) -> Case:
    cp = device.cp
    y = cp.empty_like(x)
    calls: dict[str, Call] = {
        "pyquant": lambda: ops.fake_quantize_linear(x, 0.02, 3, out=y),
        "CuPy": lambda: cp.clip(cp.rint(x / np.float32(0.02)), -131, 124) * np.float32(0.02),
    }
    if device.torch is not None:
        torch, t = device.torch, device.tensor(x)
        calls["torch"] = lambda: torch.fake_quantize_per_tensor_affine(t, 0.02, 3, -128, 127)
    return Case(f"fake quantize {name}", x.nbytes + y.nbytes, 0.93, calls)


def _granular(device: Device, x: Any) -> Iterator[Case]:
    """Given scales per channel and per block."""
    cp = device.cp
    matrix = x.reshape(-1, ROWS)
    q = cp.empty(matrix.shape, cp.int8)
    moved = x.nbytes + q.nbytes
    for name, axis, block, shape in (
        ("per channel, axis 0", 0, None, (matrix.shape[0],)),
        ("per channel, last axis", 1, None, (ROWS,)),
        (f"per block of {BLOCK}", 1, BLOCK, (matrix.shape[0], ROWS // BLOCK)),
    ):
        scale = cp.full(shape, 0.02, cp.float32)
        place: dict[str, Any] = {"axis": axis, "block_size": block}

        def call(scale: Any = scale, place: dict[str, Any] = place) -> object:
            return ops.quantize_linear(matrix, scale, out=q, **place)

        calls: dict[str, Call] = {"pyquant": call}
        if block is None:
            wide = scale[:, None] if axis == 0 else scale
            loop = cp.ElementwiseKernel(
                "float32 x, float32 s", "int8 q",
                "q = (signed char)fminf(fmaxf(rintf(x / s), -128.0f), 127.0f)", "q_channels",
            )  # fmt: skip
            calls["ElementwiseKernel"] = lambda wide=wide, loop=loop: loop(matrix, wide, q)
        yield Case(f"quantize float32, {name}", moved + 4 * scale.size, 0.93, calls)


def _dynamic(device: Device, x: Any) -> Iterator[Case]:
    """Scales from the data, in one read."""
    cp = device.cp
    moved = x.nbytes + x.size
    for columns, block, share in ((ROWS, None, 0.92), (4 * ROWS, None, 0.92), (ROWS, BLOCK, 0.90)):
        matrix = x.reshape(-1, columns)
        place: dict[str, Any] = {"axis": 0} if block is None else {"axis": 1, "block_size": block}
        rows = matrix if block is None else x.reshape(-1, block)

        def plain(rows: Any = rows) -> object:
            scale = cp.abs(rows).max(axis=1, keepdims=True) / np.float32(127)
            return cp.rint(rows / scale).astype(cp.int8)

        def call(matrix: Any = matrix, place: dict[str, Any] = place) -> object:
            return pq.quantize(matrix, **place)

        calls: dict[str, Call] = {"pyquant": call, "CuPy": plain}
        what = f"per row of {columns}" if block is None else f"per block of {block}"
        yield Case(f"dynamic quantize float32, {what}", moved, share, calls)


def _ranges(device: Device, x: Any) -> Iterator[Case]:
    cp = device.cp
    calls: dict[str, Call] = {
        "pyquant": lambda: ops.minmax(x, nan_policy="omit"),
        "CuPy": lambda: (cp.min(x), cp.max(x)),
    }
    if device.torch is not None:
        torch, t = device.torch, device.tensor(x)
        calls["torch"] = lambda: torch.aminmax(t)
    yield Case("min and max of float32", x.nbytes, 0.93, calls, "read")
    absolute: dict[str, Call] = {
        "pyquant": lambda: ops.absmax(x, nan_policy="omit"),
        "CuPy": lambda: cp.abs(x).max(),
    }
    yield Case("largest absolute value of float32", x.nbytes, 0.93, absolute, "read")


def _integers(device: Device, x: Any) -> Iterator[Case]:
    cp = device.cp
    acc = x.view(cp.int32)
    q = cp.empty(x.shape, cp.int8)
    for mode in ("float", "fixed"):

        def call(mode: str = mode) -> object:
            return ops.requantize(acc, 1e-7, 3, mode=mode, out=q)

        yield Case(f"requantize, {mode}", 5 * x.size, None, {"pyquant": call})
    codes = ops.quantize_linear(x, 0.5, dtype="int4")
    packed = ops.pack_bits(codes, 4)
    pairs = codes.reshape(-1, 2)
    yield Case(
        "pack int4", codes.nbytes + packed.nbytes, None,
        {
            "pyquant": lambda: ops.pack_bits(codes, 4),
            "CuPy": lambda: (pairs[:, 0] & 15) | (pairs[:, 1] << 4),
        },
    )  # fmt: skip
    yield Case(
        "unpack int4", codes.nbytes + packed.nbytes, None,
        {"pyquant": lambda: ops.unpack_bits(packed, 4, codes.shape, out=codes)},
    )  # fmt: skip


def cases(device: Device, elements: int) -> Iterator[Case]:
    """In an order in which one set of arrays at a time is alive."""
    cp = device.cp
    x = cp.asarray(np.random.default_rng(1).standard_normal(1 << 22, dtype=np.float32))
    x = cp.tile(x, max(1, elements >> 22))[:elements]
    for make in (_quantize, _dequantize, _fake_quantize):
        yield make(device, x, "float32")
        yield make(device, x.astype(cp.float16), "float16")
    for many in (_granular, _dynamic, _ranges, _integers):
        yield from many(device, x)


def _measure(
    device: Device, case: Case, limits: list[Case], rounds: int
) -> tuple[Row, dict[str, list[float]]]:
    """Interleaved rounds of the limits and all who take part; those that fail are left out."""
    calls = dict(case.calls)
    for name, call in case.calls.items():
        try:
            call()  # compiles
        except Exception as error:
            print(f"  {case.name}: {name} is left out: {type(error).__name__}: {error}")
            del calls[name]
    row = Row(case, {name: [] for name in calls})
    around: dict[str, list[float]] = {limit.name: [] for limit in limits}
    for _ in range(rounds):
        for limit in limits:
            around[limit.name].append(device.seconds(limit.calls["pyquant"]))
        for name, call in calls.items():
            row.seconds[name].append(device.seconds(call))
    return row, around


def overhead(device: Device) -> dict[str, float]:
    """Seconds of host time for a call on ten elements, the median of batches that do not wait."""
    cp = device.cp
    x, q = cp.ones(10, cp.float32), cp.empty(10, cp.int8)
    params = pq.QuantParams(0.5, 3)
    found = {}
    for name, call in (
        ("pq.quantize(x, params)", lambda: pq.quantize(x, params)),
        ("ops.quantize_linear(x, s, out=q)", lambda: ops.quantize_linear(x, 0.5, out=q)),
        ("ops.dequantize_linear(q, s)", lambda: ops.dequantize_linear(q, 0.5)),
        ("CuPy: x + 1", lambda: x + 1),
    ):
        samples = []
        for _ in range(40):
            cp.cuda.Device().synchronize()
            began = time.perf_counter()
            for _ in range(50):
                call()
            samples.append((time.perf_counter() - began) / 50)
        found[name] = float(np.median(samples))
    return found


def run(elements: int, rounds: int, path: Path | None, only: list[str]) -> bool:
    """Print the table, one line a case; True where every target is met."""
    device = Device()
    cp = device.cp
    properties = cp.cuda.runtime.getDeviceProperties(cp.cuda.Device().id)
    gpu = {
        "name": properties["name"].decode(),
        "driver": cp.cuda.runtime.driverGetVersion(),
        "cupy": cp.__version__,
        "torch": getattr(device.torch, "__version__", None),
    }
    print(f"{gpu['name']}, CuPy {gpu['cupy']}, torch {gpu['torch']}, {elements:,} elements")
    print(f"{'':44} {'GB/s':>7} {'of limit':>14} {'best peer':>26}  target")
    limits = list(_limits(device, elements))
    table, met = [], True
    for case in cases(device, elements):
        if only and not any(part in case.name for part in only):
            continue
        row, around = _measure(device, case, limits, rounds)
        if "pyquant" not in row.seconds:
            met = False
            continue
        limit = next(found for found in limits if found.name == case.limit)
        share = row.share(around[limit.name], limit.bytes)
        speed = case.bytes / Spread.of(row.seconds["pyquant"]).median / 1e9
        peer = row.best_peer()
        times = ratio(row.seconds[peer], row.seconds["pyquant"]).median if peer else None
        fine = case.share is None or share.median >= case.share
        met &= fine
        beside = f"{peer} x {times:.2f}" if peer else ""
        target = "" if case.share is None else f"{case.share:.0%} {'pass' if fine else 'MISS'}"
        spread = f"{share.median:.1%} ({share.low:.0%}-{share.high:.0%})"
        print(f"{case.name:44} {speed:7.0f} {spread:>14} {beside:>26}  {target}")
        table.append(
            {
                "case": case.name, "bytes": case.bytes, "limit": case.limit, "gb_s": speed,
                "share": vars(share), "target": case.share, "peers": {
                    name: Spread.of(s).median for name, s in row.seconds.items()
                },
                "limits_gb_s": {
                    found.name: found.bytes / Spread.of(around[found.name]).median / 1e9
                    for found in limits
                },
            }
        )  # fmt: skip
    small = overhead(device)
    for name, seconds in small.items():
        judged = not name.startswith("CuPy")
        fine = not judged or seconds <= OVERHEAD
        met &= fine
        verdict = f"10 us {'pass' if fine else 'MISS'}" if judged else ""
        print(f"{name:44} {seconds * 1e6:7.2f} us of host time {'':23} {verdict}")
    if path is not None:
        found = {"machine": describe(), "gpu": gpu, "elements": elements, "rounds": rounds,
                 "rows": table, "overhead": small}  # fmt: skip
        path.write_text(json.dumps(found, indent=1) + "\n")
    return met
