"""Do the matrix kernels use the matrix units, and feed them as they are meant to?"""

import pytest
from cuda_build import DISASSEMBLED, count, instructions, resources

from pyquant._cuda_gemm_plan import (
    LARGE,
    NARROW,
    SKINNY,
    SMALL,
    SQUARE,
    WIDE,
    plan_of_floats,
)

PAIRS = ["i8i8", "i8u8", "u8i8", "u8u8"]
OF_TYPE = {"i8": "S8", "u8": "U8"}


def types(pair: str) -> str:
    return f"{OF_TYPE[pair[:2]]}.{OF_TYPE[pair[2:]]}"


@pytest.mark.parametrize("arch", DISASSEMBLED)
def test_tiles_use_tensor_cores(arch):
    """A step of 32 bytes along K: m16n8k32 for every 16 x 8 of a warp's tile, or four m8n8k16."""
    warps = {"16x128": (16, 32, 4), "64x64": (32, 32, 4), "128x128": (64, 64, 2)}
    warps["128x256"] = (64, 64, 2)
    for tile, (m, n, steps) in warps.items():
        unit = "gemm_mma_i8i8" if steps == 2 else "gemm_mma_small_i8i8"
        code = instructions(unit, arch)[f"gemm_{tile}"]
        products = (m // 16) * (n // 8) * steps * (4 if arch == "sm_75" else 1)
        shape = "8816" if arch == "sm_75" else "16832"
        assert count(code, f"IMMA.{shape}.S8.S8") % products == 0
        assert count(code, f"IMMA.{shape}.S8.S8") >= products
        assert count(code, "LDSM") >= (m // 16 + n // 16) * steps
        assert count(code, "STG", width="128") >= 2
        if arch != "sm_75":
            assert count(code, "LDGSTS", width="128") > 0


@pytest.mark.parametrize("arch", DISASSEMBLED)
def test_blocks_use_tensor_cores(arch):
    """As other tiles do; and one conversion for every sum of a lane at a block's end."""
    warps = {"16x32": (16, 16, 4), "64x64": (32, 32, 4), "128x128": (64, 32, 2)}
    for tile, (m, n, steps) in warps.items():
        code = instructions("gemm_blocks_i8i8", arch)[f"gemm_blocks_{tile}"]
        products = (m // 16) * (n // 8) * steps * (4 if arch == "sm_75" else 1)
        assert count(code, "IMMA") % products == 0 and count(code, "IMMA") >= products
        assert count(code, "LDSM") >= (m // 16 + n // 16) * steps
        assert count(code, "I2F") >= m * n // 32
        assert count(code, "STG", width="128") >= 2
        if arch != "sm_75":
            assert count(code, "LDGSTS", width="128") > 0


@pytest.mark.parametrize("arch", DISASSEMBLED)
def test_convolutions_use_tensor_cores(arch):
    """As the tiles of matrices do; images are laid by 16 bytes."""
    for name, code in instructions("gemm_conv_i8i8", arch).items():
        shape, times = ("8816", 4) if arch == "sm_75" else ("16832", 1)
        m, n, steps = (64, 64, 2) if "128x128" in name else (32, 32, 4)
        assert count(code, f"IMMA.{shape}.S8.S8") >= m // 16 * n // 8 * steps * times
        assert count(code, "STG", width="128") >= 1
        if arch != "sm_75":
            assert count(code, "LDGSTS", width="128") > 0
    for name, code in instructions("conv_image", arch).items():
        if name.startswith("lay_"):
            assert count(code, "LDG", width="128") >= 1 and count(code, "STG", width="128") >= 1
    for name, code in instructions("conv_direct_i8i8", arch).items():
        assert count(code, "IDP.4A.S8.S8") >= 4 * 4, name


@pytest.mark.parametrize("pair", PAIRS)
def test_every_pair_of_types_has_its_instruction(pair):
    tiles = dict(instructions(f"gemm_mma_{pair}", "sm_90"))
    for unit in ("gemm_mma_small", "gemm_blocks"):
        tiles |= instructions(f"{unit}_{pair}", "sm_90")
    for name, code in tiles.items():
        assert count(code, f"IMMA.16832.{types(pair)}") > 0, name
        assert count(code, "IMMA") == count(code, f"IMMA.16832.{types(pair)}"), name
    for name, code in instructions(f"gemm_conv_{pair}", "sm_90").items():
        assert count(code, "IMMA") == count(code, f"IMMA.16832.{types(pair)}") > 0, name
    for name, code in instructions(f"conv_direct_{pair}", "sm_90").items():
        assert count(code, f"IDP.4A.{types(pair)}") >= 16, name
    for name, code in instructions(f"gemm_columns_{pair}", "sm_90").items():
        assert count(code, f"IDP.4A.{types(pair)}") > 0, name
    rows = instructions(f"gemm_rows_{pair}", "sm_90")
    for name, code in (rows | instructions(f"gemm_rows_blocks_{pair}", "sm_90")).items():
        assert count(code, f"IDP.4A.{types(pair)}") > 0, name
        assert count(code, "LDG", width="128") >= 4, name


@pytest.mark.parametrize("pair", PAIRS)
def test_hopper_uses_its_own_instructions(pair):
    (code,) = instructions(f"gemm_hopper_{pair}_sm_90a", "sm_90a").values()
    assert count(code, f"IGMMA.64x256x32.{types(pair)}") == count(code, "IGMMA") == 4
    assert count(code, "UTMALDG.3D") == 2 and count(code, "UTMALDG.3D.MULTICAST") == 1
    assert count(code, "USETMAXREG") == 2
    assert count(code, "STG", width="64") >= 2 * 2 * 32, "plain results leave the registers"
    assert count(code, "WARPGROUP.DEPBAR") == 2, "waits that the source does not have"
    places = [i for i, name in enumerate(code) if name.startswith("IGMMA")]
    between = code[places[0] : places[-1]]
    assert count(between, "WARPGROUP", "SYNCS", "MEMBAR", "BRA", "BAR") == 0, "they follow at once"
    ends = count(code, "UCGABAR_ARV")
    assert count(code, "MEMBAR.ALL.GPU") == ends, "fences in the ring"
    assert count(code, "CCTL.IVALL") == ends, "caches emptied in the ring"


@pytest.mark.parametrize("arch", DISASSEMBLED)
def test_floats_are_quantized_and_multiplied_in_one_kernel(arch):
    """Eight loads of A for each type of floats, and codes that come from shared memory."""
    ((name, code),) = instructions("gemm_front_i8", arch).items()
    ahead = {1: 4, 2: 4, 4: 4, 8: 2}
    assert count(code, "LDG", width="128") >= 3 * 8 + sum(2 * loads for loads in ahead.values())
    assert count(code, "LDS", width="128") >= sum(rows * loads for rows, loads in ahead.items())
    products = sum(2 * 4 * rows * loads for rows, loads in ahead.items())
    assert count(code, "IDP.4A.S8.S8") >= products
    assert count(code, "CCTL") >= 1  # memory is asked for B ahead
    assert resources("gemm_front_i8", arch)[name]["REG"] <= 128


@pytest.mark.parametrize("arch", DISASSEMBLED)
def test_rows_of_b_are_turned_in_registers(arch):
    """16 loads on the way, of 8 bytes or 4; eight byte permutations for 4 x 4."""
    for name, code in instructions("gemm_columns_i8i8", arch).items():
        rows = int(name.rpartition("_")[2])
        words = 1 if rows > 4 else 2
        assert count(code, "LDG", width="64" if words == 2 else "") >= 16, name
        assert count(code, "PRMT") >= 4 * words * 8, name
        assert count(code, "IDP.4A.S8.S8") >= rows * 16 * words, name
        assert count(code, "ATOMS") >= rows * 4 * words, name
        ahead = code[: code.index("PRMT")]
        assert count(ahead, "LDG") >= 16, f"{name}: loads wait for one another"


def test_transposing_moves_words():
    for arch in DISASSEMBLED:
        code = instructions("transpose", arch)["transpose"]
        assert count(code, "PRMT") >= 8 * 4
        assert count(code, "STS") >= 4 * 4 and count(code, "LDS") >= 4


# What a block may have by opting in, and what the driver keeps of it for itself.
SHARED_LIMITS = {"sm_75": (65536, 0), "sm_90": (232448, 1024), "sm_120": (101376, 1024)}


@pytest.mark.parametrize("arch", SHARED_LIMITS)
def test_shared_memory_is_enough_for_every_tile(arch):
    """sm_120 has as little as sm_86 and sm_89. Static memory stands before the other, padded."""
    most, reserved = SHARED_LIMITS[arch]
    capability = int(arch[3:])
    tiles = {
        "gemm_mma_small": (SKINNY, SMALL), "gemm_mma": (SQUARE, LARGE),
        "gemm_blocks": (NARROW, WIDE), "gemm_conv": (SMALL, SQUARE),
    }  # fmt: skip
    for stem, of_unit in tiles.items():
        kernels = resources(f"{stem}_i8i8", arch)
        for tile in of_unit:
            named = [k for k in kernels if f"{tile.m}x{tile.n}" in k]
            assert named or (stem, tile, arch) == ("gemm_conv", SQUARE, "sm_75")
            for name in named:
                static = kernels[name]["SHARED"] - reserved
                assert static + tile.shared(capability) <= most, name
    sizes = [(m, k) for m in range(1, 9) for k in range(16, 1 << 16, 16)]
    plans = [plan_of_floats(m, 64, k, 2, 132) for m, k in sizes]
    largest = max(chosen.shared for chosen in plans if chosen is not None)
    for name, used in resources("gemm_front_i8", arch).items():
        assert used["SHARED"] - reserved + largest <= 48 << 10, name
