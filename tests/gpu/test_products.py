"""Integer products on a device: the CPU's bits over random shapes, types, layouts and epilogues."""

import numpy as np
import pytest

import pyquant as pq
from pyquant import ops

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(1800)]
TYPES = (np.int8, np.uint8)
SIZES = [1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 127, 128, 129, 255, 256, 257, 300, 513]


def codes(rng, shape, dtype):
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max + 1, shape, dtype=dtype)


def random_product(rng, largest=None):
    m, n, k = (int(rng.choice(SIZES)) for _ in range(3))
    if largest is not None:
        m, n, k = (int(rng.integers(1, largest)) for _ in range(3))
    types = rng.choice(2, 2)
    return codes(rng, (m, k), TYPES[types[0]]), codes(rng, (k, n), TYPES[types[1]])


def zero_point(rng, dtype, lines):
    shape = () if rng.integers(2) else (lines,)
    return int(codes(rng, (), dtype)) if shape == () else codes(rng, shape, dtype)


def laid(cp, rng, x):
    """On the device in one of the layouts that there are."""
    way = rng.integers(4)
    if way == 0:
        return cp.asarray(x)
    if way == 1:
        return cp.asarray(np.asfortranarray(x), order="F")
    if way == 2:
        return cp.asarray(np.repeat(x, 2, 1))[:, ::2]
    wide = np.zeros((x.shape[0], x.shape[1] + 5), x.dtype)
    wide[:, 3 : 3 + x.shape[1]] = x
    return cp.asarray(wide)[:, 3 : 3 + x.shape[1]]


@pytest.mark.parametrize("seed", range(40))
def test_matmul_integer(cp, seed):
    rng = np.random.default_rng(seed)
    for _ in range(10):
        a, b = random_product(rng)
        points = zero_point(rng, a.dtype, len(a)), zero_point(rng, b.dtype, b.shape[1])
        host = ops.matmul_integer(a, b, *points)
        there = laid(cp, rng, b)
        right = pq.pack(there) if rng.integers(2) else there
        np.testing.assert_array_equal(
            ops.matmul_integer(laid(cp, rng, a), right, *points).get(), host
        )


@pytest.mark.parametrize("seed", range(6))
def test_large_products(cp, seed):
    """Beyond one wave of tiles, so that persistent kernels go on to their next ones."""
    rng = np.random.default_rng(seed)
    a, b = random_product(rng, 3000 if seed else 9000)
    y = ops.matmul_integer(cp.asarray(a), cp.asarray(b), 3, -4 if b.dtype == np.int8 else 4).get()
    rows, columns = rng.integers(0, len(a), 200), rng.integers(0, b.shape[1], 200)
    wide = (a[rows].astype(np.int64) - 3) @ (
        b[:, columns].astype(np.int64) - (-4 if b.dtype == np.int8 else 4)
    )
    np.testing.assert_array_equal(y[rows][:, columns], wide)


@pytest.mark.parametrize("seed", range(10))
def test_batches(cp, seed):
    rng = np.random.default_rng(seed)
    m, n, k = (int(rng.choice(SIZES)) for _ in range(3))
    for a_batch, b_batch in [
        ((3,), (3,)),
        ((3,), ()),
        ((), (2,)),
        ((2, 1), (1, 3)),
        ((5, 1), (5, 1)),
    ]:
        a, b = codes(rng, (*a_batch, m, k), np.int8), codes(rng, (*b_batch, k, n), np.uint8)
        y = ops.matmul_integer(cp.asarray(a), cp.asarray(b), 1, 2)
        np.testing.assert_array_equal(y.get(), ops.matmul_integer(a, b, 1, 2))


@pytest.mark.parametrize("seed", range(20))
def test_qlinear_matmul(cp, seed):
    rng = np.random.default_rng(seed)
    for mode, rounding in [("float", "double"), ("fixed", "double"), ("fixed", "single")]:
        a, b = random_product(rng)
        a_scale = (0.001 + rng.random(len(a))).astype(np.float32) if rng.integers(2) else 0.02
        b_scale = (0.001 + rng.random(b.shape[1])).astype(np.float32) if rng.integers(2) else 0.3
        y_zero = [np.int8(-3), np.uint8(200), np.int16(1000)][rng.integers(3)]
        rest = b_scale, zero_point(rng, b.dtype, b.shape[1]), 50.0, y_zero
        left = a_scale, zero_point(rng, a.dtype, len(a))
        given = {"mode": mode, "rounding": rounding}
        host = ops.qlinear_matmul(a, *left, b, *rest, **given)
        y = ops.qlinear_matmul(cp.asarray(a), *left, cp.asarray(b), *rest, **given)
        np.testing.assert_array_equal(y.get(), host)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("out_dtype", ["float32", "float16"])
