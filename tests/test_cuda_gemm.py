"""The CUDA matrix kernels on the host, against int64 NumPy: every tile, type, edge and epilogue."""

import itertools
from fractions import Fraction

import cuda_host
import numpy as np
import pytest
from cuda_products import (
    BF16,
    CODE16,
    F32,
    FIXED_DOUBLE,
    FIXED_SINGLE,
    FLOAT,
    SIGNS,
    broken,
    pair,
    product,
    with_epilogues,
    with_zero_points,
)

from pyquant._cuda_gemm_plan import LARGE, SKINNY, SMALL, SQUARE, Tile

TILES = [SKINNY, SMALL, SQUARE, LARGE]


class Tiles:
    """The kernels for int8 and int8, from the two units that they stand in."""

    def launch(self, kernel, *args, **kwargs):
        small = kernel in (name(SKINNY), name(SMALL))
        unit = "gemm_mma_small_i8i8" if small else "gemm_mma_i8i8"
        cuda_host.library(unit).launch(kernel, *args, **kwargs)


@pytest.fixture(scope="module")
def mma():
    return Tiles()


@pytest.fixture(scope="module")
def rows():
    return cuda_host.library("gemm_rows_i8i8")


@pytest.fixture(scope="module")
def turing():
    text = "#define PQ_ARCH 750\n" + (cuda_host.KERNELS / "gemm_mma_small_u8i8.cu").read_text()
    return cuda_host.library_of(text, "gemm_mma_turing")


def name(tile: Tile) -> str:
    return f"gemm_{tile.m}x{tile.n}"


def around(n: int) -> list[int]:
    return [n - 1, n, n + 1]


@pytest.mark.parametrize("tile", TILES, ids=name)
def test_edges_of_every_tile(mma, tile):
    rng = np.random.default_rng(tile.m + tile.n)
    sizes = [(m, n) for m in around(tile.m) for n in around(tile.n)] if tile.m < 128 else []
    sizes += [(1, 1), (tile.m + 1, 3), (2, tile.n + 9), (tile.m - 7, tile.n - 2)]
    depths = itertools.cycle([1, 15, 16, 17, tile.piece - 1, tile.piece, tile.piece + 1, 300])
    for (m, n), k in zip(sizes, depths, strict=False):
        extra = int(rng.integers(2)) * 16
        product(rng, m, n, k, gap=int(rng.integers(3))).run_tile(mma, name(tile), tile, extra=extra)


@pytest.mark.parametrize("tile", TILES, ids=name)
def test_long_k_goes_round_the_ring(mma, tile):
    rng = np.random.default_rng(5)
    for pieces in (tile.stages - 1, tile.stages, 2 * tile.stages + 1):
        product(rng, 17, 24, pieces * tile.piece - 5).run_tile(mma, name(tile), tile)


@pytest.mark.parametrize("tile", TILES, ids=name)
@pytest.mark.parametrize("splits", [2, 3, 7])
def test_split_k_adds_up_whoever_is_last(mma, tile, splits):
    rng = np.random.default_rng(splits)
    for seed in (1, 2):
        one = product(rng, 9, tile.n + 3, 5 * tile.piece + 3, batches=2)
        one.run_tile(mma, name(tile), tile, splits=splits, seed=seed)


@pytest.mark.parametrize("signed", SIGNS)
def test_types_zero_points_and_batches(signed):
    rng = np.random.default_rng(3)
    library = cuda_host.library(f"gemm_mma_small_{pair(signed)}")
    for m, n, k, batches, b_batches in [(65, 63, 130, 1, 1), (5, 70, 33, 3, 3), (70, 6, 257, 2, 1)]:
        one = with_zero_points(rng, m, n, k, signed, batches, b_batches)
        one.run_tile(library, name(SMALL), SMALL, splits=int(rng.integers(1, 3)))


@pytest.mark.parametrize("signed", SIGNS)
def test_extreme_codes(signed):
    library = cuda_host.library(f"gemm_mma_small_{pair(signed)}")
    rng = np.random.default_rng(0)
    for ends in itertools.product((0, 1), repeat=2):
        one = product(rng, 3, 5, 4096, *signed)
        for x, s, end in zip((one.a, one.b), signed, ends, strict=True):
            x[...] = (-128, 127)[end] if s else (0, 255)[end]
        one.run_tile(library, name(SMALL), SMALL)


def test_turing_has_the_same_results(turing):
    rng = np.random.default_rng(8)
    for tile in (SKINNY, SMALL):
        for m, n, k in [(tile.m + 1, 20, 3 * tile.piece + 1), (3, tile.n - 1, 2 * tile.piece)]:
            one = with_zero_points(rng, m, n, k, (False, True))
            one.run_tile(turing, name(tile), tile, capability=75)
    product(rng, 40, 40, 1000, False, batches=2).run_tile(
        turing, name(SMALL), SMALL, splits=3, capability=75
    )


