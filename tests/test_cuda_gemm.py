"""The CUDA matrix kernels on the host, against int64 NumPy: every tile, type, edge and epilogue."""

import itertools
from fractions import Fraction

import cuda_host
import numpy as np
import pytest
from cuda_products import (
    BF16,
    CODE8,
    CODE16,
    F16,
    F32,
    FIXED_DOUBLE,
    FIXED_SINGLE,
    FLOAT,
    I32,
    BlockedProduct,
    codes,
    product,
)

from pyquant import _cuda_gemm_plan
from pyquant._cuda_gemm_plan import (
    HOPPER,
    LARGE,
    MIDDLE,
    NARROW,
    SKINNY,
    SMALL,
    SQUARE,
    WIDE,
    Tile,
    plan,
    plan_blocks,
)  # fmt: skip

TILES = [SKINNY, SMALL, SQUARE, LARGE]
SIGNS = list(itertools.product((True, False), repeat=2))


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
def hopper():
    return cuda_host.library("gemm_hopper_i8i8_sm_90a")


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


def with_zero_points(rng, m, n, k, signed, batches=1, b_batches=None, **given):
    one = product(rng, m, n, k, *signed, batches, b_batches, **given)
    low = [-128 if s else 0 for s in signed]
    one.a_zero = np.int32(rng.integers(low[0], low[0] + 256, m if rng.integers(2) else ()))
    one.b_zero = np.int32(rng.integers(low[1], low[1] + 256, n if rng.integers(2) else ()))
    return one


def pair(signed) -> str:
    return "".join("i8" if s else "u8" for s in signed)


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


# ---- epilogues ----


def epilogues(rng, m, n):
    """What there is to say of results, for every kernel."""
    columns = (0.001 + rng.random(n)).astype(np.float32)
    lines = (0.001 + rng.random(m)).astype(np.float32)
    codes = rng.integers(-70000, 70000, n).astype(np.int32)
    reals = rng.standard_normal(n).astype(np.float32) * 50
    one = np.float32(0.0173)
    yield {"output": I32, "bias": codes}
    for output in (F32, F16, BF16):
        yield {"output": output, "a_scale": one, "b_scale": columns, "bias": reals}
        yield {"output": output, "a_scale": lines, "b_scale": one, "clip": (0.0, np.inf)}
        yield {"output": output, "a_scale": lines, "b_scale": columns, "clip": (-20.0, 30.0)}
    yield {"output": F32, "a_scale": one, "b_scale": one * -0.0}
    yield {"output": F32, "a_scale": np.float32(1e-30), "b_scale": np.float32(1e-12)}
    for mode in (FLOAT, FIXED_DOUBLE, FIXED_SINGLE):
        of_codes = {"mode": mode, "scale": 3.1, "zero_point": 7}
        yield {"output": CODE8, "a_scale": one, "b_scale": columns, "bias": codes, **of_codes}
        yield {"output": CODE8, "a_scale": lines, "b_scale": columns, "grid": (0, 255), **of_codes}
        yield {"output": CODE8, "a_scale": one, "b_scale": one, "grid": (-7, 7), **of_codes}
        yield {
            "output": CODE16, "a_scale": lines, "b_scale": one, "grid": (-32768, 32767), **of_codes
        }  # fmt: skip


def with_epilogues(rng, m, n, k, signed=(True, True), **given):
    for epilogue in epilogues(rng, m, n):
        one = with_zero_points(rng, m, n, k, signed, gap=int(rng.integers(3)), **given)
        for key, value in epilogue.items():
            setattr(one, key, value)
        yield one


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


# ---- blocks along K ----

BLOCK_TILES = [NARROW, MIDDLE, WIDE]


def in_blocks(rng, m, n, k, block, signed=(True, True), batches=1, b_batches=None, zeros=(1, 1)):
    """With scales and zero points that are one for all or one for every line and block."""
    one = BlockedProduct(
        codes(rng, (batches, m, k), signed[0]),
        codes(rng, (b_batches or batches, n, k), signed[1]),
        output=F32, block=block, gap=int(rng.integers(3)),
    )  # fmt: skip
    blocks = -(-k // block)
    for side, shape in enumerate(((m, blocks), (blocks, n))):
        scale = (0.01 + rng.random(shape if rng.integers(4) else ())).astype(np.float32)
        low = -128 if signed[side] else 0
        zero = np.int32(rng.integers(low, low + 256, shape if rng.integers(2) else ()))
        setattr(one, f"{'ab'[side]}_scale", np.float32(scale) if scale.ndim == 0 else scale)
        setattr(one, f"{'ab'[side]}_zero", zero if zeros[side] else None)
    return one


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


# ---- Hopper ----


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
BROKEN_PIPELINES = {
    "copies_not_waited_for": ("cp_async_wait<STAGES - 2>();", ""),
    "others_copies_not_waited_for": (
        "__syncthreads(); /* the piece is there",
        "/* the piece is there",
    ),
    "ring_reused_too_early": ("__syncthreads(); /* the ring is free */", ""),
}


def broken(file: str, changes: dict[str, tuple[str, str]], header: str, rename) -> str:
    """A library's text with a copy of `file` for every change, in a namespace of its own."""
    text = (cuda_host.KERNELS / file).read_text().replace(f'#include "{header}"', "")
    parts = [f'#define PQ_A_SIGNED true\n#define PQ_B_SIGNED true\n#include "{header}"']
    for kernel, (right, wrong) in changes.items():
        assert text.count(right) == 1
        parts += [f"namespace in_{kernel} {{", rename(text, kernel).replace(right, wrong)]
        parts += ["}", f"using in_{kernel}::{kernel};"]
    return "\n".join(parts)


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


# ---- addresses, order and choice ----

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


# ---- operands made ready ----


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
