"""Products of CuPy arrays end to end on the stand-in: the CPU's bits, and nothing fetched."""

import itertools
from contextlib import contextmanager
from importlib import import_module
from unittest import mock

import ml_dtypes
import numpy as np
import pytest
import standin_cupy
import standin_gpu
from cuda_products import codes
from standin_gpu import array, same

import pyquant as pq
from pyquant import _cuda_loader, ops


@pytest.fixture
def gpu():
    with standin_gpu.installed() as device:
        yield device


def layouts(x):
    """The same codes in every layout that there is to re-lay, or not."""
    yield x
    yield np.asfortranarray(x)
    yield np.repeat(x, 2, -1)[..., ::2]
    yield x[..., ::-1].copy()[..., ::-1]
    wide = np.zeros((*x.shape[:-1], x.shape[-1] + 16), x.dtype)
    wide[..., : x.shape[-1]] = x
    yield wide[..., : x.shape[-1]]


@pytest.mark.parametrize("signed", list(itertools.product((True, False), repeat=2)))
def test_matmul_integer_takes_any_layout(gpu, signed):
    rng = np.random.default_rng(1)
    for m, k, n in [(3, 32, 24), (20, 33, 17), (1, 48, 5)]:
        a, b = codes(rng, (m, k), signed[0]), codes(rng, (k, n), signed[1])
        zero_points = rng.integers(0, 100, m), 3
        wanted = (a.astype(np.int64) - zero_points[0][:, None]) @ (b.astype(np.int64) - 3)
        for one, other in zip(layouts(a), reversed(list(layouts(b))), strict=True):
            left, right = (standin_cupy.ndarray._of(x) for x in (one, other))
            with standin_cupy.nothing_fetched():
                y = ops.matmul_integer(left, right, *zero_points)
            same(y, wanted.astype(np.int32))


@pytest.mark.parametrize(
    ("a_shape", "b_shape"),
    [
        ((4, 5, 32), (32, 9)),
        ((4, 5, 32), (4, 32, 9)),
        ((2, 3, 12, 20), (3, 20, 7)),
        ((2, 1, 12, 20), (1, 3, 20, 7)),
        ((12, 20), (3, 20, 7)),
        ((32,), (32, 9)),
        ((4, 5, 32), (32,)),
        ((16,), (16,)),
        ((0, 4), (4, 3)),
        ((3, 0), (0, 2)),
        ((0, 3, 4), (0, 4, 2)),
    ],
)
def test_batches_vectors_and_nothing(gpu, a_shape, b_shape):
    rng = np.random.default_rng(2)
    a, b = codes(rng, a_shape, True), codes(rng, b_shape, False)
    for zero_points in ((0, 0), (5, 100)):
        with standin_cupy.nothing_fetched():
            y = ops.matmul_integer(array(a), array(b), *zero_points)
        same(y, ops.matmul_integer(a, b, *zero_points))


def test_zero_points_of_batches_and_on_the_device(gpu):
    rng = np.random.default_rng(3)
    a, b = codes(rng, (2, 20, 40), True), codes(rng, (2, 40, 30), True)
    of_a, of_b = codes(rng, (2, 20, 1), True), codes(rng, (30,), True)
    y = ops.matmul_integer(array(a), array(b), of_a, of_b)
    same(y, ops.matmul_integer(a, b, of_a, of_b))
    with standin_cupy.nothing_fetched():
        y = ops.matmul_integer(array(a), array(b), array(of_a), array(of_b))
    same(y, ops.matmul_integer(a, b, of_a, of_b))


def test_out_may_be_strided(gpu):
    rng = np.random.default_rng(4)
    a, b = codes(rng, (20, 40), True), codes(rng, (40, 12), True)
    for out in (np.zeros((20, 30), np.int32)[:, 3:15], np.zeros((12, 20), np.int32).T):
        there = standin_cupy.ndarray._of(out)
        assert ops.matmul_integer(array(a), array(b), out=there) is there
        np.testing.assert_array_equal(out, ops.matmul_integer(a, b))


