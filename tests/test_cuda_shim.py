"""The host shim that runs CUDA kernels in tests: does it wait where CUDA waits, and only there?"""

import numpy as np
import pytest
from cuda_host import SHIM, library_of

SEEDS = range(1, 9)


@pytest.fixture(scope="module")
def waiting():
    return library_of((SHIM / "waiting.cu").read_text(), "waiting")


def sum_is_right(library, name: str, seed: int) -> bool:
    x = np.random.default_rng(seed).integers(-1000, 1000, (5, 256)).astype(np.int32)
    sums = np.zeros(5, np.int32)
    library.launch(name, (5,), (256,), (x, sums), seed=seed)
    return bool((sums == x.sum(1)).all())


def rotation_is_right(library, name: str, seed: int, threads: int) -> bool:
    x = np.random.default_rng(seed).integers(0, 1000, threads).astype(np.int32)
    turned = x.copy()
    library.launch(name, (1,), (threads,), (turned, 5), shared_mem=1024, seed=seed)
    return bool((turned == np.roll(x, -5)).all())


@pytest.mark.parametrize("seed", SEEDS)
def test_barriers_hold(waiting, seed):
    assert sum_is_right(waiting, "sum_blocks", seed)
    assert rotation_is_right(waiting, "rotate", seed, 256)
    assert rotation_is_right(waiting, "rotate_warp", seed, 32)


@pytest.mark.parametrize("barrier", ["first", "again"])
def test_a_missing_barrier_of_a_reduction_is_caught(waiting, barrier):
    assert not any(sum_is_right(waiting, f"sum_blocks_without_{barrier}", s) for s in SEEDS)


@pytest.mark.parametrize("barrier", ["written", "read"])
def test_a_missing_barrier_on_either_side_of_a_write_is_caught(waiting, barrier):
    name = f"rotate_without_{barrier}"
    assert not any(rotation_is_right(waiting, name, s, 256) for s in SEEDS)


def test_a_missing_barrier_of_a_warp_is_caught(waiting):
    name = "rotate_warp_without_written"
    assert not any(rotation_is_right(waiting, name, s, 32) for s in SEEDS)


def test_what_a_warp_does_together(waiting):
    x = np.random.default_rng(3).integers(0, 500, 64).astype(np.int32)
    y = np.zeros((64, 12), np.int32)
    waiting.launch("warp", (1,), (64,), (x, y))
    lane = np.arange(32)
    for first in (0, 32):
        v = x[first : first + 32]
        ballot = sum(int(b) << i for i, b in enumerate(v & 1))
        expected = [
            np.full(32, v[5]), v[lane ^ 3], np.where(lane < 25, v[(lane + 7) % 32], v),
            np.where(lane >= 9, v[lane - 9], v), v[lane // 8 * 8 + (lane + 1) % 8],
            np.full(32, np.uint32(ballot).astype(np.int32)), np.full(32, (v == 77).any()),
            np.full(32, True), np.full(32, v.sum()), np.full(32, v.max()),
            np.where(lane < 16, v[:16].min(), v[lane ^ 3]), np.full(32, (x & 1).sum()),
        ]  # fmt: skip
        for column, wanted in enumerate(expected):
            assert (y[first : first + 32, column] == wanted).all(), column


@pytest.mark.parametrize("seed", SEEDS)
def test_atomics_and_the_last_block(waiting, seed):
    x = np.random.default_rng(4).integers(0, 100, (37, 64)).astype(np.int32)
    total, arrived, ends = np.zeros(1, np.int32), np.zeros(1, np.uint32), np.zeros(64, np.int32)
    waiting.launch("total", (37,), (64,), (x, total, arrived, ends), seed=seed)
    assert total[0] == x.sum() and arrived[0] == 0 and (ends == total[0]).all()


def test_every_lane_sees_what_the_others_brought(waiting):
    y = np.zeros(256, np.int32)
    waiting.launch("mix", (1,), (256,), (y,))
    expected = np.zeros(256, np.int64)
    for first in range(0, 256, 32):
        a3, b1 = np.arange(32) * 10 + 3, np.arange(first, first + 32, dtype=np.int64) + 1
        total = np.zeros(32, np.int64)
        for _ in range(3):
            total += (a3 * b1).sum()
            b1 = b1 + total
        expected[first : first + 32] = total
    assert (y == expected.astype(np.int32)).all()


@pytest.mark.parametrize("name", ["half_a_warp", "two_masks", "a_lane_that_left"])
def test_threads_that_wait_in_vain_are_an_error(waiting, name):
    with pytest.raises(RuntimeError, match=r"deadlock: in block .* waits at"):
        waiting.launch(name, (2,), (64,), (np.zeros(64, np.int32),))
    # The next launch starts afresh.
    assert sum_is_right(waiting, "sum_blocks", 1)


def test_a_lane_outside_its_own_mask_is_an_error(waiting):
    with pytest.raises(RuntimeError, match="not in the mask 0000ffff"):
        waiting.launch("not_in_its_mask", (1,), (32,), (np.zeros(32, np.int32),))


def test_a_wrong_number_of_arguments_is_an_error(waiting):
    with pytest.raises(RuntimeError, match="takes 2 arguments, not 1"):
        waiting.launch("sum_blocks", (1,), (256,), (np.zeros(1, np.int32),))


@pytest.mark.parametrize("wrong", [True, np.float32(1), np.int32(1), 1.0])
def test_an_argument_of_other_bytes_is_an_error(waiting, wrong):
    """The driver copies as many bytes as the parameter has, whatever CuPy has put there."""
    with pytest.raises(RuntimeError, match="argument 1 of the kernel cannot be a"):
        waiting.launch("sum_blocks", (1,), (256,), (np.zeros(1, np.int32), wrong))


def test_a_grid_of_nothing_is_one_block(waiting):
    """As CuPy has it."""
    y = np.zeros(100_000, np.uint8)
    waiting.launch("reverse", (0,), (256,), (y,), shared_mem=100_000)
    assert y.any()


def test_much_shared_memory_and_its_limit(waiting):
    y = np.zeros(100_000, np.uint8)
    waiting.launch("reverse", (1,), (256,), (y,), shared_mem=100_000)
    assert (y == (np.arange(100_000) * 7 % 256).astype(np.uint8)[::-1]).all()
    with pytest.raises(RuntimeError, match="no device takes"):
        waiting.launch("reverse", (1,), (256,), (y,), shared_mem=1 << 20)