def test_float_results(cp, seed, out_dtype):
    rng = np.random.default_rng(seed)
    m, n, k = (int(rng.choice(SIZES)) for _ in range(3))
    a = pq.quantize(rng.standard_normal((m, k)).astype(np.float32), axis=0)
    b = pq.quantize(rng.standard_normal((k, n)).astype(np.float32), axis=1)
    bias = rng.standard_normal(n).astype(np.float32)
    on_a, on_b = (pq.QuantizedArray(cp.asarray(x.data), x.params) for x in (a, b))
    given = {"bias": bias, "relu": bool(seed % 2), "out_dtype": out_dtype}
    host = pq.matmul(a, b, **given)
    for right in (on_b, pq.pack(on_b)):
        y = pq.matmul(on_a, right, **{**given, "bias": cp.asarray(bias)}).get()
        np.testing.assert_array_equal(y.view(f"u{y.itemsize}"), host.view(f"u{y.itemsize}"))


@pytest.mark.parametrize("block", [16, 32, 40, 64, 96, 128, 256])
@pytest.mark.parametrize("m", [1, 2, 4, 7, 16, 20, 70, 300])
def test_blocks_along_k(cp, m, block):
    rng = np.random.default_rng(block + m)
    affine = {"dtype": "uint8", "scheme": "affine"}
    for k, n in [(200, 70), (4 * block + 17, 33), (2048, 257)]:
        x, w = (rng.standard_normal(s).astype(np.float32) for s in ((m, k), (k, n)))
        bias = rng.standard_normal(n).astype(np.float32)
        if block >= k:
            continue
        for of_a in ({"axis": 0}, {"axis": 1, "block_size": block, **affine}):
            of_b = [{"dtype": "int4"}, affine][int(rng.integers(2))]
            a, b = pq.quantize(x, **of_a), pq.quantize(w, axis=0, block_size=block, **of_b)
            on_a, on_b = (pq.QuantizedArray(cp.asarray(q.data), q.params) for q in (a, b))
            given = {"relu": True, "out_dtype": ["float32", "float16"][int(rng.integers(2))]}
            host = pq.matmul(a, b, bias=bias, **given)
            for right in (on_b, pq.pack(on_b)):
                same_bits(pq.matmul(on_a, right, bias=cp.asarray(bias), **given), host)


def test_blocks_beyond_int32(cp):
    block = 34016
    a, b = np.full((3, 2 * block), 255, np.uint8), np.full((2 * block, 5), 255, np.uint8)
    a[1, ::3], b[::7, 1] = 3, 9
    scale = (0.1 + np.random.default_rng(3).random((2, 5))).astype(np.float32)
    params = pq.QuantParams(scale, 0, "uint8", axis=0, block_size=block)
    wanted = np.zeros((3, 5), np.float32)
    for i in range(2):
        along = slice(i * block, (i + 1) * block)
        sums = a[:, along].astype(np.int64) @ b[along].astype(np.int64)
        wanted = wanted + sums.astype(np.float32) * scale[i]
    on_a = pq.QuantizedArray(cp.asarray(a), pq.QuantParams(1.0, 0, "uint8"))
    same_bits(pq.matmul(on_a, pq.QuantizedArray(cp.asarray(b), params)), wanted)


def same_bits(y, host):
    np.testing.assert_array_equal(y.get().view(f"u{host.itemsize}"), host.view(f"u{host.itemsize}"))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("k", [1, 15, 16, 17, 200, 4101, 16384])
def test_linear_quantizes_on_the_way(cp, dtype, k):
    """Few rows in one launch, more in two, and both as the CPU."""
    rng = np.random.default_rng(k)
    w = pq.quantize(rng.standard_normal((301, k)).astype(np.float32), axis=0)
    on_w = pq.QuantizedArray(cp.asarray(w.data), w.params)
    packed = pq.pack(on_w, transposed=True)
    for m in (*range(1, 10), 20, 200):
        x = (rng.standard_normal((m, k)) * 10.0 ** rng.integers(-3, 3, (m, 1))).astype(dtype)
        x[rng.integers(m)] = 0
        there = cp.asarray(x)
        same_bits(pq.linear(there, packed), pq.linear(x, w))
        same_bits(pq.linear(there[::-1], on_w, relu=True), pq.linear(x[::-1], w, relu=True))
        for grid, scheme in (("int8", "symmetric"), ("uint8", "affine"), ("uint4", "affine")):
            static = pq.calibrate(x, dtype=grid, scheme=scheme)
            y = pq.linear(there, packed, x_params=static)
            same_bits(y, pq.linear(x, w, x_params=static))


def test_rows_that_are_not_finite_stay_apart(cp):
    rng = np.random.default_rng(1)
    w = pq.quantize(rng.standard_normal((300, 2000)).astype(np.float32), axis=0)
    packed = pq.pack(pq.QuantizedArray(cp.asarray(w.data), w.params), transposed=True)
    for m in (4, 12):
        x = rng.standard_normal((m, 2000)).astype(np.float32)
        wanted = pq.linear(x, w)
        x[1, 1999], x[2, 0], wanted[1:3] = np.inf, np.nan, np.nan
        np.testing.assert_array_equal(pq.linear(cp.asarray(x), packed).get(), wanted)


