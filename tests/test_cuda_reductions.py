"""Ranges, parameters, dynamic quantization, gradients and histograms of the GPU, run on the host.

The kernels and their launches against the CPU's functions and the oracle, bit for bit: every
granularity, float type, length around the edges of loads, lanes, chunks and splits, addresses that
are aligned and not, zeros of both signs, NaN and infinities.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import reference
from cases import assert_same_bits, random_generator
from cuda_host import DeviceArray, kernel

from pyquant import _cpu
from pyquant._arguments import layout_of
from pyquant._grid import float_code, float_dtype, grid_of

pytest.importorskip("cupy")
from pyquant import (
    _cuda,
    _cuda_dynamic,
    _cuda_elementwise,
    _cuda_gradient,
    _cuda_histogram,
    _cuda_reduce,
)

FLOATS = ["float32", "float16", "bfloat16", "float64"]
SCHEMES = {"symmetric": _cpu.SYMMETRIC, "affine": _cpu.AFFINE}

# shape, axis, block_size
LENGTHS = [((n,), None, None) for n in (1, 2, 7, 8, 9, 127, 129, 1000, 4095, 4096, 4097, 33_000)]
ROWS = [((rows, n), 0, None) for rows, n in ((3, 5), (7, 128), (300, 33), (5, 1000), (2, 4100))]
CHANNELS = [
    ((3, 4, 5), 1, None), ((9, 3, 70), 1, None), ((2, 5, 4100), 1, None), ((50, 16, 2), 1, None),
    ((700, 2, 130), 1, None),
]  # fmt: skip
COLUMNS = [
    ((n, c), 1, None) for n, c in ((40, 3), (1, 5), (100, 67), (3, 300), (1000, 8), (70, 64))
]
BLOCKS = [
    ((1, 128), 1, 32), ((3, 128), 1, 128), ((5, 100), 1, 32), ((2, 33), 1, 16), ((7, 10), 1, 3),
    ((1, 9), 1, 20), ((3, 8), 1, 1), ((2, 5000), 1, 4096), ((2, 9000), 1, 4097), ((40, 96), 1, 48),
]  # fmt: skip
BLOCKS_DOWN = [
    ((2, 10, 5), 1, 4), ((64, 40), 0, 32), ((3, 7, 33), 1, 10), ((2, 100, 130), 1, 33),
]  # fmt: skip
EMPTY = [((0,), None, None), ((0, 3), 1, None), ((4, 0), 0, None), ((0, 8), 1, 4), ((3, 0), 1, 4)]
WHERE = LENGTHS + ROWS + CHANNELS + COLUMNS + BLOCKS + BLOCKS_DOWN + EMPTY
where = pytest.mark.parametrize(
    "shape, axis, block", WHERE, ids=["x".join(map(str, s)) + f"-{a}-{b}" for s, a, b in WHERE]
)
floats = pytest.mark.parametrize("dtype", FLOATS)


@pytest.fixture(autouse=True)
def on_the_host(monkeypatch):
    for module in (
        _cuda_dynamic, _cuda_elementwise, _cuda_gradient, _cuda_histogram, _cuda_reduce,
    ):  # fmt: skip
        monkeypatch.setattr(module, "kernel", kernel)
    monkeypatch.setattr(_cuda_elementwise, "to_device", DeviceArray)
    memory = SimpleNamespace(empty=lambda n, dtype: DeviceArray(np.empty(n, dtype)))
    for module in (_cuda_reduce, _cuda_gradient):
        monkeypatch.setattr(module, "cupy", memory)
    monkeypatch.setattr(_cuda_reduce, "FILL", 24)  # blocks, as on a small device


def at(array, first: int):
    """A copy that begins `first` elements after a multiple of 16 bytes."""
    raw = np.empty(array.nbytes + 64, np.uint8)
    begin = -raw.ctypes.data % 16 + first * array.itemsize
    copy = raw[begin : begin + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def samples(rng, shape, dtype, scale=3.0):
    """Normal, with zeros of both signs; now and then all small or all zero."""
    x = rng.normal(0, scale, shape)
    x[rng.random(shape) < 0.1] = -0.0
    x[rng.random(shape) < 0.1] = 0.0
    return at((x * rng.choice([1.0, 1e-3, 0.0], p=[0.7, 0.2, 0.1])).astype(float_dtype(dtype)),
              int(rng.integers(2)))  # fmt: skip


def both(name, inputs, outputs):
    """What the CPU and the GPU write into copies of `outputs`: the status, and two lists.

    Of the arguments, strings name outputs and arrays are inputs.
    """
    results = []
    for module, wrap in ((_cpu, lambda a: a), (_cuda, DeviceArray)):
        made = {key: at(a, a.ctypes.data % 16 // a.itemsize) for key, a in outputs.items()}
        arguments = [
            wrap(made[a]) if isinstance(a, str) else wrap(a) if isinstance(a, np.ndarray) else a
            for a in inputs
        ]
        results.append((getattr(module, name)(*arguments), list(made.values())))
    (status, expected), (done, actual) = results
    assert done == _cpu.OK
    return status, expected, actual


def assert_equal_but_nan(actual, expected):
    """The same bits, or NaN both: processors differ in which NaN they make."""
    nan = np.isnan(expected)
    assert (np.isnan(actual) == nan).all()
    assert_same_bits(np.where(nan, 0, actual), np.where(nan, 0, expected))


def params_of(shape, axis, block):
    return reference.params_shape(shape, axis, block)


@floats
@where
def test_minmax_and_absmax(shape, axis, block, dtype):
    rng = random_generator(shape, axis, block, dtype)
    x = samples(rng, shape, dtype)
    code, layout = float_code(x.dtype), layout_of(shape, axis, block)
    blank = np.full(params_of(shape, axis, block), 9, np.float32)
    for omit in (False, True):
        for name, outputs in (("minmax", ("low", "high")), ("absmax", ("high",))):
            status, expected, actual = both(
                name, (x, code, layout, omit, *outputs), dict.fromkeys(outputs, blank)
            )
            assert status == _cpu.OK
            for a, b in zip(actual, expected, strict=True):
                assert_same_bits(a, b)


def expected_bounds(x, axis, block, omit):
    """By the definition: NaN where something is not finite, else the smallest and the largest."""
    low = np.zeros(params_of(x.shape, axis, block), np.float32)
    high = low.copy()
    for index, values in reference.blocks_of(x.astype(np.float64), axis, block):
        finite = values[np.isfinite(values)]
        bad = finite.size < values.size and not omit
        with np.errstate(over="ignore"):
            low[index] = np.nan if bad else np.float32(finite.min()) if finite.size else 0
            high[index] = np.nan if bad else np.float32(finite.max()) if finite.size else 0
    return low + np.float32(0), high + np.float32(0)


@pytest.mark.parametrize("omit", [False, True], ids=["marked", "omitted"])
@floats
@where
def test_what_is_not_finite_is_marked_or_omitted(shape, axis, block, dtype, omit):
    rng = random_generator(shape, axis, block, dtype, "bad")
    x = samples(rng, shape, dtype)
    for i in rng.integers(0, max(x.size, 1), 3)[: x.size]:
        x.flat[i] = rng.choice([np.nan, np.inf, -np.inf])
    code, layout = float_code(x.dtype), layout_of(shape, axis, block)
    low, high, most = (np.full(params_of(shape, axis, block), 9, np.float32) for _ in range(3))
    _cuda.minmax(DeviceArray(x), code, layout, omit, DeviceArray(low), DeviceArray(high))
    _cuda.absmax(DeviceArray(x), code, layout, omit, DeviceArray(most))
    expected = expected_bounds(x, axis, block, omit)
    assert_equal_but_nan(low, expected[0])
    assert_equal_but_nan(high, expected[1])
    assert_equal_but_nan(most, np.maximum(np.abs(expected[0]), np.abs(expected[1])))


def test_float64_beyond_float32_has_infinite_bounds():
    x = np.array([1e300, -1.0, 2.0, -1e300, 3.0, 1e-300])
    low, high = np.zeros(3, np.float32), np.zeros(3, np.float32)
    layout = layout_of(x.shape, 0, 2)
    _cuda.minmax(DeviceArray(x), _cpu.F64, layout, True, DeviceArray(low), DeviceArray(high))
    assert low.tolist() == [-1.0, -np.inf, 0.0] and high.tolist() == [np.inf, 2.0, 3.0]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("grid_name", ["int8", "uint8", "int4", "uint16", "int2"])
def test_choose_params(grid_name, scheme):
    grid = grid_of(grid_name, scheme == "symmetric")
    rng = random_generator(grid_name, scheme)
    largest = np.finfo(np.float32).max
    ends = [0.0, -0.0, 1.0, 1e-45, 1e-38, 1e-30, 3.0, 1e30, largest / 2, largest]
    pairs = [(-a, b) for a in ends for b in ends] + [(a, 3 * a) for a in ends[2:8]]
    pairs += np.sort(rng.normal(0, 5, (500, 2)) * 10.0 ** rng.integers(-30, 30, (500, 1))).tolist()
    alpha, beta = np.array(pairs, np.float32).T.copy()
    for low, high in ((alpha, beta), (-beta, -alpha)):
        status, expected, actual = both(
            "choose_params",
            (low, high, SCHEMES[scheme], grid.qmin, grid.qmax, "scale", "zero_point"),
            {"scale": np.zeros_like(low), "zero_point": np.zeros(low.shape, np.int32)},
        )
        assert status == _cpu.OK
        for a, b in zip(actual, expected, strict=True):
            assert_same_bits(a, b)
    for i in range(0, alpha.size, 37):
        scale, zero_point = reference.choose_params(
            float(-beta[i]), float(-alpha[i]), grid_name, scheme, scheme == "symmetric"
        )
        assert (float(actual[0][i]), int(actual[1][i])) == (scale, zero_point)


def test_choose_params_of_ranges_that_are_none():
    low = np.array([np.nan, 1, -np.inf, 0, 2], np.float32)
    high = np.array([1, np.nan, 1, np.inf, 1], np.float32)
    for scheme, zero in ((_cpu.SYMMETRIC, 128), (_cpu.AFFINE, 128)):
        scale, zero_point = np.zeros(5, np.float32), np.full(5, 77, np.int32)
        _cuda.choose_params(
            DeviceArray(low), DeviceArray(high), scheme, 0, 255, DeviceArray(scale),
            DeviceArray(zero_point),
        )  # fmt: skip
        assert np.isnan(scale).all() and (zero_point == zero).all()


DYNAMIC = [*WHERE, ((2, 16_384), 0, None), ((2, 16_390), 0, None), ((1, 5, 4096), 1, None)]


def dynamic(x, grid, scheme, axis, block, first=0):
    outputs = {
        "q": at(np.zeros(x.shape, grid.storage), first),
        "scale": np.zeros(params_of(x.shape, axis, block), np.float32),
        "zero_point": np.zeros(params_of(x.shape, axis, block), np.int32),
    }
    return both(
        "dynamic_quantize",
        (x, float_code(x.dtype), "q", grid.code, layout_of(x.shape, axis, block), SCHEMES[scheme],
         grid.qmin, grid.qmax, "scale", "zero_point"),
        outputs,
    )  # fmt: skip


@pytest.mark.parametrize("scheme", SCHEMES)
@floats
@pytest.mark.parametrize(
    "shape, axis, block", DYNAMIC, ids=["x".join(map(str, s)) + f"-{a}-{b}" for s, a, b in DYNAMIC]
)
def test_dynamic_quantize(shape, axis, block, dtype, scheme):
    rng = random_generator(shape, axis, block, dtype, scheme)
    grids = [grid_of("int8", True), grid_of("uint8", False), grid_of("int4", False)]
    grids += [grid_of("int16", False), grid_of("uint13", False)]
    for grid in [grids[i] for i in rng.permutation(5)[:2]]:
        x = samples(rng, shape, dtype)
        status, expected, actual = dynamic(x, grid, scheme, axis, block, int(rng.integers(2)))
        assert status == _cpu.OK
        for a, b in zip(actual, expected, strict=True):
            assert_same_bits(a, b)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
@pytest.mark.parametrize("exponent", [-145, -130, -126, -104, -99, -95, 90, 96, 101, 127])
@pytest.mark.parametrize("axis, block", [(None, None), (1, 32), (0, None)], ids=str)
def test_dynamic_quantize_at_hard_scales(axis, block, exponent, dtype, scheme):
    rng = random_generator(exponent, dtype, scheme)
    x = np.ldexp(rng.uniform(-1, 1, (3, 200)), exponent).astype(float_dtype(dtype))
    for name in ("int8", "uint8", "int2"):
        status, expected, actual = dynamic(x, grid_of(name, False), scheme, axis, block)
        assert status == _cpu.OK
        for a, b in zip(actual, expected, strict=True):
            assert_same_bits(a, b)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
@floats
@pytest.mark.parametrize(
    "shape, axis, block",
    [((4, 64), 1, 32), ((4, 999), 0, None), ((5000,), None, None), ((2, 3, 4), 1, None),
     ((40_000,), None, None)],
    ids=str,
)  # fmt: skip
def test_dynamic_quantize_marks_what_is_not_finite(shape, axis, block, dtype, bad):
    rng = random_generator(shape, dtype)
    x = rng.normal(0, 1, shape).astype(float_dtype(dtype))
    with np.errstate(over="ignore"):
        x.flat[x.size // 2] = bad
    where = np.zeros(shape, np.float32)
    where.flat[x.size // 2] = 1
    bad_params = np.zeros(params_of(shape, axis, block), bool)
    for index, values in reference.blocks_of(where, axis, block):
        bad_params[index] = values.any()
    for scheme in SCHEMES:
        grid = grid_of("uint8", False)
        status, _, (q, scale, zero_point) = dynamic(x, grid, scheme, axis, block)
        assert status in (_cpu.ERROR_NONFINITE, _cpu.ERROR_RANGE)
        assert_same_bits(np.isnan(scale), bad_params)
        assert (zero_point[bad_params] == 128).all()
        everywhere = reference.expand(bad_params, shape, axis, block)
        assert (q[np.broadcast_to(everywhere, shape)] == 128).all()
        x_good = np.where(np.broadcast_to(everywhere, shape), 0, x.astype(np.float64))
        _, expected, _ = dynamic(x_good.astype(x.dtype), grid, scheme, axis, block)
        assert_same_bits(scale[~bad_params], expected[1][~bad_params])
        good = ~np.broadcast_to(everywhere, shape)
        assert_same_bits(q[good], expected[0][good])


GRADIENTS = [
    *WHERE, ((70_000,), None, None), ((4096 * 40 + 5,), None, None), ((2, 9000), 0, None),
    ((3, 2, 5000), 1, None), ((300, 40), 1, None), ((2, 200, 33), 1, 100),
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "shape, axis, block", GRADIENTS,
    ids=["x".join(map(str, s)) + f"-{a}-{b}" for s, a, b in GRADIENTS],
)  # fmt: skip
def test_gradients(shape, axis, block, dtype):
    """The float64 sums too have the CPU's bits: its order of additions is kept."""
    rng = random_generator(shape, axis, block, dtype, "grad")
    count = params_of(shape, axis, block)
    for specials in (False, True):
        x = samples(rng, shape, dtype, 5.0)
        g = at(rng.normal(0, 1, shape).astype(dtype), int(rng.integers(2)))
        if specials:
            for value in (np.nan, np.inf, -np.inf):
                x.flat[rng.integers(0, max(x.size, 1), 1)[: x.size]] = value
        scale = at((rng.random(count) * 0.05 + 0.01).astype(np.float32), 0)
        zero_point = at(np.asarray(rng.integers(-20, 20, count), np.int32), 0) if specials else None
        sums = np.full(count, 7.0)
        status, expected, actual = both(
            "fake_quantize_grad",
            (g, x, float_code(x.dtype), scale, zero_point, "dx", "dscale", "dzero_point",
             layout_of(shape, axis, block), -128, 127),
            {"dx": at(np.zeros(shape, dtype), int(rng.integers(2))), "dscale": sums,
             "dzero_point": sums},
        )  # fmt: skip
        assert status == _cpu.OK
        for a, b in zip(actual, expected, strict=True):
            assert_equal_but_nan(a, b)


