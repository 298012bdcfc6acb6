"""Every kind of array that may come in, and the rules for ``out=``."""

import numpy as np
import pytest
import reference
from cases import LAYOUTS, assert_same_bits, layouts, random_generator, random_params

import pyquant as pq
from pyquant import ops

SHAPE = (6, 10, 33)


def floats(dtype=np.float32, shape=SHAPE) -> np.ndarray:
    x = (random_generator("inputs").standard_normal(shape) * 40).astype(dtype)
    if x.size > 3:
        x.flat[:4] = [np.nan, np.inf, -np.inf, -0.0]
    return x


def layout_of(x: np.ndarray, name: str) -> np.ndarray:
    arrangements = layouts(x)
    if name not in arrangements:
        pytest.skip(f"{x.dtype} has no {name} form")
    return arrangements[name]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("axis, block_size", [(None, None), (1, None), (-1, None), (1, 4), (2, 8)])
@pytest.mark.parametrize("x_dtype", ["float16", "float32", "float64"])
def test_quantize_any_layout(layout, axis, block_size, x_dtype):
    x = layout_of(floats(x_dtype), layout)
    rng = random_generator(axis, block_size)
    params = random_params(rng, reference.params_shape(SHAPE, axis, block_size), -128, 127)
    expected = reference.quantize_fast(x, *params, "int8", False, axis, block_size)
    before = x.tobytes()
    assert_same_bits(ops.quantize_linear(x, *params, axis=axis, block_size=block_size), expected)
    assert x.tobytes() == before


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("axis, block_size", [(None, None), (1, None), (-1, None), (2, 8)])
@pytest.mark.parametrize("dtype", ["int8", "uint16"])
def test_dequantize_any_layout(layout, axis, block_size, dtype):
    low, high = reference.grid(dtype)
    rng = random_generator(axis, block_size)
    q = layout_of(rng.integers(low, high + 1, SHAPE).astype(dtype), layout)
    params = random_params(rng, reference.params_shape(SHAPE, axis, block_size), low, high)
    expected = reference.dequantize_fast(q, *params, axis, block_size)
    actual = ops.dequantize_linear(q, *params, axis=axis, block_size=block_size)
    assert_same_bits(actual, expected)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("axis, block_size", [(None, None), (1, None), (-1, 8)])
def test_every_other_function_takes_any_layout(layout, axis, block_size):
    plain = np.nan_to_num(floats(), posinf=9, neginf=-9)
    x = layout_of(plain, layout)
    where = {"axis": axis, "block_size": block_size}
    params = pq.calibrate(x, **where)
    assert params == pq.calibrate(plain, **where)
    assert pq.quantize(x, **where) == pq.quantize(plain, **where)
    assert_same_bits(pq.fake_quantize(x, params), pq.fake_quantize(plain, params))
    grad = layout_of(plain * 2, layout)
    actual = pq.fake_quantize_grad(grad, x, params)
    for a, b in zip(actual, pq.fake_quantize_grad(plain * 2, plain, params), strict=True):
        assert_same_bits(a, b)
    error, expected = (
        pq.error(x, pq.quantize(x, params)),
        pq.error(plain, pq.quantize(plain, params)),
    )
    assert error.mse == pytest.approx(expected.mse, rel=1e-12)
    assert (error.max_abs, error.clipped) == (expected.max_abs, expected.clipped)
    for a, b in zip(ops.dynamic_quantize_linear(x), ops.dynamic_quantize_linear(plain),
                    strict=True):  # fmt: skip
        assert_same_bits(a, b)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_integer_functions_take_any_layout(layout):
    rng = random_generator(layout)
    plain = rng.integers(-8, 8, SHAPE).astype(np.int8)
    q = layout_of(plain, layout)
    assert_same_bits(ops.pack_bits(q, 4), ops.pack_bits(plain, 4))
    acc = rng.integers(-(1 << 31), 1 << 31, SHAPE, dtype=np.int32)
    for axis in (None, 1):
        m = np.float32(1e-7) if axis is None else np.float32(1e-7) * np.arange(1, 11)
        expected = ops.requantize(acc, m, axis=axis)
        assert_same_bits(ops.requantize(layout_of(acc, layout), m, axis=axis), expected)


def test_broadcast_input():
    row = floats(shape=(33,))
    x = np.broadcast_to(row, (5, 33))
    assert_same_bits(ops.quantize_linear(x, 0.5), ops.quantize_linear(x.copy(), 0.5))


def test_memory_mapped_input_and_output(tmp_path):
    x = np.nan_to_num(floats(), posinf=9, neginf=-9)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert pq.quantize(mapped, axis=0) == pq.quantize(x, axis=0)
    out = np.lib.format.open_memmap(tmp_path / "q.npy", "w+", np.int8, x.shape)
    assert ops.quantize_linear(mapped, 0.5, out=out) is out
    out.flush()
    assert_same_bits(np.load(tmp_path / "q.npy"), ops.quantize_linear(x, 0.5))


