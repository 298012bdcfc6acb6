"""The public API on CuPy arrays, without a GPU: the results of NumPy arrays, bit for bit.

CuPy is `standin_cupy`, on the memory of the host; the kernels are those of pyquant/cuda, run by
`cuda_host`. What waits for the device, and what does not, is counted.
"""

import copy
import os
import pickle
import re
import subprocess
import sys
from importlib import import_module
from unittest import mock

import numpy as np
import pytest
import reference
import standin_cupy
import test_errors
from cases import LAYOUTS, assert_same_bits, layouts, random_generator, random_params

import pyquant as pq
from pyquant import ops

SHAPE = (6, 10, 33)
PLACES = {
    "tensor": (None, None), "axis0": (0, None), "axis1": (1, None), "axis2": (-1, None),
    "block1": (1, 4), "block2": (2, 8),
}  # fmt: skip
FLOATS = ["float16", "bfloat16", "float32", "float64"]


@pytest.fixture(scope="module")
def cupy():
    with standin_cupy.installed():
        yield standin_cupy


@pytest.fixture(params=PLACES.values(), ids=PLACES)
def place(request) -> dict:
    return dict(zip(("axis", "block_size"), request.param, strict=True))


def floats(dtype="float32", shape=SHAPE, *, finite=True) -> np.ndarray:
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    x = (random_generator("cupy").standard_normal(shape) * 40).astype(dtype)
    if not finite:
        x.flat[:4] = [np.nan, np.inf, -np.inf, -0.0]
    return x


def params_of(place: dict, dtype: str, shape=SHAPE) -> tuple[np.ndarray, np.ndarray]:
    where = place["axis"], place["block_size"]
    expected = reference.params_shape(shape, *where)
    scale, zero = random_params(random_generator(*where), expected, *reference.grid(dtype))
    return scale, zero.astype(reference.storage(dtype))


def assert_same(actual, expected) -> None:
    """Arrays of CuPy wherever the expected has NumPy's, with the same bits."""
    if isinstance(expected, np.ndarray):
        assert isinstance(actual, standin_cupy.ndarray), type(actual)
        assert_same_bits(actual.get(), expected)
    elif isinstance(expected, pq.QuantizedArray):
        assert_same(actual.data, expected.data)
        assert_same(actual.scale, expected.scale)
        assert_same(actual.zero_point, expected.zero_point)
        assert repr(actual) == repr(expected) and actual == expected
    else:
        assert len(actual) == len(expected)
        for a, b in zip(actual, expected, strict=True):
            assert_same(a, b)


# --- operators --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int4", "uint16"])
@pytest.mark.parametrize("x_dtype", FLOATS)
@pytest.mark.parametrize("params_on", ["host", "device"])
def test_static_parameters(cupy, place, x_dtype, dtype, params_on):
    x = floats(x_dtype, finite=False)
    scale, zero_point = params_of(place, dtype)
    d = cupy.array(x)
    given = (scale, zero_point)
    if params_on == "device":
        given = tuple(map(cupy.array, given))
    with cupy.nothing_fetched():
        q = ops.quantize_linear(d, *given, dtype=dtype, **place)
        fake = ops.fake_quantize_linear(d, *given, dtype=dtype, **place)
        back = [ops.dequantize_linear(q, *given, dtype=name, **place) for name in FLOATS]
    expected = ops.quantize_linear(x, scale, zero_point, dtype=dtype, **place)
    assert_same(q, expected)
    assert_same(fake, ops.fake_quantize_linear(x, scale, zero_point, dtype=dtype, **place))
    for actual, name in zip(back, FLOATS, strict=True):
        wanted = ops.dequantize_linear(expected, scale, zero_point, dtype=name, **place)
        assert_same(actual, wanted)


@pytest.mark.parametrize("dtypes", [("float32", "float32"), ("float16", "float32"),
                                    ("bfloat16", "bfloat16"), ("float32", "float64")])  # fmt: skip
def test_gradients(cupy, place, dtypes):
    grad, x = (floats(dtype) for dtype in dtypes)
    scale, zero_point = params_of(place, "int4")
    with cupy.nothing_fetched():
        made = ops.fake_quantize_grad_linear(
            cupy.array(grad), cupy.array(x), scale, zero_point, dtype="int4", **place
        )
    expected = ops.fake_quantize_grad_linear(grad, x, scale, zero_point, dtype="int4", **place)
    assert_same(made, expected)


