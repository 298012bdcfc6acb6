"""Integer matrix products on a GPU, beside cuBLASLt, torch, cuBLAS and CuPy, on random data.

Operands and results are taken in rotation from more memory than the second-level cache has, and
what is timed is the replay of a CUDA graph; a name with a star could not be captured
(bench/gpu_timing.py). "pyquant linear" quantizes its rows of floats first, "pyquant to float32" is
the same product of codes, and "blocks of 128" the one with a scale of b for every 128 of K.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import pyquant as pq
from bench.gpu_timing import Timer, Use, torch_timer
from bench.machine import describe
from bench.timing import Spread, ratio
from pyquant import ops

CUBES = [1024, 2048, 4096, 8192]
LAYERS = [
    (m, n, k)
    for m in (1, 8, 16, 128, 2048)
    for n, k in ((4096, 4096), (11008, 4096), (4096, 11008))
]
MOST_ROWS_ACROSS, MOST_ROWS_OF_FLOATS = 8, 128  # of a
BLOCKS = (32, 128)  # of K, with a scale of b each
PEERS = ("cuBLASLt", "torch._int_mm")  # those that the targets name
BARE, FUSED = 1.0, 1.1
CACHES = 3  # times the second-level cache that is gone through before a buffer comes again



@dataclass
class Shape:
    """One product and its buffers; b is (n, k), as layers store weights."""

    cp: Any
    m: int
    n: int
    k: int
    a: list[Any] = field(default_factory=list)
    b: list[Any] = field(default_factory=list)
    c: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        cp, bytes_each = self.cp, self.m * self.k + self.n * self.k + 4 * self.m * self.n
        cache = cp.cuda.Device().attributes["L2CacheSize"]
        rng = np.random.default_rng(1)
        for _ in range(max(2, min(64, -(-CACHES * cache // bytes_each)))):
            for where, shape in ((self.a, (self.m, self.k)), (self.b, (self.n, self.k))):
                where.append(cp.asarray(rng.integers(-128, 128, shape, dtype=np.int8)))
            self.c.append(cp.empty((self.m, self.n), cp.int32))

    @property
    def operations(self) -> float:
        return 2.0 * self.m * self.n * self.k

    @property
    def count(self) -> int:
        return len(self.a)


def _pyquant(shape: Shape) -> dict[str, Use]:
    packed = [pq.pack(b, transposed=True) for b in shape.b]
    scale = shape.cp.asarray(np.random.default_rng(2).random(shape.n, dtype=np.float32))
    weights = [
        pq.pack(pq.QuantizedArray(b, pq.QuantParams(scale.get(), axis=0)), transposed=True)
        for b in shape.b
    ]
    inputs = [pq.QuantizedArray(a, pq.QuantParams(0.02)) for a in shape.a]
    uses: dict[str, Use] = {
        "pyquant packed": lambda i: ops.matmul_integer(shape.a[i], packed[i], out=shape.c[i]),
        "pyquant": lambda i: ops.matmul_integer(shape.a[i], shape.b[i].T, out=shape.c[i]),
        "pyquant to float32": lambda i: pq.matmul(inputs[i], weights[i]),
    }

    def linear(dtype: str) -> Use:
        floats = [a.astype(dtype) for a in shape.a]
        return lambda i: pq.linear(floats[i], weights[i])

    def across() -> Use:
        rows = [shape.cp.ascontiguousarray(b.T) for b in shape.b]
        return lambda i: ops.matmul_integer(shape.a[i], rows[i], out=shape.c[i])

    def in_blocks(size: int) -> Use:
        scales = np.random.default_rng(3).random((shape.n, shape.k // size), dtype=np.float32)
        params = pq.QuantParams(0.01 + scales, axis=1, block_size=size)
        blocked = [pq.pack(pq.QuantizedArray(b, params), transposed=True) for b in shape.b]
        return lambda i: pq.matmul(inputs[i], blocked[i])

    if shape.m <= MOST_ROWS_ACROSS:
        uses["pyquant, b (K, N)"] = across()
    if (shape.m, shape.n, shape.k) in LAYERS:
        uses |= {f"pyquant, blocks of {size}": in_blocks(size) for size in BLOCKS}
    if shape.m <= MOST_ROWS_OF_FLOATS:
        uses |= {f"pyquant linear, {dtype}": linear(dtype) for dtype in ("float32", "float16")}
    return uses


def _cublas(shape: Shape) -> dict[str, Use]:
    """gemmEx on int8, and on float16 for comparison."""
    cp, (m, n, k) = shape.cp, (shape.m, shape.n, shape.k)
    from cupy_backends.cuda.libs import cublas

    ends = {
        kind: (np.ones((), kind), np.zeros((), kind)) for kind in (np.dtype("i4"), np.dtype("f4"))
    }

    def product(i: int, a: Any, b: Any, c: Any, kinds: tuple[int, int, int], of: str) -> None:
        one, zero = ends[np.dtype(of)]
        cublas.gemmEx(
            cp.cuda.device.get_cublas_handle(), 1, 0, n, m, k, one.ctypes.data, b[i].data.ptr,
            kinds[0], k, a[i].data.ptr, kinds[0], k, zero.ctypes.data, c[i].data.ptr, kinds[1], n,
            kinds[2], -1,
        )  # fmt: skip

    halves = [[x.astype(cp.float16) for x in xs] for xs in (shape.a, shape.b)]
    results = [cp.empty((m, n), cp.float16) for _ in shape.a]
    return {
        "cuBLAS gemmEx": lambda i: product(i, shape.a, shape.b, shape.c, (3, 10, 72), "i4"),
        "cuBLAS float16": lambda i: product(i, *halves, results, (2, 2, 68), "f4"),
    }


def _cupy(shape: Shape) -> dict[str, Use]:
    """CuPy's own product, which wraps to int8: for its speed alone, and not where it takes long."""
    if shape.operations > 2e10:
        return {}
    return {"cupy.matmul": lambda i: shape.cp.matmul(shape.a[i], shape.b[i].T)}


