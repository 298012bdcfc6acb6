"""The matrix kernels that quantize a few rows of floats themselves, on the host, bit for bit."""

import itertools

import cuda_host
import ml_dtypes
import numpy as np
import pytest
from cuda_products import BF16, CODE8, F16, F32, I32, Product, codes

from pyquant._cuda_gemm_plan import FRONT_WARPS, plan_of_floats

FLOATS = {F32: np.float32, F16: np.float16, BF16: ml_dtypes.bfloat16}
LEAST_NORMAL = np.float32(2.0**-126)
NAN = np.uint32(0x7FFFFFFF).view(np.float32)


def quantized(x, scale, zero_point, low, high):
    """NumPy's float32 divides once and rounds half to even, as SPEC says."""
    with np.errstate(all="ignore"):
        ratio = np.rint(x.astype(np.float32) / scale) + np.float32(zero_point)
    ratio = np.where(np.isnan(ratio), np.float32(zero_point), ratio)
    return np.clip(ratio, low, high).astype(np.int8 if low < 0 else np.uint8)


def row_scales(x):
    most = np.abs(x.astype(np.float32)).max(1)
    scale = np.maximum(most / np.float32(127), LEAST_NORMAL)
    scale = np.where(most == 0, np.float32(1), scale)
    return np.where(np.isfinite(most), scale, NAN).astype(np.float32)


def rows_of_floats(rng, m, depth, kind):
    """Of every magnitude, and rows that have no range, or none that is finite."""
    x = rng.standard_normal((m, depth)) * 10.0 ** rng.integers(-4, 4, (m, 1))
    x[rng.random(x.shape) < 0.05] = -0.0
    x = x.astype(FLOATS[kind])
    special = [
        0.0,
        -0.0,
        np.inf,
        -np.inf,
        np.nan,
        float(ml_dtypes.finfo(FLOATS[kind]).smallest_subnormal),
    ]
    for row in range(m):
        which = rng.integers(3 * len(special))
        if which < 2:
            x[row] = special[which]
        elif which < len(special) - 1:
            x[row, rng.integers(depth)] = special[which]
        elif which == len(special) - 1:
            x[row] = special[which] * rng.integers(-3, 4, depth)
    return x


def run(library, rng, x, kind, one, *, static=None, splits=1, blocks=3, pitch=0, offset=0):
    """`one` has the codes that x must become; the kernel gets x, rows `pitch` elements apart."""
    m, depth = x.shape
    dtype = x.dtype
    memory = np.full(m * (depth + pitch) + 64, 99, dtype)
    start = -memory.ctypes.data % 16 // dtype.itemsize + offset
    laid = memory[start : start + m * (depth + pitch)].reshape(m, depth + pitch)
    laid[:, :depth] = x
    y, result, g, _kept = one.described()
    low, high, lowered = -127, 127, 0
    g["a"], g["lda"], g["splits"] = laid.ctypes.data, laid.strides[0], splits
    g["a_sum"] = g["b_sum"] = 0
    if static is None:
        g["a_scale"] = 0, 1, 0, 0, 1
    else:
        low, high = static
        lowered = 128 if low >= 0 else 0
        g["a_zero"]["given"] |= lowered > 0
    args = g, kind, int(static is None), low - lowered, high - lowered, lowered
    shared = m * int(g["k"][0])
    library.launch("gemm_front", (blocks,), (32 * FRONT_WARPS,), args, shared_mem=shared)
    one.check(y, result)


@pytest.fixture(scope="module", params=["i8", "u8"])
def front(request):
    return cuda_host.library(f"gemm_front_{request.param}"), request.param == "i8"


def dynamic_product(rng, x, n, signed, **given):
    scale = row_scales(x)
    a = quantized(x, scale[:, None], 0, -127, 127)
    b = codes(rng, (1, n, x.shape[1]), signed)
    return Product(a[None], b, a_scale=scale, output=F32, b_scale=np.float32(0.02), **given)


@pytest.mark.parametrize("kind", FLOATS)
@pytest.mark.parametrize("m", range(1, 9))
def test_dynamic_rows(front, m, kind):
    library, signed = front
    rng = np.random.default_rng([m, kind, signed])
    ways = itertools.cycle([(1, 1, 0, 0), (2, 2, 3, 1), (16, 3, 8, 0), (4, 1, 0, 1)])
    for (depth, n), way in zip(
        [(1, 1), (15, 9), (16, 32), (17, 33), (300, 40)], ways, strict=False
    ):
        x = rows_of_floats(rng, m, depth, kind)
        one = dynamic_product(rng, x, n, signed, gap=int(rng.integers(2)))
        splits, blocks, pitch, offset = way
        run(library, rng, x, kind, one, splits=splits, blocks=blocks, pitch=pitch, offset=offset)