@pytest.mark.parametrize("device", [(80, 108), (90, 2), (90, 132), (120, 84)])
def test_all_devices_agree(gpu, device):
    gpu(*device)
    rng = np.random.default_rng(5)
    for m, k, n in [(2, 100, 30), (9, 3000, 20), (40, 3000, 70), (140, 260, 130)]:
        a, b = codes(rng, (m, k), True), codes(rng, (k, n), True)
        with standin_cupy.nothing_fetched():
            y = ops.matmul_integer(array(a), array(b), 3, -4)
        same(y, ops.matmul_integer(a, b, 3, -4))
        packed = pq.pack(array(b))
        same(ops.matmul_integer(array(a), packed, 3, -4), ops.matmul_integer(a, b, 3, -4))


@pytest.mark.parametrize("mode", ["float", "fixed"])
@pytest.mark.parametrize("rounding", ["double", "single"])
def test_qlinear_matmul(gpu, mode, rounding):
    rng = np.random.default_rng(6)
    a, b = codes(rng, (2, 20, 50), False), codes(rng, (50, 33), True)
    columns = (0.01 + rng.random(33)).astype(np.float32)
    lines = (0.01 + rng.random((2, 20, 1))).astype(np.float32)
    for a_scale, b_scale, zero in [(0.02, columns, np.uint8(128)), (lines, 0.01, np.int16(-300))]:
        rest = b_scale, 3, 11.5, zero
        given = {"mode": mode, "rounding": rounding}
        host = ops.qlinear_matmul(a, a_scale, 100, b, *rest, **given)
        same(ops.qlinear_matmul(array(a), a_scale, 100, array(b), *rest, **given), host)
        same(ops.qlinear_matmul(array(a), a_scale, 100, pq.pack(array(b)), *rest, **given), host)


def both(x, **given):
    """A QuantizedArray, and the same on the device."""
    q = pq.quantize(x, **given)
    return q, pq.QuantizedArray(array(q.data), q.params)


CASES = [
    ({}, {}), ({"axis": 0}, {"axis": 1}), ({"dtype": "uint8", "scheme": "affine"}, {"axis": 1}),
    ({"axis": 1, "block_size": 16}, {"axis": 0, "block_size": 16}),
    ({}, {"axis": 0, "block_size": 24, "dtype": "uint8", "scheme": "affine"}),
    ({"axis": 0}, {"axis": 0, "block_size": 32, "dtype": "int4"}),
    ({"dtype": "uint8", "scheme": "affine"}, {"axis": 0, "block_size": 64}),
    ({"axis": 1, "block_size": 96, "dtype": "uint8", "scheme": "affine"},
     {"axis": 0, "block_size": 96, "dtype": "uint4", "scheme": "affine"}),
]  # fmt: skip


@pytest.mark.parametrize("of_a, of_b", CASES)
def test_matmul(gpu, of_a, of_b):
    rng = np.random.default_rng(7)
    a, on_a = both(rng.standard_normal((12, 100)).astype(np.float32), **of_a)
    b, on_b = both(rng.standard_normal((100, 37)).astype(np.float32), **of_b)
    bias = rng.standard_normal(37).astype(np.float32)
    ways = [{}, {"bias": bias, "relu": True}, {"clip": (-3.0, 4.0)}]
    ways += [{"out_dtype": dtype} for dtype in ("float16", "bfloat16", "float64")]
    if "block_size" not in of_b:
        out = pq.QuantParams(0.3, 5, "int8")
        ways += [{"out_dtype": "int32"}, {"out_params": out}, {"out_params": out, "bias": bias}]
        ways += [{"out_params": pq.QuantParams(0.001, 0, "int16"), "mode": "fixed"}]
    for way in ways:
        host = pq.matmul(a, b, **way)
        for right in (on_b, pq.pack(on_b)):
            on_device = {k: array(v) if isinstance(v, np.ndarray) else v for k, v in way.items()}
            for given in (way, on_device):
                y = pq.matmul(on_a, right, **given)
                if "out_params" in way:
                    same(y.data, host.data)
                else:
                    same(y, host)


