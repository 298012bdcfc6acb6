"""Dask arrays: the bits of NumPy arrays for any chunks, and nothing computed before its time."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest

import pyquant as pq

dask = pytest.importorskip("dask", reason="needs dask: pip install pyquant[dask]")
da = pytest.importorskip("dask.array", reason="needs dask: pip install pyquant[dask]")
distributed = pytest.importorskip("distributed", reason="needs dask: pip install pyquant[dask]")

from local_cluster import two_processes  # noqa: E402

HISTOGRAM_METHODS = ["percentile", "mse", "entropy", "aciq_laplace", "aciq_gauss"]
METHODS = ["minmax", "moving_average", *HISTOGRAM_METHODS]
SHAPE = (45, 52)
CHUNKS = [(45, 52), (10, 7), (1, 52), ((20, 1, 24), (51, 1)), ((0, 45), (3, 0, 49))]
GRANULARITIES = [
    {},
    {"axis": 0},
    {"axis": -1, "scheme": "affine", "dtype": "uint8"},
    {"axis": 0, "block_size": 4},
    {"axis": -1, "block_size": 8, "dtype": "int4"},
    {"axis": 1, "block_size": 100, "scheme": "affine", "dtype": "uint4"},
]


@pytest.fixture(autouse=True)
def threads():
    with dask.config.set(scheduler="threads", num_workers=2):
        yield


@pytest.fixture(scope="module")
def cluster():
    """Two processes of one thread each, on this machine."""
    with two_processes() as local:
        yield local


@pytest.fixture
def client(cluster):
    with distributed.Client(cluster) as client:
        yield client


def sample(shape=SHAPE, dtype="float32", seed=3):
    """Heavy tails, channels of very different size, zeros."""
    rng = np.random.default_rng(seed)
    x = rng.laplace(size=shape)
    if x.ndim == 2 and x.size:
        x *= np.exp2(rng.integers(-9, 9, (shape[0], 1)))
        x[shape[0] // 2] = 0.0
    return x.astype(dtype)


def ids(value):
    return str(value).replace(" ", "")


# --- the same bits ------------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", CHUNKS, ids=ids)
@pytest.mark.parametrize("options", GRANULARITIES, ids=ids)
def test_quantize_is_that_of_the_whole_array(chunks, options):
    x = sample()
    expected = pq.quantize(x, **options)
    q = pq.quantize(da.from_array(x, chunks=chunks), **options)
    assert isinstance(q, pq.QuantizedArray)
    assert isinstance(q.data, da.Array)
    real = q.dequantize()
    assert isinstance(real, da.Array)
    computed, floats = dask.compute(q, real)
    assert type(computed) is pq.QuantizedArray
    assert computed == expected
    assert computed.scale.dtype == np.float32
    assert np.array_equal(floats, expected.dequantize())


@pytest.mark.parametrize("chunks", CHUNKS[1:], ids=ids)
@pytest.mark.parametrize("method", METHODS)
def test_calibrate_is_that_of_the_whole_array(method, chunks):
    x = sample()
    lazy = da.from_array(x, chunks=chunks)
    for options in ({}, {"axis": 0}, {"axis": 1, "dtype": "uint4", "scheme": "affine"}):
        options = {"bins": 64, **options}
        params = pq.calibrate(lazy, method, **options)
        assert params.compute() == pq.calibrate(x, method, **options), options


@pytest.mark.parametrize("method", ["percentile", "mse", "aciq_laplace", "aciq_gauss"])
def test_blocks_calibrated_by_histograms(method):
    x = sample((20, 24))
    lazy = da.from_array(x, chunks=(10, 7))
    for options in ({"axis": 1, "block_size": 8}, {"axis": 0, "block_size": 9}):
        options = {"bins": 64, "dtype": "int4", **options}
        params = pq.calibrate(lazy, method, **options).compute()
        assert params == pq.calibrate(x, method, **options), options


@pytest.mark.parametrize("method", ["minmax", "percentile"])
@pytest.mark.parametrize("dtype", ["float16", "float64", ">f4", "bfloat16"])
def test_float_types(method, dtype):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    x = np.clip(sample(), -1e4, 1e4).astype(dtype)
    q = pq.quantize(da.from_array(x, chunks=11), calibration=method)
    assert q.compute() == pq.quantize(x, calibration=method)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_dequantized_types(dtype):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    x = sample()
    q = pq.quantize(da.from_array(x, chunks=11), axis=0)
    real = q.dequantize(dtype)
    expected = pq.quantize(x, axis=0).dequantize(dtype)
    assert real.dtype == expected.dtype
    assert real.compute().tobytes() == expected.tobytes()


@pytest.mark.parametrize("shape", [(), (0,), (0, 4), (4, 0), (1,), (5, 4, 3, 2)], ids=ids)
def test_shapes(shape):
    x = sample(shape)
    lazy = da.from_array(x, chunks=2) if shape else da.from_array(x)
    for axis in [None, *range(len(shape))]:
        options = {} if axis is None else {"axis": axis}
        assert pq.quantize(lazy, **options).compute() == pq.quantize(x, **options)
        if axis is not None:
            options["block_size"] = 3
            assert pq.quantize(lazy, **options).compute() == pq.quantize(x, **options)


def test_chunks_of_unknown_size():
    x = sample((200,))
    lazy = da.from_array(x, chunks=30)
    positive = lazy[lazy > 0]
    assert pq.quantize(positive).compute() == pq.quantize(x[x > 0])
    with pytest.raises(ValueError, match="compute_chunk_sizes"):
        pq.quantize(positive, axis=0)


def test_views_of_dask_arrays():
    x = sample()
    lazy = da.from_array(x, chunks=(10, 7)).T[::-2]
    assert pq.quantize(lazy, axis=0).compute() == pq.quantize(x.T[::-2], axis=0)


# --- static parameters --------------------------------------------------------------------------


@pytest.mark.parametrize("options", GRANULARITIES, ids=ids)
def test_static_params(options):
    x, seen = sample(), sample(seed=4)
    params = pq.calibrate(seen, **options)
    expected = pq.quantize(x, params)
    lazy = da.from_array(x, chunks=(10, 7))
    q = pq.quantize(lazy, params)
    assert q.params is params
    assert q.compute() == expected
    later = pq.calibrate(da.from_array(seen, chunks=(13, 20)), **options)
    q = pq.quantize(lazy, later)
    assert q.params is later
    assert q.compute() == expected


def test_a_quantized_array_of_dask_data():
    x = sample()
    expected = pq.quantize(x, axis=0, block_size=4)
    q = pq.QuantizedArray(da.from_array(expected.data, chunks=(10, 7)), expected.params)
    assert np.array_equal(q.dequantize().compute(), expected.dequantize())
    assert q.compute() == expected
    with pytest.raises(ValueError, match=r"data must be int8 for int8, not uint8"):
        pq.QuantizedArray(da.zeros(3, dtype="uint8"), pq.QuantParams(1.0))
    with pytest.raises(ValueError, match=r"scale must have shape \(3,\)"):
        pq.QuantizedArray(da.zeros(3, dtype="int8"), pq.QuantParams([1.0], axis=0))


# --- laziness -----------------------------------------------------------------------------------


def refuse(block):
    raise AssertionError("computed too early")


def test_nothing_is_computed_before_its_time():
    never = da.zeros((20, 8), chunks=5, dtype="float32").map_blocks(
        refuse, dtype="float32", meta=np.empty((0, 0), "float32")
    )
    q = pq.quantize(never, dtype="uint8", scheme="affine", axis=1, calibration="mse")
    facts = (q.shape, q.dtype, q.axis, q.block_size, q.ndim, q.size, len(q), q.packed)
    assert facts == ((20, 8), "uint8", 1, None, 2, 160, 20, False)
    assert q.nbytes == 160 + 8 * (4 + 1)
    assert (q.scale.shape, q.zero_point.shape) == ((8,), (8,))
    assert (q.params.qmin, q.params.qmax, q.params.bits) == (0, 255, 8)
    assert "lazy" in repr(q.params)
    assert "chunks=(5, 5)" in repr(q)
    q.dequantize()
    pq.error(never, q)
    copy.copy(q), copy.deepcopy(q), copy.deepcopy(q.params)
    with pytest.raises(AssertionError, match="too early"):
        q.compute()


def test_scales_are_dask_arrays():
    x = sample()
    q = pq.quantize(da.from_array(x, chunks=(10, 7)), axis=0, scheme="affine")
    expected = pq.quantize(x, axis=0, scheme="affine")
    q, scale, zero_point = dask.compute(q, q.scale, q.zero_point)
    assert q == expected
    assert np.array_equal(scale, expected.scale)
    assert np.array_equal(zero_point, expected.zero_point)


def test_blocks_stay_in_their_chunks():
    x = da.from_array(sample((40, 6)), chunks=((9, 11, 20), 3))
    q = pq.quantize(x, axis=0, block_size=4)
    assert q.data.chunks == ((12, 8, 20), (3, 3))
    assert q.scale.chunks == ((3, 2, 5), (3, 3))
    assert q.scale.shape == (10, 6)


def test_persist_and_pickle():
    x = sample()
    expected = pq.quantize(x, axis=0)
    q = pq.quantize(da.from_array(x, chunks=(10, 7)), axis=0)
    kept = q.persist()
    assert type(kept) is type(q)
    assert kept.compute() == expected
    assert dask.persist(q.params)[0].compute() == expected.params
    assert pickle.loads(pickle.dumps(q)).compute() == expected
    assert pickle.loads(pickle.dumps(q.params)).compute() == expected.params
    static = pq.quantize(da.from_array(x, chunks=(10, 7)), expected.params)
    assert static.persist().compute() == expected


def test_equal_work_has_equal_names():
    x = sample()
    a, b = (pq.quantize(da.from_array(x, chunks=(10, 7)), axis=0) for _ in range(2))
    assert a.data.name == b.data.name
    assert dask.base.tokenize(a) == dask.base.tokenize(b)


# --- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["minmax", "percentile"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_the_first_bad_value_is_named_with_its_index_in_the_whole_array(method, bad):
    x = sample()
    x[44, 0] = x[17, 33] = x[17, 40] = bad
    with pytest.raises(ValueError) as expected:
        pq.quantize(x, calibration=method)
    q = pq.quantize(da.from_array(x, chunks=(10, 7)), calibration=method)
    with pytest.raises(ValueError) as raised:
        q.compute()
    assert str(raised.value) == str(expected.value)
    assert "x[(17, 33)]" in str(raised.value)


@pytest.mark.parametrize("options", GRANULARITIES[1:], ids=ids)
def test_bad_values_per_channel_and_block(options):
    x = sample()
    x[17, 33] = np.nan
    with pytest.raises(ValueError, match=r"x\[\(17, 33\)\] is nan"):
        pq.calibrate(da.from_array(x, chunks=(10, 7)), **options).compute()


@pytest.mark.parametrize("method", ["minmax", "mse"])
def test_bad_values_can_be_omitted(method):
    x = sample()
    x[17, 33], x[20:31] = np.nan, np.inf
    lazy = da.from_array(x, chunks=(10, 7))
    for options in ({}, {"axis": 0}):
        params = pq.calibrate(lazy, method, nan_policy="omit", **options).compute()
        assert params == pq.calibrate(x, method, nan_policy="omit", **options)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: pq.quantize(x.astype("int32")), TypeError, "not int32"),
        (lambda x: pq.quantize(x, out=np.empty(SHAPE, "int8")), TypeError, "out must be None"),
        (lambda x: pq.quantize(x, packed=True), ValueError, "packed=True"),
        (lambda x: pq.quantize(x).pack(), ValueError, "compute"),
        (lambda x: pq.quantize(x).dequantize("int8"), ValueError, "dtype must be"),
        (lambda x: pq.quantize(x, dtype="int99"), ValueError, "int99"),
        (lambda x: pq.quantize(x, axis=2), ValueError, "axis=2"),
        (lambda x: pq.quantize(x, block_size=4), ValueError, "needs an axis"),
        (lambda x: pq.quantize(x, calibration="guess"), ValueError, "guess"),
        (lambda x: pq.quantize(x, calibration="mse", bins=3), ValueError, "bins=3"),
        (lambda x: pq.calibrate(x, "entropy", axis=0, block_size=4), ValueError, "block"),
        (lambda x: pq.calibrate(x, nan_policy="hide"), ValueError, "hide"),
        (lambda x: pq.quantize(x, pq.QuantParams([1.0], axis=0)), ValueError, "shape"),
        (lambda x: pq.quantize(x, pq.QuantParams(1.0), axis=0), ValueError, "only description"),
        (lambda x: pq.quantize(np.ones(3), pq.calibrate(x)), TypeError, "compute"),
        (lambda x: pq.quantize(x) == pq.quantize(x), TypeError, "compute"),
        (lambda x: pq.calibrate(x) == pq.QuantParams(1.0), TypeError, "compute"),
        (lambda x: pq.error(x[:3], pq.quantize(x)), ValueError, "shape"),
        (lambda x: pq.save("x.safetensors", {"x": pq.quantize(x)}), TypeError, "compute"),
        (lambda x: pq.ops.quantize_linear(x, 1.0), TypeError, "map_blocks"),
        (lambda x: pq.fake_quantize(x, pq.QuantParams(1.0)), TypeError, "map_blocks"),
    ],
)
def test_wrong_arguments_are_refused_at_once(call, error, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = da.from_array(sample(), chunks=(10, 7))
    with pytest.raises(error, match=words) as raised:
        call(x)
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


# --- error --------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", GRANULARITIES, ids=ids)
def test_error_adds_up(options):
    x, params = sample(), pq.calibrate(sample(seed=4), **options)
    q = pq.quantize(x, params)
    expected = pq.error(x, q)
    lazy = da.from_array(x, chunks=(10, 7))
    for a, b in ((lazy, pq.quantize(lazy, params)), (lazy, q), (x, pq.quantize(lazy, params))):
        (measured,) = dask.compute(pq.error(a, b))
        assert isinstance(measured, pq.QuantizationError)
        np.testing.assert_allclose(measured, expected, rtol=1e-12)
    (measured,) = dask.compute(pq.error(lazy, q.dequantize()))
    np.testing.assert_allclose(measured, pq.error(x, q.dequantize()), rtol=1e-12)


# --- processes ----------------------------------------------------------------------------------


def test_processes_give_the_same_bits(client):
    x = sample((90, 64))
    lazy = da.from_array(x, chunks=(40, 32))
    for options in ({"calibration": "mse"}, {"axis": 0}, {"axis": 1, "block_size": 16}):
        q = pq.quantize(lazy, **options)
        assert q.compute(scheduler=client) == pq.quantize(x, **options), options
    seen = {method: pq.calibrate(lazy, method, axis=1, bins=64) for method in METHODS}
    for method, params in dask.compute(seen, scheduler=client)[0].items():
        assert params == pq.calibrate(x, method, axis=1, bins=64), method


def test_processes_report_errors(client):
    x = sample((300, 64))
    x[250, 3] = np.nan
    q = pq.quantize(da.from_array(x, chunks=(40, 20)))
    with pytest.raises(ValueError, match=r"x\[\(250, 3\)\] is nan"):
        q.compute(scheduler=client)


def test_persisted_on_a_cluster(client):
    x = sample((300, 64))
    with dask.config.set(scheduler=client):
        q = pq.quantize(da.from_array(x, chunks=(40, 20)), axis=0).persist()
        distributed.wait(q)
        assert np.array_equal(q.dequantize().compute(), pq.quantize(x, axis=0).dequantize())


def test_the_page_about_dask_shows_what_it_gives():
    from test_docs import page_python

    page_python("docs/dask.md")


def test_dask_is_not_imported_for_numpy_arrays():
    code = (
        "import sys, numpy as np, pyquant as pq; x = np.ones(3, 'f'); q = pq.quantize(x)\n"
        "pq.error(x, q), pq.calibrate(x, 'mse'), pq.quantize([1.0, 2.0]), q.dequantize()\n"
        "assert not {'dask', 'distributed'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