@pytest.mark.parametrize("kind", FLOATS)
def test_long_rows_up_to_the_most_that_a_block_holds(front, kind):
    library, signed = front
    rng = np.random.default_rng([9, kind, signed])
    size = np.dtype(FLOATS[kind]).itemsize
    for m in (1, 3, 8):
        most = 8 * 512 * (16 // m) // size
        assert plan_of_floats(m, 64, most, size, 4) and not plan_of_floats(
            m, 64, most + 16, size, 4
        )
        for depth, splits in ((most, 1), (most - 3, 4)):
            x = rows_of_floats(rng, m, depth, kind)
            x[-1, -1] = 1000  # the last one counts
            run(library, rng, x, kind, dynamic_product(rng, x, 5, signed), splits=splits, blocks=1)


GRIDS = [((-128, 127), 3), ((0, 255), 2), ((-7, 7), 8), ((0, 15), 1), ((-127, 127), 5)]


@pytest.mark.parametrize("kind", FLOATS)
def test_static_grids(front, kind):
    library, signed = front
    rng = np.random.default_rng([4, kind, signed])
    for (low, high), m in GRIDS:
        for zero_point in (None, low + (high - low) // 3, low, high):
            x = (rng.standard_normal((m, 35)) * 2).astype(FLOATS[kind])
            x[-1, 3:11] = np.nan, np.inf, -np.inf, -0.0, 60.0, -60.0, 0.0, 1e-30
            scale = np.float32(2.8 / (high - low))
            a = quantized(x, scale, zero_point or 0, low, high)
            one = Product(a[None], codes(rng, (1, 20, 35), signed), a_scale=scale)
            one.a_zero = None if zero_point is None else np.int32(zero_point)
            one.b_zero = np.int32(3) if rng.integers(2) else None
            one.b_scale = rng.random(20, dtype=np.float32)
            one.output = (I32, F32, CODE8)[rng.integers(3)]
            splits = int(2 ** rng.integers(5))
            run(library, rng, x, kind, one, static=(low, high), splits=splits)


def test_epilogues_of_rows_with_their_own_scale(front):
    library, signed = front
    rng = np.random.default_rng(5)
    for output, bias in [(F32, rng.random(19)), (F16, None), (BF16, rng.random(19)), (CODE8, None)]:
        x = rng.standard_normal((3, 70)).astype(np.float32)
        one = dynamic_product(rng, x, 19, signed)
        one.bias = None if bias is None else bias.astype(np.float32)
        one.b_zero = rng.integers(0, 100, 19).astype(np.int32)
        one.b_scale, one.output, one.scale = rng.random(19, dtype=np.float32), output, 7.3
        run(library, rng, x, F32, one, splits=2)


BROKEN = {
    "codes_read_too_early": (
        "    __syncthreads();\n\n    if (g.m == 1)",
        "    if (g.m == 1)",
    ),
    "range_of_one_warp": (
        "        __syncthreads();\n        const int place",
        "        const int place",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_missing_barrier_is_caught(what):
    text = (cuda_host.KERNELS / "gemm_front.cuh").read_text()
    right, wrong = BROKEN[what]
    assert text.count(right) == 1
    library = cuda_host.library_of(
        "#define PQ_B_SIGNED true\n" + text.replace(right, wrong), f"broken_front_{what}"
    )
    with pytest.raises((AssertionError, RuntimeError)):
        for seed in range(9):
            rng = np.random.default_rng(seed)
            x = rng.standard_normal((2, 4000)).astype(np.float32)
            run(library, rng, x, F32, dynamic_product(rng, x, 40, True), splits=4, blocks=1)


def test_the_plan_fuses_what_pays_and_fits():
    for m, n, k, size in itertools.product(
        range(1, 9), (1, 30, 768, 4096, 11008), (16, 768, 4096, 11008, 40000), (2, 4)
    ):
        chosen = plan_of_floats(m, n, k, size, 132)
        assert (chosen is None) == (k * size > 8 * 512 * (16 // m))
        if chosen is not None:
            pairs_at_a_time = chosen.grid * FRONT_WARPS // chosen.splits
            assert 1 <= chosen.grid <= 132 and FRONT_WARPS % chosen.splits == 0
            assert chosen.grid == 132 or pairs_at_a_time >= -(-n // 2)
            assert chosen.shared == m * k <= 32 << 10
    assert plan_of_floats(9, 4096, 64, 4, 132) is None and plan_of_floats(1, 8, 0, 4, 132) is None
    assert plan_of_floats(4, 4096, 4096, 4, 132).grid == 128
    assert plan_of_floats(1, 64, 16384, 4, 132).splits == 8