@pytest.mark.parametrize("layout", ["every_other", "byte_swapped", "unaligned", "read_only"])
def test_scales_and_zero_points_in_any_layout(layout):
    scale, zero_point = random_params(random_generator("s"), (6, 10, 5), -128, 127)
    expected = ops.quantize_linear(floats(), scale, zero_point, axis=2, block_size=8)
    actual = ops.quantize_linear(
        floats(), layout_of(scale, layout), layout_of(zero_point, layout), axis=2, block_size=8
    )
    assert_same_bits(actual, expected)


@pytest.mark.parametrize("value, expected", [(3.2, 6), (np.float64(3.2), 6), (np.float32(-9), -18)])
def test_scalars_and_0d(value, expected):
    result = ops.quantize_linear(np.array(value), 0.5)
    assert np.shape(result) == () and result.dtype == np.int8 and result == expected
    q = pq.quantize(np.array(value, np.float32))
    assert q.shape == () and abs(int(q.data)) == 127
    assert q.dequantize().shape == () and np.isclose(q.dequantize(), value)
    assert ops.dequantize_linear(np.array(6, np.int8), 0.5) == 3.0


@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0), (2, 0, 3)])
@pytest.mark.parametrize("axis, block_size", [(None, None), (0, None), (-1, None), (0, 2), (-1, 2)])
def test_empty(shape, axis, block_size):
    x = np.empty(shape, np.float32)
    params_shape = reference.params_shape(shape, axis, block_size)
    where = {"axis": axis, "block_size": block_size}
    scale = np.ones(params_shape, np.float32)
    assert_same_bits(ops.quantize_linear(x, scale, **where), np.empty(shape, np.int8))
    assert_same_bits(ops.dequantize_linear(np.empty(shape, np.int8), scale, **where), x)
    q = pq.quantize(x, **where)
    assert q.shape == shape and q.scale.shape == params_shape
    assert_same_bits(q.dequantize(), x)
    assert q.pack().unpack() == q
    assert_same_bits(pq.fake_quantize(x, q.params), x)
    dx, dscale, dzero_point = pq.fake_quantize_grad(x, x, q.params)
    assert_same_bits(dx, x)
    assert np.shape(dscale) == np.shape(dzero_point) == params_shape
    assert not np.any(dscale) and not np.any(dzero_point)


def test_lists_become_arrays():
    assert ops.quantize_linear([[1.0, -2.0], [0.25, 0.75]], 0.5).tolist() == [[2, -4], [0, 2]]
    assert ops.dequantize_linear(np.int8([1, 2]), [0.5, 0.25], [0, 1], axis=0).tolist() == [
        0.5,
        0.25,
    ]
    q = pq.quantize([1.0, -0.5])
    assert q.data.tolist() == [127, -64]
    assert pq.calibrate((0.0, 127.0)).scale == 1
    assert pq.fake_quantize([1.26, -0.1], q.params).shape == (2,)


@pytest.mark.parametrize("axis", [None, 0, -1])
def test_bfloat16_is_widened_exactly(axis):
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    x = floats(bfloat16, (40, 70))
    wide = x.astype(np.float32)
    params = random_params(
        random_generator(axis), reference.params_shape(x.shape, axis, None), -128, 127
    )
    expected = reference.quantize_fast(wide, *params, "int8", False, axis)
    assert_same_bits(ops.quantize_linear(x, *params, axis=axis), expected)
    assert_same_bits(
        ops.quantize_linear(x[::-1, ::2], 0.5), ops.quantize_linear(wide[::-1, ::2], 0.5)
    )
    finite = np.nan_to_num(wide, posinf=9, neginf=-9)
    assert pq.quantize(finite.astype(bfloat16)) == pq.quantize(finite)


@pytest.mark.parametrize("name", ["int2", "uint2", "int4", "uint4"])
def test_sub_byte_arrays_of_ml_dtypes(name):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    low, high = reference.grid(name)
    plain = np.arange(low, high + 1).astype(reference.storage(name)).repeat(3)
    narrow = plain.astype(getattr(ml_dtypes, name))
    z = (low + high) // 2
    assert_same_bits(ops.dequantize_linear(narrow, 0.5, z), ops.dequantize_linear(plain, 0.5, z))
    bits = reference.bits_of(name)
    assert_same_bits(ops.pack_bits(narrow, bits), ops.pack_bits(plain, bits))
    zero_points = np.full(plain.size, z).astype(getattr(ml_dtypes, name))
    scale = np.full(plain.size, 0.5, np.float32)
    assert_same_bits(
        ops.dequantize_linear(plain, scale, zero_points, axis=0),
        ops.dequantize_linear(plain, 0.5, z),
    )


# --- out= -----------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["every_other", "backwards", "fortran", "swapped_axes",
                                    "inner_window", "unaligned", "byte_swapped"])  # fmt: skip
