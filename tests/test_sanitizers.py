"""The C programs under the address, undefined behaviour and thread sanitizers."""

import c_build
import cpu_variants
import pytest
from c_build import CONVOLUTION, KERNELS, TEST_FLAGS, build_program, must, run

pytestmark = pytest.mark.timeout(900)

# Misaligned data is allowed, and undefined where it is read through a plain pointer: found too.
SANITIZE = (
    "-O1",
    "-g0",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
    "-fno-omit-frame-pointer",
    "--param=asan-instrumentation-with-call-threshold=0",  # calls compile in two thirds of the time
)


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory):
    if not links(tmp_path_factory.mktemp("probe"), *SANITIZE):
        pytest.skip(f"{c_build.CC} has no AddressSanitizer here")
    runnable = tuple(cpu_variants.available())  # those that could not run would take a minute
    return c_build.build_library("sanitized", extra=SANITIZE, isas=runnable)


def links(folder, *flags) -> bool:
    source = folder / "probe.c"
    source.write_text("int main(void) { return 0; }\n")
    return run([c_build.CC, *flags, str(source), "-o", str(folder / "probe")]).returncode == 0


def test_every_kernel(sanitized, tmp_path):
    kernels = build_program(sanitized, tmp_path / "kernels", KERNELS, TEST_FLAGS, "-fopenmp")
    assert must([kernels, "reduced"]).endswith("all equal\n")


def test_the_public_api(sanitized, tmp_path):
    api = build_program(sanitized, tmp_path / "api", ["api.c", "layouts.c"], TEST_FLAGS, "-fopenmp")
    assert must([api, "brief"]).endswith("all equal\n")


def test_convolutions(sanitized, tmp_path):
    program = build_program(
        sanitized, tmp_path / "convolution", CONVOLUTION, TEST_FLAGS, "-fopenmp"
    )
    assert must([program, "200"]).endswith("all equal\n")


def test_every_error_code(sanitized, tmp_path):
    must(
        [
            build_program(
                sanitized,
                tmp_path / "errors",
                ["errors.c"],
                TEST_FLAGS,
                "-fopenmp",
                "-Wl,--wrap=malloc",
            )
        ]
    )


def test_first_calls_have_no_data_race(tmp_path):
    """Without OpenMP, whose runtime ThreadSanitizer does not understand."""
    flags = ("-O1", "-g1", "-fsanitize=thread")
    if not links(tmp_path, *flags):
        pytest.skip(f"{c_build.CC} has no ThreadSanitizer here")
    library = c_build.build_library("threads", extra=flags, openmp=False, isas=("scalar",))
    program = build_program(library, tmp_path / "first_call", ["first_call.c"], TEST_FLAGS)
    # A random address layout can collide with the shadow memory; a container may forbid another.
    fixed = ["setarch", "-R"]
    command = [*fixed, program] if run([*fixed, "true"]).returncode == 0 else [program]
    for _ in range(5):
        must(command)
