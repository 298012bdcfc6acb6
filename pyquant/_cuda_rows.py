"""Operands of matrix kernels for CuPy arrays: rows along K, re-laid where they are not, and sums.

The kernels read rows along K that begin on multiples of 16 bytes and are filled up with zeros to
one (pyquant/cuda/gemm.cuh). Operands that are so are read where they stand, others are re-laid,
for every call or once by `pack_matrix`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from pyquant import _cuda_loader


class Rows(NamedTuple):
    """Matrices as the kernels read them: rows along K."""

    array: Any
    """Keeps the memory."""
    pointer: int
    batches: int
    rows: int
    depth: int
    """K."""
    k: int
    """K and the zeros that fill a row up to a multiple of 16."""
    pitch: int
    """Bytes from row to row."""
    step: int
    """Bytes from matrix to matrix."""
    signed: bool

    @property
    def name(self) -> str:
        return "i8" if self.signed else "u8"

    def part(self, first: int, depth: int) -> Rows:
        """Some columns of K, from a multiple of 16 to one, or to the end."""
        return self._replace(
            pointer=self.pointer + first, depth=depth, k=min(-(-depth // 16) * 16, self.k - first)
        )


def rows_along_k(x: Any, *, copy: bool = False) -> Rows:
    """Of an array (..., rows, K) of codes with any strides; re-laid where that is needed."""
    import cupy

    rows, depth = x.shape[-2:]
    batches = math.prod(x.shape[:-2])
    signed = x.dtype == np.int8
    step = even_step(x.shape[:-2], x.strides[:-2])
    if step is None or 1 not in x.strides[-2:]:
        x = cupy.ascontiguousarray(x)
        step = rows * depth
    pitch, along = x.strides[-2:]
    if rows == 1:
        pitch = depth
    in_order = along == 1 and pitch >= depth and step >= 0
    if in_order and not copy and (x.data.ptr | pitch | step | depth) % 16 == 0:
        return Rows(x, x.data.ptr, batches, rows, depth, depth, pitch, step, signed)
    separate = 1 if step == 0 else batches
    k = -(-depth // 16) * 16
    laid = cupy.empty((separate, rows, k), x.dtype)
    if laid.size and along == 1:
        launch(
            "transpose", "pad_rows", -(-laid.size // 16 // 256), 256,
            x, laid, rows, depth, pitch, k, step, rows * k, separate,
        )  # fmt: skip
    elif laid.size:
        blocks = separate * -(-k // 128) * -(-rows // 128)
        launch(
            "transpose", "transpose", blocks, 256,
            x, laid, depth, rows, along, k, step, rows * k,
        )  # fmt: skip
    step = 0 if step == 0 else rows * k
    return Rows(laid, laid.data.ptr, batches, rows, depth, k, k, step, signed)


class Blocks(NamedTuple):
    """Matrices in blocks of K that share a scale, or in one."""

    whole: Rows | None
    """All of K; None where no block but the first begins on a multiple of 16."""
    parts: list[Rows]
    """A matrix for every block."""
    sums: list[Any]
    """Those of `sums_of`, of every part; None where they are not known."""
    block_sums: Any
    """The same in one array, as `block_sums_of` makes it."""


def blocks_along_k(x: Any, block: int, *, packed: bool = False) -> Blocks:
    """Rows along K in blocks of so many elements, 0 for all; `packed` copies and sums them."""
    k = max(x.shape[-1], 1)
    step = block or k
    whole = None
    if step % 16 and step < k:
        parts = [rows_along_k(x[..., i : i + step], copy=packed) for i in range(0, k, step)]
    else:
        whole = rows_along_k(x, copy=packed)
        parts = [whole.part(i, min(step, whole.depth - i)) for i in range(0, k, step)]
    if not packed:
        return Blocks(whole, parts, [None] * len(parts), None)
    if whole is None or not block:
        return Blocks(whole, parts, [sums_of(part) for part in parts], None)
    sums = block_sums_of(whole, block)
    return Blocks(whole, parts, [sums[:, i] for i in range(len(parts))], sums)


def across_k(b: Any) -> Rows | None:
    """A right operand (..., K, N) with contiguous rows as gemm_columns.cuh reads it, or None.

    Rows, pitch and step are those across K: of K rows, `pitch` bytes apart.
    """
    if isinstance(b, PackedCodes) or b.strides[-1] != 1:
        return None
    depth, n = b.shape[-2:]
    pitch, step = b.strides[-2], even_step(b.shape[:-2], b.strides[:-2])
    if step is None or (b.data.ptr | pitch | step | n) % 8:
        return None
    batches = math.prod(b.shape[:-2])
    return Rows(b, b.data.ptr, batches, depth, depth, depth, pitch, step, b.dtype == np.int8)


def even_step(shape: tuple[int, ...], strides: tuple[int, ...]) -> int | None:
    """The bytes from one matrix of a batch to the next; None where they differ."""
    step = count = 0
    for n, stride in zip(reversed(shape), reversed(strides), strict=True):
        if n == 1:
            continue
        if count == 0:
            step, count = stride, n
        elif stride == step * count:
            count *= n
        else:
            return None
    return step


def sums_of(x: Rows) -> Any:
    """The sum of every row, int32, (matrices that differ, rows)."""
    import cupy

    separate = 1 if x.step == 0 else x.batches
    sums = cupy.empty((separate, x.rows), np.int32)
    joined = x.step == x.rows * x.pitch  # one matrix of all rows
    for i in range(1 if joined else separate):
        rows = sums.size if joined else x.rows
        if rows:
            launch(
                "transpose", f"row_sums_{x.name}", -(-rows // 8), 256,
                x.pointer + i * x.step, sums.data.ptr + 4 * i * x.rows, rows, x.k, x.pitch,
            )  # fmt: skip
    return sums


def block_sums_of(x: Rows, block: int) -> Any:
    """The sum of every `block` of K, a multiple of 16: (matrices that differ, blocks, rows)."""
    import cupy

    separate = 1 if x.step == 0 else x.batches
    blocks = -(-x.k // block)
    sums = cupy.empty((separate, blocks, x.rows), np.int32)
    for i in range(separate if sums.size else 0):
        launch(
            "transpose", f"block_sums_{x.name}", -(-x.rows * blocks // 32), 256,
            x.pointer + i * x.step, sums.data.ptr + 4 * i * blocks * x.rows,
            x.rows, x.k, x.pitch, block,
        )  # fmt: skip
    return sums


def launch(unit: str, name: str, grid: int, block: int, *args: Any) -> None:
    """A kernel of a grid of one dimension."""
    _cuda_loader.kernel(unit, name)((grid,), (block,), args)


class DeviceCopies:
    """Arrays of the host on the device, where a copy stays for the next call.

    That may be on another stream, which then waits for the copy.
    """

    def __init__(self) -> None:
        self._copies: dict[int, tuple[Any, Any, Any]] = {}

    def of(self, values: Any) -> Any:
        """A copy; single values, None and what is there already as they are."""
        import cupy

        from pyquant._cuda_capture import is_under_way, to_device

        if not isinstance(values, np.ndarray) or values.ndim == 0:
            return values
        host, copy, copied = self._copies.get(id(values), (None, None, None))
        if host is not values:
            if len(self._copies) >= 4:
                self._copies.clear()
            copy = to_device(values)
            self._copies[id(values)] = values, copy, cupy.cuda.get_current_stream().record()
        elif copied is not None and not is_under_way():  # a capture may neither ask nor wait
            if copied.done:
                self._copies[id(values)] = values, copy, None
            else:
                cupy.cuda.get_current_stream().wait_event(copied)
        return copy


class PackedCodes:
    """A (K, N) matrix of codes with its columns along K, and their sums: what `pack_matrix` makes.

    With `block` rows that share a scale every block is a matrix of its own.
    """

    isa = "cuda"
    current = True
    """A cap on the CPU's variants means nothing here."""

    def __init__(self, b: Any, code: int, block: int) -> None:
        self.k, self.n = b.shape
        self.block, self.code = block, code
        self.blocks = blocks_along_k(b.T, block, packed=True)
        self._copies = DeviceCopies()

    @property
    def nbytes(self) -> int:
        """Bytes on the device."""
        codes = sum(part.rows * part.k for part in self.blocks.parts)
        return codes + sum(int(sums.nbytes) for sums in self.blocks.sums)

    def again(self) -> PackedCodes:
        return self

    def beside(self, values: Any) -> Any:
        """Its scales or zero points, on the device."""
        return self._copies.of(values)

    def unpack(self) -> Any:
        """The (K, N) array of codes."""
        import cupy

        with self.blocks.parts[0].array.device:
            b = cupy.empty((self.k, self.n), self.blocks.parts[0].array.dtype)
            first = 0
            for part in self.blocks.parts:
                column = part.pointer - part.array.data.ptr
                laid = part.array.reshape(part.rows, part.pitch)[:, column : column + part.depth]
                b[first : first + part.depth] = laid.T
                first += part.depth
        return b


def pack_matrix(b: Any, code: int, block: int) -> PackedCodes:
    """PackedCodes of a (K, N) array, of `block` rows (0: K) that share a scale."""
    with b.device:
        return PackedCodes(b, code, block)
