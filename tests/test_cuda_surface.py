"""The modules for CPU and GPU are the same from outside; CuPy stays out until it is used."""

import ast
import inspect
import subprocess
import sys

import pytest
from c_build import ROOT

pytest.importorskip("cupy")
from pyquant import _cpu, _cuda, _cuda_loader


def declared() -> dict[str, list[str]]:
    """The functions of `_cpu.pyi`, with their parameters' names."""
    tree = ast.parse((ROOT / "pyquant" / "_cpu.pyi").read_text())
    return {
        node.name: [a.arg for a in node.args.args]
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
    }


def used_of_backends() -> set[str]:
    """The names that operators take from the module that `backend_of` gave them."""
    trees = [ast.parse(path.read_text()) for path in (ROOT / "pyquant").rglob("*.py")]
    attributes = [n for tree in trees for n in ast.walk(tree) if isinstance(n, ast.Attribute)]
    return {n.attr for n in attributes if isinstance(n.value, ast.Name) and n.value.id == "backend"}


def test_operators_use_backends():
    assert used_of_backends() >= {"quantize", "dequantize", "fake_quantize", "requantize"}


@pytest.mark.parametrize("name", sorted(used_of_backends()))
def test_both_modules_have_what_operators_use(name):
    assert callable(getattr(_cpu, name))
    assert callable(getattr(_cuda, name))


@pytest.mark.parametrize("name", sorted(declared()))
def test_functions_of_one_name_take_the_same(name):
    function = getattr(_cuda, name, None)
    if function is None:
        assert name not in used_of_backends()
        return
    assert list(inspect.signature(function).parameters) == declared()[name]


def test_numbers_of_types_and_modes_agree():
    upper = [name for name in dir(_cuda) if name.isupper() and name[0] != "_"]
    assert len(upper) > 10
    for name in upper:
        assert getattr(_cuda, name) == getattr(_cpu, name), name


def python(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_using_numpy_arrays_imports_no_cupy_and_makes_no_context():
    program = """
import sys
import numpy as np
import pyquant as pq
q = pq.quantize(np.ones(10, np.float32))
pq.dequantize(q)
pq.runtime_info()
pq.show_runtime()
libraries = open("/proc/self/maps").read() if sys.platform == "linux" else ""
loaded = [n for n in ("libcuda.so", "libcudart", "libnvrtc") if n in libraries]
print(sorted(m for m in sys.modules if m.split(".")[0] in ("cupy", "cupy_backends")), loaded)
"""
    assert python(program).splitlines()[-1] == "[] []"


@pytest.mark.parametrize("loaded", ["", "import cupy"], ids=["before import", "after import"])
def test_a_cupy_array_without_a_driver_is_one_clear_error(loaded):
    if not _cuda_loader._no_device(__import__("cupy")):
        pytest.skip("this machine has a GPU")
    program = f"""
{loaded}
import pyquant as pq
class ndarray:
    shape, ndim, size = (3,), 1, 3
    def __array__(self, *args, **kwargs):
        raise TypeError("implicit conversion to a NumPy array is not allowed")
ndarray.__module__ = "cupy"
for call in (pq.quantize, pq.calibrate, pq.ops.minmax, lambda x: pq.ops.quantize_linear(x, 0.5)):
    try:
        call(ndarray())
    except RuntimeError as error:
        print(str(error).split(":")[0])
"""
    sentence = "arrays on a GPU need an NVIDIA GPU and its driver"
    assert python(program).splitlines() == [sentence] * 4