def _cublaslt(shape: Shape) -> dict[str, Use]:
    from bench.cublaslt import Product

    product = Product(shape.cp, shape.m, shape.n, shape.k)

    def use(i: int) -> None:
        product(shape.a[i], shape.b[i], shape.c[i])

    timer = Timer(shape.cp, use, shape.count)
    timer.graph = None  # another algorithm needs another graph
    product.choose(lambda: min(timer() for _ in range(3)))
    out = [shape.cp.empty(c.shape, shape.cp.float32) for c in shape.c]
    dequantize = shape.cp.ElementwiseKernel(
        "int32 c, float32 s", "float32 y", "y = (float)c * s", "dequantize_product"
    )
    scale = np.float32(0.01)

    def dequantized(i: int) -> None:
        use(i)
        dequantize(shape.c[i], scale, out[i])

    return {"cuBLASLt": use, "cuBLASLt + dequantize": dequantized}


def contenders(shape: Shape, torch: Any) -> dict[str, Callable[[], float]]:
    """Everyone who can do this product; who cannot is named with the reason."""
    timers: dict[str, Callable[[], float]] = {}
    for make in (_pyquant, _cublaslt, _cublas, _cupy):
        try:
            for name, use in make(shape).items():
                timer = Timer(shape.cp, use, shape.count)
                timers[name if timer.graph is not None else name + "*"] = timer
        except Exception as error:
            print(f"  {make.__name__[1:]} is left out: {type(error).__name__}: {error}")
    if torch is not None and shape.m > 16:
        a, b = ([torch.from_dlpack(x) for x in xs] for xs in (shape.a, shape.b))
        try:
            timers["torch._int_mm"] = torch_timer(
                torch, lambda i: torch._int_mm(a[i], b[i].t()), shape.count
            )
        except Exception as error:
            print(f"  torch is left out: {type(error).__name__}: {error}")
    return timers


