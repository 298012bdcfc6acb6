"""Which matrix kernel multiplies what, and how it is told (pyquant/cuda/gemm.cuh)."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import numpy as np

VECTOR = np.dtype(
    [("data", "u8"), ("step", "i8"), ("batch", "i8"), ("value", "u4"), ("given", "u4")]
)
GEMM = np.dtype(
    [
        *((name, "u8") for name in ("a", "b", "c", "partial", "done", "before")),
        *((name, "i8") for name in ("lda", "ldb", "ldc", "a_batch", "b_batch", "c_batch")),
        *(
            (name, VECTOR)
            for name in ("a_zero", "b_zero", "a_sum", "b_sum", "a_scale", "b_scale", "bias")
        ),
        *((name, "i4") for name in ("m", "n", "k", "depth", "batches", "splits", "output", "mode")),
        *((name, "i4") for name in ("zero_point", "qmin", "qmax")),
        *((name, "f4") for name in ("scale", "low", "high")),
        *((name, "i4") for name in ("block", "blocks")),
        *((f"{name}_block", "i8") for name in ("a_zero", "b_zero", "a_sum", "b_sum")),
        *((f"{name}_block", "i8") for name in ("a_scale", "b_scale")),
    ]
)
"""pq_gemm of pyquant/cuda/gemm.cuh."""
NOTHING: dict[str, Any] = {
    name: (0,) * 5 if kind == VECTOR else 0 for name, (kind, *_) in (GEMM.fields or {}).items()
}
"""Its fields, in order, when there is nothing to say."""
_FORMAT = struct.Struct("=" + "6Q6q" + 7 * "QqqII" + "11i3f2i6q")


def packed(fields: dict[str, Any]) -> np.ndarray[Any, Any]:
    """An array of one pq_gemm, which CuPy hands to a kernel by value.

    `struct` does in 2 us what NumPy's assignment of fields does in 15.
    """
    flat: list[Any] = []
    for value in fields.values():
        if type(value) is tuple:
            flat += value
        else:
            flat.append(value)
    return np.frombuffer(_FORMAT.pack(*flat), GEMM)


class Tile(NamedTuple):
    """A kernel of tile.cuh."""

    m: int
    n: int
    threads: int
    piece: int
    """Bytes along K at a time."""
    stages: int

    def shared(self, capability: int) -> int:
        """Bytes of shared memory; Turing has two stages."""
        return (self.m + self.n) * self.piece * (self.stages if capability >= 80 else 2)


class Plan(NamedTuple):
    """What to launch."""

    unit: str
    name: str
    grid: int
    block: int
    shared: int = 0
    splits: int = 1
    tile: Tile | None = None
    sums: int = 0
    """int32 that a block leaves for the others that share K with it."""


SKINNY, SMALL = Tile(16, 128, 128, 128, 3), Tile(64, 64, 128, 128, 3)
SQUARE, LARGE = Tile(128, 128, 128, 64, 4), Tile(128, 256, 256, 64, 4)
NARROW, MIDDLE, WIDE = (
    Tile(16, 32, 64, 128, 6), Tile(64, 64, 128, 128, 2), Tile(128, 128, 256, 64, 3),
)  # fmt: skip
"""Of gemm_blocks.cuh."""
HOPPER = Plan("gemm_hopper", "gemm_128x256_sm_90a", 0, 384, 217_152)
MOST_ROWS, _MOST_ROWS_OF_BLOCKS = 8, 4  # that dp4a multiplies as fast as memory brings B
FRONT_WARPS, _FRONT_LOADS = 16, 8  # a block of gemm_front.cuh, and loads of 16 bytes a lane


def plan(m: int, n: int, k: int, batches: int, capability: int, processors: int) -> Plan:
    """The kernel for a product on a device of so many multiprocessors.

    None of these bounds is measured: they are where the arithmetic of tiles puts them.
    """
    # One warp multiplies two rows of B by all of A: the time is that of reading B, up to the 8 rows
    # for which dp4a keeps up with memory. Warps share rows of B until all processors have work.
    if m <= MOST_ROWS:
        rows = _rows_of_kernel(m)
        splits = 1
        while (
            splits < 8 and k >= 4096 * splits and _row_blocks(n, splits, batches) < 2 * processors
        ):
            splits *= 2
        return Plan(
            "gemm_rows", f"gemm_rows_{rows}", _row_blocks(n, splits, batches), 256, 0, splits
        )
    # A cluster takes 256 x 256 on two processors. With fewer tiles than three quarters of the
    # clusters that the device holds, smaller tiles of slower instructions use more of it.
    pairs = -(-m // 256) * -(-n // 256) * batches
    clusters = processors // 2
    if capability == 90 and k > 0 and m > 128 and 4 * pairs >= 3 * clusters:
        return HOPPER._replace(grid=2 * min(pairs, clusters))
    # The largest tile of which there is one for every processor, for it reads least.
    if m <= SKINNY.m:
        tile = SKINNY
    else:
        tile = next((t for t in (LARGE, SQUARE) if _tiles(t, m, n) * batches >= processors), SMALL)
    unit = "gemm_mma_small" if tile in (SKINNY, SMALL) else "gemm_mma"
    return _tiled(unit, f"gemm_{tile.m}x{tile.n}", tile, m, n, k, batches, capability, processors)


def plan_conv(m: int, n: int, k: int, groups: int, capability: int, processors: int) -> Plan:
    """The same for a convolution with m pixels and n outputs of each group; the name lacks its end.

    Not measured either. Results of 64 channels fill the columns of the small tile only.
    """
    fills = n > SMALL.n and _tiles(SQUARE, m, n) * groups >= processors
    tile = SQUARE if fills and capability >= 80 else SMALL
    name = f"conv_{tile.m}x{tile.n}"
    return _tiled("gemm_conv", name, tile, m, n, k, groups, capability, processors)


def _tiled(
    unit: str, name: str, tile: Tile, m: int, n: int, k: int, batches: int, capability: int,
    processors: int,
) -> Plan:  # fmt: skip
    """Few tiles share K, as long as everyone's part fills the pipeline a few times over."""
    tiles = _tiles(tile, m, n) * batches
    splits = min(2 * processors // tiles, -(-k // tile.piece) // (4 * tile.stages), 32)
    splits = max(splits, 1)
    shared = tile.shared(capability)
    sums = tile.m * tile.n
    return Plan(unit, name, tiles * splits, tile.threads, shared, splits, tile, sums)


def plan_blocks(m: int, n: int, block: int, batches: int, capability: int, processors: int) -> Plan:
    """The kernel where every `block` of K, a multiple of 32, has a scale of its own.

    Sums of floats have an order, and none can share K: many tiles are all that makes use of the
    device. Nothing is measured here either, but for instructions: of dp4a, 512 bytes of B take
    about 100 with one row and 200 with eight, and memory leaves time for 100 of them.
    """
    if m <= _MOST_ROWS_OF_BLOCKS and block & (block - 1) == 0:
        name = f"gemm_rows_blocks_{_rows_of_kernel(m)}"
        return Plan("gemm_rows_blocks", name, -(-n // 16) * batches, 128)
    if m > MIDDLE.m and _tiles(WIDE, m, n) * batches >= processors:
        tile = WIDE
    elif m > NARROW.m and 2 * _tiles(MIDDLE, m, n) * batches >= processors:
        tile = MIDDLE
    else:
        tile = NARROW
    grid = _tiles(tile, m, n) * batches
    name = f"gemm_blocks_{tile.m}x{tile.n}"
    return Plan("gemm_blocks", name, grid, tile.threads, tile.shared(capability), 1, tile)


def plan_of_floats(m: int, n: int, k: int, itemsize: int, processors: int) -> Plan | None:
    """The kernel that quantizes a float left operand itself; None where two launches are better.

    Every multiprocessor then reads all of A: gemm_front.cuh counts up to which size that pays. `k`
    is a multiple of 16.
    """
    if m > MOST_ROWS or k == 0 or k * itemsize > _FRONT_LOADS * 512 * (FRONT_WARPS // m):
        return None
    pairs = -(-n // 2)
    # Warps share a pair of rows of B where there are not enough for all, and 2 KB for each.
    splits = 1
    while (
        splits < FRONT_WARPS
        and k >= 4096 * splits
        and 2 * splits * pairs <= FRONT_WARPS * processors
    ):
        splits *= 2
    grid = min(-(-pairs * splits // FRONT_WARPS), processors)
    return Plan("gemm_front", "gemm_front", grid, 32 * FRONT_WARPS, m * k, splits)


def plan_across(m: int, n: int, k: int, batches: int, processors: int) -> Plan:
    """The kernel for up to MOST_ROWS rows, and a right operand that is contiguous along N."""
    rows = _rows_of_kernel(m)
    columns = 128 if rows > 4 else 256
    strips = -(-n // columns) * batches
    # Two blocks for every multiprocessor, as long as each has two turns of 128 along K.
    splits = max(min(2 * processors // strips, k // 256, 64), 1)
    sums = -(-((rows + 1) * columns + rows) // 4) * 4
    return Plan("gemm_columns", f"gemm_columns_{rows}", strips * splits, 256, 0, splits, None, sums)


def _rows_of_kernel(m: int) -> int:
    return next(r for r in (1, 2, 4, 8) if m <= r)


def _row_blocks(n: int, splits: int, batches: int) -> int:
    """Blocks of eight warps, of which `splits` share two rows of B."""
    return -(-n // (2 * (8 // splits))) * batches


def _tiles(tile: Tile, m: int, n: int) -> int:
    return -(-m // tile.m) * -(-n // tile.n)