def test_parameters_of_a_packed_matrix_are_copied_once(gpu):
    rng = np.random.default_rng(7)
    a, on_a = both(rng.standard_normal((12, 40)).astype(np.float32))
    for given in ({"axis": 1}, {"axis": 0, "block_size": 16, "dtype": "uint8", "scheme": "affine"}):
        b, on_b = both(rng.standard_normal((40, 9)).astype(np.float32), **given)
        packed = pq.pack(on_b)
        for _ in range(2):
            same(pq.matmul(on_a, packed), pq.matmul(a, b))
        with mock.patch.object(standin_cupy, "asarray", side_effect=AssertionError):
            same(pq.matmul(on_a, packed), pq.matmul(a, b))


def test_narrow_results_come_from_the_kernel(gpu):
    rng = np.random.default_rng(7)
    _, on_a = both(rng.standard_normal((12, 40)).astype(np.float32))
    with mock.patch.object(standin_cupy.ndarray, "astype", side_effect=AssertionError):
        y = pq.matmul(on_a, on_a_transposed := pq.pack(on_a, transposed=True), out_dtype="float16")
    assert y.dtype == np.float16 and y.shape == (12, on_a_transposed.shape[1])


def test_linear(gpu):
    rng = np.random.default_rng(8)
    w, on_w = both(rng.standard_normal((30, 70)).astype(np.float32), axis=0)
    x = rng.standard_normal((3, 11, 70)).astype(np.float32)
    bias = rng.standard_normal(30).astype(np.float32)
    static = pq.calibrate(x, dtype="uint8", scheme="affine")
    for weight in (on_w, pq.pack(on_w, transposed=True)):
        with standin_cupy.nothing_fetched():
            y = pq.linear(array(x), weight, bias, x_params=static, relu=True)
        same(y, pq.linear(x, w, bias, x_params=static, relu=True))


def test_dynamic_linear(gpu):
    rng = np.random.default_rng(9)
    w, on_w = both(rng.standard_normal((30, 70)).astype(np.float32), axis=0)
    x = rng.standard_normal((3, 11, 70)).astype(np.float32)
    for weight in (on_w, pq.pack(on_w, transposed=True)):
        with standin_cupy.nothing_fetched():
            y = pq.linear(array(x), weight)
        same(y, pq.linear(x, w))


@contextmanager
def launches(device):
    """The kernels that run meanwhile, by name."""
    seen = []
    with mock.patch.object(device, "launched", seen):
        yield seen


FLOATS = ("float32", "float16", "bfloat16", "float64")


@pytest.mark.parametrize("m", [1, 2, 3, 5, 8, 9, 20])
def test_few_rows_of_floats_take_one_launch_and_more_take_two(gpu, m):
    rng = np.random.default_rng(m)
    w, on_w = both(rng.standard_normal((30, 80)).astype(np.float32), axis=0)
    packed = pq.pack(on_w, transposed=True)
    for dtype, params in itertools.product(FLOATS, (None, "int8", "uint8", "int4", "uint3")):
        x = rng.standard_normal((m, 80)).astype(np.float32)
        if params is not None:
            scheme = "affine" if params.startswith("u") else "symmetric"
            params = pq.calibrate(x, dtype=params, scheme=scheme)
        x = x.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
        host = pq.linear(x, w, x_params=params)
        with standin_cupy.nothing_fetched(), launches(gpu) as seen:
            y = pq.linear(array(x), packed, x_params=params)
        same(y, host)
        fused = m <= 8 and dtype != "float64"
        assert len(seen) == (1 if fused else 2)
        assert (seen[-1] == "gemm_front") == fused
        with mock.patch.object(import_module("pyquant._cuda_matmul"), "plan_of_floats", nothing):
            same(pq.linear(array(x), packed, x_params=params), host)


def nothing(*_):
    return None