@pytest.mark.parametrize("axis", [None, 1, 2])
def test_out_may_have_any_strides(layout, axis):
    x = floats()
    params = random_params(
        random_generator(axis), reference.params_shape(SHAPE, axis, None), -128, 127
    )
    if layout != "byte_swapped":  # one byte has no order
        out = layout_of(np.full(SHAPE, 99, np.int8), layout)
        assert ops.quantize_linear(x, *params, axis=axis, out=out) is out
        assert_same_bits(out, reference.quantize_fast(x, *params, "int8", False, axis))
    q = reference.quantize_fast(x, *params, "int8", False, axis)
    expected = reference.dequantize_fast(q, *params, axis)
    out = layout_of(np.full(SHAPE, 99, np.float32), layout)
    try:
        assert ops.dequantize_linear(q, *params, axis=axis, out=out) is out
    except ValueError:  # a byte-swapped out is of another dtype: refusing it is allowed
        assert layout == "byte_swapped" and (out == 99).all()
    else:
        np.testing.assert_array_equal(out, expected)


def test_a_strided_out_leaves_its_gaps_alone():
    whole = np.full((8, 40), 77, np.int8)
    ops.quantize_linear(np.zeros((4, 20), np.float32), 1.0, out=whole[1::2, ::2])
    assert (whole[1::2, ::2] == 0).all()
    assert (whole[::2] == 77).all() and (whole[:, 1::2] == 77).all()


def test_out_in_pq_quantize_becomes_the_data():
    x = np.linspace(-1, 1, 20, dtype=np.float32)
    out = np.empty(20, np.int8)
    q = pq.quantize(x, out=out)
    assert q.data is out or np.shares_memory(q.data, out)
    assert q == pq.quantize(x)


@pytest.mark.parametrize("size", [7, 4096, 300_000])
def test_out_may_alias_exactly(size):
    x = (random_generator(size).standard_normal(size) * 9).astype(np.float32)
    params = pq.calibrate(x)
    expected = pq.fake_quantize(x, params)
    buffer = x.copy()
    assert pq.fake_quantize(buffer, params, out=buffer) is buffer
    assert_same_bits(buffer, expected)
    half = x.astype(np.float16)
    wanted = ops.quantize_linear(half, 0.01, dtype="int16")
    q = half.view(np.int16)
    assert_same_bits(ops.quantize_linear(half, 0.01, dtype="int16", out=q), wanted)
    back = ops.dequantize_linear(wanted, 0.01, dtype="float16")
    target = q.view(np.float16)
    assert_same_bits(ops.dequantize_linear(q, 0.01, dtype="float16", out=target), back)


def test_strided_and_reversed_exact_alias():
    x = floats()
    params = pq.QuantParams(0.3)
    for view in (lambda a: a[::2], lambda a: a[..., ::-1], lambda a: a.T):
        buffer = x.copy()
        expected = pq.fake_quantize(view(x), params)
        pq.fake_quantize(view(buffer), params, out=view(buffer))
        assert_same_bits(view(buffer), expected)


PARTIAL = {
    "one_later": lambda b: (b[:-1], b[1:]),
    "one_earlier": lambda b: (b[1:], b[:-1]),
    "backwards": lambda b: (b, b[::-1]),
    "half": lambda b: (b[:200], b[100:300]),
    "different_strides": lambda b: (b[:200], b[:400:2]),
}


@pytest.mark.parametrize("views", PARTIAL.values(), ids=PARTIAL)
def test_partial_overlap_is_refused_and_nothing_written(views):
    x, out = views(np.arange(400, dtype=np.float32))
    before = out.tobytes()
    with pytest.raises(ValueError, match=r"out.*overlap|overlap.*out"):
        pq.fake_quantize(x, pq.QuantParams(0.5), out=out)
    assert out.tobytes() == before


def test_partial_overlap_of_different_types_is_refused():
    x = np.arange(400, dtype=np.float32)
    before = x.tobytes()
    for start in (0, 1, 396):
        with pytest.raises(ValueError, match="overlap"):
            ops.quantize_linear(x, 0.5, out=x.view(np.int8)[start : start + 400])
    q = x.view(np.int8)[:400]
    with pytest.raises(ValueError, match="overlap"):
        ops.dequantize_linear(q, 0.5, out=x)
    assert x.tobytes() == before


def test_interleaved_but_disjoint_memory_is_no_overlap():
    buffer = np.arange(400, dtype=np.float32)
    expected = pq.fake_quantize(buffer[::2].copy(), pq.QuantParams(0.7))
    out = pq.fake_quantize(buffer[::2], pq.QuantParams(0.7), out=buffer[1::2])
    assert_same_bits(out, expected)


def test_out_over_the_scale_is_refused_or_right():
    q = np.arange(64, dtype=np.int8).reshape(8, 8)
    buffer = np.full((8, 8), 0.5, np.float32)
    buffer[0] = np.arange(1, 9)
    expected = ops.dequantize_linear(q, buffer[0].copy(), axis=0)
    try:
        actual = ops.dequantize_linear(q, buffer[0], axis=0, out=buffer)
    except ValueError:
        return
    assert_same_bits(actual, expected)
