"""Operands made ready for the CUDA matrix kernels, on the host: transposed, filled up, summed."""

import cuda_host
import numpy as np
import pytest
from cuda_products import F32, product


@pytest.fixture(scope="module")
def laying():
    return cuda_host.library("transpose")


@pytest.mark.parametrize("shape", [(1, 1), (4, 4), (127, 129), (128, 128), (130, 5), (17, 300)])
@pytest.mark.parametrize("offset", [0, 1])
def test_transpose(laying, shape, offset):
    k, n = shape
    rng = np.random.default_rng(k * n)
    for batches, gap in ((1, 0), (3, 4), (2, 3)):
        memory = codes = rng.integers(0, 256, (batches * k * (n + gap) + offset,), dtype=np.uint8)
        codes = memory[offset:].reshape(batches, k, n + gap)
        pitch = -(-k // 16) * 16
        laid = np.full((batches, n, pitch), 77, np.uint8)
        blocks = batches * -(-pitch // 128) * -(-n // 128)
        address = np.uint64(memory.ctypes.data + offset)
        laying.launch(
            "transpose", (blocks,), (256,),
            (address, laid, k, n, n + gap, pitch, k * (n + gap), n * pitch),
        )  # fmt: skip
        assert (laid[..., :k] == codes[..., :n].swapaxes(1, 2)).all()
        assert (laid[..., k:] == 0).all()


@pytest.mark.parametrize("shape", [(1, 1), (5, 16), (3, 17), (40, 100), (7, 31)])
def test_pad_rows(laying, shape):
    rows, k = shape
    rng = np.random.default_rng(k)
    memory = rng.integers(0, 256, (2, rows, k + 3), dtype=np.uint8)
    pitch = -(-k // 16) * 16
    laid = np.full((2, rows, pitch), 77, np.uint8)
    for from_pitch, first in ((k + 3, 0), (-(k + 3), (rows - 1) * (k + 3))):
        address = np.uint64(memory.ctypes.data + first)
        laying.launch(
            "pad_rows", (-(-laid.size // 16 // 256),), (256,),
            (address, laid, rows, k, from_pitch, pitch, rows * (k + 3), rows * pitch, 2),
        )  # fmt: skip
        wanted = memory if from_pitch > 0 else memory[:, ::-1]
        assert (laid[..., :k] == wanted[..., :k]).all() and (laid[..., k:] == 0).all()


@pytest.mark.parametrize("dtype", ["i8", "u8"])
def test_block_sums(laying, dtype):
    rng = np.random.default_rng(3)
    for rows, k, pitch, block in [(1, 16, 16, 32), (9, 528, 544, 32), (7, 416, 416, 96)]:
        x = rng.integers(0, 256, (rows, pitch), dtype=np.uint8)
        starts = range(0, k, block)
        sums = np.full((len(starts), rows), 99, np.int32)
        grid = (-(-sums.size // 32),)
        laying.launch(f"block_sums_{dtype}", grid, (256,), (x, sums, rows, k, pitch, block))
        wide = x[:, :k].view(np.int8 if dtype == "i8" else np.uint8).astype(np.int64)
        assert (np.add.reduceat(wide, starts, axis=1) == sums.T).all()


@pytest.mark.parametrize("dtype", ["i8", "u8"])
def test_row_sums(laying, dtype):
    rng = np.random.default_rng(2)
    for rows, k, pitch in [(1, 16, 16), (9, 528, 544), (30, 4096, 4096)]:
        x = rng.integers(0, 256, (rows, pitch), dtype=np.uint8)
        sums = np.zeros(rows, np.int32)
        laying.launch(f"row_sums_{dtype}", (-(-rows // 8),), (256,), (x, sums, rows, k, pitch))
        wide = x[:, :k].view(np.int8 if dtype == "i8" else np.uint8).astype(np.int64)
        assert (sums == wide.sum(1)).all()


def test_sums_in_64_bits():
    library = cuda_host.library("gemm_wide")
    rng = np.random.default_rng(4)
    parts = rng.integers(-(2**31), 2**31, (3, 1000)).astype(np.int32)
    sums = np.full(1000, 99, np.int64)
    for i, part in enumerate(parts):
        library.launch("add_part", (4,), (256,), (sums, part, 1000, int(i == 0)))
    assert (sums == parts.astype(np.int64).sum(0)).all()
    one = product(rng, 10, 50, 16, batches=2, output=F32, b_scale=np.float32(0.3))
    y, _memory, g, _kept = one.described()
    library.launch("finish", (4,), (256,), (sums, g))
    np.testing.assert_array_equal(y.ravel(), sums.astype(np.float32) * np.float32(0.3))
