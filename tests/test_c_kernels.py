"""The C library under the programs of tests/c.

Every kernel in every variant that can run here, the public C API, its errors, and the fast
division; then the same under emulators of other CPUs.
"""

import shutil

import c_build
import pytest
from c_build import CONVOLUTION, KERNELS, MACHINE, SWEEP_FLAGS, TEST_FLAGS, build_program, must

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def native():
    return c_build.build_library("native")


@pytest.fixture(scope="module")
def kernels(native):
    return c_build.shared_program(native, "kernels", KERNELS, TEST_FLAGS, "-fopenmp")


@pytest.fixture(scope="module")
def sweep(native):
    flags = SWEEP_FLAGS + (c_build.flags_of("avx2") if MACHINE == "x86_64" else [])
    return c_build.shared_program(native, "sweep", ["sweep.c"], flags, "-fopenmp")


def test_no_compiler_warns(native):
    assert native.warnings == ""


def test_no_compiler_for_arm_warns(arm):
    assert arm.warnings == ""


@pytest.fixture
def report(record_property):
    """Say at the end of the session which variants ran and which could not."""

    def keep(what: str, output: str) -> None:
        record_property(what, [line for line in output.splitlines() if ": " in line])

    return keep


def test_every_kernel_equals_scalar(kernels, report):
    output = must([kernels, "full"])
    report("kernels", output)
    assert output.endswith("all equal\n")
    assert "scalar: ran" in output


def test_a_wrong_kernel_is_found(native, tmp_path):
    """The comparison itself: with another operation in a kernel's place it must fail."""
    if MACHINE != "x86_64" or "avx2: ran" not in must(
        [build(native, tmp_path, "right"), "reduced", "range_f32"]
    ):
        pytest.skip("needs AVX2")
    wrong = build(native, tmp_path, "wrong", "-Dpq_range_f32_avx2=pq_range_f16_avx2")
    done = c_build.run([wrong, "reduced", "range_f32"])
    assert done.returncode != 0
    assert "FAILED range_f32_avx2" in done.stdout


def build(native, folder, name, *defines):
    return build_program(native, folder / name, KERNELS, [*TEST_FLAGS, *defines], "-fopenmp")


def test_the_public_api_equals_index_arithmetic(native, tmp_path):
    api = build_program(native, tmp_path / "api", ["api.c", "layouts.c"], TEST_FLAGS, "-fopenmp")
    assert must([api]).endswith("all equal\n")


def test_convolutions_equal_the_definition(native, tmp_path):
    program = build_program(native, tmp_path / "convolution", CONVOLUTION, TEST_FLAGS, "-fopenmp")
    assert must([program, "2000"]).endswith("all equal\n")


def test_every_error_code(native, tmp_path):
    errors = build_program(
        native, tmp_path / "errors", ["errors.c"], TEST_FLAGS, "-fopenmp", "-Wl,--wrap=malloc"
    )
    must([errors])


def test_first_calls_from_many_threads(native, tmp_path):
    program = build_program(
        native, tmp_path / "first_call", ["first_call.c"], TEST_FLAGS, "-fopenmp"
    )
    for _ in range(20):
        must([program])


def test_fast_division_near_ties(sweep, report):
    """All ties and a stride through the bit patterns; `pytest -m slow` takes every float32."""
    report("division, some patterns", must([sweep, "some"]))


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_fast_division_for_every_float32(sweep, report):
    report("division, all 2^32 patterns", must([sweep, "all"]))


def test_avx2_alone_on_an_emulated_cpu(kernels, report):
    if MACHINE != "x86_64":
        pytest.skip("this is not an x86 machine: nothing to run AVX2 code of")
    qemu = c_build.need("qemu-x86_64", "qemu-user")
    output = must([qemu, "-cpu", "Haswell", kernels, "padded"])
    report("kernels on an emulated Haswell", output)
    assert "avx2: ran" in output
    assert "avx512: ran" not in output
    assert output.endswith("all equal\n")


def alone(native, tmp_path, isa: str, needs: str, *flags: str, csrc=c_build.CSRC) -> str:
    """Run the gemm of `isa` by itself, compiled for another instruction set, `needs`."""
    if MACHINE != "x86_64" or f"-DPQ_HAVE_{needs.upper()}=1" not in native.defines:
        pytest.skip(f"needs a compiler for {needs}")
    include = [f"-I{csrc}", f"-I{csrc / 'include'}", f"-I{c_build.PROGRAMS}"]
    program, defines = tmp_path / "alone", [f"-DGEMM=pq_gemm_{isa}", f'-DNEEDS="{needs}"']
    kernel = tmp_path / "gemm.o"
    options = [*TEST_FLAGS, *c_build.flags_of(needs), *include, *flags]
    must([native.cc, *options, "-c", str(csrc / "gemm" / f"{isa}.c"), "-o", str(kernel)])
    sources = ["gemm_alone.c", "check_gemm.c", "arena.c", "report.c", "values.c"]
    build_program(native, program, sources, [*TEST_FLAGS, *defines, str(kernel)], "-fopenmp")
    output = must([str(program)])
    if "could not run" in output:
        pytest.skip(output.strip())
    return output


def test_amx_on_a_model(native, tmp_path):
    """The very text of amxint8.c, its tile instructions done in C."""
    model = ["-include", str(c_build.PROGRAMS / "amx_model.h")]
    assert alone(native, tmp_path, "amxint8", "avx512vnni", *model).endswith("all equal\n")


def test_avxvnni_in_the_encoding_of_avx512(native, tmp_path):
    """The same instructions on the same registers, for CPUs that have them as AVX-512 only."""
    csrc = tmp_path / "csrc"
    shutil.copytree(c_build.CSRC, csrc)
    text = (csrc / "gemm" / "avx2.inc").read_text()
    assert text.count("%{vex%}") == 1
    (csrc / "gemm" / "avx2.inc").write_text(text.replace("%{vex%}", "%{evex%}"))
    assert alone(native, tmp_path, "avxvnni", "avx512vnni", csrc=csrc).endswith("all equal\n")


@pytest.fixture(scope="module")
def arm():
    return c_build.arm_library()


def on_arm(arm, target, sources, flags, *args: str) -> str:
    return must(["qemu-aarch64", build_program(arm, target, sources, flags, "-static"), *args])


def test_neon_on_an_emulated_cpu(arm, tmp_path, report):
    output = on_arm(arm, tmp_path / "kernels", KERNELS, TEST_FLAGS, "reduced")
    report("kernels on an emulated AArch64", output)
    for isa in ("neon", "neondot", "neoni8mm"):
        assert f"{isa}: ran" in output
    assert output.endswith("all equal\n")


def test_neon_division_near_ties(arm, tmp_path, report):
    report(
        "division on an emulated AArch64",
        on_arm(arm, tmp_path / "sweep", ["sweep.c"], SWEEP_FLAGS, "ties"),
    )


def test_convolutions_on_an_emulated_arm(arm, tmp_path):
    target = tmp_path / "convolution"
    assert on_arm(arm, target, CONVOLUTION, TEST_FLAGS, "60").endswith("all equal\n")


def test_the_public_api_on_an_emulated_arm(arm, tmp_path):
    assert on_arm(arm, tmp_path / "api", ["api.c", "layouts.c"], TEST_FLAGS, "reduced").endswith(
        "all equal\n"
    )