@pytest.mark.parametrize("device", [None, (80, 1), (80, 20), (80, 1000)], ids=str)
@pytest.mark.parametrize("k", [16, 100, 3000])
def test_every_kernel_ends_as_the_cpu_does(cp, monkeypatch, device, k):
    """Many tiles and edges of each: those of Hopper, where there are enough, and of other GPUs."""
    from pyquant import _cuda_loader

    if device is not None:
        monkeypatch.setattr(_cuda_loader, "device_kind", lambda number: device)
    rng = np.random.default_rng(k)
    x, w = (rng.standard_normal((n, k)).astype(np.float32) for n in (1300, 3100))
    a = pq.quantize(x, axis=0, dtype="uint8", scheme="affine")
    b = pq.quantize(w.T, axis=1)
    there, right = (pq.QuantizedArray(cp.asarray(v.data), v.params) for v in (a, b))
    bias = rng.standard_normal(3100).astype(np.float32)
    for out_dtype in ("float32", "float16"):
        host = pq.matmul(a, b, bias=bias, out_dtype=out_dtype)
        same_bits(pq.matmul(there, right, bias=cp.asarray(bias), out_dtype=out_dtype), host)
    same_bits(pq.matmul(there, right, out_dtype="int32"), pq.matmul(a, b, out_dtype="int32"))
    for params in (pq.QuantParams(0.5, 3), pq.QuantParams(0.02, 5, dtype="int16")):
        for mode in ("float", "fixed"):
            y = pq.matmul(there, right, out_params=params, mode=mode)
            same_bits(y.data, pq.matmul(a, b, out_params=params, mode=mode).data)


@pytest.mark.parametrize("m", range(1, 9))
def test_few_rows_meet_contiguous_rows(cp, m):
    """Where they stand: one strip and many, K shared by many blocks or by none."""
    rng = np.random.default_rng(m)
    for k, n in [(1, 8), (17, 128), (300, 264), (5000, 16), (4096, 4096)]:
        for a_type, b_type in ((np.int8, np.uint8), (np.uint8, np.int8)):
            a, b = codes(rng, (m, k), a_type), codes(rng, (k, n + 8), b_type)
            there = cp.asarray(b)[:, 8:]
            for points in ((0, 0), (codes(rng, m, a_type), codes(rng, n, b_type))):
                y = ops.matmul_integer(cp.asarray(a), there, *points)
                np.testing.assert_array_equal(y.get(), ops.matmul_integer(a, b[:, 8:], *points))


def test_sums_beyond_int32(cp):
    a, b = np.full((3, 40000), 255, np.uint8), np.full((40000, 5), 255, np.uint8)
    rest = 1e-3, 0, 77.7, np.int16(5)
    host = ops.qlinear_matmul(a, 1e-3, 0, b, *rest)
    y = ops.qlinear_matmul(cp.asarray(a), 1e-3, 0, cp.asarray(b), *rest)
    np.testing.assert_array_equal(y.get(), host)


@pytest.mark.parametrize(
    "shape", [(1, 512, 4096), (16, 512, 4096), (128, 512, 512), (900, 4000, 256)]
)
def test_captured_in_a_graph(cp, shape):
    m, n, k = shape
    rng = np.random.default_rng(2)
    a, b = (cp.asarray(codes(rng, s, np.int8)) for s in ((m, k), (n, k)))
    packed, out = pq.pack(b, transposed=True), cp.empty((m, n), cp.int32)
    ops.matmul_integer(a, packed, out=out)  # compiles
    stream = cp.cuda.Stream(non_blocking=True)
    cp.cuda.Device().synchronize()
    with stream:
        ops.matmul_integer(a, packed, out=out)  # memory for split-K is in the stream's pool
        stream.begin_capture()
        ops.matmul_integer(a, packed, out=out)
        graph = stream.end_capture()
    for seed in range(3):
        fresh = codes(np.random.default_rng(seed), (m, k), np.int8)
        with stream:
            a.set(fresh, stream=stream)
            graph.launch(stream)
        stream.synchronize()
        wide = fresh.astype(np.int64) @ b.get().astype(np.int64).T
        np.testing.assert_array_equal(out.get(), wide)


@pytest.mark.parametrize("m", [1, 8, 40])
def test_a_layer_is_captured_in_a_graph(cp, m):
    """The rows are quantized anew at every replay."""
    rng = np.random.default_rng(3)
    w = pq.quantize(rng.standard_normal((520, 1024)).astype(np.float32), axis=0)
    packed = pq.pack(pq.QuantizedArray(cp.asarray(w.data), w.params), transposed=True)
    x = cp.zeros((m, 1024), cp.float16)
    stream = cp.cuda.Stream(non_blocking=True)
    cp.cuda.Device().synchronize()
    with stream:
        pq.linear(x, packed)  # compiles, and copies the scales
        stream.begin_capture()
        y = pq.linear(x, packed)
        graph = stream.end_capture()
    for _ in range(3):
        fresh = rng.standard_normal((m, 1024)).astype(np.float16)
        with stream:
            x.set(fresh, stream=stream)
            graph.launch(stream)
        stream.synchronize()
        same_bits(y, pq.linear(fresh, w))
