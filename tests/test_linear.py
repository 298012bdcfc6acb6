"""`matmul` and `linear` of quantized arrays against the oracle, every operation in its place."""

import itertools
import re

import numpy as np
import pytest
import reference
from cases import assert_same_bits, random_generator
from hypothesis import given
from hypothesis import strategies as st
from refusals import check_refused

import pyquant as pq
from pyquant import ops

F32 = np.float32
PLACES_OF_A = {"tensor": {}, "row": {"axis": -2}, "block": {"axis": -1, "block_size": 16}}
PLACES_OF_B = {"tensor": {}, "column": {"axis": -1}, "block": {"axis": -2, "block_size": 16}}
GRIDS = {
    "int8": {"dtype": "int8"}, "int8_affine": {"dtype": "int8", "scheme": "affine"},
    "uint8": {"dtype": "uint8", "scheme": "affine"}, "uint8_symmetric": {"dtype": "uint8"},
    "int4": {"dtype": "int4"}, "int3_packed": {"dtype": "int3", "packed": True},
    "uint5_packed": {"dtype": "uint5", "scheme": "affine", "packed": True},
    "int2": {"dtype": "int2"}, "int7": {"dtype": "int7", "scheme": "affine"},
}  # fmt: skip


def noise(rng, shape):
    """Numbers of several sizes, off centre."""
    x = rng.standard_normal(shape) * 2.0 ** rng.integers(-3, 3, shape) + 0.3
    return x.astype(F32)


def parts(q):
    """(integers less their zero points, scales), element by element, of a QuantizedArray."""
    q = q.unpack()
    expanded = [
        reference.expand(v, q.shape, q.axis, q.block_size) for v in (q.zero_point, q.scale)
    ]
    return q.data.astype(np.int64) - expanded[0].astype(np.int64), expanded[1]


def transposed(q):
    return tuple(v.swapaxes(-1, -2) for v in parts(q))


def block_of(*quantized):
    return next((q.block_size for q in quantized if q.block_size), None)


def expected(a, b, block=None, bias=None, low=-np.inf, high=np.inf):
    """a and b are pairs of `parts`."""
    y = reference.product_fast(a[0], b[0], a[1], b[1], block, bias)
    return np.minimum(np.maximum(y, F32(low)), F32(high))


def expected_codes(a, b, params, bias=None, mode="float", rounding="double", low=None, high=None):
    """acc + bias requantized in exact arithmetic; bias holds int32 codes."""
    acc = a[0] @ b[0] + (0 if bias is None else np.asarray(bias, np.int64))
    multiplier = (a[1][..., :1] * b[1][..., :1, :]) / params.scale
    multiplier = np.broadcast_to(multiplier, acc.shape)
    assert multiplier.dtype == F32
    low = params.qmin if low is None else low
    high = params.qmax if high is None else high
    y = np.empty(acc.shape, params.storage)
    for index in np.ndindex(acc.shape):
        arguments = int(acc[index]), float(multiplier[index]), int(params.zero_point), low, high
        if mode == "float":
            y[index] = reference.requantize_float(*arguments)
        else:
            y[index] = reference.requantize_fixed(*arguments, rounding)
    return y


# --- float results --------------------------------------------------------------------------


@pytest.mark.parametrize("b_place", PLACES_OF_B)
@pytest.mark.parametrize("a_place", PLACES_OF_A)
@pytest.mark.parametrize("b_grid", GRIDS)
@pytest.mark.parametrize("a_grid", ["int8", "uint8", "uint5_packed"])
def test_matmul(a_grid, b_grid, a_place, b_place):
    rng = random_generator(a_grid, b_grid, a_place, b_place)
    for m, n, k in [(1, 1, 1), (3, 17, 40), (13, 65, 33), (5, 8, 16), (2, 3, 129)]:
        a = pq.quantize(noise(rng, (m, k)), **GRIDS[a_grid], **PLACES_OF_A[a_place])
        b = pq.quantize(noise(rng, (k, n)), **GRIDS[b_grid], **PLACES_OF_B[b_place])
        bias = noise(rng, n)
        block = block_of(a, b)
        assert_same_bits(pq.matmul(a, b), expected(parts(a), parts(b), block))
        assert_same_bits(
            pq.matmul(a, b, bias=bias), expected(parts(a), parts(b), block, bias)
        )


