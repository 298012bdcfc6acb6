"""Hopper's matrix kernel whole on the host: clusters, ring, copies that come late, every result."""

import cuda_host
import numpy as np
import pytest
from cuda_products import F32, broken, product, with_epilogues, with_zero_points


@pytest.fixture(scope="module")
def hopper():
    return cuda_host.library("gemm_hopper_i8i8_sm_90a")


@pytest.mark.parametrize(
    ("m", "n", "k", "clusters"),
    [(256, 256, 128, 1), (129, 255, 100, 1), (257, 30, 700, 1), (100, 300, 1300, 2), (3, 5, 16, 2)],
)
def test_hopper_edges(hopper, m, n, k, clusters):
    rng = np.random.default_rng(m)
    gap = int(rng.integers(2))
    product(rng, m, n, k, gap=gap).run_hopper(hopper, clusters)


def test_hopper_goes_on_to_its_next_tiles(hopper):
    rng = np.random.default_rng(6)
    for batches, b_batches in [(5, 5), (3, 1)]:
        one = with_zero_points(rng, 20, 24, 520, (True, True), batches, b_batches)
        one.run_hopper(hopper, 2)


def test_every_epilogue_of_hopper(hopper):
    rng = np.random.default_rng(25)
    for one in with_epilogues(rng, 18, 37, 40):
        one.run_hopper(hopper, 1)


def test_plain_results_of_hopper_leave_the_registers(hopper):
    """Of whole columns of tiles, aligned in pairs; others go by the slab."""
    rng = np.random.default_rng(26)
    n = 258
    columns, rows = (rng.uniform(0.01, 1, size).astype(np.float32) for size in (n, 137))
    for gap, batches in ((0, 1), (2, 2), (1, 1)):
        for given in (
            {"bias": rng.integers(-(2**31), 2**31, n).astype(np.int32)},
            {"output": F32, "a_scale": np.float32(0.3), "b_scale": np.float32(0.1)},
            {"output": F32, "a_scale": rows, "b_scale": columns, "bias": columns - 0.5},
            {"output": F32, "b_scale": columns, "clip": (-9.5, 20.25)},
            {"output": F32, "b_scale": np.float32(np.nan), "clip": (-1.0, 1.0)},
        ):
            product(rng, 137, n, 60, batches=batches, gap=gap, **given).run_hopper(hopper, 1)
    before = rng.standard_normal((1, 137, n)).astype(np.float32)
    product(rng, 137, n, 60, output=F32, before=before).run_hopper(hopper, 1)


# ---- what is broken shows ----

BROKEN_RINGS = {
    "stage_given_back_while_read": ("wgmma_wait<1>();\n            if", "if"),
    "second_round_taken_for_the_first": ("parity ^= 1;", ""),
    "other_block_not_waited_for": ("CLUSTER * CONSUMER_WARPS);", "CONSUMER_WARPS);"),
    "begun_before_all_has_come": ("A_BYTES + B_BYTES)", "A_BYTES + B_BYTES / 2)"),
}


@pytest.fixture(scope="module")
def broken_rings():
    text = broken(
        "gemm_hopper.cuh", BROKEN_RINGS, "hopper.cuh",
        lambda text, kernel: text.replace("gemm_128x256_sm_90a(", f"{kernel}("),
    )  # fmt: skip
    return cuda_host.library_of(text, "broken_rings")


@pytest.mark.parametrize("kernel", BROKEN_RINGS)
def test_a_broken_ring_is_caught(broken_rings, kernel):
    """Barriers, copies and products are as late on the host as they may be on the device."""
    with pytest.raises((AssertionError, RuntimeError)):
        for seed in range(1, 5):
            one = product(np.random.default_rng(1), 256, 256, 1500)
            one.run_hopper(broken_rings, 1, seed=seed, name=kernel)
