"""The CUDA kernels on the host under the address and undefined behaviour sanitizers."""

import os
import subprocess
import sys

import pytest
from c_build import CXX, ROOT, must

pytest.importorskip("cupy")
pytestmark = pytest.mark.timeout(900)

# Reads one element too many.
BEYOND = """
import numpy as np
from cuda_host import library_of
text = '#include "primitives.cuh"\\nPQ_KERNEL beyond(const float *x, float *y)'
text += '{ y[threadIdx.x] = x[threadIdx.x + 1]; }'
x, y = np.ones(640, np.float32), np.empty(640, np.float32)
library_of(text, "beyond").launch("beyond", (1,), (640,), (x, y))
print("not caught")
"""


def sanitized(*command: str) -> subprocess.CompletedProcess:
    """A Python whose memory the sanitizers watch from its start."""
    runtimes = [must([CXX, f"-print-file-name=lib{name}.so"]).strip() for name in ("asan", "ubsan")]
    if not all(os.path.isabs(path) for path in runtimes):
        pytest.skip(f"{CXX} has no AddressSanitizer here")
    paths = [str(ROOT), str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(paths), "PYTHONMALLOC": "malloc",
        "PYQUANT_SHIM_SANITIZE": "1", "LD_PRELOAD": " ".join(runtimes),
        "ASAN_OPTIONS": "detect_leaks=0", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, check=False,
        cwd=ROOT,
    )  # fmt: skip


def run_tests(*selection: str) -> None:
    done = sanitized("-m", "pytest", "-q", "-p", "no:cacheprovider", *selection)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]


def test_a_read_beyond_an_array_is_caught():
    done = sanitized("-c", BEYOND)
    assert done.returncode != 0 and "heap-buffer-overflow" in done.stderr, done.stderr
    assert "not caught" not in done.stdout


def test_every_length_and_address():
    tests = ["test_every_length_and_address and quantize and not de and not fake", "pack_and"]
    run_tests("tests/test_cuda_host.py", "-k", " or ".join(f"({t})" for t in tests))


@pytest.mark.slow
def test_everything():
    names = "host shim gemm blocks hopper operands front columns reductions convolution"
    run_tests(*(f"tests/test_cuda_{of}.py" for of in names.split()))