@pytest.mark.parametrize("x_dtype", FLOATS)
@pytest.mark.parametrize(
    "scheme, dtype",
    [("symmetric", "int8"), ("affine", "uint8"), ("affine", "int4"), ("symmetric", "uint16")],
)
def test_dynamic_quantization_leaves_its_parameters_on_the_device(
    cupy, place, x_dtype, scheme, dtype
):
    x = floats(x_dtype)
    d = cupy.array(x)
    with cupy.nothing_fetched():
        q = pq.quantize(d, dtype=dtype, scheme=scheme, **place)
        packed = pq.quantize(d, dtype=dtype, scheme=scheme, packed=True, **place)
        back, unpacked = q.dequantize(), packed.dequantize("float16")
        copied = q.copy(), copy.deepcopy(q)
        sizes = len(q), q.size, q.ndim, q.shape, q.axis, q.block_size, q.dtype
    expected = pq.quantize(x, dtype=dtype, scheme=scheme, **place)
    assert_same(q, expected)
    assert_same(packed, expected.pack())
    assert_same(back, expected.dequantize())
    assert_same(unpacked, expected.dequantize("float16"))
    assert copied[0] == copied[1] == q and q.nbytes == expected.nbytes
    assert sizes == (6, 1980, 3, SHAPE, place["axis"], place["block_size"], dtype)


@pytest.mark.parametrize("policy", ["raise", "omit"])
@pytest.mark.parametrize("x_dtype", FLOATS)
def test_ranges(cupy, place, x_dtype, policy):
    x = floats(x_dtype, finite=policy == "raise")
    d = cupy.array(x)
    with cupy.nothing_fetched():
        made = *ops.minmax(d, nan_policy=policy, **place), ops.absmax(d, nan_policy=policy, **place)
    expected = *ops.minmax(x, nan_policy=policy, **place), ops.absmax(x, nan_policy=policy, **place)
    assert_same(made, expected)


def test_the_other_operators(cupy):
    rng = random_generator("others")
    acc = rng.integers(-(1 << 31), 1 << 31, SHAPE, dtype=np.int32)
    for axis in (None, 0, 1, 2):
        exponent = rng.uniform(-30, -20, () if axis is None else SHAPE[axis])
        multiplier = (2.0**exponent).astype(np.float32)
        for options in ({}, {"mode": "fixed"}, {"mode": "fixed", "rounding": "single"}):
            expected = ops.requantize(acc, multiplier, 1, axis=axis, **options)
            for given in (multiplier, cupy.array(multiplier)):
                with cupy.nothing_fetched():
                    q = ops.requantize(cupy.array(acc), given, 1, axis=axis, **options)
                assert_same(q, expected)
    for bits in (1, 2, 3, 4, 7, 8, 11, 16):
        kind = np.int8 if bits <= 8 else np.int16
        codes = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), SHAPE).astype(kind)
        packed = ops.pack_bits(codes, bits)
        with cupy.nothing_fetched():
            made = ops.pack_bits(cupy.array(codes), bits)
            back = ops.unpack_bits(made, bits, SHAPE)
            plain = ops.unpack_bits(made, bits, SHAPE, signed=False)
        assert_same((made, back), (packed, codes))
        assert_same(plain, ops.unpack_bits(packed, bits, SHAPE, signed=False))
    low, high = np.float32([-3, 0, 1, 0]), np.float32([5, 0, 2, 7])
    for scheme in ("symmetric", "affine"):
        with cupy.nothing_fetched():
            made = ops.choose_params(cupy.array(low), cupy.array(high), scheme=scheme)
            params = pq.choose_params(cupy.array(low), cupy.array(high), scheme=scheme, axis=0)
        assert_same(made, ops.choose_params(low, high, scheme=scheme))
        assert params == pq.choose_params(low, high, scheme=scheme, axis=0)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("params_on", ["host", "device"])
def test_int32_as_biases_are(cupy, place, dtype, params_on):
    q = random_generator("bias").integers(-(1 << 31), 1 << 31, SHAPE, dtype=np.int32)
    scale, zero_point = params_of(place, "int16")
    zero_point = zero_point.astype(np.int64) << 17
    given = (scale, zero_point)
    if params_on == "device":
        given = tuple(map(cupy.array, given))
    with cupy.nothing_fetched():
        made = ops.dequantize_linear(cupy.array(q), *given, dtype=dtype, **place)
    assert_same(made, ops.dequantize_linear(q, scale, zero_point, dtype=dtype, **place))


