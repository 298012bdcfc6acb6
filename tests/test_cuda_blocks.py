"""The CUDA kernels of products with scales in blocks along K on the host, bit for bit."""

import itertools

import cuda_host
import numpy as np
import pytest
from cuda_products import BF16, F16, F32, SIGNS, broken, in_blocks, pair

from pyquant._cuda_gemm_plan import MIDDLE, NARROW, WIDE, Tile

BLOCK_TILES = [NARROW, MIDDLE, WIDE]


@pytest.fixture(scope="module")
def blocks():
    return cuda_host.library("gemm_blocks_i8i8")


def block_name(tile: Tile) -> str:
    return f"gemm_blocks_{tile.m}x{tile.n}"


@pytest.mark.parametrize("tile", BLOCK_TILES, ids=block_name)
@pytest.mark.parametrize("block", [32, 64, 96, 128, 160, 256])
def test_blocks_of_k(blocks, tile, block):
    rng = np.random.default_rng(block)
    depths = [block + 1, 2 * block, 3 * block - 1, 4 * block + 17, 7 * block + 40]
    for k, zeros in zip(depths, itertools.cycle([(0, 0), (0, 1), (1, 0), (1, 1)]), strict=False):
        m, n = (int(x + rng.integers(-5, 6)) for x in (tile.m, tile.n))
        one = in_blocks(rng, m, n, k, block, zeros=zeros)
        one.run_tile(blocks, block_name(tile), tile, extra=16 * int(rng.integers(2)))


@pytest.mark.parametrize("signed", SIGNS)
def test_blocks_of_every_type_and_batches(signed):
    rng = np.random.default_rng(13)
    library = cuda_host.library(f"gemm_blocks_{pair(signed)}")
    for tile, batches, b_batches in [(NARROW, 2, 1), (MIDDLE, 2, 2), (NARROW, 3, 3)]:
        one = in_blocks(rng, tile.m + 2, tile.n + 1, 300, 64, signed, batches, b_batches)
        one.run_tile(library, block_name(tile), tile)


@pytest.mark.parametrize("tile", BLOCK_TILES, ids=block_name)
def test_every_end_of_blocks(blocks, tile):
    rng = np.random.default_rng(14)
    for output in (F32, F16, BF16):
        for clip in [(-np.inf, np.inf), (0.0, np.inf), (-9.0, 2000.0)]:
            one = in_blocks(rng, 18, 37, 130, 32)
            one.output, one.clip = output, clip
            one.bias = None if clip[0] == 0 else np.float32(rng.standard_normal(37) * 100)
            one.run_tile(blocks, block_name(tile), tile)


def test_sums_of_blocks_start_with_the_first(blocks):
    """-0.0 of a product that underflows is not lost to a zero before it, and order counts."""
    rng = np.random.default_rng(15)
    one = in_blocks(rng, 4, 9, 96, 32, zeros=(0, 0))
    one.a[...], one.b[...] = 1, -1

    def run():
        for tile in BLOCK_TILES:
            one.run_tile(blocks, block_name(tile), tile)
        one.run_row_blocks(cuda_host.library("gemm_rows_blocks_i8i8"), 4)

    one.a_scale = one.b_scale = np.float32(1e-30)
    assert np.signbit(one.expected()).all() and not one.expected().any()
    run()
    one.a_scale, one.b_scale = np.float32(1), np.zeros((3, 9), np.float32)
    one.b_scale[0], one.b_scale[1], one.b_scale[2] = 1e30, 1.0, 1e30
    one.b[..., 64:] = 1
    assert not one.expected().any()
    run()


def test_turing_has_the_same_blocks():
    text = "#define PQ_ARCH 750\n" + (cuda_host.KERNELS / "gemm_blocks_u8i8.cu").read_text()
    library = cuda_host.library_of(text, "gemm_blocks_turing")
    rng = np.random.default_rng(16)
    for tile in BLOCK_TILES:
        one = in_blocks(rng, tile.m + 1, tile.n - 1, 1000, 96, (False, True))
        one.run_tile(library, block_name(tile), tile, capability=75)


# ---- few rows ----


@pytest.fixture(scope="module")
def row_blocks():
    return cuda_host.library("gemm_rows_blocks_i8i8")


@pytest.mark.parametrize("most", [1, 2, 4])
@pytest.mark.parametrize("block", [32, 64, 128, 256, 1024])
def test_rows_in_blocks(row_blocks, most, block):
    rng = np.random.default_rng(most + block)
    depths = [block + 1, 2 * block, 3 * block - 1, 4 * block + 17, 9 * block + 40]
    for k, zeros in zip(depths, itertools.cycle([(0, 0), (0, 1), (1, 0), (1, 1)]), strict=False):
        m, n = int(rng.integers(most // 2 + 1, most + 1)), int(rng.integers(1, 40))
        one = in_blocks(rng, m, n, k, block, zeros=zeros)
        one.sums = False
        one.run_row_blocks(row_blocks, most, extra=16 * int(rng.integers(2)))


@pytest.mark.parametrize("signed", SIGNS)
def test_rows_in_blocks_of_every_type_and_batches(signed):
    rng = np.random.default_rng(17)
    library = cuda_host.library(f"gemm_rows_blocks_{pair(signed)}")
    for m, n, batches, b_batches in [(3, 17, 2, 1), (4, 16, 2, 2), (1, 3, 3, 3)]:
        one = in_blocks(rng, m, n, 300, 64, signed, batches, b_batches)
        one.sums = False
        one.run_row_blocks(library, 4)


def test_every_end_of_rows_in_blocks(row_blocks):
    rng = np.random.default_rng(18)
    for output in (F32, F16, BF16):
        for clip in [(-np.inf, np.inf), (0.0, np.inf), (-9.0, 2000.0)]:
            one = in_blocks(rng, 3, 37, 130, 32)
            one.output, one.clip, one.sums = output, clip, False
            one.bias = None if clip[0] == 0 else np.float32(rng.standard_normal(37) * 100)
            one.run_row_blocks(row_blocks, 4)


# ---- what is broken shows ----


@pytest.fixture(scope="module")
def broken_blocks():
    def rename(text, kernel):
        kernels = text.index("#define PQ_BLOCKS_TILE")
        return text[:kernels] + (
            f"PQ_KERNEL {kernel}(const pq_gemm g) {{ PQ_DYNAMIC_SHARED(char, shared); "
            "Tile<true, true, 16, 32, 16, 16, 128, 6, BlockSums>::run(g, shared, RealMatrices()); }"
        )

    changes = {"overwritten_too_early": ("RING = 2 * BEGIN", "RING = BEGIN")}
    return cuda_host.library_of(
        broken("gemm_blocks.cuh", changes, "tile.cuh", rename), "broken_blocks"
    )


def test_parameters_that_are_overwritten_too_early_are_caught(broken_blocks):
    with pytest.raises((AssertionError, RuntimeError)):
        for seed in range(1, 9):
            one = in_blocks(np.random.default_rng(1), 16, 32, 1000, 32)
            one.run_tile(broken_blocks, "overwritten_too_early", NARROW, seed=seed)
