"""What is measured: the shapes of products and layers, and the arrays they work on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bench.cases import aligned

# What a product makes of its sums, and what a layer takes and gives.
INT32, INT8 = "int32", "int8"
DYNAMIC, STATIC = "dynamic", "static"

X_STEP = np.float32(0.03)  # real units per integer of x: 1e-4 of normal data are clipped
SHIFT = 128  # from int8 to the uint8 that some peers want


@dataclass(frozen=True)
class Case:
    """x (m, k) times weights (k, n)."""

    op: str
    m: int
    n: int
    k: int
    quick: bool = False

    @property
    def name(self) -> str:
        return f"{self.op} {self.m}x{self.n}x{self.k}"

    @property
    def operations(self) -> int:
        """Two for each product, as TOPS are counted."""
        return 2 * self.m * self.n * self.k


_PRODUCTS = (
    *[(n, n, n) for n in (4096, 2048, 1024, 1000)],
    *[(512, 4096, 4096), (128, 4096, 4096), (128, 768, 768), (128, 3072, 768)],
    *[(1, 4096, 4096), (1, 11008, 4096), (8, 4096, 4096), (32, 4096, 4096)],
    *[(64, 64, 64), (16, 16, 16), (37, 129, 251)],
    *[(12544, 64, 147), (3136, 256, 64)],
)
_QUICK_PRODUCTS = ((1000, 1000, 1000), (1, 4096, 4096), (64, 64, 64), (3136, 256, 64))
_BATCHES = (1, 16, 128, 512)
_LAYERS = ((4096, 4096), (3072, 768))

GEMM = (
    *[Case(INT32, *shape, quick=shape in _QUICK_PRODUCTS) for shape in _PRODUCTS],
    *[Case(INT8, *shape, quick=shape in _QUICK_PRODUCTS) for shape in _PRODUCTS[-2:]],
)
LINEAR = tuple(
    Case(op, m, *layer, quick=(m, layer) in ((1, _LAYERS[1]), (128, _LAYERS[1])))
    for op in (DYNAMIC, STATIC)
    for layer in _LAYERS
    for m in _BATCHES
)


class Data:
    """The arrays of one case, made when first asked for. Every contender reads the same values."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.random = np.random.default_rng(2024)

    def _integers(self, shape: tuple[int, int]) -> np.ndarray:
        array = aligned(shape, np.int8)
        array[...] = self.random.integers(-128, 128, shape, dtype=np.int8)
        return array

    @cached_property
    def a(self) -> np.ndarray:
        """(m, k), full-range int8; for a layer the integers of `x`."""
        if self.case.op not in (DYNAMIC, STATIC):
            return self._integers((self.case.m, self.case.k))
        a = aligned((self.case.m, self.case.k), np.int8)
        a[...] = np.clip(np.rint(self.x / X_STEP), -128, 127)
        return a

    @cached_property
    def a_unsigned(self) -> np.ndarray:
        """`a` + 128 as uint8: other sums, see `signed`."""
        unsigned = aligned(self.a.shape, np.uint8)
        unsigned[...] = self.a.view(np.uint8) ^ SHIFT
        return unsigned

    @cached_property
    def b(self) -> np.ndarray:
        """(k, n), int8."""
        return self._integers((self.case.k, self.case.n))

    @cached_property
    def b_transposed(self) -> np.ndarray:
        """`b` as layers store it, (n, k) in C order."""
        transposed = aligned((self.case.n, self.case.k), np.int8)
        transposed[...] = self.b.T
        return transposed

    @cached_property
    def b_unsigned(self) -> np.ndarray:
        unsigned = aligned(self.b.shape, np.uint8)
        unsigned[...] = self.b.view(np.uint8) ^ SHIFT
        return unsigned

    @cached_property
    def x(self) -> np.ndarray:
        """(m, k), standard normal float32."""
        x = aligned((self.case.m, self.case.k), np.float32)
        x[...] = self.random.standard_normal(x.shape, dtype=np.float32)
        return x

    @cached_property
    def b_scale(self) -> np.float32:
        """Weights of about 1/sqrt(k): results of about 1."""
        return np.float32(1 / (74 * np.sqrt(self.case.k)))

    @cached_property
    def weight(self) -> np.ndarray:
        """(n, k), the float weights whose integers are exactly `b`."""
        return self.b_transposed.astype(np.float32) * self.b_scale

    @cached_property
    def y_step(self) -> np.float32:
        """Real units per integer of an int8 result, about 35 to a standard deviation."""
        return np.float32(0.06 if self.case.op == INT8 else 0.03)

    @cached_property
    def expected(self) -> np.ndarray:
        """The real result of a layer, or the integers of an int8 one; exact in float64."""
        if self.case.op == DYNAMIC:
            return self.x.astype(np.float64) @ self.weight.T
        sums = self.a.astype(np.float64) @ self.b.astype(np.float64)
        multiplier = X_STEP * self.b_scale / self.y_step
        return np.clip(np.rint(sums * multiplier), -128, 127)

    def wrong_sums(self, sums: np.ndarray) -> str | None:
        """Compare with int64 NumPy: small products whole, large ones times a random vector."""
        a, b, sums = (one.astype(np.int64) for one in (self.a, self.b, sums))
        if sums.shape != (self.case.m, self.case.n):
            return f"shape {sums.shape}"
        if self.case.operations > 1e9:
            vector = self.random.integers(-1000, 1000, (self.case.n, 1))
            b, sums = b @ vector, sums @ vector
        wrong = int(np.count_nonzero(a @ b != sums))
        return f"{wrong} of {sums.size} sums are wrong" if wrong else None

    @cached_property
    def _column_sums(self) -> np.ndarray:
        return self.b.sum(axis=0, dtype=np.int64)

    @cached_property
    def _row_sums(self) -> np.ndarray:
        return self.a.sum(axis=1, dtype=np.int64)

    def signed(self, sums: np.ndarray, a: bool = True, b: bool = False) -> np.ndarray:
        """The sums of a @ b from those with `a_unsigned`, `b_unsigned` or both."""
        sums = sums.astype(np.int64)
        if a:
            sums -= SHIFT * self._column_sums
        if b:
            sums -= SHIFT * (self._row_sums[:, None] + (SHIFT * self.case.k if a else 0))
        return sums