W = random_generator("weights").standard_normal((24, 33)).astype(np.float32)
BIAS = W[:, 0].copy()
PRODUCTS = {
    "matmul_integer": lambda t: ops.matmul_integer(t(np.int8(W * 20)), t(np.int8(W.T * 20)), 3),
    "matmul": lambda t: pq.matmul(pq.quantize(t(W), axis=0), pq.quantize(t(W.T.copy()), axis=1)),
    "linear": lambda t: pq.linear(t(floats()), pq.quantize(t(W), axis=0), BIAS),
    "packed": lambda t: pq.linear(t(W), pq.pack(pq.quantize(t(W), axis=0), transposed=True)),
    "codes": lambda t: pq.linear(
        pq.quantize(t(W)), pq.quantize(t(W), axis=0), BIAS, out_params=pq.QuantParams(0.5)
    ).data,
    "blocks": lambda t: pq.linear(t(floats()), pq.quantize(t(W), axis=1, block_size=16)),
    "static_blocks": lambda t: pq.linear(
        pq.quantize(t(W)), pq.quantize(t(W), axis=1, block_size=16)
    ),
}  # fmt: skip


@pytest.mark.parametrize("product", PRODUCTS.values(), ids=PRODUCTS)
def test_products(cupy, product):
    with cupy.nothing_fetched():
        made = product(cupy.array)
    assert_same(made, product(lambda array: array))


# --- calibration and figures ------------------------------------------------------------------


@pytest.mark.parametrize("x_dtype", FLOATS)
@pytest.mark.parametrize(
    "method", ["minmax", "moving_average", "percentile", "mse", "entropy", "aciq_laplace"]
)
def test_calibration(cupy, place, method, x_dtype):
    if place["block_size"] is not None and method == "entropy":
        pytest.skip("blocks are too small for an entropy")
    if place["block_size"] is not None and x_dtype != "float32":
        pytest.skip("once is enough: a histogram a row")
    x = floats(x_dtype)
    options = {"scheme": "affine", "bins": 128, **place}
    params = pq.calibrate(cupy.array(x), method, **options)
    assert params == pq.calibrate(x, method, **options)
    assert type(params.scale) is np.ndarray, "parameters of calibrate are the host's"


@pytest.mark.parametrize("method", ["minmax", "moving_average", "mse"])
@pytest.mark.parametrize("axis", [None, 1])
def test_observers(cupy, method, axis):
    batches = [floats(shape=(n, 10, 8)) * n for n in (3, 1, 7)]
    batches[1][0, 2] = np.nan  # a channel of nothing
    host, device = (pq.Observer(method, axis=axis, nan_policy="omit", bins=64) for _ in range(2))
    for batch in batches:
        assert device.update(cupy.array(batch)) is device
        host.update(batch)
    assert device.params() == host.params()
    for a, b in zip(device.state().values(), host.state().values(), strict=True):
        assert isinstance(a, np.ndarray | np.generic), "an observer's state is the host's"
        assert_same_bits(a, b)