@pytest.mark.parametrize("m", [1, 4, 7])
def test_few_rows_meet_a_matrix_where_it_stands(gpu, m):
    """Rows of b at any distance of a multiple of 8 bytes, in one launch; others are re-laid."""
    rng = np.random.default_rng(m)
    a, wide = codes(rng, (m, 48), True), codes(rng, (2, 700, 40), False)
    there = standin_cupy.ndarray._of(wide)
    for rows, first, last in [(48, 0, 40), (48, 8, 32), (48, 0, 39), (48, 4, 36), (-1, 0, 40)]:
        part = (slice(1, 97, 2) if rows < 0 else slice(48), slice(first, last))
        wanted = ops.matmul_integer(a, wide[0][part], 3, 100)
        with standin_cupy.nothing_fetched(), launches(gpu) as seen:
            y = ops.matmul_integer(array(a), there[0][part], 3, 100)
        same(y, wanted)
        assert (len(seen) == 1) == ((last - first) % 8 == first % 8 == 0)
        assert all(name.startswith("gemm_columns_") for name in seen) == (len(seen) == 1)
    both_ways = codes(rng, (2, m, 700), True)
    same(
        ops.matmul_integer(array(both_ways), there, 3, 4), ops.matmul_integer(both_ways, wide, 3, 4)
    )
    same(ops.matmul_integer(array(both_ways), there[1]), ops.matmul_integer(both_ways, wide[1]))
    w, _ = both(rng.standard_normal((40, 48)).astype(np.float32), axis=0)
    across = pq.QuantizedArray(standin_cupy.ndarray._of(np.asfortranarray(w.data)), w.params)
    x = rng.standard_normal((m, 48)).astype(np.float32)
    with standin_cupy.nothing_fetched(), launches(gpu) as seen:
        y = pq.linear(array(x), across)
    same(y, pq.linear(x, w))
    assert [name.partition("_")[0] for name in seen] == ["dynamic", "gemm"]
    assert seen[1].startswith("gemm_columns_")


def test_rows_that_are_not_finite_have_no_scale(gpu):
    rng = np.random.default_rng(11)
    w, on_w = both(rng.standard_normal((9, 33)).astype(np.float32), axis=0)
    x = rng.standard_normal((4, 33)).astype(np.float32)
    bad = x.copy()
    bad[1, 32], bad[2, 0] = np.inf, np.nan
    wanted = pq.linear(x, w)
    wanted[1:3] = np.nan
    np.testing.assert_array_equal(pq.linear(array(bad), on_w).get(), wanted)


def test_rows_of_floats_in_any_layout(gpu):
    rng = np.random.default_rng(12)
    w, on_w = both(rng.standard_normal((21, 50)).astype(np.float32), axis=0)
    x = rng.standard_normal((6, 50)).astype(np.float32)
    bias = rng.standard_normal(21).astype(np.float32)
    for one in (*layouts(x), x[::-1], np.broadcast_to(x[2], x.shape), x.reshape(2, 3, 50), x[0]):
        there = standin_cupy.ndarray._of(one)
        same(pq.linear(there, on_w, bias, relu=True), pq.linear(one, w, bias, relu=True))
    out = pq.QuantParams(0.3, 5, "int8")
    same(pq.linear(array(x), on_w, out_params=out).data, pq.linear(x, w, out_params=out).data)


def products(names):
    return [name for name in names if name.startswith("gemm")]


