"""The matrix kernels that read a right operand of contiguous rows where it stands, on the host."""

import itertools

import cuda_host
import numpy as np
import pytest
from cuda_products import BF16, CODE8, F32, I32, SIGNS, pair, product

from pyquant._cuda_gemm_plan import plan_across


@pytest.fixture(scope="module", params=SIGNS, ids=pair)
def columns(request):
    return cuda_host.library(f"gemm_columns_{pair(request.param)}"), request.param


def with_zero_points(rng, m, n, k, signed, **given):
    low = [-128 if s else 0 for s in signed]
    one = product(rng, m, n, k, *signed, gap=int(rng.integers(3)), sums=False, **given)
    if rng.integers(4):
        one.a_zero = np.int32(rng.integers(low[0], low[0] + 256, m if rng.integers(2) else ()))
    if rng.integers(4):
        one.b_zero = np.int32(rng.integers(low[1], low[1] + 256, n if rng.integers(2) else ()))
    return one


@pytest.mark.parametrize("m", range(1, 9))
def test_edges(columns, m):
    library, signed = columns
    rng = np.random.default_rng([m, *signed])
    rows = next(r for r in (1, 2, 4, 8) if m <= r)
    strip = 128 if rows > 4 else 256
    shapes = [(8, 1, 1), (strip, 15, 2), (16, 16, 1), (40, 17, 3), (strip + 8, 130, 1)]
    for n, k, splits in [*shapes, (strip - 8, 300, 2), (24, 700, 5)]:
        one = with_zero_points(rng, m, n, k, signed)
        one.run_columns(library, rows, splits, extra=8 * int(rng.integers(2)))


def test_batches_share_a_matrix_or_not(columns):
    library, signed = columns
    rng = np.random.default_rng(5)
    for batches, b_batches in [(3, 3), (3, 1)]:
        one = with_zero_points(rng, 2, 264, 150, signed, batches=batches, b_batches=b_batches)
        one.run_columns(library, 2, 2)


def test_the_last_of_a_strip_has_all_sums(columns):
    library, signed = columns
    rng = np.random.default_rng(6)
    for seed in range(1, 5):
        with_zero_points(rng, 3, 520, 1100, signed).run_columns(library, 4, 4, seed=seed)


def test_extreme_codes(columns):
    library, signed = columns
    for ends in itertools.product((0, 1), repeat=2):
        one = product(np.random.default_rng(0), 2, 8, 4096, *signed)
        for x, s, end in zip((one.a, one.b), signed, ends, strict=True):
            x[...] = (-128, 127)[end] if s else (0, 255)[end]
        one.run_columns(library, 2, 3)


def test_epilogues(columns):
    library, signed = columns
    rng = np.random.default_rng(7)
    for output, rows_have_scales in itertools.product((I32, F32, BF16, CODE8), (False, True)):
        one = with_zero_points(rng, 3, 48, 200, signed, output=output, scale=90.0)
        if output != I32:
            one.a_scale = rng.random(3 if rows_have_scales else (), dtype=np.float32)
            one.a_scale, one.b_scale = np.float32(one.a_scale), rng.random(48, dtype=np.float32)
        one.bias = rng.integers(-9, 9, 48).astype(np.float32 if output in (F32, BF16) else np.int32)
        one.run_columns(library, 4, int(rng.integers(1, 3)))


BROKEN = {
    "sums_added_to_anything": ("        __syncthreads();\n        multiply(", "        multiply("),
    "read_before_all_are_there": (
        "batch);\n        __syncthreads();\n        if (g.splits",
        "batch);\n        if (g.splits",
    ),
    "parts_read_before_all_are_there": ("!is_last_part(", "is_last_part("),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_broken_shows(what):
    text = (cuda_host.KERNELS / "gemm_columns.cuh").read_text()
    right, wrong = BROKEN[what]
    assert text.count(right) == 1
    text = "#define PQ_A_SIGNED true\n#define PQ_B_SIGNED true\n" + text.replace(right, wrong)
    library = cuda_host.library_of(text, f"broken_columns_{what}")
    with pytest.raises((AssertionError, RuntimeError)):
        for seed in range(9):
            one = product(np.random.default_rng(seed), 3, 512, 900)
            one.run_columns(library, 4, 3, seed=seed)


def test_the_plan_has_work_for_all():
    for m, n, k, batches in itertools.product(
        range(1, 9), (8, 4096, 11008), (1, 768, 4096), (1, 5)
    ):
        chosen = plan_across(m, n, k, batches, 132)
        strips = -(-n // (128 if m > 4 else 256)) * batches
        assert chosen.grid == strips * chosen.splits and 1 <= chosen.splits <= max(1, k // 256)
        assert chosen.grid <= max(strips, 2 * 132)
    assert plan_across(1, 4096, 4096, 1, 132).splits == 16
