"""torch's and JAX's tensors: they enter every function without a copy and leave as what they were.

On the CPU with the libraries themselves, where they are installed; on a GPU with stand-ins for
them, for CuPy and for the device.
"""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
import standin_cupy
import standin_gpu_tensors
from cases import assert_same_bits, random_generator

import pyquant as pq
from pyquant import ops

SHAPE = (6, 10, 33)
X = random_generator("dlpack").standard_normal(SHAPE).astype(np.float32)
WHERE = {"tensor": (None, None), "axis": (1, None), "last axis": (-1, None), "blocks": (-1, 8)}


class Torch:
    """torch as the tests use it."""

    name = "PyTorch"

    def __init__(self) -> None:
        self.module = pytest.importorskip("torch", reason="PyTorch is not installed")
        self.kind = self.module.Tensor

    def tensor(self, array: np.ndarray):
        if array.dtype.name == "bfloat16":
            return self.module.tensor(array.view(np.int16)).view(self.module.bfloat16)
        return self.module.tensor(array)

    def values(self, tensor) -> np.ndarray:
        if tensor.dtype == self.module.bfloat16:
            bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
            return tensor.view(self.module.int16).numpy().view(bfloat16)
        return tensor.numpy()

    def address(self, tensor) -> int:
        return tensor.data_ptr()


class Jax:
    name = "JAX"

    def __init__(self) -> None:
        self.module = pytest.importorskip("jax", reason="JAX is not installed")
        self.kind = self.module.Array

    def tensor(self, array: np.ndarray):
        return self.module.numpy.array(array)

    def values(self, tensor) -> np.ndarray:
        return np.asarray(tensor)

    def address(self, tensor) -> int:
        return tensor.unsafe_buffer_pointer()


@pytest.fixture(params=[Torch, Jax], ids=["torch", "jax"])
def library(request):
    return request.param()


def assert_same(library, actual, expected) -> None:
    """Tensors of the library wherever the expected has arrays, with the same bits."""
    if isinstance(expected, np.ndarray):
        assert isinstance(actual, library.kind), type(actual)
        assert_same_bits(library.values(actual), expected)
    elif type(expected) is tuple:
        for a, b in zip(actual, expected, strict=True):
            assert_same(library, a, b)
    elif isinstance(expected, pq.QuantizedArray):
        assert isinstance(actual.data, library.kind)
        assert actual == expected and repr(actual) == repr(expected)
        assert actual.shape == expected.shape and type(actual.shape) is tuple
    else:
        assert type(actual) is type(expected) and actual == expected