@pytest.mark.parametrize(
    "m, processors, kernel",
    [
        (1, 8, "rows_blocks_1"),
        (2, 8, "rows_blocks_2"),
        (3, 8, "rows_blocks_4"),
        (5, 8, "blocks_16x32"),
        (17, 8, "blocks_16x32"),
        (200, 8, "blocks_64x64"),
        (200, 2, "blocks_128x128"),
    ],
)
def test_blocks_take_one_launch(gpu, m, processors, kernel):
    gpu(80, processors)
    rng = np.random.default_rng(11)
    affine = {"dtype": "uint8", "scheme": "affine"}
    for k, block in [(96, 32), (200, 64), (300, 128), (290, 96)]:
        of_a = [{}, {"axis": 0}, {"axis": 1, "block_size": block, **affine}][int(rng.integers(3))]
        a, on_a = both(rng.standard_normal((m, k)).astype(np.float32), **of_a)
        for given in ({"dtype": "int4"}, affine):
            b, on_b = both(
                rng.standard_normal((k, 70)).astype(np.float32), axis=0, block_size=block, **given
            )
            for right in (on_b, pq.pack(on_b)):
                with standin_cupy.nothing_fetched(), launches(gpu) as seen:
                    y = pq.matmul(on_a, right)
                few = m <= 4 and block != 96  # which is no power of two
                assert products(seen) == [f"gemm_{kernel if few or m > 4 else 'blocks_16x32'}"]
                assert not (few and any("sums" in name for name in seen))
                same(y, pq.matmul(a, b))


def test_blocks_of_the_left_operand_alone_and_batches(gpu):
    rng = np.random.default_rng(12)
    a, on_a = both(rng.standard_normal((3, 20, 100)).astype(np.float32), axis=2, block_size=32)
    for shape, given in [((100, 9), {"axis": 1}), ((3, 100, 9), {})]:
        b, on_b = both(rng.standard_normal(shape).astype(np.float32), **given)
        with launches(gpu) as seen:
            same(pq.matmul(on_a, on_b), pq.matmul(a, b))
        assert len(products(seen)) == (1 if len(shape) == 2 else 3)  # a product for each a's scales
    for rows in (3, 20):  # rows quantized on the way, with one scale for all blocks
        x = rng.standard_normal((2, 2, rows, 100)).astype(np.float32)
        w, on_w = both(rng.standard_normal((9, 100)).astype(np.float32), axis=1, block_size=32)
        for y in (array(x), array(x)[:, :, ::-1]):
            same(pq.linear(y, on_w), pq.linear(y.get(), w))