def _verdicts(seconds: dict[str, list[float]]) -> list[tuple[str, float, float]]:
    """(what, ratio, target) for the rows of the targets."""
    found = []
    best = [seconds[p] for p in PEERS if p in seconds]
    mine = seconds.get("pyquant packed")
    if best and mine:
        peer = min(best, key=lambda s: Spread.of(s).median)
        found.append(("bare", ratio(peer, mine).median, BARE))
    two, fused = (seconds.get(n) for n in ("cuBLASLt + dequantize", "pyquant to float32"))
    if two and fused:
        found.append(("to float32", ratio(two, fused).median, FUSED))
    return found


def _same(shape: Shape) -> None:
    """The first product is right: exact in int64 on a few rows and columns."""
    rows, columns = slice(0, min(shape.m, 64)), slice(0, min(shape.n, 64))
    y = ops.matmul_integer(shape.a[0], shape.b[0].T)[rows, columns].get()
    a, b = shape.a[0][rows].get().astype(np.int64), shape.b[0][columns].get().astype(np.int64)
    if not (y == a @ b.T).all():
        raise RuntimeError(
            f"the product of {shape.m} x {shape.k} and {shape.n} x {shape.k} is wrong"
        )


def run(rounds: int, path: Path | None, quick: bool) -> bool:
    """Print the table, one line a shape; True where every target is met."""
    from pyquant import _cuda_loader

    _cuda_loader.require()
    import cupy as cp

    try:
        import torch
    except ImportError:
        torch = None  # type: ignore[assignment]
    if torch is not None and not torch.cuda.is_available():
        torch = None  # type: ignore[assignment]
    properties = cp.cuda.runtime.getDeviceProperties(cp.cuda.Device().id)
    gpu = {
        "name": properties["name"].decode(),
        "driver": cp.cuda.runtime.driverGetVersion(),
        "cupy": cp.__version__,
        "torch": getattr(torch, "__version__", None),
    }
    print(f"{gpu['name']}, CuPy {gpu['cupy']}, torch {gpu['torch']}; TOPS, medians of {rounds}")
    table, met = [], True
    shapes = [(n, n, n) for n in CUBES] + LAYERS
    for m, n, k in shapes[:2] if quick else shapes:
        shape = Shape(cp, m, n, k)
        _same(shape)
        timers = contenders(shape, torch)
        seconds: dict[str, list[float]] = {name: [] for name in timers}
        for _, (name, timer) in itertools.product(range(rounds), timers.items()):
            seconds[name].append(timer())
        print(f"({m}, {n}, {k})")
        for name, samples in seconds.items():
            spread = Spread.of(samples)
            tops = shape.operations / spread.median / 1e12
            print(f"  {name:24} {tops:9.2f}   {spread.median * 1e6:10.2f} us")
        verdicts = _verdicts(seconds)
        for what, times, target in verdicts:
            # The targets are for large cubes; other shapes are shown beside the same peers.
            judged = m == n == k and (m >= 4096 or what == "to float32")
            fine = times >= target
            met &= fine or not judged
            verdict = ("pass" if fine else "MISS") if judged else ""
            print(f"  {what:24} {times:9.2f} x the best peer, target {target} {verdict}")
        table.append(
            {
                "m": m, "n": n, "k": k, "buffers": shape.count,
                "seconds": {name: vars(Spread.of(s)) for name, s in seconds.items()},
                "verdicts": [list(v) for v in verdicts],
            }
        )  # fmt: skip
        del timers, shape
        cp.get_default_memory_pool().free_all_blocks()
    if path is not None:
        found = {"machine": describe(), "gpu": gpu, "rounds": rounds, "rows": table}
        path.write_text(json.dumps(found, indent=1) + "\n")
    return met
