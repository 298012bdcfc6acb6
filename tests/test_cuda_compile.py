"""What the CUDA compiler makes of every kernel, for every architecture, without a GPU."""

import pytest
from cuda_build import (
    ARCHITECTURES,
    DISASSEMBLED,
    compile_all,
    compile_units,
    count,
    instructions,
    jobs,
    jobs_left_out,
    resources,
)

from pyquant import _cuda_loader

# Where a thread reads or writes 16 bytes at once: units, and the kernels by parts of their names.
VECTORS = ("_one", "_rows", "_columns")
LOADS_16_BYTES = {
    "quantize": VECTORS, "fake_quantize": VECTORS, "requantize": VECTORS,
    "bits": ("_1", "_2", "_4"),
}  # fmt: skip
STORES_16_BYTES = {
    "dequantize": VECTORS, "fake_quantize": VECTORS, "bits": ("_1", "_2", "_4"),
}  # fmt: skip
IN_FLIGHT = {"_rows": 2}
# The same where names end with a type: kernels, and how many loads and stores at least.
REDUCTIONS = {
    "range_runs": (4, 0), "range_columns": (4, 0), "dynamic_rows": (4, 0), "dynamic_blocks": (4, 0),
    "grad_runs": (4, 2), "histogram_runs": (2, 0),
}  # fmt: skip


def check_memory(unit, arch):
    kernels = resources(unit, arch)
    assert kernels, f"{unit} has no kernels"
    for name, used in kernels.items():
        assert used["STACK"] == used["LOCAL"] == 0, f"{name} for {arch}: {used}"
        assert used["REG"] <= 255


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_kernel_compiles_without_spills_and_local_memory(arch):
    compile_all()
    for unit in (unit for unit, a in jobs() if a == arch):
        check_memory(unit, arch)


@pytest.mark.slow
def test_every_kernel_of_every_type_for_every_architecture():
    compile_units(jobs_left_out())
    for unit, arch in jobs_left_out():
        check_memory(unit, arch)


@pytest.mark.parametrize("arch", DISASSEMBLED)
@pytest.mark.parametrize("unit", sorted({*LOADS_16_BYTES, *STORES_16_BYTES}))
def test_main_loops_move_16_bytes_at_a_time(unit, arch):
    for table, kind, other in ((LOADS_16_BYTES, "LDG", "un"), (STORES_16_BYTES, "STG", "pack_")):
        for name, code in instructions(unit, arch).items():
            way = name[name.rindex("_") :]
            if way not in table.get(unit, ()) or (unit == "bits" and name.startswith(other)):
                continue
            wide = count(code, kind, width="128")
            assert wide >= IN_FLIGHT.get(way, 4), f"{name} for {arch}: {wide} {kind}.128"


@pytest.mark.parametrize("arch", DISASSEMBLED)
@pytest.mark.parametrize("unit", ["reduce", "dynamic", "gradient", "histogram"])
def test_reductions_have_wide_loads_in_flight(unit, arch):
    seen = set()
    for name, code in instructions(unit, arch).items():
        stem = name.rpartition("_")[0]
        if stem in REDUCTIONS:
            seen.add(stem)
            wide = count(code, "LDG", width="128"), count(code, "STG", width="128")
            assert all(a >= b for a, b in zip(wide, REDUCTIONS[stem], strict=True)), (name, wide)
    assert seen


@pytest.mark.parametrize("arch", ["sm_90", "sm_120"])
def test_counting_is_done_in_shared_memory_by_one_instruction(arch):
    """Lanes that meet in a bin are counted together: zeros do not wait for one another."""
    for name, code in instructions("histogram", arch).items():
        if name.startswith("histogram_runs"):
            assert count(code, "ATOMS.POPC.INC") >= 4 and not count(code, "ATOMS.CAS"), name


@pytest.mark.parametrize("arch", ["sm_90", "sm_120"])
def test_extremes_of_halves_are_taken_two_at_a_time(arch):
    """A thread of dynamic_rows_f16 has 4 loads of 8 elements, and one minimum for two of them."""
    for name in ("dynamic_rows_f16", "dynamic_rows_bf16"):
        code = instructions("dynamic", arch)[name]
        packed = count(code, "HMNMX2", "VHMNMX")
        assert 16 <= packed <= 2 * 16, (name, packed)


@pytest.mark.parametrize("arch", DISASSEMBLED)
def test_quantize_costs_few_instructions_an_element(arch):
    """A thread of quantize_f32_i8_one has 16 elements, and the memory has no time to spare."""
    code = instructions("quantize", arch)["quantize_f32_i8_one"]
    assert count(code, "FFMA") >= 2 * 16  # the division, by multiplying
    assert len(code) <= 16 * 14 + 150


def test_units_are_found_and_whole():
    for unit in _cuda_loader.units():
        text = _cuda_loader.source(unit)
        assert '#include "' not in text and text.count("PYQUANT_SEMANTICS_H") == 2