def in_lanes(terms):
    """The sum of a chunk, or of chunks, in the fixed order: 16 lanes, then pairs."""
    lanes = np.zeros(16)
    for i in range(0, len(terms), 16):
        part = terms[i : i + 16]
        lanes[: len(part)] += part
    for half in (8, 4, 2, 1):
        lanes[:half] += lanes[half : 2 * half]
    return lanes[0]


@pytest.mark.parametrize("n", [5, 4096, 4097, 70_001])
def test_gradient_sums_by_the_order_that_is_promised(n):
    rng = random_generator("order", n)
    x, g = rng.normal(0, 5, n).astype(np.float32), rng.normal(0, 1, n).astype(np.float32)
    scale, low, high = np.float32(0.05), -128, 127
    ratio = x / scale
    code = np.rint(np.clip(ratio, low - 1, high + 1)).astype(np.float32)
    slope = np.where(code < low, np.float32(low), np.where(code > high, high, code - ratio))
    outside = (code < low) | (code > high)
    by_scale = (g * slope.astype(np.float32)).astype(np.float64)
    by_zero = np.where(outside, -(g * scale), np.float32(0)).astype(np.float64)
    dx, sums = np.zeros_like(x), np.zeros(2)
    _cuda.fake_quantize_grad(
        DeviceArray(g), DeviceArray(x), _cpu.F32, np.asarray(scale), None, DeviceArray(dx),
        DeviceArray(sums[:1]), DeviceArray(sums[1:]), (1, 1, n, 0), low, high,
    )  # fmt: skip
    for terms, actual in zip((by_scale, by_zero), sums, strict=True):
        chunks = [in_lanes(terms[i : i + 4096]) for i in range(0, n, 4096)]
        assert_same_bits(np.float64(actual), np.float64(in_lanes(np.array(chunks))))
    assert_same_bits(dx, np.where(outside, np.float32(0), g))


