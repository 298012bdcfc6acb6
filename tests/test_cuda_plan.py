"""Where tiles lie, in which order they are taken, and which kernel multiplies what."""

import itertools

import cuda_host
import numpy as np
import pytest

from pyquant import _cuda_gemm_plan
from pyquant._cuda_gemm_plan import HOPPER, plan, plan_blocks

HOST_FUNCTIONS = """
#include "tile.cuh"
PQ_KERNEL swizzle_64(int *place, i64 rows) {
    for (int i = 0; i < rows * 4; i++) place[i] = swizzled<64>(i / 4, i % 4);
}
PQ_KERNEL swizzle_128(int *place, i64 rows) {
    for (int i = 0; i < rows * 8; i++) place[i] = swizzled<128>(i / 8, i % 8);
}
PQ_KERNEL tiles(int *tile, i64 tiles_m, i64 tiles_n) {
    for (int i = 0; i < tiles_m * tiles_n; i++) {
        const int2 t = tile_position(i, (int)tiles_m, (int)tiles_n);
        tile[2 * i] = t.x, tile[2 * i + 1] = t.y;
    }
}
"""


@pytest.fixture(scope="module")
def functions():
    return cuda_host.library_of(HOST_FUNCTIONS, "gemm_functions")


@pytest.mark.parametrize("piece", [64, 128])
def test_shared_memory_has_no_bank_conflicts(functions, piece):
    """ldmatrix reads 8 rows of 16 bytes at a time; cp.async writes 128 bytes in whole rows."""
    chunks, rows = piece // 16, 256
    place = np.zeros(rows * chunks, np.int32)
    functions.launch(f"swizzle_{piece}", (1,), (1,), (place, rows))
    assert sorted(place) == list(range(0, rows * piece, 16))
    quarter = place.reshape(rows, chunks) // 16 % 8  # which 16 bytes of the 128 of all banks
    for row in range(0, rows, 8):
        for chunk in range(chunks):
            assert sorted(quarter[row : row + 8, chunk]) == list(range(8))
    for group in place.reshape(-1, 8):
        assert sorted(group // 16 % 8) == list(range(8))


def test_slab_has_no_bank_conflicts():
    """A half-warp writes 8 bytes a lane; a quarter of a warp reads 16 bytes a lane."""
    for columns in (32, 64):
        pitch = columns + 8
        for g0 in (0, 4):
            words = [
                (g0 + g) * pitch + 2 * t + i for g in range(4) for t in range(4) for i in (0, 1)
            ]
            assert sorted(w % 32 for w in words) == list(range(32))
        for first in range(0, columns // 4, 8):
            words = [4 * (first + lane) + i for lane in range(8) for i in range(4)]
            assert sorted(w % 32 for w in words) == list(range(32))


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (8, 4), (9, 7), (17, 1), (31, 33)])
def test_every_tile_is_computed_once(functions, shape):
    tile = np.zeros((shape[0] * shape[1], 2), np.int32)
    functions.launch("tiles", (1,), (1,), (tile, *shape))
    assert sorted(map(tuple, tile)) == list(itertools.product(*map(range, shape)))
    assert len({tuple(t) for t in tile[:16] // [8, 1]}) <= 2 + 16 // min(8, shape[0])


@pytest.mark.parametrize("capability", [75, 80, 86, 89, 90, 100, 120])
def test_a_plan_covers_the_product_and_fits_the_device(capability):
    most = {75: 64, 80: 163, 86: 99, 89: 99, 90: 227, 100: 227, 120: 99}[capability] << 10
    for m, n, k in itertools.product(
        (1, 3, 8, 9, 16, 17, 128, 2048, 8192), (1, 768, 4096), (1, 4096)
    ):
        chosen = plan(m, n, k, 1, capability, 132)
        assert chosen.shared <= most - 1024
        assert chosen.splits >= 1 and chosen.grid >= 1
        if chosen.unit.startswith("gemm_mma"):
            tile = chosen.tile
            assert chosen.grid == -(-m // tile.m) * -(-n // tile.n) * chosen.splits
            assert chosen.splits <= max(1, k // tile.piece)
        if chosen.unit == "gemm_hopper":
            assert capability == 90 and chosen.grid % 2 == 0 and chosen.grid <= 132


@pytest.mark.parametrize("capability", [75, 80, 86, 89, 90, 100, 120])
def test_a_plan_of_blocks_covers_the_product_and_fits_the_device(capability):
    most = {75: 64, 80: 163, 86: 99, 89: 99, 90: 227, 100: 227, 120: 99}[capability] << 10
    for m, n, batches in itertools.product((1, 5, 9, 16, 17, 100, 2048), (1, 768, 4096), (1, 3)):
        chosen = plan_blocks(m, n, 128, batches, capability, 132)
        tile = chosen.tile
        if m == 1:
            assert 16 * chosen.grid >= n * batches and chosen.unit == "gemm_rows_blocks"
            continue
        parameters = tile.piece // 16 * (tile.m + tile.n) * 12
        assert chosen.shared + parameters <= most - 1024 and chosen.splits == 1
        assert chosen.grid == -(-m // tile.m) * -(-n // tile.n) * batches


def test_the_plan_for_the_shapes_that_matter():
    def unit(m, n, k, capability=90):
        return plan(m, n, k, 1, capability, 132).name

    for n in (4096, 8192):
        assert unit(n, n, n) == HOPPER.name
        assert unit(n, n, n, 80) == "gemm_128x256"
    assert unit(2048, 4096, 11008) == HOPPER.name
    assert unit(1, 4096, 4096) == "gemm_rows_1"
    assert unit(16, 4096, 4096) == "gemm_16x128"
    assert plan(16, 4096, 4096, 1, 90, 132).splits > 1


def test_the_sizes_that_python_and_the_kernels_share():
    text = cuda_host.KERNELS
    constants = (text / "gemm_hopper.cuh").read_text() + HOST_SIZES
    library = cuda_host.library_of(constants, "gemm_sizes")
    sizes = np.zeros(3, np.int32)
    library.launch("sizes", (1,), (1,), (sizes,))
    assert list(sizes) == [HOPPER.shared, _cuda_gemm_plan.GEMM.itemsize, HOPPER.block]


HOST_SIZES = """
PQ_KERNEL sizes(int *n) {
    n[0] = sizeof(HopperShared), n[1] = sizeof(pq_gemm), n[2] = HOPPER_THREADS;
}
"""