@pytest.mark.parametrize("tile", TILES, ids=name)
def test_every_epilogue(mma, tile):
    rng = np.random.default_rng(21)
    for m, n in [(18, 21), (16, 32)]:
        for one in with_epilogues(rng, m, n, 40):
            one.run_tile(mma, name(tile), tile, splits=int(rng.integers(1, 3)))


def test_every_epilogue_of_rows(rows):
    rng = np.random.default_rng(22)
    for one in with_epilogues(rng, 3, 13, 50):
        one.run_rows(rows, 4, 2)


def test_blocks_of_k_are_added_to_those_before(mma, rows):
    rng = np.random.default_rng(23)
    for m, n in [(3, 21), (7, 32)]:
        before = rng.standard_normal((1, m, n)).astype(np.float32) * 100
        given = {"output": F32, "b_scale": np.float32(0.1), "before": before, "clip": (-9.0, 200.0)}
        product(rng, m, n, 40, bias=np.float32(rng.random(n)), **given).run_tile(
            mma, name(SKINNY), SKINNY
        )
        product(rng, m, n, 40, **given, gap=1).run_rows(rows, 8, 1)
        product(rng, m, n, 40, **given | {"output": BF16}, gap=1).run_tile(mma, name(SMALL), SMALL)


def test_sums_beyond_int32_in_the_epilogue(mma):
    """A bias may take a sum past int32; a clamp needs no less than the sum itself."""
    rng = np.random.default_rng(24)
    for mode in (FIXED_DOUBLE, FIXED_SINGLE, FLOAT):
        one = product(rng, 4, 8, 4096, output=CODE16, mode=mode, grid=(-32768, 32767), scale=1.0)
        one.a[...], one.b[...] = 127, 127
        one.bias = np.int32([2**31 - 1, 2**31 - 5, 0, -(2**31), 2**31 - 1, 1, 2**30, 2**30])
        one.b_scale = np.float32([2e-6, 1e-5, 1e-5, 2e-6, 3e-9, 0.7, 1e-6, 1e-12])
        y, _memory, g, _kept = one.described()
        mma.launch(name(SKINNY), (1,), (128,), (g,), shared_mem=SKINNY.shared(80))
        total = one.accumulators() + one.bias
        for i in np.ndindex(*total.shape):
            exact = Fraction(int(total[i])) * Fraction(float(one.b_scale[i[2]]))
            near = min(max(exact, -32768), 32767)
            assert abs(int(y[i]) - near) <= Fraction(1, 2) + abs(near) / 2**24, (mode, i)


# ---- few rows ----


@pytest.mark.parametrize("most", [1, 2, 4, 8])
def test_rows(rows, most):
    rng = np.random.default_rng(most)
    for m in range(most // 2 + 1, most + 1):
        for n, k, splits in [(1, 1, 1), (2, 16, 8), (7, 100, 2), (33, 513, 4), (64, 2049, 1)]:
            one = product(rng, m, n, k, batches=int(rng.integers(1, 3)), gap=int(rng.integers(2)))
            one.run_rows(rows, most, splits, extra=16)
    product(rng, most, 5, 9000).run_rows(rows, most, 2)


@pytest.mark.parametrize("signed", SIGNS)
@pytest.mark.parametrize("sums", [True, False])
def test_rows_take_sums_on_the_way(signed, sums):
    rng = np.random.default_rng(11)
    library = cuda_host.library(f"gemm_rows_{pair(signed)}")
    for m, n, k, batches, b_batches in [(1, 9, 100, 1, 1), (2, 17, 4100, 2, 1), (2, 4, 16, 3, 3)]:
        one = with_zero_points(rng, m, n, k, signed, batches, b_batches, sums=sums)
        one.run_rows(library, 2, 4)


# ---- what is broken shows ----

BROKEN_PIPELINES = {
    "copies_not_waited_for": ("cp_async_wait<STAGES - 2>();", ""),
    "others_copies_not_waited_for": (
        "__syncthreads(); /* the piece is there",
        "/* the piece is there",
    ),
    "ring_reused_too_early": ("__syncthreads(); /* the ring is free */", ""),
}


@pytest.fixture(scope="module")
def broken_pipelines():
    def rename(text, kernel):
        return text.replace("PQ_TILE_CUH", f"PQ_{kernel}_CUH") + (
            f"PQ_KERNEL {kernel}(const pq_gemm g) {{ PQ_DYNAMIC_SHARED(char, shared); "
            "Tile<true, true, 16, 128, 16, 32, 128, 3>::run(g, shared, Matrices()); }"
        )

    return cuda_host.library_of(
        broken("tile.cuh", BROKEN_PIPELINES, "gemm.cuh", rename), "broken_pipelines"
    )


@pytest.mark.parametrize("kernel", BROKEN_PIPELINES)
def test_a_broken_pipeline_is_caught(broken_pipelines, kernel):
    with pytest.raises((AssertionError, RuntimeError)):
        for seed in range(1, 9):
            one = product(np.random.default_rng(1), 16, 128, 1000)
            one.run_tile(broken_pipelines, kernel, SKINNY, seed=seed)