@pytest.mark.parametrize("chunks", [1, 2048, 2049, 9000])
def test_sums_of_many_chunks(chunks):
    """More than a tile of them, as tensors of more than eight million elements have."""
    partial = random_generator("partial", chunks).normal(0, 1, (chunks, 2))
    sums = np.zeros((2, 1))
    kernel("gradient", "grad_total")((1,), (1024,), (partial, chunks, *sums))
    for actual, terms in zip(sums[:, 0], partial.T, strict=True):
        assert_same_bits(np.float64(actual), np.float64(in_lanes(terms)))


def test_gradients_take_parameters_from_the_host_and_check_them():
    x = np.ones(8, np.float32)
    sums = DeviceArray(np.zeros(())), DeviceArray(np.zeros(()))
    dx = DeviceArray(np.zeros_like(x))
    for scale, status in ((0.5, _cpu.OK), (-1.0, _cpu.ERROR_SCALE)):
        assert status == _cuda.fake_quantize_grad(
            DeviceArray(x), DeviceArray(x), _cpu.F32, np.asarray(scale, np.float32), None, dx,
            *sums, (1, 1, 8, 0), -128, 127,
        )  # fmt: skip
    assert (dx.array == 1).all() and float(sums[0].array) == 0.0


HISTOGRAMS = [
    w for w in WHERE if w[2] is None and params_of(*w) in ((), *((n,) for n in range(70)))
] + [((200_000,), None, None), ((3, 40_000), 0, None)]  # fmt: skip