@pytest.mark.parametrize("x_dtype", FLOATS)
def test_error(cupy, place, x_dtype):
    x = floats(x_dtype)
    params = pq.calibrate(x, "percentile", percentile=99, bins=64) if not any(
        v is not None for v in place.values()
    ) else pq.calibrate(x, **place)  # fmt: skip
    q, d = pq.quantize(x, params), cupy.array(x)
    expected, actual = pq.error(x, q), pq.error(d, pq.quantize(d, params))
    np.testing.assert_allclose(actual, expected, rtol=1e-12)
    assert (actual.max_abs, actual.clipped) == (expected.max_abs, expected.clipped)
    assert all(type(value) is float for value in actual)
    plain = pq.error(d, pq.quantize(d, params).dequantize())
    np.testing.assert_allclose(plain[:4], expected[:4], rtol=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("x_dtype", FLOATS)
def test_data_that_are_not_finite(cupy, place, x_dtype, bad):
    """Dynamic quantization does not wait to find them, and does not hide them either."""
    x = floats(x_dtype)
    x[2, 3, 4] = x[5, 9, 32] = bad
    d = cupy.array(x)
    for call in (pq.calibrate, lambda x, **place: pq.Observer(**place).update(x)):
        sentences = []
        for array in (x, d):
            with pytest.raises(ValueError) as caught:
                call(array, **place)
            sentences.append(str(caught.value))
        assert sentences[0] == sentences[1] and "x[(2, 3, 4)]" in sentences[0]
    with cupy.nothing_fetched():
        q = pq.quantize(d, **place)
        back = q.dequantize()
    scale, real = q.scale.get(), back.get()
    fine = pq.quantize(np.where(np.isfinite(x.astype("f4")), x, 0).astype(x.dtype), **place)
    touched = np.isnan(scale)
    assert touched.any() and np.isnan(real[2, 3, 4]) and np.isnan(real[5, 9, 32])
    assert_same_bits(scale[~touched], fine.scale[~touched])
    assert np.isnan(real).sum() == _reached(touched, place).sum()


def _reached(touched: np.ndarray, place: dict) -> np.ndarray:
    """The elements that have such a scale."""
    axis, block = place["axis"], place["block_size"]
    if axis is None:
        return np.broadcast_to(touched, SHAPE)
    if block is None:
        shape = [1] * len(SHAPE)
        shape[axis] = SHAPE[axis]
        return np.broadcast_to(touched.reshape(shape), SHAPE)
    return np.take(touched, np.arange(SHAPE[axis]) // block, axis)


def test_float64_beyond_float32_is_refused_by_calibration(cupy):
    x = np.array([1e300, -1.0])
    for method in ("minmax", "mse"):
        for array in (x, cupy.array(x)):
            with pytest.raises(ValueError, match="range of x must be finite in float32"):
                pq.calibrate(array, method)


# --- arrays of every form, and out= -----------------------------------------------------------


@pytest.mark.parametrize("layout", [n for n in LAYOUTS if n not in ("byte_swapped", "read_only")])
@pytest.mark.parametrize("x_dtype", ["bfloat16", "float32"])
def test_any_layout(cupy, layout, x_dtype):
    if layout == "unaligned":
        pytest.skip("CuPy makes no such array")
    plain = floats(x_dtype)
    x = cupy.ndarray._of(layouts(plain)[layout])
    for place in ({"axis": None}, {"axis": 1}, {"axis": -1, "block_size": 8}):
        with cupy.nothing_fetched():
            q = pq.quantize(x, **place)
        assert_same(q, pq.quantize(plain, **place))
        assert pq.calibrate(x, **place) == pq.calibrate(plain, **place)
        params = pq.calibrate(plain, **place)
        assert_same(pq.fake_quantize(x, params), pq.fake_quantize(plain, params))


@pytest.mark.parametrize("shape", [(), (0,), (0, 5), (5, 0), (1,), (2, 0, 3)])
def test_no_dimension_and_no_element(cupy, shape):
    x = np.full(shape, 3.25, np.float32)
    for axis in [None, *range(len(shape))]:
        q = pq.quantize(cupy.array(x), axis=axis)
        assert_same(q, pq.quantize(x, axis=axis))
        assert_same(q.dequantize(), pq.quantize(x, axis=axis).dequantize())
        assert pq.calibrate(cupy.array(x), axis=axis) == pq.calibrate(x, axis=axis)


def test_out(cupy):
    x = floats()
    d, expected = cupy.array(x), ops.quantize_linear(x, 0.5)
    out = cupy.empty(SHAPE, np.int8)
    with cupy.nothing_fetched():
        assert ops.quantize_linear(d, 0.5, out=out) is out
    assert_same(out, expected)
    wide = cupy.zeros((6, 10, 66), np.int8)
    strided = wide[..., ::-2]
    assert ops.quantize_linear(d, 0.5, out=strided) is strided
    assert_same(strided, expected)
    assert not wide[..., ::2].any()
    q = pq.quantize(d, out=out, axis=1)
    assert q.data is out
    assert_same(q, pq.quantize(x, axis=1))
    params = pq.QuantParams(0.5)
    buffer = cupy.array(x)
    assert pq.fake_quantize(buffer, params, out=buffer) is buffer
    assert_same(buffer, pq.fake_quantize(x, params))
    for a, b in ((d[:-1], d[1:]), (d, d[::-1]), (d[:3], d[2:5])):
        before = d.get()
        with pytest.raises(ValueError, match="out must not partly overlap"):
            pq.fake_quantize(a, params, out=b)
        assert_same(d, before)
    interleaved = cupy.array(np.arange(400, dtype=np.float32))
    made = pq.fake_quantize(interleaved[::2], params, out=interleaved[1::2])
    assert_same(made, pq.fake_quantize(np.arange(0, 400, 2, dtype=np.float32), params))
    scale = cupy.array(np.linspace(1, 2, 64, dtype=np.float32))  # lies in what is written
    codes = np.arange(64, dtype=np.int8).reshape(8, 8)
    wanted = ops.dequantize_linear(codes, scale.get()[:8], axis=0)
    over = scale.reshape(8, 8)
    assert_same(ops.dequantize_linear(cupy.array(codes), scale[:8], axis=0, out=over), wanted)


OUTS = {
    "shape": ((4, 3), np.int8, "(4, 3)"), "dtype": ((3, 4), np.uint8, "uint8"),
    "wide": ((3, 4), np.int16, "int16"),
}  # fmt: skip


@pytest.mark.parametrize("shape, dtype, word", OUTS.values(), ids=OUTS)
def test_an_out_that_does_not_fit_is_refused_as_on_the_host(cupy, shape, dtype, word):
    x = np.ones((3, 4), np.float32)
    sentences = []
    for xp, array in ((np, x), (cupy, cupy.array(x))):
        with pytest.raises(ValueError) as caught:
            ops.quantize_linear(array, 1.0, out=xp.zeros(shape, dtype))
        sentences.append(str(caught.value))
    assert sentences[0] == sentences[1] and word in sentences[0]


# --- errors -----------------------------------------------------------------------------------

# What a device cannot refuse without waiting for it, or what has NumPy arrays of its own.
_ELSEWHERE = ("out_", "type_int", "type_bool", "type_complex", "type_object", "type_string",
              "type_list", "type_datetime", "float64_beyond", "packed_bits", "unpack")  # fmt: skip
MISTAKES = {n: m for n, m in test_errors.MISTAKES.items() if not n.startswith(_ELSEWHERE)}


def test_errors_are_the_same_sentences(cupy, monkeypatch):
    """Every mistake of test_errors, made with arrays on the host and on the device."""
    expected = {name: _refusal(mistake) for name, mistake in MISTAKES.items()}
    for name in ("X", "Q", "ACC"):
        monkeypatch.setattr(test_errors, name, cupy.array(getattr(test_errors, name)))
    actual = {name: _refusal(mistake) for name, mistake in MISTAKES.items()}
    assert len(actual) > 150 and actual == expected


def _refusal(mistake) -> tuple:
    with pytest.raises(mistake.error) as caught:
        mistake.call()
    return type(caught.value), str(caught.value)


def test_a_grid_that_zero_is_off_is_refused(cupy):
    words = r"zero_point=0 lies outside the grid 1 \.\.\. 255"
    for x in (np.ones(3, np.float32), cupy.array(np.ones(3, np.float32))):
        for call in (
            ops.quantize_linear,
            ops.fake_quantize_linear,
            lambda x, *args, **options: ops.fake_quantize_grad_linear(x, x, *args, **options),
        ):
            with pytest.raises(ValueError, match=words):
                call(x, 1.0, dtype="uint8", narrow_range=True)
            with pytest.raises(ValueError, match=r"scale=-1\.0 must be positive"):
                call(x, -1.0)


def test_mixtures_are_refused(cupy):
    x, d = floats(), cupy.array(floats())
    q = pq.quantize(x)
    for call in (
        lambda: ops.quantize_linear(x, cupy.array(np.float32(0.5))),
        lambda: ops.quantize_linear(d, 0.5, out=np.empty(SHAPE, np.int8)),
        lambda: ops.quantize_linear(x, 0.5, out=cupy.empty(SHAPE, np.int8)),
        lambda: ops.fake_quantize_grad_linear(x, d, 0.5),
        lambda: pq.error(d, q), lambda: pq.error(x, pq.quantize(d)), lambda: pq.error(d, x),
        lambda: pq.quantize(x, pq.quantize(d).params),
        lambda: ops.choose_params(x, d),
    ):  # fmt: skip
        with pytest.raises(TypeError, match=r"one library and on one device, not .*CuPy's"):
            call()
    with cupy.Device(1):
        other = cupy.array(np.float32(0.5))
    with pytest.raises(TypeError, match="on one device, not on GPU 0 and GPU 1"):
        ops.quantize_linear(d, other)
    with pytest.raises(TypeError, match=r"one library .* not CuPy's ndarray and NumPy's list"):
        ops.quantize_linear(d, 0.5, out=[0] * d.size)


def test_arrays_of_another_device_than_the_current_one(cupy):
    x = floats()
    with cupy.Device(1):
        d = cupy.array(x)
    assert cupy.Device().id == 0
    q, params = pq.quantize(d, axis=0), pq.QuantParams(0.1)
    results = [
        q.data, q.scale, q.zero_point, q.dequantize(), pq.fake_quantize(d[::2], params),
        *pq.fake_quantize_grad(d, d, params), *ops.minmax(d), q.pack().data,
        ops.dequantize_linear(cupy.ndarray._of(np.int32([1, 2]), 1), 0.5),
    ]  # fmt: skip
    assert {array.device.id for array in results} == {1} and cupy.Device().id == 0
    assert_same(q, pq.quantize(x, axis=0))
    assert pq.calibrate(d, "mse") == pq.calibrate(x, "mse")
    assert pq.error(d, q).max_abs == pq.error(x, pq.quantize(x, axis=0)).max_abs


# --- objects that hold arrays -----------------------------------------------------------------


def test_quantized_arrays_and_parameters(cupy, tmp_path):
    x = floats()
    q, expected = pq.quantize(cupy.array(x), axis=0), pq.quantize(x, axis=0)
    assert q == expected and expected == q and q.params == expected.params
    other = pickle.loads(pickle.dumps(q))
    assert_same(other, expected)
    with pytest.raises(TypeError, match=r"\.data or its real values with \.dequantize"):
        np.asarray(q)
    with cupy.nothing_fetched():
        params = pq.QuantParams(cupy.array(expected.scale), narrow_range=True, axis=0)
        half = pq.QuantParams(cupy.array(expected.scale.astype("f2")), axis=0)
        mixed = pq.QuantParams(0.5, cupy.array(np.int8(3)))
        again = pq.QuantizedArray(q.data, params)
        packed = pq.QuantizedArray(q.pack().data, params, shape=SHAPE, packed=True)
    assert params == expected.params and repr(params) == repr(expected.params)
    assert isinstance(params.scale, cupy.ndarray) and isinstance(params.zero_point, cupy.ndarray)
    assert half == pq.QuantParams(expected.scale.astype("f2"), axis=0)
    assert mixed == pq.QuantParams(0.5, 3) and isinstance(mixed.scale, cupy.ndarray)
    assert_same(again, expected)
    assert_same(packed.unpack(), expected)
    source = cupy.array(np.float32([1, 2]))
    kept = pq.QuantParams(source, axis=0)
    source.fill(-1)
    assert kept.scale.tolist() == [1, 2], "parameters must not change with what they were made of"
    with pytest.raises(ValueError, match="data must be int8 for int8, not int32"):
        pq.QuantizedArray(cupy.zeros(SHAPE, np.int32), params)
    with pytest.raises(ValueError, match=r"scale must have shape \(5,\) for shape \(5,\)"):
        pq.QuantizedArray(cupy.zeros(5, np.int8), params)
    pq.save(tmp_path / "q.npz", {"q": q, "x": cupy.array(x), "packed": q.pack()})
    loaded = pq.load(tmp_path / "q.npz")
    assert loaded["q"] == expected and type(loaded["q"].data) is np.ndarray
    assert loaded["packed"] == expected.pack()
    assert_same_bits(loaded["x"], x)


# --- the stand-in itself ----------------------------------------------------------------------


def test_the_stand_in_has_nothing_that_cupy_has_not():
    real = pytest.importorskip("cupy")
    own = {n for n in vars(standin_cupy) if not n.startswith("_")}
    own -= {
        "KERNEL_TYPES", "fetches", "exports", "installed", "nothing_fetched", "CUDARuntimeError",
        "Device", "Stream", "get_current_stream", "runtime",  # of cupy.cuda
        "cuda_host", "pyquant", "np", "sys", "types", "mock", "contextmanager",
    }  # fmt: skip
    assert own and {n for n in own if not hasattr(real, n)} == set()
    members = {n for n in vars(standin_cupy.ndarray) if n not in ("_of", "_host", "_device")}
    assert {n for n in members if not hasattr(real.ndarray, n)} == set()
    for name in ("Device", "Stream", "get_current_stream", "runtime"):
        assert hasattr(standin_cupy.cuda, name) and hasattr(real.cuda, name)
    for name in ("getDevice", "getDeviceCount", "CUDARuntimeError"):
        assert hasattr(real.cuda.runtime, name)
    assert hasattr(real.cuda.Stream, "from_external") and hasattr(real.cuda.Stream, "is_capturing")


def test_numpy_arrays_need_no_cupy():
    """Nothing of it is imported, and where it is not installed nothing misses it."""
    code = (
        "import sys, numpy as np; sys.modules['cupy'] = None\n"
        "import pyquant as pq; x = np.linspace(-1, 1, 20, dtype='f4')[::2]\n"
        "pq.quantize(x).pack(); pq.calibrate(x, 'mse'); pq.error(x, pq.quantize([1.0]*10))\n"
        "assert not [n for n in sys.modules if n.startswith('pyquant._cuda')]"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and not re.search("rror", done.stderr), done.stderr


def packed_with_host_scales(cupy, rng) -> tuple:
    codes = cupy.array(rng.integers(-9, 9, (4, 40)).astype(np.int8))
    scale = rng.uniform(0.1, 1, 4).astype(np.float32)
    weight = pq.QuantizedArray(codes, pq.QuantParams(scale, axis=0))
    x = cupy.array(rng.integers(-9, 9, (3, 40)).astype(np.int8))
    return pq.QuantizedArray(x, pq.QuantParams(0.5)), pq.pack(weight, transposed=True)


def test_temporary_memory_of_what_a_graph_captures_stays(cupy):
    """The graph uses it whenever it runs."""
    rng, taken = random_generator("capture"), []
    x = cupy.array(rng.standard_normal((6, 5000)).astype(np.float32))
    codes = cupy.array(rng.integers(-9, 9, (70, 40)).astype(np.int8))
    out, strided = cupy.empty(x.shape, np.int8), cupy.empty((6, 10000), np.int8)[:, ::2]
    product = cupy.empty((70, 70), np.int32)
    stream, kept = cupy.Stream(7), import_module("pyquant._cuda_capture")._kept

    def calls():
        ops.quantize_linear(x, 0.1, out=strided)
        ops.dynamic_quantize(x, out=out)
        ops.minmax(x)
        ops.matmul_integer(codes[:, :33], codes[:, :33].T, 3, 4, out=product)
        ops.fake_quantize_grad_linear(x, x, 0.1)

    def noted(size):
        taken.append(cupy._malloc(size))
        return taken[-1]

    before = len(kept)
    with stream, mock.patch.object(cupy, "_allocators", [noted]):
        calls()
        assert len(kept) == before
        stream.capturing, count = True, len(taken)
        calls()
    assert len(taken) == 2 * count
    assert list(map(id, kept[before:])) == list(map(id, taken[count:]))


def test_what_is_on_the_host_is_not_captured(cupy):
    rng, stream = random_generator("capture"), cupy.Stream(7)
    stream.capturing = True
    x, scale = cupy.array(floats()), np.full(SHAPE[0], 0.1, np.float32)
    a, b = packed_with_host_scales(cupy, rng)
    for call in (lambda: ops.quantize_linear(x, scale, axis=0), lambda: pq.matmul(a, b)):
        with stream, pytest.raises(RuntimeError, match="on the device while a graph is captured"):
            call()
    with stream:
        ops.quantize_linear(x, 0.1)
        ops.quantize_linear(x, cupy.array(scale), axis=0)


def test_another_stream_waits_for_scales_that_a_packed_matrix_keeps(cupy):
    a, b = packed_with_host_scales(cupy, random_generator("streams"))
    del cupy.waits[:]
    with cupy.Stream(3):
        pq.matmul(a, b)
    assert cupy.waits == []
    with cupy.Stream(4):
        pq.matmul(a, b)
    (wait,) = cupy.waits
    assert wait[0] == 4
    with cupy.Stream(5), mock.patch.object(cupy.Stream, "capturing", True):
        pq.matmul(a, b)
    assert cupy.waits == [wait], "a capture may neither ask nor wait for what came before it"
    with cupy.Stream(4), mock.patch.object(cupy.Event, "done", True):
        pq.matmul(a, b)
    assert cupy.waits == [wait]