PARAMS = pq.QuantParams(0.05, 3, "uint8")
SCALE = np.float32([0.5, 0.25, 2.0, 1.0, 0.125, 4.0])
CODES = (np.arange(1980) % 16 - 8).astype(np.int8).reshape(SHAPE)
ACC = (np.arange(1980, dtype=np.int32).reshape(SHAPE) - 900) * 12345
WEIGHT = CODES[0, :3].T.copy()
FILTERS = CODES[:3, :, :3].copy()
FUNCTIONS = {
    "quantize": lambda t: pq.quantize(t(X)),
    "quantize_static": lambda t: pq.quantize(t(X), PARAMS),
    "quantize_calibrated": lambda t: pq.quantize(t(X), calibration="mse", axis=0),
    "quantize_affine": lambda t: pq.quantize(t(X), dtype="uint16", scheme="affine", axis=0),
    "quantize_packed": lambda t: pq.quantize(t(X), dtype="int4", packed=True),
    "quantize_int3": lambda t: pq.quantize(t(X), dtype="int3", axis=1, block_size=4, packed=True),
    "dequantize": lambda t: pq.dequantize(pq.quantize(t(X), axis=0)),
    "dequantize_half": lambda t: pq.dequantize(pq.quantize(t(X)), "float16"),
    "dequantize_packed": lambda t: pq.quantize(t(X), dtype="int3", packed=True).dequantize(),
    "calibrate": lambda t: pq.calibrate(t(X), axis=0),
    "calibrate_blocks": lambda t: pq.calibrate(t(X), "mse", axis=-1, block_size=16),
    "calibrate_percentile": lambda t: pq.calibrate(t(X), "percentile", scheme="affine"),
    "observer": lambda t: pq.Observer("entropy").update(t(X)).update(t(X[::-1].copy())).params(),
    "observer_omit": lambda t: pq.Observer(nan_policy="omit", axis=0).update(t(X)).params(),
    "error": lambda t: pq.error(t(X), pq.quantize(t(X))),
    "error_static": lambda t: pq.error(t(X), pq.quantize(t(X), PARAMS)),
    "error_of_arrays": lambda t: pq.error(t(X), t(X + 1)),
    "fake_quantize": lambda t: pq.fake_quantize(t(X), PARAMS),
    "fake_quantize_grad": lambda t: pq.fake_quantize_grad(t(X), t(X + 1), PARAMS),
    "quantize_linear": lambda t: ops.quantize_linear(t(X), t(SCALE), t(np.int8([1] * 6)), axis=0),
    "dequantize_linear": lambda t: ops.dequantize_linear(t(CODES), t(SCALE), axis=0),
    "dequantize_int32": lambda t: ops.dequantize_linear(t(ACC), SCALE, axis=0),
    "fake_quantize_linear": lambda t: ops.fake_quantize_linear(t(X), t(SCALE), axis=0),
    "grad_linear": lambda t: ops.fake_quantize_grad_linear(t(X), t(X), t(SCALE), axis=0),
    "dynamic_quantize": lambda t: ops.dynamic_quantize(t(X), axis=2),
    "dynamic_quantize_linear": lambda t: ops.dynamic_quantize_linear(t(X)),
    "minmax": lambda t: ops.minmax(t(X), axis=1),
    "absmax": lambda t: ops.absmax(t(X)),
    "choose_params": lambda t: ops.choose_params(t(-SCALE), t(SCALE), scheme="affine"),
    "requantize": lambda t: ops.requantize(t(ACC), t(1e-7 * SCALE), axis=0),
    "matmul_integer": lambda t: ops.matmul_integer(t(CODES), t(WEIGHT), 3, t(np.int8([1, 2, 3]))),
    "qlinear_matmul": lambda t: ops.qlinear_matmul(
        t(CODES), 0.1, 3, t(WEIGHT), t(SCALE[:3]), 0, 0.5, np.int8(1)
    ),
    "matmul": lambda t: pq.matmul(pq.quantize(t(X)), pq.quantize(t(X[0].T.copy()), axis=1)),
    "matmul_codes": lambda t: pq.matmul(
        pq.quantize(t(X)),
        pq.quantize(t(X[0].T.copy()), dtype="int4", packed=True),
        bias=t(X[0, :, 0].copy()),
        out_params=PARAMS,
    ),
    "linear": lambda t: pq.linear(t(X), pq.quantize(t(X[0]), axis=0), t(X[1, :, 0].copy())),
    "linear_static": lambda t: pq.linear(t(X), pq.quantize(t(X[0])), x_params=PARAMS),
    "linear_blocks": lambda t: pq.linear(t(X), pq.quantize(t(X[0]), axis=1, block_size=16)),
    "linear_packed": lambda t: pq.linear(t(X), pq.pack(pq.quantize(X[0], axis=0), transposed=True)),
    "conv_integer": lambda t: ops.conv_integer(t(CODES), t(FILTERS), 3, pads=[1, 1]),
    "qlinear_conv": lambda t: ops.qlinear_conv(
        t(CODES), 0.1, 3, t(FILTERS), t(SCALE[:3]), 0, 0.5, np.int8(1)
    ),
    "conv2d": lambda t: pq.conv2d(t(X[None]), pq.quantize(t(X[None, :, :3, :3]), axis=0)),
    "conv2d_packed": lambda t: pq.conv2d(
        t(X[None]), pq.pack_convolution(pq.quantize(X[None, :, :3, :3])), padding=1
    ),
    "pack_bits": lambda t: ops.pack_bits(t(CODES), 4),
    "unpack_bits": lambda t: ops.unpack_bits(t(ops.pack_bits(CODES, 4)), 4, SHAPE),
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_every_function_takes_tensors_and_gives_them_back(library, function):
    expected = function(lambda array: array)
    assert_same(library, function(library.tensor), expected)


@pytest.mark.parametrize("where", WHERE.values(), ids=WHERE)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_every_float_type(library, dtype, where):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    x, place = X.astype(dtype), dict(zip(("axis", "block_size"), where, strict=True))
    tensor = library.tensor(x)
    if library.values(tensor).dtype != x.dtype:
        pytest.skip(f"{library.name} made {tensor.dtype} of it")
    q = pq.quantize(x, **place)
    assert_same(library, pq.quantize(tensor, **place), q)
    params = pq.QuantParams(q.scale, q.zero_point, q.dtype, True, **place)
    assert_same(library, pq.fake_quantize(tensor, params), pq.fake_quantize(x, params))
    back = pq.quantize(tensor, **place).dequantize(x.dtype.name)
    assert_same(library, back, q.dequantize(x.dtype.name))


@pytest.fixture
def seen(monkeypatch):
    """The first array that the kernels of quantize get."""
    from pyquant import _cpu

    arrays = []

    class Spy:
        def __getattr__(self, name):
            return getattr(_cpu, name)

        def quantize(self, x, *rest):
            arrays.append(x)
            return _cpu.quantize(x, *rest)

    monkeypatch.setattr("pyquant.ops.quantizing._quantize_plain", lambda *_: None)
    monkeypatch.setattr("pyquant.ops.quantizing.backend_of", _spying(Spy()))
    return arrays


def _spying(spy):
    from pyquant import _backend

    def backend_of(*arrays, given=()):
        _backend.backend_of(*arrays, given=given)
        return spy

    return backend_of


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_nothing_is_copied_on_the_way_in(library, dtype, seen):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    tensor = library.tensor(X.astype(dtype))
    ops.quantize_linear(tensor, 0.1)
    assert [array.ctypes.data for array in seen] == [library.address(tensor)]


def test_torch_results_lie_where_the_kernels_wrote_them():
    torch = Torch()
    x = torch.tensor(X)
    out = torch.module.empty(SHAPE, dtype=torch.module.int8)
    assert ops.quantize_linear(x, 0.1, out=out) is out
    assert_same_bits(out.numpy(), ops.quantize_linear(X, 0.1))
    wide = torch.module.zeros((6, 10, 66), dtype=torch.module.int8)
    strided = wide[..., ::2]
    assert ops.quantize_linear(x, 0.1, out=strided) is strided
    assert_same_bits(strided.numpy(), ops.quantize_linear(X, 0.1))
    assert not wide[..., 1::2].any()
    assert pq.fake_quantize(x, PARAMS, out=x) is x
    assert_same_bits(x.numpy(), pq.fake_quantize(X, PARAMS))
    with pytest.raises(ValueError, match="out must not partly overlap"):
        pq.fake_quantize(x[:-1], PARAMS, out=x[1:])
    with pytest.raises(ValueError, match=r"out must have dtype int8, not uint8"):
        ops.quantize_linear(x, 0.1, out=out.view(torch.module.uint8))


def test_torch_tensors_of_every_form():
    torch = Torch().module
    x = torch.tensor(X)
    for view in (x.transpose(0, 2), x[::2, 1:, ::3], x[:1].expand(4, 10, 33), x[:0], x[0, 0, 0]):
        assert pq.quantize(view) == pq.quantize(view.numpy())
    negated = torch.complex(x, x).conj().imag  # the sign waits in a bit beside the memory
    assert negated.is_neg() and pq.quantize(negated) == pq.quantize(-X)
    learned = torch.nn.Parameter(x)
    q = pq.quantize(learned, axis=0)
    assert q == pq.quantize(X, axis=0) and not q.scale.requires_grad
    assert pq.calibrate(learned) == pq.calibrate(X)

    class Own(torch.Tensor):  # of a module of the user's
        pass

    assert isinstance(pq.quantize(x.as_subclass(Own)).data, torch.Tensor)


def test_a_gradient_is_not_lost_in_silence():
    torch = Torch().module
    x = torch.tensor(X, requires_grad=True)
    scale = torch.tensor(0.1, requires_grad=True)
    for call in (
        lambda: pq.fake_quantize(x, PARAMS),
        lambda: ops.fake_quantize_linear(x.detach(), scale),
        lambda: ops.dequantize_linear(torch.tensor(CODES), scale),
    ):
        with pytest.raises(TypeError, match=r"must not require a gradient.*pyquant\.torch"):
            call()
        with torch.no_grad():
            assert not call().requires_grad


def test_jax_arrays_of_every_form():
    jax = Jax().module
    x = jax.numpy.array(X)
    for view in (x.T, x[::2, 1:, ::3], x[:0], x[0, 0, 0]):
        assert pq.quantize(view) == pq.quantize(np.asarray(view))
    with pytest.raises(TypeError, match=r"float32\[6,10,33\] is traced.*jax\.pure_callback"):
        jax.jit(lambda x: ops.quantize_linear(x, 0.1))(x)
    with pytest.raises(TypeError, match="out must be an array that can be written"):
        ops.quantize_linear(x, 0.1, out=jax.numpy.zeros(SHAPE, np.int8))
    with pytest.raises(TypeError, match="JAX has no float64 arrays here: set jax_enable_x64"):
        pq.quantize(x).dequantize("float64")

    def inside(x):
        kind = jax.ShapeDtypeStruct(SHAPE, np.int8)
        return jax.pure_callback(lambda x: ops.quantize_linear(x, 0.1), kind, x)

    assert_same_bits(np.asarray(jax.jit(inside)(x)), ops.quantize_linear(X, 0.1))


def test_parameters_and_quantized_arrays(library, tmp_path):
    x = library.tensor(X)
    q = pq.quantize(x, axis=0)
    for other in (pickle.loads(pickle.dumps(q)), copy.deepcopy(q), q.copy()):
        assert other == q and isinstance(other.data, library.kind)
        assert isinstance(other.scale, library.kind) and other.nbytes == q.nbytes
    params = pq.QuantParams(library.tensor(SCALE), axis=0)
    assert isinstance(params.scale, library.kind) and isinstance(params.zero_point, library.kind)
    assert params == pq.QuantParams(SCALE, axis=0)
    assert repr(params) == repr(pq.QuantParams(SCALE, axis=0))
    assert_same(library, pq.fake_quantize(x, params), pq.fake_quantize(X, params_of(params)))
    made = pq.QuantizedArray(library.tensor(CODES), params)
    assert_same(library, made.dequantize(), ops.dequantize_linear(CODES, SCALE, axis=0))
    assert made.pack().unpack() == made
    with pytest.raises(ValueError, match="data must be int8 for int8, not int32"):
        pq.QuantizedArray(library.tensor(ACC), params)
    with pytest.raises(TypeError, match=r"\.data or its real values with \.dequantize"):
        np.asarray(q)
    for suffix in ("npz", "safetensors"):
        if suffix == "safetensors":
            pytest.importorskip("safetensors")
        pq.save(tmp_path / f"q.{suffix}", {"q": q, "x": x})
        loaded = pq.load(tmp_path / f"q.{suffix}")
        assert loaded["q"] == pq.quantize(X, axis=0) and type(loaded["q"].data) is np.ndarray
        assert_same_bits(loaded["x"], X)


def params_of(params: pq.QuantParams) -> pq.QuantParams:
    """On the host."""
    return pq.QuantParams(np.asarray(params.scale), axis=params.axis)


def test_calibration_gives_parameters_of_numpy(library):
    x = library.tensor(X)
    for params in (pq.calibrate(x), pq.Observer().update(x).params()):
        assert type(params.scale) is np.ndarray
        q = pq.quantize(x, params)
        assert type(q.scale) is np.ndarray and isinstance(q.data, library.kind)


def test_mixed_libraries_are_refused(library):
    x = library.tensor(X)
    for call in (
        lambda: ops.quantize_linear(X, library.tensor(SCALE), axis=0),
        lambda: ops.quantize_linear(x, 0.1, out=np.empty(SHAPE, np.int8)),
        lambda: pq.fake_quantize_grad(X, x, PARAMS),
        lambda: pq.error(x, pq.quantize(X)),
        lambda: pq.error(X, pq.quantize(x)),
    ):
        with pytest.raises(TypeError, match=f"one library.*{library.name}'s"):
            call()


def test_errors_are_those_of_arrays(library):
    x = library.tensor(X)
    bad = X.copy()
    bad[2, 3, 4] = np.nan
    with pytest.raises(ValueError, match=r"x\[\(2, 3, 4\)\] is nan"):
        pq.quantize(library.tensor(bad))
    with pytest.raises(ValueError, match=r"scale=-1\.0 must be positive"):
        ops.quantize_linear(x, library.tensor(np.float32(-1)))
    with pytest.raises(ValueError, match=r"scale must have shape \(10,\) here, not \(6,\)"):
        ops.quantize_linear(x, library.tensor(SCALE), axis=1)
    with pytest.raises(TypeError, match=r"x must be a float16.* not int32") as caught:
        pq.quantize(library.tensor(ACC))
    assert caught.value.__cause__ is None and caught.value.__context__ is None


def test_tensors_that_are_no_arrays_are_refused():
    torch = Torch().module
    for tensor, words in (
        (torch.empty(3, device="meta"), "torch.strided on meta"),
        (torch.ones(3).to_sparse(), "torch.sparse_coo on cpu"),
        (torch.ones(3).to(torch.float8_e4m3fn), "torch.float8_e4m3fn on cpu cannot be taken"),
    ):
        with pytest.raises(TypeError, match=words):
            pq.quantize(tensor)


def test_importing_pyquant_imports_no_library():
    code = "import sys, pyquant; assert not {'torch', 'jax', 'cupy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- on a GPU ---------------------------------------------------------------------------------


@pytest.fixture
def cupy():
    with standin_cupy.installed():
        yield standin_cupy


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_torch_on_a_gpu_is_computed_on_its_own_stream(cupy, monkeypatch, dtype):
    torch = standin_gpu_tensors.torch(stream=77)
    monkeypatch.setitem(sys.modules, "torch", torch)
    if dtype == "bfloat16":
        bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
        host = X.astype(bfloat16)
        x = torch.Tensor(host.view(np.int16), 1, "torch.bfloat16")
    else:
        host = X
        x = torch.Tensor(host, 1)
    launched = []
    monkeypatch.setattr(standin_cupy.cuda_host, "kernel", _noting(launched, cupy))
    cupy.exports.clear()
    with cupy.nothing_fetched():
        q = pq.quantize(x, axis=0)
        back = q.dequantize()
        out = torch.Tensor(np.empty(SHAPE, np.int8), 1)
        assert ops.quantize_linear(x, 0.1, out=out) is out
    assert isinstance(back, torch.Tensor) and q.data.index == back.index == 1
    expected = pq.quantize(host, axis=0)
    assert_same_bits(q.data.host, expected.data)
    assert_same_bits(back.host, expected.dequantize())
    assert_same_bits(out.host, ops.quantize_linear(host, 0.1))
    assert launched and set(launched) == {(1, 77)}, "kernels ran on another device or stream"
    assert set(x.streams) == {77} and set(cupy.exports) == {77}
    assert cupy.get_current_stream().ptr == 0 and cupy.Device().id == 0


def test_jax_on_a_gpu_waits_for_cupy_and_cupy_for_it(cupy, monkeypatch):
    jax = standin_gpu_tensors.jax(stream=55)
    monkeypatch.setitem(sys.modules, "jax", jax)
    x = jax.Array(X)
    cupy.exports.clear()
    with cupy.Stream(33), cupy.nothing_fetched():
        q = pq.quantize(x, axis=0)
        back = q.dequantize()
    assert isinstance(back, jax.Array)
    assert_same_bits(back.host, pq.quantize(X, axis=0).dequantize())
    assert set(x.streams) == {33} and set(cupy.exports) == {55}
    assert pq.calibrate(x, "mse") == pq.calibrate(X, "mse")
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    half = jax.Array(X.astype(bfloat16))
    y = pq.fake_quantize(half, PARAMS)
    assert_same_bits(y.host, pq.fake_quantize(X.astype(bfloat16), PARAMS))


def _noting(launched: list, cupy):
    """Kernels that note on which device and stream they were launched."""
    original = standin_cupy.cuda_host.kernel

    def kernel(unit, name):
        launch = original(unit, name)

        def call(*args):
            launched.append((cupy.Device().id, cupy.get_current_stream().ptr))
            launch(*args)

        return call

    return kernel