@pytest.mark.parametrize("half", [16, 4096, 16_384])
@floats
@pytest.mark.parametrize(
    "shape, axis, block", HISTOGRAMS,
    ids=["x".join(map(str, s)) + f"-{a}" for s, a, _ in HISTOGRAMS],
)  # fmt: skip
def test_histogram(shape, axis, block, dtype, half):
    rng = random_generator(shape, axis, dtype, half)
    x = samples(rng, shape, dtype)
    code, (outer, channels, inner, _) = float_code(x.dtype), layout_of(shape, axis, block)
    for bad in (None, np.nan, np.inf):
        if bad is not None:
            x.flat[rng.integers(0, max(x.size, 1), 1)[: x.size]] = bad
        status, expected, actual = both(
            "histogram",
            (x, code, (outer, channels, inner, 0), bad is not None, half, "counts", "exponent",
             "low", "high"),
            {"counts": np.full((channels, 2 * half + 1), 5, np.uint64),
             "exponent": np.full(channels, 5, np.int32),
             "low": np.zeros(channels, np.float32), "high": np.zeros(channels, np.float32)},
        )  # fmt: skip
        assert status == _cpu.OK
        for a, b in zip(actual, expected, strict=True):
            assert_same_bits(a, b)


def test_histogram_by_its_definition():
    """Bin i > 0 has the values in [(i - 1) * 2**e, i * 2**e), bin -i their negatives."""
    half = 64
    x = samples(random_generator("definition"), 5000, "float32").astype(np.float32) + 0.25
    x[:4] = [0.0, -0.0, 8.0, -7.999]
    counts, exponent = np.zeros((1, 2 * half + 1), np.uint64), np.zeros(1, np.int32)
    ends = np.zeros((2, 1), np.float32)
    _cuda.histogram(
        DeviceArray(x), _cpu.F32, (1, 1, x.size, 0), False, half, DeviceArray(counts),
        DeviceArray(exponent), DeviceArray(ends[0]), DeviceArray(ends[1]),
    )  # fmt: skip
    e = int(exponent[0])
    assert half * 2.0 ** (e - 1) <= np.abs(x).max() < half * 2.0**e
    bins = np.sign(x) * (np.floor(np.abs(x.astype(np.float64)) / 2.0**e) + (x != 0))
    expected = np.bincount(bins.astype(int) + half, minlength=2 * half + 1)
    assert_same_bits(counts[0], expected.astype(np.uint64))
    assert ends.ravel().tolist() == [x.min(), x.max()]


@pytest.mark.parametrize("value, marked", [(np.nan, "nan"), (-np.inf, "nan"), (1e300, "inf")])
def test_histograms_of_what_is_refused_are_marked(value, marked):
    x = np.ones((3, 50_000))
    x[1, 17] = value
    counts, exponent = np.zeros((3, 33), np.uint64), np.zeros(3, np.int32)
    low, high = np.zeros(3, np.float32), np.zeros(3, np.float32)
    arrays = map(DeviceArray, (counts, exponent, low, high))
    _cuda.histogram(DeviceArray(x), _cpu.F64, (1, 3, 50_000, 0), False, 16, *arrays)
    assert str(high[1]) == marked and high[[0, 2]].tolist() == [1, 1]
    assert counts.sum(1).tolist() == [50_000, 0, 50_000]
