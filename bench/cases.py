"""What is measured: one table of cases, and the arrays a case works on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

SCALE = 0.02  # of standard normal data: about 1 % of the values are clipped
ZERO_POINT = 3
ALIGNMENT = 64  # bytes; streaming stores want whole cache lines


@dataclass(frozen=True)
class Case:
    """One row: an operation on one array shape."""

    op: str
    layout: str
    shape: tuple[int, ...]
    axis: int | None = None
    block: int | None = None
    quick: bool = False

    @property
    def n(self) -> int:
        return math.prod(self.shape)

    @property
    def name(self) -> str:
        size = f"n={self.n}" if len(self.shape) == 1 else "x".join(map(str, self.shape))
        return " ".join(part for part in (self.op, self.layout, size) if part)


@dataclass(frozen=True)
class Sweep:
    """Several cases of one operation: `layout` names how n elements become a shape."""

    op: str
    sizes: tuple[int, ...]
    layout: str = ""
    shape: Callable[[int], tuple[int, ...]] = lambda n: (n,)
    axis: int | None = None
    block: int | None = None
    quick: tuple[int, ...] = ()

    def cases(self, sizes: Sequence[int] | None = None) -> list[Case]:
        """The cases of this sweep, at `sizes` instead of its own where those are given."""
        return [
            Case(self.op, self.layout, self.shape(n), self.axis, self.block, n in self.quick)
            for n in (sizes or self.sizes)
        ]


def _rows(columns: int) -> Callable[[int], tuple[int, ...]]:
    return lambda n: (max(n // columns, 1), columns)


def _images(n: int) -> tuple[int, ...]:
    return (max(n // (64 * 784), 1), 64, 28, 28)


def _convolution(n: int) -> tuple[int, ...]:
    side = max(math.isqrt(n // 9), 1)
    return (side, side, 3, 3)


_ALL = (10**3, 10**4, 10**5, 10**6, 10**7, 10**8)
_CACHE_TO_MEMORY = (10**5, 10**6, 10**7)
_TWO = (10**5, 10**7)

SWEEPS: tuple[Sweep, ...] = (
    Sweep("quantize", (10, *_ALL), quick=(10, 10**3, 10**5, 10**6)),
    Sweep("pq.quantize", (10,), quick=(10,)),
    Sweep("dynamic", _ALL, quick=(10**5,)),
    Sweep("per channel", _TWO, "axis 0", _rows(1000), axis=0, quick=(10**5,)),
    Sweep("per channel", _TWO, "middle", _images, axis=1),
    Sweep("per channel", _TWO, "last", _rows(1000), axis=-1, quick=(10**5,)),
    Sweep("per channel", _TWO, "conv axis 0", _convolution, axis=0),
    Sweep("per channel", _TWO, "conv axis 1", _convolution, axis=1),
    Sweep("per block", _TWO, "32", _rows(1024), axis=-1, block=32),
    Sweep("per block", _TWO, "128", _rows(1024), axis=-1, block=128, quick=(10**5,)),
    Sweep("dynamic per block", _TWO, "32", _rows(1024), axis=-1, block=32),
    Sweep("dynamic per block", _TWO, "128", _rows(1024), axis=-1, block=128, quick=(10**5,)),
    Sweep("dynamic per row", _TWO, "", _rows(1024), axis=0),
    Sweep("dequantize", _ALL, quick=(10**3, 10**5, 10**6)),
    Sweep("fake quantize", (10**4, *_CACHE_TO_MEMORY), quick=(10**5,)),
    Sweep("min/max", _CACHE_TO_MEMORY, quick=(10**5,)),
    Sweep("abs-max", _CACHE_TO_MEMORY),
    Sweep("pack int4", _TWO, quick=(10**5,)),
    Sweep("unpack int4", _TWO),
    Sweep("float16 in", _TWO, quick=(10**5,)),
    Sweep("float16 out", _TWO),
    Sweep("bfloat16 in", _TWO),
    Sweep("bfloat16 out", _TWO),
    Sweep("memcpy", (10**6, 10**7, 10**8)),
)


def aligned(shape: tuple[int, ...] | int, dtype: Any) -> np.ndarray:
    """A zeroed array that starts on a cache line and whose pages are all there already."""
    wanted = np.dtype(dtype)
    count = math.prod(shape) if isinstance(shape, tuple) else shape
    raw = np.empty(count * wanted.itemsize + ALIGNMENT, np.uint8)
    raw.fill(0)
    start = -raw.ctypes.data % ALIGNMENT
    array: np.ndarray = raw[start : start + count * wanted.itemsize].view(wanted)
    return array.reshape(shape)


class Data:
    """The arrays of one case, made when first asked for. Every contender reads the same ones."""

    def __init__(self, case: Case, patient: bool = True) -> None:
        self.case = case
        self.patient = patient  # contenders that take many seconds to set up may take part
        self.random = np.random.default_rng(2024)

    @cached_property
    def x(self) -> np.ndarray:
        some = self.random.standard_normal(min(self.case.n, 1 << 20), dtype=np.float32)
        return self._repeated(some)

    def _repeated(self, some: np.ndarray) -> np.ndarray:
        """An array of the case's shape, of these values again and again."""
        array = aligned(self.case.shape, some.dtype)
        flat, step = array.reshape(-1), some.size
        for start in range(0, flat.size, step):
            flat[start : start + step] = some[: flat.size - start]
        return array

    @cached_property
    def q(self) -> np.ndarray:
        """Integers over the grid of the case: int4 for the packing operations, else int8."""
        low, high = (-8, 8) if "int4" in self.case.op else (-128, 128)
        return self._repeated(
            self.random.integers(low, high, min(self.case.n, 1 << 20), dtype=np.int8)
        )

    @cached_property
    def packed(self) -> np.ndarray:
        """`q` as int4, two to a byte, the first in the low half."""
        halves = self.q.reshape(-1).view(np.uint8) & 15
        packed = aligned((self.case.n + 1) // 2, np.uint8)
        packed[:] = halves[0::2]
        packed[: halves.size // 2] |= halves[1::2] << 4
        return packed

    @cached_property
    def scales(self) -> np.ndarray:
        """One scale a channel or block, in the shape ONNX gives them."""
        shape, axis, block = self.case.shape, self.case.axis, self.case.block
        if axis is None:
            return np.asarray(SCALE, np.float32)
        if block is None:
            wanted: tuple[int, ...] = (shape[axis],)
        else:
            counts = list(shape)
            counts[axis] = -(-counts[axis] // block)
            wanted = tuple(counts)
        return self.random.uniform(0.75 * SCALE, 1.25 * SCALE, wanted).astype(np.float32)

    @cached_property
    def zero_points(self) -> np.ndarray:
        return np.full(self.scales.shape, ZERO_POINT, np.int8)

    @cached_property
    def spread_scales(self) -> np.ndarray:
        """`scales` in a shape that broadcasts against `x`."""
        if self.case.axis is None:
            return self.scales
        if self.case.block is not None:
            return np.repeat(self.scales, self.case.block, axis=self.case.axis)
        shape = [1] * len(self.case.shape)
        shape[self.case.axis] = -1
        return self.scales.reshape(shape)

    @cached_property
    def expected(self) -> Any:
        """What a quantizing contender must give within one step; None where nothing is checked."""
        x, op = self.x, self.case.op
        if op in ("quantize", "per channel", "per block"):
            return np.clip(np.rint(x / self.spread_scales) + ZERO_POINT, -128, 127)
        if op == "dequantize":
            return (self.q.astype(np.float32) - ZERO_POINT) * np.float32(SCALE)
        if op in ("dynamic per block", "dynamic per row"):
            groups = x.reshape(-1, self.case.block or x.shape[-1])
            largest = np.abs(groups).max(axis=1, keepdims=True)
            return np.rint(groups / (largest / np.float32(127))).reshape(x.shape)
        if op == "dynamic":
            low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
            step = np.float32((high - low) / 255)
            return np.clip(np.rint(x / step) + np.rint(-low / step), 0, 255)
        if op == "fake quantize":
            steps = np.clip(np.rint(x / np.float32(SCALE)) + ZERO_POINT, -128, 127)
            return (steps - ZERO_POINT) * np.float32(SCALE)
        return None
