"""What the CUDA compiler makes of every kernel, for every architecture, without a GPU."""

import pytest
from cuda_build import ARCHITECTURES, DISASSEMBLED, count, instructions, jobs, resources

from pyquant import _cuda_loader

# Where a thread reads or writes 16 bytes at once: kernels by the beginning of their names.
LOADS_16_BYTES = {
    "quantize": ["quantize_f32_", "quantize_f16_", "quantize_bf16_", "quantize_f64_"],
}
STORES_16_BYTES: dict[str, list[str]] = {}
VECTORS = ("_one", "_rows", "_columns")


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_kernel_compiles_without_spills_and_local_memory(arch):
    for unit in (unit for unit, a in jobs() if a == arch):
        kernels = resources(unit, arch)
        assert kernels, f"{unit} has no kernels"
        for name, used in kernels.items():
            assert used["STACK"] == used["LOCAL"] == 0, f"{name} for {arch}: {used}"
            assert used["REG"] <= 255


@pytest.mark.parametrize("arch", DISASSEMBLED)
@pytest.mark.parametrize("unit", sorted({*LOADS_16_BYTES, *STORES_16_BYTES}))
def test_main_loops_move_16_bytes_at_a_time(unit, arch):
    for prefixes, kind in ((LOADS_16_BYTES, "LDG"), (STORES_16_BYTES, "STG")):
        wanted = tuple(prefixes.get(unit, ()))
        for name, code in instructions(unit, arch).items():
            if name.startswith(wanted) and name.endswith(VECTORS):
                assert count(code, kind, width="128") >= 4, f"{name} for {arch} has no {kind}.128"


def test_units_are_found_and_whole():
    for unit in _cuda_loader.units():
        text = _cuda_loader.source(unit)
        assert "#include" not in text and text.count("PYQUANT_SEMANTICS_H") == 2