@pytest.mark.parametrize("place", ["tensor", "output", "block"])
@pytest.mark.parametrize("grid", GRIDS)
def test_linear_on_quantized_input(grid, place):
    where = {"tensor": {}, "output": {"axis": 0}, "block": {"axis": 1, "block_size": 32}}[place]
    rng = random_generator(grid, place)
    for m, n, k in [(1, 1, 1), (4, 64, 100), (17, 33, 64), (16, 16, 31)]:
        x = pq.quantize(noise(rng, (m, k)), dtype="uint8", scheme="affine")
        w = pq.quantize(noise(rng, (n, k)), **GRIDS[grid], **where)
        bias = noise(rng, n)
        wanted = expected(parts(x), transposed(w), block_of(w), bias)
        assert_same_bits(pq.linear(x, w, bias), wanted)
        assert_same_bits(pq.linear(x, pq.pack(w, transposed=True), bias), wanted)


def test_the_oracle_rounds_as_exact_arithmetic_does():
    """And not as a fused or reordered computation would: the inputs tell them apart."""
    rng = random_generator("oracle")
    k, block = 24, 8
    a = rng.integers(-128, 128, (4, k))
    b = rng.integers(-128, 128, (k, 5))
    a_scale = np.repeat(rng.uniform(0.01, 1, (4, k // block)), block, 1).astype(F32)
    b_scale = np.repeat(rng.uniform(0.01, 1, (k // block, 5)), block, 0).astype(F32)
    bias = rng.standard_normal(5).astype(F32)
    for size in (None, block):
        step = size or k
        one = slice(None, None, step)
        fast = reference.product_fast(a, b, a_scale, b_scale, size, bias)
        for i, j in np.ndindex(4, 5):
            sums = [
                (int(a[i, s : s + step] @ b[s : s + step, j]), float(x), float(y))
                for s, x, y in zip(
                    range(0, k, step), a_scale[i, one], b_scale[one, j], strict=True
                )
            ]
            assert fast[i, j] == reference.product_element(sums, float(bias[j]))
    fused = (a @ b).astype(np.float64) * (a_scale[:, :1].astype(np.float64) * b_scale[:1]) + bias
    plain = reference.product_fast(a, b, a_scale, b_scale, None, bias)
    assert (fused.astype(F32) != plain).any()


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 15, 16, 17, 31, 32, 33, 64, 65, 100])
def test_blocks_of_every_size(size):
    rng = random_generator(size)
    for m, n, k in [(1, 4, 65), (6, 33, 64), (13, 9, 66)]:
        a = pq.quantize(noise(rng, (m, k)), axis=1, block_size=size, scheme="affine")
        b = pq.quantize(noise(rng, (k, n)), axis=0, block_size=size, dtype="int4")
        rows = pq.quantize(noise(rng, (m, k)), axis=0, dtype="uint8")
        columns = pq.quantize(noise(rng, (k, n)), axis=1)
        for left, right in ((a, b), (rows, b), (a, columns)):
            wanted = expected(parts(left), parts(right), size)
            assert_same_bits(pq.matmul(left, right), wanted)
            if right is b:
                assert_same_bits(pq.matmul(left, pq.pack(right)), wanted)


def test_one_block_is_no_block():
    rng = random_generator("one block")
    a = pq.quantize(noise(rng, (3, 20)), axis=1, block_size=20)
    b = pq.quantize(noise(rng, (20, 5)), axis=0, block_size=64)
    wanted = expected(parts(a), parts(b))
    params = pq.QuantParams(0.1)
    for right in (b, pq.pack(b)):
        assert_same_bits(pq.matmul(a, right), wanted)
        assert np.array_equal(
            pq.matmul(a, right, out_params=params).data, expected_codes(parts(a), parts(b), params)
        )
        assert np.array_equal(
            pq.matmul(a, right, out_dtype="int32"), parts(a)[0] @ parts(b)[0]
        )


@pytest.mark.parametrize("a_shape, b_shape", [
    ((5,), (5,)), ((5,), (5, 3)), ((4, 5), (5,)), ((2, 4, 5), (5, 3)), ((4, 5), (2, 5, 3)),
    ((2, 1, 4, 5), (3, 5, 2)), ((2, 4, 0), (0, 3)), ((0, 5), (5, 3)), ((4, 5), (5, 0)),
    ((0, 4, 5), (5, 3)), ((1, 40), (40, 70)),
])  # fmt: skip
def test_shapes_are_those_of_numpy_matmul(a_shape, b_shape):
    rng = random_generator(a_shape, b_shape)
    for a_where, b_where in itertools.product(PLACES_OF_A, PLACES_OF_B):
        where = dict(PLACES_OF_A[a_where]), dict(PLACES_OF_B[b_where])
        for q_where, shape in zip(where, (a_shape, b_shape), strict=True):
            if "block_size" in q_where:
                q_where["block_size"] = 3
                if len(shape) == 1:
                    q_where["axis"] = 0
            elif len(shape) == 1:
                q_where.clear()
        a = pq.quantize(noise(rng, a_shape), dtype="uint8", scheme="affine", **where[0])
        b = pq.quantize(noise(rng, b_shape), **where[1])
        left, right = parts(a), parts(b)
        if len(a_shape) == 1:
            left = tuple(v[None] for v in left)
        if len(b_shape) == 1:
            right = tuple(v[:, None] for v in right)
        wanted = reference.product_fast(left[0], right[0], left[1], right[1], block_of(a, b))
        wanted = wanted.reshape(np.matmul(a.data, b.data).shape)
        assert_same_bits(pq.matmul(a, b), wanted)


@pytest.mark.parametrize("lead", [(), (1,), (3,), (2, 3), (0,), (2, 1, 3)])
def test_leading_dimensions_of_x_are_kept(lead):
    rng = random_generator(lead)
    x, w = noise(rng, (*lead, 40)), pq.quantize(noise(rng, (7, 40)), axis=0)
    for weight in (w, pq.pack(w, transposed=True)):
        y = pq.linear(x, weight)
        assert y.shape == (*lead, 7)
        for index in np.ndindex(*lead):
            assert_same_bits(y[index], pq.linear(x[index], weight))
        q = pq.quantize(x)
        assert pq.linear(q, weight).shape == (*lead, 7)


# --- float input ----------------------------------------------------------------------------


def dynamic(x):
    """Symmetric int8 row by row, by the oracle."""
    scale, zero_point = reference.calibrate_minmax(x, "int8", narrow_range=True, axis=0)
    codes = reference.quantize_fast(x, scale, zero_point, "int8", True, axis=0)
    return codes.astype(np.int64), np.broadcast_to(scale[:, None], x.shape)


@pytest.mark.parametrize("x_type", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("place", ["tensor", "output", "block"])
def test_floats_are_quantized_row_by_row(x_type, place):
    where = {"tensor": {}, "output": {"axis": 0}, "block": {"axis": 1, "block_size": 32}}[place]
    rng = random_generator(place)
    if x_type == "bfloat16":
        x_type = pytest.importorskip("ml_dtypes").bfloat16
    for m, n, k in [(1, 1, 1), (1, 64, 300), (3, 17, 40), (16, 33, 64), (29, 70, 65)]:
        x = noise(rng, (m, k)).astype(x_type)
        x[0] *= x.dtype.type(16)
        w = pq.quantize(noise(rng, (n, k)), dtype="int4", scheme="affine", **where)
        bias = noise(rng, n)
        left = dynamic(x.astype(F32)) if x.dtype != np.float64 else dynamic_f64(x)
        wanted = expected(left, transposed(w), block_of(w), bias)
        for weight in (w, pq.pack(w, transposed=True)):
            assert_same_bits(pq.linear(x, weight, bias), wanted)


def dynamic_f64(x):
    ends = [(float(F32(v.min())), float(F32(v.max()))) for v in x]
    scale = F32([reference.choose_params(*pair, "int8", narrow_range=True)[0] for pair in ends])
    codes = reference.quantize_fast(x, scale, np.zeros(len(x), int), "int8", True, axis=0)
    return codes.astype(np.int64), np.broadcast_to(scale[:, None], x.shape)


def test_rows_of_zeros_and_of_tiny_numbers():
    x = np.zeros((4, 6), F32)
    x[1] = 1e-45
    x[2] = np.linspace(-1e-39, 2e-38, 6)
    x[3] = np.linspace(-3e38, 3e38, 6)
    w = pq.quantize(noise(random_generator("tiny"), (3, 6)), axis=0)
    assert_same_bits(pq.linear(x, w), expected(dynamic(x), transposed(w)))


@pytest.mark.parametrize("grid", ["int8", "int8_affine", "uint8", "int4", "uint5_packed"])
def test_static_parameters_for_floats(grid):
    rng = random_generator(grid)
    options = {k: v for k, v in GRIDS[grid].items() if k != "packed"}
    for m, n, k in [(1, 1, 1), (1, 64, 300), (5, 17, 40), (16, 33, 65)]:
        x = noise(rng, (m, k))
        params = pq.calibrate(noise(rng, (m, k)) * 0.7, **options)
        x.flat[0] = np.nan
        x.flat[-1] = -np.inf
        w = pq.quantize(noise(rng, (n, k)), axis=0, scheme="affine")
        bias = noise(rng, n)
        q = pq.quantize(x, params)
        wanted = expected(parts(q), transposed(w), None, bias)
        for weight in (w, pq.pack(w, transposed=True)):
            assert_same_bits(pq.linear(x, weight, bias, x_params=params), wanted)
            assert_same_bits(pq.linear(q, weight, bias), wanted)
            codes = pq.linear(x, weight, x_params=params, out_dtype="int32")
            assert np.array_equal(codes, parts(q)[0] @ transposed(w)[0])


@pytest.mark.parametrize("layout", ["fortran", "backwards", "every_other", "swapped", "narrow"])
def test_floats_of_any_strides(layout):
    rng = random_generator(layout)
    x, w = noise(rng, (3, 4, 33)), pq.quantize(noise(rng, (9, 33)), axis=0)
    view = {
        "fortran": np.asfortranarray(x),
        "backwards": np.ascontiguousarray(x[::-1, :, ::-1])[::-1, :, ::-1],
        "every_other": np.repeat(x, 2, 1)[:, ::2],
        "swapped": x.astype(">f4"),
        "narrow": np.concatenate([x, x], -1)[..., :33],
    }[layout]
    for weight in (w, pq.pack(w, transposed=True)):
        for params in (None, pq.QuantParams(0.05, 3)):
            wanted = pq.linear(x, weight, x_params=params)
            assert_same_bits(pq.linear(view, weight, x_params=params), wanted)
    assert_same_bits(pq.linear(x.tolist(), w), pq.linear(x.astype(np.float64), w))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_dynamic_input_with_nan_or_infinity_is_refused(bad):
    x = np.ones((5, 3, 40), F32)
    x[2, 1, 7] = bad
    w = pq.quantize(np.ones((6, 40), F32), axis=0)
    for weight in (w, pq.pack(w, transposed=True)):
        for view in (x, np.asfortranarray(x), x.astype(np.float16), x[:, ::-1][:, ::-1]):
            with pytest.raises(ValueError, match=re.escape("x[(2, 1, 7)]")):
                pq.linear(view, weight)
    with pytest.raises(ValueError, match="finite in float32"):
        pq.linear(np.full((2, 40), 1e300), w)


# --- clip, dtypes ---------------------------------------------------------------------------


@pytest.mark.parametrize("options, low, high", [
    ({"relu": True}, 0, np.inf), ({"clip": (-1.5, 2.25)}, -1.5, 2.25),
    ({"clip": (0.5, 1e30)}, 0.5, 1e30), ({"clip": (-np.inf, 0)}, -np.inf, 0),
    ({"relu": True, "clip": (-1, 6)}, 0, 6), ({"relu": True, "clip": (-2, -1)}, 0, 0),
])  # fmt: skip
def test_relu_and_clip(options, low, high):
    rng = random_generator(low, high)
    x, bias = noise(rng, (9, 70)), noise(rng, 40)
    for where in ({"axis": 0}, {"axis": 1, "block_size": 16}):
        w = pq.quantize(noise(rng, (40, 70)), **where)
        q = pq.quantize(x, axis=0)
        wanted = expected(parts(q), transposed(w), block_of(w), bias, low, high)
        assert_same_bits(pq.linear(x, w, bias, **options), wanted)
        assert_same_bits(pq.linear(q, w, bias, **options), wanted)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", np.float16])
def test_other_float_results_are_the_float32_one_rounded(dtype):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    rng = random_generator("narrow")
    x, w = noise(rng, (6, 50)), pq.quantize(noise(rng, (30, 50)) * 500, axis=0)
    wide = pq.linear(x, w)
    narrow = pq.linear(x, w, out_dtype=dtype)
    with np.errstate(over="ignore"):
        assert_same_bits(narrow, wide.astype(narrow.dtype))
    assert narrow.dtype.name == np.dtype(dtype if dtype != "bfloat16" else narrow.dtype).name


@pytest.mark.parametrize("grid", ["int8", "int8_affine", "uint8", "int4"])
def test_int32_results_are_the_sums(grid):
    rng = random_generator(grid)
    a = pq.quantize(noise(rng, (2, 5, 40)), dtype="uint8", scheme="affine", axis=-2)
    b = pq.quantize(noise(rng, (40, 17)), **GRIDS[grid], axis=1)
    bias = rng.integers(-(10**6), 10**6, 17).astype(np.int32)
    acc = (parts(a)[0] @ parts(b)[0]).astype(np.int32)
    for right in (b, pq.pack(b)):
        for dtype in ("int32", np.int32, np.dtype("int32")):
            assert_same_bits(pq.matmul(a, right, out_dtype=dtype), acc)
        assert_same_bits(pq.matmul(a, right, bias=bias, out_dtype="int32"), acc + bias)


def test_int32_results_that_could_overflow_are_refused():
    most = 33025
    params = pq.QuantParams(1.0, dtype="uint8")
    a = pq.QuantizedArray(np.full((1, most), 255, np.uint8), params)
    b = pq.QuantizedArray(np.full((most, 1), 255, np.uint8), params)
    room = 2**31 - 1 - most * 255**2
    assert pq.matmul(a, b, out_dtype="int32")[0, 0] == most * 255**2
    full = pq.matmul(a, b, out_dtype="int32", bias=np.int32([room]))
    assert full[0, 0] == 2**31 - 1
    for bias in (room + 1, -room - 1):
        with pytest.raises(OverflowError, match="K=33025"):
            pq.matmul(a, b, out_dtype="int32", bias=np.int32([bias]))
    longer = [np.concatenate([v.data] * 2, axis) for v, axis in ((a, 1), (b, 0))]
    a, b = (pq.QuantizedArray(v, params) for v in longer)
    with pytest.raises(OverflowError, match="K=66050"):
        pq.matmul(a, b, out_dtype="int32")


@pytest.mark.parametrize("size", [16_384, 16_385, 33_026, 70_000])
def test_blocks_whose_sums_int32_does_not_hold(size):
    """acc of such a block is rounded to float32 once, and the blocks are added up as ever."""
    rng = random_generator(size)
    k, n = 2 * size + 333, 19
    blocks = -(-k // size)
    scales = [rng.uniform(0.01, 1, (m, blocks)).astype(F32) for m in (1, 7, 30)]
    b_zero = rng.integers(0, 256, (blocks, n)).astype(np.uint8)
    b_params = pq.QuantParams(
        rng.uniform(0.01, 1, (blocks, n)).astype(F32), b_zero, "uint8", axis=0, block_size=size
    )
    codes = rng.integers(128, 256, (k, n)).astype(np.uint8)
    codes[:, 3] = 255
    b = pq.QuantizedArray(codes, b_params)
    bias = noise(rng, n)
    for scale in scales:
        a = rng.integers(128, 256, (len(scale), k)).astype(np.uint8)
        a[0] = 255
        rows = pq.QuantParams(scale[:, 0].copy(), axis=0, dtype="uint8")
        own = pq.QuantParams(scale, np.uint8(scale * 99), "uint8", axis=1, block_size=size)
        columns = pq.QuantParams(b_params.scale[0], axis=1, dtype="uint8")
        for left, right in [(rows, b), (own, b), (own, pq.QuantizedArray(codes, columns))]:
            left = pq.QuantizedArray(a, left)
            wanted = expected(parts(left), parts(right), size, bias, low=0)
            assert_same_bits(pq.matmul(left, right, bias=bias, relu=True), wanted)
            if right is b:
                packed = pq.pack(right)
                assert_same_bits(pq.matmul(left, packed, bias=bias, relu=True), wanted)
                assert np.array_equal(packed.unpack().data, codes)


def test_floats_times_long_blocks():
    rng = random_generator("long blocks")
    x, k = noise(rng, (3, 70_001)), 70_001
    params = pq.QuantParams(
        F32([[0.5, 0.25]]), np.uint8([[0, 3]]), "uint8", axis=1, block_size=67_000
    )
    w = pq.QuantizedArray(rng.integers(200, 256, (1, k)).astype(np.uint8), params)
    for weight in (w, pq.pack(w, transposed=True)):
        assert_same_bits(pq.linear(x, weight), expected(dynamic(x), transposed(w), 67_000))


@pytest.mark.parametrize("k", [40_000, 131_072, 150_001])
def test_float_results_of_long_sums_are_right(k):
    rng = random_generator(k)
    params = pq.QuantParams(F32(0.013), 3, dtype="uint8")
    a = pq.QuantizedArray(rng.integers(100, 256, (3, k)).astype(np.uint8), params)
    b = pq.QuantizedArray(rng.integers(200, 256, (k, 5)).astype(np.uint8), params)
    bias = noise(rng, 5)
    wanted = expected(parts(a), parts(b), None, bias)
    acc = parts(a)[0] @ parts(b)[0]
    assert k * 255**2 > 2**31 and (k < 100_000 or acc.max() > 2**31)
    out = pq.QuantParams(F32(float(acc.max()) * 0.013**2 / 100), -5)
    for right in (b, pq.pack(b)):
        assert_same_bits(pq.matmul(a, right, bias=bias), wanted)
        q = pq.matmul(a, right, out_params=out)
        assert np.array_equal(q.data, expected_codes(parts(a), parts(b), out))


# --- requantized results --------------------------------------------------------------------

MODES = {
    "float": {}, "double": {"mode": "fixed"}, "single": {"mode": "fixed", "rounding": "single"},
}  # fmt: skip
OUT = {
    "int8": pq.QuantParams(0.31, dtype="int8"), "uint8": pq.QuantParams(0.3, 77, dtype="uint8"),
    "int4": pq.QuantParams(4.0, -8, dtype="int4"), "int16": pq.QuantParams(0.01, dtype="int16"),
    "narrow": pq.QuantParams(0.2, dtype="int8", narrow_range=True),
}  # fmt: skip


@pytest.mark.parametrize("options", MODES.values(), ids=MODES)
@pytest.mark.parametrize("params", OUT.values(), ids=OUT)
@pytest.mark.parametrize("place", ["tensor", "output"])
def test_requantized_results(place, params, options):
    rng = random_generator(place, params.dtype)
    for m, n, k in [(1, 1, 1), (5, 33, 40), (14, 20, 65)]:
        x = pq.quantize(noise(rng, (m, k)), dtype="uint8", scheme="affine")
        rows = pq.quantize(noise(rng, (m, k)), axis=0)
        w = pq.quantize(noise(rng, (n, k)), **({} if place == "tensor" else {"axis": 0}))
        bias = rng.integers(-5000, 5000, n).astype(np.int32)
        for weight in (w, pq.pack(w, transposed=True)):
            for left in (x, rows):
                q = pq.linear(left, weight, bias, out_params=params, **options)
                assert q.params == params and q.shape == (m, n)
                wanted = expected_codes(parts(left), transposed(w), params, bias, **options)
                assert_same_bits(q.data, wanted)


def test_a_float_bias_becomes_codes_at_the_scale_of_the_products():
    rng = random_generator("bias")
    x = pq.quantize(noise(rng, (6, 40)), dtype="uint8", scheme="affine")
    w = pq.quantize(noise(rng, (20, 40)), axis=0)
    params = pq.QuantParams(0.2, 5, dtype="uint8")
    bias = noise(rng, 20) * 9
    codes = [reference.bias_code(float(b), float(x.scale), float(s))
             for b, s in zip(bias, w.scale, strict=True)]  # fmt: skip
    for weight in (w, pq.pack(w, transposed=True)):
        for given_bias in (bias, np.int32(codes), codes):
            q = pq.linear(x, weight, given_bias, out_params=params)
            assert_same_bits(q.data, expected_codes(parts(x), transposed(w), params, codes))
            acc = pq.linear(x, weight, given_bias, out_dtype="int32")
            assert np.array_equal(acc, parts(x)[0] @ transposed(w)[0] + codes)
    ties = np.float64([0.5, 1.5, -2.5]) * float(x.scale) * 0.25
    eye = pq.QuantizedArray(np.zeros((40, 3), np.int8), pq.QuantParams(0.25))
    acc = pq.matmul(x, eye, bias=ties, out_dtype="int32")
    assert acc[0].tolist() == [0, 2, -2]


def test_a_float_bias_with_a_scale_per_row_is_added_in_float32():
    rng = random_generator("rows")
    x, bias = noise(rng, (6, 40)), noise(rng, 20)
    w = pq.quantize(noise(rng, (20, 40)), axis=0)
    params = pq.QuantParams(0.2, 5, dtype="uint8")
    rows = pq.quantize(x, axis=0)
    real = expected(parts(rows), transposed(w), None, bias, 0, 20)
    wanted = reference.quantize_fast(real, params.scale, params.zero_point, "uint8")
    for given_x in (x, rows):
        q = pq.linear(given_x, w, bias, out_params=params, relu=True, clip=(-1, 20))
        assert_same_bits(q.data, wanted)


def test_dynamic_input_and_requantized_results():
    rng = random_generator("dynamic")
    x, w = noise(rng, (6, 40)), pq.quantize(noise(rng, (20, 40)), axis=0)
    params = pq.QuantParams(0.2, 5, dtype="uint8")
    bias = rng.integers(-3000, 3000, 20).astype(np.int32)
    wanted = expected_codes(dynamic(x), transposed(w), params, bias)
    for weight in (w, pq.pack(w, transposed=True)):
        assert_same_bits(pq.linear(x, weight, bias, out_params=params).data, wanted)


@pytest.mark.parametrize("options, low, high", [
    ({"relu": True}, 10, 255), ({"clip": (-1.0, 2.0)}, 5, 20), ({"clip": (1.0, 2.0)}, 15, 20),
    ({"clip": (-3.0, -1.0)}, 0, 5), ({"clip": (-np.inf, 1.0)}, 0, 15),
])  # fmt: skip
def test_clip_of_codes(options, low, high):
    rng = random_generator(low, high)
    params = pq.QuantParams(0.2, 10, dtype="uint8")
    x = pq.quantize(noise(rng, (6, 40)))
    w = pq.quantize(noise(rng, (20, 40)), axis=0)
    q = pq.linear(x, w, out_params=params, **options)
    wanted = expected_codes(parts(x), transposed(w), params)
    assert_same_bits(q.data, wanted.clip(low, high))
    assert q.data.min() == low


# --- drawn ----------------------------------------------------------------------------------


@given(st.data())
def test_any_layer(data):
    draw = data.draw
    rng = random_generator(draw(st.integers(0, 50)))
    m, n, k = (draw(st.sampled_from([1, 2, 5, 8, 17, 33])) for _ in range(3))
    lead = draw(st.lists(st.integers(1, 3), max_size=2))
    where = draw(st.sampled_from([{}, {"axis": 0}, {"axis": 1, "block_size": 4}]))
    w = pq.quantize(noise(rng, (n, k)), **GRIDS[draw(st.sampled_from(list(GRIDS)))], **where)
    x = noise(rng, (*lead, m, k))
    rows = x.reshape(-1, k)
    weight = pq.pack(w, transposed=True) if draw(st.booleans()) else w
    bias = noise(rng, n) if draw(st.booleans()) else None
    relu = draw(st.booleans())
    wanted = expected(dynamic(rows), transposed(w), block_of(w), bias, 0 if relu else -np.inf)
    y = pq.linear(x, weight, bias, relu=relu)
    assert_same_bits(y, wanted.reshape(*lead, m, n))


def test_a_linear_layer_is_close_to_the_real_one():
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((64, 512)), rng.standard_normal((256, 512))
    y = x @ w.T
    assert pq.error(y, pq.linear(x, pq.quantize(w, axis=0))).sqnr_db > 37
    w4 = pq.quantize(w, dtype="int4", axis=1, block_size=32)
    assert pq.error(y, pq.linear(x, w4)).sqnr_db > 17


# --- errors ---------------------------------------------------------------------------------

X = np.ones((2, 6), F32)
QX = pq.quantize(X)
W = pq.quantize(np.ones((4, 6), F32), axis=0)
P = pq.pack(W, transposed=True)
OUT8 = pq.QuantParams(0.5)
THREES = pq.quantize(X, axis=1, block_size=3)
BLOCKS = pq.quantize(np.ones((4, 6), F32), axis=1, block_size=2)


def wide_grid(shape):
    return pq.quantize(np.ones(shape, F32), dtype="int16")


@pytest.mark.parametrize("call, error, words", [
    (lambda: pq.matmul(X, W), TypeError, ["a must be a QuantizedArray", "float32", "quantize"]),
    (lambda: pq.matmul(QX, X.T), TypeError, ["b must be a QuantizedArray", "float32"]),
    (lambda: pq.matmul(P, QX), TypeError, ["a must be a QuantizedArray", "PackedMatrix"]),
    (lambda: pq.matmul([[1.0]], QX), TypeError, ["a must be a QuantizedArray", "list"]),
    (lambda: pq.matmul(wide_grid((2, 4)), W), TypeError, ["a must", "8 bits", "int16"]),
    (lambda: pq.matmul(QX, wide_grid((6, 2))), TypeError, ["b must", "8 bits", "int16"]),
    (lambda: pq.matmul(pq.quantize(F32(1)), W), ValueError, ["a must", "dimension"]),
    (lambda: pq.matmul(QX, pq.quantize(X.repeat(2, 0))), ValueError,
     ["(2, 6)", "(4, 6)", "6 and 4"]),
    (lambda: pq.matmul(pq.quantize(X, axis=1), P), ValueError, ["a must", "axis=-2", "axis=1"]),
    (lambda: pq.matmul(pq.quantize(X, axis=0, block_size=2), P), ValueError,
     ["a must", "axis=-1", "axis=0, block_size=2"]),
    (lambda: pq.matmul(QX, pq.quantize(X.T, axis=0)), ValueError, ["b must", "axis=-1", "axis=0"]),
    (lambda: pq.matmul(QX, pq.quantize(X.T, axis=1, block_size=2)), ValueError,
     ["b must", "axis=-2", "block_size=2"]),
    (lambda: pq.matmul(pq.quantize(X[0], axis=0), P), ValueError, ["a must", "axis=0"]),
    (lambda: pq.matmul(THREES, pq.quantize(X.T, axis=0, block_size=2)), ValueError,
     ["one size", "3", "2"]),
    (lambda: pq.matmul(THREES, P), ValueError, ["one size", "3", "6"]),
    (lambda: pq.linear(QX, BLOCKS, out_params=OUT8), ValueError, ["out_params", "blocks"]),
    (lambda: pq.linear(QX, BLOCKS, out_dtype="int32"), ValueError, ["out_dtype", "blocks"]),
    (lambda: pq.linear(X, W.data), TypeError, ["weight must be a QuantizedArray", "int8"]),
    (lambda: pq.linear(X, X), TypeError, ["weight must be a QuantizedArray", "float32"]),
    (lambda: pq.linear(X, pq.quantize(X, axis=1)), ValueError, ["weight must", "axis=0", "axis=1"]),
    (lambda: pq.linear(X, pq.quantize(X[0])), ValueError, ["weight", "(6,)"]),
    (lambda: pq.linear(X, pq.quantize(X[None])), ValueError, ["weight", "(1, 2, 6)"]),
    (lambda: pq.linear(X[:, :5], W), ValueError, ["x must", "(..., 6)", "(2, 5)"]),
    (lambda: pq.linear(X[:, :5], P), ValueError, ["x must", "(..., 6)", "(2, 5)"]),
    (lambda: pq.linear(F32(1), P), ValueError, ["x must", "dimension"]),
    (lambda: pq.linear(X.astype(np.int8), P), TypeError, ["x must", "int8"]),
    (lambda: pq.linear(X.astype(complex), P), TypeError, ["x must", "complex128"]),
    (lambda: pq.linear(wide_grid((2, 6)), P), TypeError, ["x must", "8 bits"]),
    (lambda: pq.linear(QX, P, x_params=OUT8), ValueError, ["x_params", "quantized already"]),
    (lambda: pq.linear(X, P, x_params=0.5), TypeError, ["x_params", "float"]),
    (lambda: pq.linear(X, P, x_params=pq.QuantParams([1.0, 2.0], axis=0)), ValueError,
     ["x_params", "per tensor"]),
    (lambda: pq.linear(X, P, x_params=pq.QuantParams(1.0, dtype="int9")), TypeError,
     ["x_params", "8 bits", "int9"]),
    (lambda: pq.linear(X, P, out_dtype="int32"), ValueError, ["out_dtype='int32'", "x_params"]),
    (lambda: pq.linear(X, P, out_params=0.5), TypeError, ["out_params", "float"]),
    (lambda: pq.linear(X, P, out_params=pq.QuantParams([1.0] * 4, axis=1)), ValueError,
     ["out_params", "per tensor", "axis=1"]),
    (lambda: pq.linear(X, P, out_params=OUT8, out_dtype="float16"), ValueError,
     ["out_dtype='float16'", "out_params"]),
    (lambda: pq.linear(X, P, out_dtype="int8"), ValueError, ["out_dtype", "float32", "'int8'"]),
    (lambda: pq.linear(X, P, out_dtype="nothing"), ValueError, ["out_dtype", "'nothing'"]),
    (lambda: pq.linear(QX, P, out_dtype="int32", relu=True), ValueError, ["relu", "int32"]),
    (lambda: pq.linear(X, P, clip=(1, 0)), ValueError, ["clip=(1, 0)", "low <= high"]),
    (lambda: pq.linear(X, P, clip=(0, np.nan)), ValueError, ["clip", "low <= high"]),
    (lambda: pq.linear(X, P, clip=6), TypeError, ["clip", "pair", "6"]),
    (lambda: pq.linear(X, P, clip=(1, 2, 3)), TypeError, ["clip", "pair"]),
    (lambda: pq.linear(X, P, mode="exact"), ValueError, ["mode", "'exact'"]),
    (lambda: pq.linear(X, P, np.ones(3, F32)), ValueError, ["bias", "(4,)", "(3,)"]),
    (lambda: pq.linear(X, P, np.ones((1, 4), F32)), ValueError, ["bias", "(4,)", "(1, 4)"]),
    (lambda: pq.linear(X, P, np.ones(4, np.int32)), TypeError, ["bias", "int32", "out_params"]),
    (lambda: pq.linear(X, P, ["1"] * 4), TypeError, ["bias"]),
    (lambda: pq.linear(QX, P, np.arange(4), out_params=OUT8), TypeError, ["bias", "int64"]),
    (lambda: pq.linear(QX, P, np.full(4, 1e30), out_params=OUT8), ValueError,
     ["bias=1e+30", "int32"]),
    (lambda: pq.linear(QX, P, np.full(4, np.nan), out_params=OUT8), ValueError, ["bias=nan"]),
    (lambda: pq.linear(QX, P, np.ones(4) > 0, out_params=OUT8), TypeError, ["bias", "bool"]),
    (lambda: pq.linear(QX, P, out_params=pq.QuantParams(1e-45)), ValueError, ["multiplier"]),
])  # fmt: skip
def test_mistakes(call, error, words):
    check_refused(call, error, words)


def test_arithmetic_by_accident_is_still_refused():
    with pytest.raises(TypeError):
        QX @ W
    with pytest.raises(TypeError):
        X @ W


def test_the_operands_are_left_alone():
    x, w = X.copy(), W.copy()
    pq.linear(x, w, relu=True)
    ops.matmul_integer(w.data, w.data.T, 3, 4)
    assert_same_bits(x, X)
    assert w == W