@pytest.mark.parametrize("block", [16, 24, 40])
def test_blocks_of_odd_sizes(gpu, block):
    """A launch for each."""
    rng = np.random.default_rng(13)
    a, on_a = both(
        rng.standard_normal((20, 100)).astype(np.float32), dtype="uint8", scheme="affine"
    )
    b, on_b = both(rng.standard_normal((100, 9)).astype(np.float32), axis=0, block_size=block)
    for right in (on_b, pq.pack(on_b)):
        with launches(gpu) as seen:
            same(pq.matmul(on_a, right), pq.matmul(a, b))
        assert len(products(seen)) == -(-100 // block)


def test_blocks_beyond_int32(gpu):
    """Blocks whose sums int32 may not hold are added up in 64 bits, and each is rounded once."""
    k, block = 2 * 34016 + 100, 34016
    a, b = np.full((3, k), 255, np.uint8), np.full((k, 5), 255, np.uint8)
    a[1, ::3], b[::7, 1] = 3, 9
    scale = np.float32([[0.1], [0.3], [0.7]]) + np.arange(5, dtype=np.float32) / 8
    params = pq.QuantParams(scale, 0, "uint8", axis=0, block_size=block)
    of_a = pq.QuantParams(0.01, 0, "uint8")
    on_a, on_b = pq.QuantizedArray(array(a), of_a), pq.QuantizedArray(array(b), params)
    wanted = None
    for i, first in enumerate(range(0, k, block)):
        along = slice(first, first + block)
        sums = a[:, along].astype(np.int64) @ b[along].astype(np.int64)
        term = sums.astype(np.float32) * (np.float32(0.01) * scale[i])
        wanted = term if wanted is None else wanted + term
    same(array(pq.matmul(pq.QuantizedArray(a, of_a), pq.QuantizedArray(b, params))), wanted)
    for right in (on_b, pq.pack(on_b)):
        same(pq.matmul(on_a, right), wanted)


def test_beyond_int32(gpu):
    k = 40000
    a, b = np.full((2, k), 255, np.uint8), np.full((k, 3), 255, np.uint8)
    a[1, ::3], b[::7, 1] = 3, 9
    for mode, rounding in [("float", "double"), ("fixed", "double"), ("fixed", "single")]:
        rest = 1e-3, 0, 77.7, np.int16(5)
        given = {"mode": mode, "rounding": rounding}
        host = ops.qlinear_matmul(a, 1e-3, 0, b, *rest, **given)
        same(ops.qlinear_matmul(array(a), 1e-3, 0, array(b), *rest, **given), host)
        same(ops.qlinear_matmul(array(a), 1e-3, 0, pq.pack(array(b)), *rest, **given), host)
    with pytest.raises(OverflowError, match="K=40000"):
        ops.matmul_integer(array(a), array(b))


def test_packed_matrices(gpu):
    rng = np.random.default_rng(10)
    w = codes(rng, (50, 20), True)
    there = array(w)
    packed = pq.pack(there)
    there[...] = 0
    same(packed.unpack(), w)
    assert packed.isa == "cuda" and packed.nbytes == 20 * 64 + 20 * 4
    for block in (16, 24):
        q = pq.quantize(w.astype(np.float32), axis=0, block_size=block)
        one = pq.pack(pq.QuantizedArray(array(q.data), q.params))
        same(one.unpack().data, q.data)
    with pytest.raises(TypeError, match="packed where the other operand is"):
        ops.matmul_integer(codes(rng, (3, 50), True), packed)


def test_same_names_and_arguments_as_on_the_cpu(gpu):
    import ast
    import inspect
    from pathlib import Path

    _cuda = import_module("pyquant._cuda")
    stub = ast.parse((Path(pq.__file__).parent / "_cpu.pyi").read_text())
    functions = {f.name: f for f in stub.body if isinstance(f, ast.FunctionDef)}
    for name in ("matmul", "pack_matrix"):
        names = [a.arg for a in functions[name].args.args]
        assert list(inspect.signature(getattr(_cuda, name)).parameters) == names
    packed = next(c for c in stub.body if isinstance(c, ast.ClassDef) and c.name == "PackedCodes")
    made = _cuda.pack_matrix(array(np.ones((3, 4), np.int8)), 4, 0)
    for part in packed.body:
        name = part.name if isinstance(part, ast.FunctionDef) else part.target.id
        assert hasattr(made, name), name


def test_mixed_signs_without_a_compiler_that_knows_them_on_hopper(gpu, monkeypatch):
    """Tiles of mma.sync take their place."""
    gpu(90, 2)
    rng = np.random.default_rng(31)
    a, b = codes(rng, (200, 32), True), codes(rng, (32, 40), False)
    ops.matmul_integer(array(a), array(b))
    assert gpu.launched[-1].endswith("sm_90a")
    monkeypatch.setattr(_cuda_loader, "compiles", lambda unit: "hopper" not in unit)
    same(ops.matmul_integer(array(a), array(b)), ops.matmul_integer(a, b))
    assert gpu.launched[-1].startswith("gemm_") and not gpu.launched[-1].endswith("sm_90a")


def test_zero_points_that_are_known_need_no_sums(gpu):
    """Symmetric parameters on the device: a product of codes is one launch."""
    rng = np.random.default_rng(32)
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((20, 64), (64, 30)))
    q = pq.quantize(array(a)), pq.quantize(array(b), axis=1)
    host = pq.matmul(pq.quantize(a), pq.quantize(b, axis=1))
    weight = pq.pack(q[1])
    with launches(gpu) as seen:
        same(pq.matmul(q[0], weight), host)
    assert len(seen) == 1
    params = pq.QuantParams(q[1].scale, axis=1)
    assert (params.zero_point.get() == 0).all()
    with launches(gpu) as seen:
        same(pq.matmul(q[0], pq.QuantizedArray(q[1].data, params)), host)
    assert len(seen) == 2  # the right operand is transposed
