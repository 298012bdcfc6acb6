"""Products for the CUDA matrix kernels on the host: operands, descriptions, and exact results."""

import itertools
from dataclasses import dataclass, field

import cuda_host
import numpy as np
import reference

from pyquant._cuda_gemm_plan import GEMM, HOPPER, Tile

SIGNS = list(itertools.product((True, False), repeat=2))
I32, F32, F16, BF16, CODE8, CODE16 = range(6)
FLOAT, FIXED_DOUBLE, FIXED_SINGLE = range(3)
TENSOR_MAP = np.dtype(
    {
        "names": ["data", "k", "rows", "batches", "pitch", "batch_pitch", "box_rows"],
        "formats": ["u8", "i8", "i8", "i8", "i8", "i8", "i4"],
        "offsets": [0, 8, 16, 24, 32, 40, 48],
        "itemsize": 128,
    }
)
"""TensorMap of pyquant/cuda/hopper.cuh on the host."""


def codes(rng, shape, signed):
    low, high, dtype = (-128, 128, np.int8) if signed else (0, 256, np.uint8)
    return rng.integers(low, high, shape, dtype=dtype)


def along_k(x, extra=0):
    """Rows filled up with zeros to a multiple of 16, from an aligned start.

    Between them are `extra` more of 99, which no kernel may read.
    """
    *batch, rows, depth = x.shape
    k = -(-depth // 16) * 16
    memory = np.full((int(np.prod(batch)) * rows * (k + extra)) + 64, 99, x.dtype)
    start = -memory.ctypes.data % 16
    laid = memory[start : len(memory) - 64 + start].reshape(*batch, rows, k + extra)
    laid[..., :k] = 0
    laid[..., :depth] = x
    return laid, k


@dataclass
class Product:
    """A (batches, m, k) times b (batches or 1, n, k), with everything that an epilogue takes."""

    a: np.ndarray
    b: np.ndarray
    a_zero: np.ndarray | None = None
    b_zero: np.ndarray | None = None
    a_scale: np.ndarray = field(default_factory=lambda: np.float32(1))
    b_scale: np.ndarray = field(default_factory=lambda: np.float32(1))
    bias: np.ndarray | None = None
    output: int = I32
    mode: int = FLOAT
    scale: float = 1.0
    zero_point: int = 0
    grid: tuple[int, int] = (-128, 127)
    clip: tuple[float, float] = (-np.inf, np.inf)
    before: np.ndarray | None = None
    gap: int = 0
    """Elements between the rows of the result, and where it begins."""
    sums: bool = True

    @property
    def shape(self):
        return self.a.shape[0], self.a.shape[1], self.b.shape[1]

    def accumulators(self):
        a, b = self.a.astype(np.int64), self.b.astype(np.int64)
        if self.a_zero is not None:
            a = a - np.broadcast_to(self.a_zero, a.shape[:2])[..., None]
        if self.b_zero is not None:
            b = b - np.broadcast_to(self.b_zero, b.shape[:2])[..., None]
        return a @ b.swapaxes(1, 2)

    def dtype(self):
        if self.output == CODE8:
            return np.dtype(np.int8 if self.grid[0] < 0 else np.uint8)
        return np.dtype([np.int32, np.float32, np.uint16, np.uint16, None, np.int16][self.output])

    def expected(self):
        """SPEC's arithmetic: NumPy's float32 rounds every operation once."""
        acc = self.accumulators()
        a_scale = np.broadcast_to(self.a_scale, acc.shape[1:2])[:, None]
        with np.errstate(all="ignore"):
            scale = a_scale * self.b_scale
            if self.output in (F32, F16, BF16):
                y = acc.astype(np.float32) * scale
                if self.before is not None:
                    y = self.before + y
                return self.narrowed(y)
        total = acc if self.bias is None else acc + self.bias
        if self.output == I32:
            return total.astype(np.int32)
        multiplier = np.broadcast_to(scale / np.float32(self.scale), acc.shape[1:])
        end = {
            FLOAT: reference.requantize_float,
            FIXED_DOUBLE: lambda *x: reference.requantize_fixed(*x, rounding="double"),
            FIXED_SINGLE: lambda *x: reference.requantize_fixed(*x, rounding="single"),
        }[self.mode]
        y = np.empty(acc.shape, self.dtype())
        for i in np.ndindex(*acc.shape):
            y[i] = end(int(total[i]), float(multiplier[i[1:]]), self.zero_point, *self.grid)
        return y

    def narrowed(self, y):
        """The end of float results."""
        if self.bias is not None:
            y = y + self.bias
        y = np.minimum(np.maximum(y, np.float32(self.clip[0])), np.float32(self.clip[1]))
        if self.output == F32:
            return y
        if self.output == F16:
            return y.astype(np.float16).view(np.uint16)
        import ml_dtypes

        return y.astype(ml_dtypes.bfloat16).view(np.uint16)

    def described(self, extra=0):
        """The result's memory, the description, and what must stay alive."""
        batches, m, n = self.shape
        kept = []

        def vector(values, batch=0, step=1):
            if values is None:
                return 0, 0, 0, 0, 0
            values = np.asarray(values)
            if values.ndim == 0:
                return 0, 0, 0, int(values.view(np.uint32)), 1
            kept.append(values := np.ascontiguousarray(values))
            return values.ctypes.data, step, batch, 0, 1

        memory = np.full((batches, m, n + self.gap), 77, self.dtype())
        y = memory[..., : n + self.gap][..., self.gap :]
        a, k = along_k(self.a, extra)
        b, _ = along_k(self.b, 16 - extra)
        kept += [memory, a, b]
        g = np.zeros(1, GEMM)
        g["a"], g["b"], g["c"] = a.ctypes.data, b.ctypes.data, y.ctypes.data
        g["lda"], g["ldb"], g["ldc"] = a.shape[-1], b.shape[-1], n + self.gap
        g["a_batch"], g["c_batch"] = a.shape[-1] * m, m * (n + self.gap)
        g["b_batch"] = b.shape[-1] * n if len(b) == batches else 0
        for key, value in self.parameters(vector).items():
            g[key] = value
        g["bias"] = vector(self.bias)
        g["m"], g["n"], g["k"], g["depth"], g["batches"] = m, n, k, self.a.shape[-1], batches
        g["splits"], g["output"], g["mode"] = 1, self.output, self.mode
        g["zero_point"], g["scale"] = self.zero_point, self.scale
        if self.before is not None:
            g["before"] = self.before.ctypes.data
        g["qmin"], g["qmax"] = self.grid
        g["low"], g["high"] = self.clip
        return y, memory, g, (a, b, kept)

    def parameters(self, vector):
        """Scales, zero points and sums of the description."""
        batches, m, n = self.shape
        g = {"a_zero": vector(self.a_zero), "b_zero": vector(self.b_zero)}
        if self.sums and self.b_zero is not None:
            g["a_sum"] = vector(self.a.astype(np.int64).sum(-1).astype(np.int32), m)
        if self.sums and self.a_zero is not None:
            sums = self.b.astype(np.int64).sum(-1).astype(np.int32)
            g["b_sum"] = vector(sums, n if len(self.b) == batches else 0)
        g["a_scale"], g["b_scale"] = vector(self.a_scale), vector(self.b_scale)
        return g

    def check(self, y, memory):
        expected = self.expected()
        np.testing.assert_array_equal(y.view(f"u{y.itemsize}"), expected.view(f"u{y.itemsize}"))
        assert (memory[..., : self.gap] == memory.dtype.type(77)).all(), "wrote between the rows"

    def run_tile(self, library, name, tile: Tile, splits=1, capability=80, extra=0, seed=None):
        """Through a kernel of gemm_mma.cuh."""
        y, memory, g, _kept = self.described(extra)
        batches, m, n = self.shape
        tiles = -(-m // tile.m) * -(-n // tile.n) * batches
        partial = np.full(tiles * splits * tile.m * tile.n, 55, np.int32)
        done = np.zeros(tiles, np.int32)
        g["splits"], g["partial"], g["done"] = splits, partial.ctypes.data, done.ctypes.data
        grid, block = (tiles * splits,), (tile.threads,)
        library.launch(name, grid, block, (g,), shared_mem=tile.shared(capability), seed=seed)
        self.check(y, memory)

    def run_rows(self, library, rows, splits, extra=0):
        """Through a kernel of gemm_rows.cuh."""
        y, memory, g, _kept = self.described(extra)
        batches, _m, n = self.shape
        g["splits"] = splits
        blocks = -(-n // (2 * (8 // splits))) * batches
        library.launch(f"gemm_rows_{rows}", (blocks,), (256,), (g,))
        self.check(y, memory)

    def run_row_blocks(self, library, rows, extra=0):
        """Through a kernel of gemm_rows_blocks.cuh."""
        y, memory, g, _kept = self.described(extra)
        batches, _m, n = self.shape
        library.launch(f"gemm_rows_blocks_{rows}", (-(-n // 16) * batches,), (128,), (g,))
        self.check(y, memory)

    def run_columns(self, library, rows, splits, extra=0, seed=None):
        """Through a kernel of gemm_columns.cuh: b is (n, k) here, and (k, n) there."""
        y, memory, g, _kept = self.described(2 * extra)
        batches, _m, n = self.shape
        columns = 128 if rows > 4 else 256
        depth, pitch = self.b.shape[2], n + extra
        words = np.full(len(self.b) * depth * pitch // 8 + 8, 0x6363636363636363, np.uint64)
        across = words.view(self.b.dtype)[8 : 8 + len(self.b) * depth * pitch]
        across = across.reshape(len(self.b), depth, pitch)
        across[..., :n] = self.b.swapaxes(1, 2)
        g["b"], g["ldb"], g["splits"] = across.ctypes.data, pitch, splits
        g["b_batch"] = depth * pitch if len(self.b) == batches else 0
        strips = -(-n // columns) * batches
        sums = -(-((rows + 1) * columns + rows) // 4) * 4
        partial = np.full((strips * splits * sums + 4,), 55, np.int32)
        partial = partial[-partial.ctypes.data % 16 // 4 :]
        done = np.zeros(strips, np.int32)
        g["partial"], g["done"] = partial.ctypes.data, done.ctypes.data
        library.launch(f"gemm_columns_{rows}", (strips * splits,), (256,), (g,), seed=seed)
        self.check(y, memory)

    def run_hopper(self, library, clusters, extra=0, seed=None, name=HOPPER.name):
        """Through the kernel of gemm_hopper.cuh, a cluster a block of the shim."""
        y, memory, g, (a, b, _kept) = self.described(extra)
        maps = []
        for x in (a, b):
            one = np.zeros(1, TENSOR_MAP)
            one["data"], one["k"], one["rows"] = x.ctypes.data, g["k"], x.shape[1]
            one["batches"], one["pitch"], one["batch_pitch"] = len(x), x.shape[2], x[0].size
            one["box_rows"] = 128
            maps.append(one)
        library.launch(name, (clusters,), (2 * HOPPER.block,), (*maps, g), seed=seed)
        self.check(y, memory)


@dataclass
class BlockedProduct(Product):
    """With scales and zero points for all, or (m, blocks) and (blocks, n) of them."""

    block: int = 32

    def blocks(self):
        """Of each block of K: the part of a and b, and its parameters."""
        for i, first in enumerate(range(0, self.a.shape[-1], self.block)):
            along = slice(first, first + self.block)
            a = [x if x is None or x.ndim == 0 else x[:, i] for x in (self.a_zero, self.a_scale)]
            b = [x if x is None or x.ndim == 0 else x[i] for x in (self.b_zero, self.b_scale)]
            yield Product(
                self.a[..., along], self.b[..., along], a[0], b[0], a[1], b[1], output=F32
            )

    def expected(self):
        y = None
        with np.errstate(all="ignore"):
            for part in self.blocks():
                x = part.expected()
                y = x if y is None else y + x
            return self.narrowed(y)

    def parameters(self, vector):
        batches, m, n = self.shape
        starts = range(0, self.a.shape[-1], self.block)
        g = {"block": self.block, "blocks": len(starts)}

        def of_a(name, values, batch=0):
            g[name] = vector(values, batch, len(starts))
            g[f"{name}_block"] = 1 if np.ndim(values) else 0

        def of_b(name, values, batch=0):
            g[name] = vector(values, batch)
            g[f"{name}_block"] = n if np.ndim(values) else 0

        of_a("a_zero", self.a_zero)
        of_b("b_zero", self.b_zero)
        of_a("a_scale", self.a_scale)
        of_b("b_scale", self.b_scale)
        if self.sums and self.b_zero is not None:
            sums = np.add.reduceat(self.a, starts, axis=-1, dtype=np.int32)
            of_a("a_sum", sums, m * len(starts))
        if self.sums and self.a_zero is not None:
            sums = np.add.reduceat(self.b, starts, axis=-1, dtype=np.int32).swapaxes(1, 2)
            of_b("b_sum", sums, n * len(starts) if len(self.b) == batches else 0)
        return g


def product(rng, m, n, k, a_signed=True, b_signed=True, batches=1, b_batches=None, **given):
    a = codes(rng, (batches, m, k), a_signed)
    return Product(a, codes(rng, (b_batches or batches, n, k), b_signed), **given)


def with_zero_points(rng, m, n, k, signed, batches=1, b_batches=None, **given):
    one = product(rng, m, n, k, *signed, batches, b_batches, **given)
    low = [-128 if s else 0 for s in signed]
    one.a_zero = np.int32(rng.integers(low[0], low[0] + 256, m if rng.integers(2) else ()))
    one.b_zero = np.int32(rng.integers(low[1], low[1] + 256, n if rng.integers(2) else ()))
    return one


def pair(signed) -> str:
    return "".join("i8" if s else "u8" for s in signed)


def epilogues(rng, m, n):
    """What there is to say of results, for every kernel."""
    columns = (0.001 + rng.random(n)).astype(np.float32)
    lines = (0.001 + rng.random(m)).astype(np.float32)
    codes = rng.integers(-70000, 70000, n).astype(np.int32)
    reals = rng.standard_normal(n).astype(np.float32) * 50
    one = np.float32(0.0173)
    yield {"output": I32, "bias": codes}
    for output in (F32, F16, BF16):
        yield {"output": output, "a_scale": one, "b_scale": columns, "bias": reals}
        yield {"output": output, "a_scale": lines, "b_scale": one, "clip": (0.0, np.inf)}
        yield {"output": output, "a_scale": lines, "b_scale": columns, "clip": (-20.0, 30.0)}
    yield {"output": F32, "a_scale": one, "b_scale": one * -0.0}
    yield {"output": F32, "a_scale": np.float32(1e-30), "b_scale": np.float32(1e-12)}
    for mode in (FLOAT, FIXED_DOUBLE, FIXED_SINGLE):
        of_codes = {"mode": mode, "scale": 3.1, "zero_point": 7}
        yield {"output": CODE8, "a_scale": one, "b_scale": columns, "bias": codes, **of_codes}
        yield {"output": CODE8, "a_scale": lines, "b_scale": columns, "grid": (0, 255), **of_codes}
        yield {"output": CODE8, "a_scale": one, "b_scale": one, "grid": (-7, 7), **of_codes}
        yield {
            "output": CODE16, "a_scale": lines, "b_scale": one, "grid": (-32768, 32767), **of_codes
        }  # fmt: skip


def with_epilogues(rng, m, n, k, signed=(True, True), **given):
    for epilogue in epilogues(rng, m, n):
        one = with_zero_points(rng, m, n, k, signed, gap=int(rng.integers(3)), **given)
        for key, value in epilogue.items():
            setattr(one, key, value)
        yield one


def in_blocks(rng, m, n, k, block, signed=(True, True), batches=1, b_batches=None, zeros=(1, 1)):
    """With scales and zero points that are one for all or one for every line and block."""
    one = BlockedProduct(
        codes(rng, (batches, m, k), signed[0]),
        codes(rng, (b_batches or batches, n, k), signed[1]),
        output=F32, block=block, gap=int(rng.integers(3)),
    )  # fmt: skip
    blocks = -(-k // block)
    for side, shape in enumerate(((m, blocks), (blocks, n))):
        scale = (0.01 + rng.random(shape if rng.integers(4) else ())).astype(np.float32)
        low = -128 if signed[side] else 0
        zero = np.int32(rng.integers(low, low + 256, shape if rng.integers(2) else ()))
        setattr(one, f"{'ab'[side]}_scale", np.float32(scale) if scale.ndim == 0 else scale)
        setattr(one, f"{'ab'[side]}_zero", zero if zeros[side] else None)
    return one


def broken(file: str, changes: dict[str, tuple[str, str]], header: str, rename) -> str:
    """A library's text with a copy of `file` for every change, in a namespace of its own."""
    text = (cuda_host.KERNELS / file).read_text().replace(f'#include "{header}"', "")
    parts = [f'#define PQ_A_SIGNED true\n#define PQ_B_SIGNED true\n#include "{header}"']
    for kernel, (right, wrong) in changes.items():
        assert text.count(right) == 1
        parts += [f"namespace in_{kernel} {{", rename(text, kernel).replace(right, wrong)]
        parts += ["}", f"using in_{kernel}::{kernel};"]
    return "\n".join(parts)
