"""`ops.matmul_integer` and `ops.qlinear_matmul` against NumPy's int64 and Python's integers."""

import itertools
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import reference
from cases import LAYOUTS, assert_same_bits, layouts, random_generator
from hypothesis import given
from hypothesis import strategies as st
from refusals import check_refused

import pyquant as pq
from pyquant import ops

TYPES = list(itertools.product(("int8", "uint8"), repeat=2))
each_pair = pytest.mark.parametrize("a_type, b_type", TYPES, ids=map("-".join, TYPES))

# The most products that int32 holds whatever they are, by SPEC section 2.
MOST = {("int8", "int8"): 131071, ("uint8", "int8"): 65793, ("uint8", "uint8"): 33025}
MOST["int8", "uint8"] = MOST["uint8", "int8"]

ROWS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 15, 16, 17, 24, 25, 31, 33]
COLUMNS = [1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65, 129]
DEPTHS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 63, 64, 65, 127, 128, 130, 257]


def codes(rng, shape, dtype):
    low, high = reference.grid(dtype)
    return rng.integers(low, high, shape, dtype, endpoint=True)


def wide(x, zero_point=0):
    return np.asarray(x, np.int64) - np.asarray(zero_point, np.int64)


def product(a, b, za=0, zb=0):
    """In int64, which holds the sums of every test here; 1-D operands have scalar zero points."""
    exact = wide(a, za) @ wide(b, zb)
    result = np.asarray(exact).astype(np.int32)
    assert np.array_equal(result, exact)
    return result


def check(a, b, za=0, zb=0):
    assert_same_bits(ops.matmul_integer(a, b, za, zb), product(a, b, za, zb))


# --- values ---------------------------------------------------------------------------------


@pytest.mark.parametrize("m", ROWS)
@each_pair
def test_every_edge_of_a_tile(a_type, b_type, m):
    rng = random_generator(a_type, b_type, m)
    for n, k in itertools.product(COLUMNS, DEPTHS):
        check(codes(rng, (m, k), a_type), codes(rng, (k, n), b_type))


@each_pair
def test_zero_points_at_both_ends_on_extreme_operands(a_type, b_type):
    rng = random_generator(a_type, b_type)
    ends = {name: reference.grid(name) for name in ("int8", "uint8")}
    for m, n, k in [(1, 1, 1), (3, 17, 5), (13, 33, 64), (16, 65, 67), (5, 16, 129)]:
        for a_value, b_value in itertools.product(ends[a_type], ends[b_type]):
            a = np.full((m, k), a_value, a_type)
            b = np.full((k, n), b_value, b_type)
            for za, zb in itertools.product((*ends[a_type], 1), (*ends[b_type], 1)):
                check(a, b, za, zb)
        a = rng.choice(ends[a_type], (m, k)).astype(a_type)
        b = rng.choice(ends[b_type], (k, n)).astype(b_type)
        for za, zb in itertools.product(ends[a_type], ends[b_type]):
            check(a, b, za, zb)


@each_pair
def test_zero_points_per_row_and_column(a_type, b_type):
    rng = random_generator(a_type, b_type)
    for m, n, k in [(1, 1, 3), (2, 3, 1), (7, 33, 66), (17, 64, 130), (50, 70, 9)]:
        a, b = codes(rng, (m, k), a_type), codes(rng, (k, n), b_type)
        za, zb = codes(rng, (m, 1), a_type), codes(rng, (1, n), b_type)
        wanted = product(a, b, za, zb)
        for rows, columns in itertools.product((za, za[:, 0]), (zb, zb[0])):
            assert_same_bits(ops.matmul_integer(a, b, rows, columns), wanted)
        check(a, b, za, int(zb[0, 0]))
        check(a, b, int(za[0, 0]), zb)
        assert_same_bits(
            ops.matmul_integer(a, b, za[:, 0].astype(np.int64), zb[0].tolist()), wanted
        )


def test_one_zero_point_in_every_form():
    rng = random_generator("forms")
    a, b = codes(rng, (4, 6), "uint8"), codes(rng, (6, 5), "int8")
    wanted = product(a, b, 7, -3)
    for za in (7, np.uint8(7), np.array(7), np.array([7], np.uint8), [7], np.full((1, 1), 7)):
        for zb in (-3, np.int8(-3), np.array([-3]), np.full((1, 1), -3, np.int8)):
            assert_same_bits(ops.matmul_integer(a, b, za, zb), wanted)


@pytest.mark.parametrize("shape", [(300, 515, 700), (1, 1030, 2051), (700, 3, 999), (64, 64, 9001)])
@each_pair
def test_products_that_are_cut_into_blocks(a_type, b_type, shape):
    m, n, k = shape
    rng = random_generator(a_type, b_type, shape)
    a, b = codes(rng, (m, k), a_type), codes(rng, (k, n), b_type)
    zb = codes(rng, (1, n), b_type)
    # float64 holds every partial sum below 2**53, so its product is exact, and fast.
    exact = ((a - 0.0 - 3) @ (b - zb.astype(np.float64))).astype(np.int32)
    assert_same_bits(ops.matmul_integer(a, b, 3, zb), exact)


# --- overflow -------------------------------------------------------------------------------


@each_pair
def test_the_longest_sums(a_type, b_type):
    k = MOST[a_type, b_type]
    a_low, a_high = reference.grid(a_type)
    b_low, b_high = reference.grid(b_type)
    for a_value, b_value in itertools.product((a_low, a_high), (b_low, b_high)):
        a = np.full((2, k), a_value, a_type)
        b = np.full((k, 3), b_value, b_type)
        wanted = np.full((2, 3), a_value * b_value * k)
        assert np.array_equal(ops.matmul_integer(a, b), wanted)


@each_pair
def test_longer_sums_are_refused(a_type, b_type):
    k = MOST[a_type, b_type] + 1
    a, b = np.zeros((1, k), a_type), np.zeros((k, 1), b_type)
    for right in (b, pq.pack(b)):
        with pytest.raises(OverflowError, match=f"K={k}.*int32.*{k - 1}"):
            ops.matmul_integer(a, right)
    out = np.full((1, 1), 7, np.int32)
    with pytest.raises(OverflowError):
        ops.matmul_integer(a, b, out=out)
    assert out[0, 0] == 7


@pytest.mark.parametrize("a_type, b_type, za, zb, most", [
    ("int8", "int8", -128, 0, (2**31 - 1) // (255 * 128)),
    ("int8", "int8", -128, 127, (2**31 - 1) // 255**2),
    ("uint8", "int8", 128, 0, (2**31 - 1) // (128 * 128)),
    ("uint8", "uint8", 128, 128, (2**31 - 1) // (128 * 128)),
    ("uint8", "uint8", 128, 127, (2**31 - 1) // (128 * 128)),
    ("uint8", "uint8", 255, 0, (2**31 - 1) // 255**2),
])  # fmt: skip
def test_zero_points_move_the_limit(a_type, b_type, za, zb, most):
    ends = [np.array(reference.grid(t)) for t in (a_type, b_type)]
    farthest = [e[np.abs(e - z).argmax()] for e, z in zip(ends, (za, zb), strict=True)]
    a, b = np.full((1, most), farthest[0], a_type), np.full((most, 1), farthest[1], b_type)
    assert_same_bits(ops.matmul_integer(a, b, za, zb), product(a, b, za, zb))
    a, b = np.zeros((1, most + 1), a_type), np.zeros((most + 1, 1), b_type)
    with pytest.raises(OverflowError, match=str(most)):
        ops.matmul_integer(a, b, za, zb)
    with pytest.raises(OverflowError, match=str(most)):
        ops.matmul_integer(a, b, [za], np.array([[zb]]))


# --- shapes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("a_shape, b_shape", [
    ((0, 3), (3, 4)), ((2, 0), (0, 4)), ((2, 3), (3, 0)), ((0, 0), (0, 0)), ((0,), (0,)),
    ((0,), (0, 3)), ((2, 0), (0,)), ((0, 2, 3), (3, 4)), ((5, 0, 3), (5, 3, 2)),
    ((5, 2, 0), (0, 2)), ((0, 2, 3), (0, 3, 4)), ((1, 2, 3), (0, 3, 4)), ((4, 1, 2, 0), (3, 0, 5)),
])  # fmt: skip
def test_empty_dimensions(a_shape, b_shape):
    a, b = np.ones(a_shape, np.uint8), np.ones(b_shape, np.int8)
    check(a, b)
    check(a, b, 200, -100)


@pytest.mark.parametrize("a_shape, b_shape", [
    ((5,), (5,)), ((5,), (5, 3)), ((4, 5), (5,)), ((2, 4, 5), (5,)), ((5,), (2, 5, 3)),
    ((2, 4, 5), (5, 3)), ((4, 5), (2, 5, 3)), ((2, 4, 5), (2, 5, 3)), ((1, 4, 5), (2, 5, 3)),
    ((2, 4, 5), (1, 5, 3)), ((3, 1, 4, 5), (2, 5, 3)), ((3, 2, 4, 5), (3, 1, 5, 3)),
    ((1, 1, 1, 5), (4, 3, 5, 2)), ((2, 3, 4, 1), (1, 7)), ((6, 1, 5), (5, 1)),
])  # fmt: skip
def test_shapes_are_those_of_numpy_matmul(a_shape, b_shape):
    rng = random_generator(a_shape, b_shape)
    a, b = codes(rng, a_shape, "uint8"), codes(rng, b_shape, "int8")
    check(a, b)
    check(a, b, 31, -7)


@pytest.mark.parametrize("za_shape", [(4, 1), (1, 4, 1), (2, 1, 1), (2, 4, 1), (4,)])
@pytest.mark.parametrize("zb_shape", [(1, 3), (3, 1, 1, 3), (1, 1, 1, 3), (3, 1, 1, 1), (3,)])
def test_zero_points_per_batch(za_shape, zb_shape):
    rng = random_generator(za_shape, zb_shape)
    a, b = codes(rng, (2, 4, 5), "uint8"), codes(rng, (3, 1, 5, 3), "int8")
    za, zb = codes(rng, za_shape, "uint8"), codes(rng, zb_shape, "int8")
    rows = za[:, None] if za.ndim == 1 else za
    assert_same_bits(ops.matmul_integer(a, b, za, zb), product(a, b, rows, zb))


def test_a_batch_of_a_shared_matrix_with_zero_points_per_row_of_each_batch():
    rng = random_generator("rows")
    a, b = codes(rng, (3, 2, 4, 5), "int8"), codes(rng, (5, 6), "int8")
    for shape in [(3, 2, 4, 1), (1, 2, 4, 1), (2, 1, 1), (3, 1, 4, 1), (4, 1)]:
        za = codes(rng, shape, "int8")
        for right in (b, pq.pack(b)):
            assert_same_bits(ops.matmul_integer(a, right, za, 3), product(a, b, za, 3))


@pytest.mark.parametrize("b_layout", [n for n in LAYOUTS if n != "byte_swapped"])
@pytest.mark.parametrize("a_layout", [n for n in LAYOUTS if n != "byte_swapped"])
def test_strides(a_layout, b_layout):
    rng = random_generator(a_layout, b_layout)
    for a_shape, b_shape in [((19, 66), (66, 37)), ((3, 5, 20), (3, 20, 9)), ((2, 6, 7), (7, 33))]:
        a, b = codes(rng, a_shape, "uint8"), codes(rng, b_shape, "int8")
        wanted = product(a, b, 5, 6)
        a, b = layouts(a)[a_layout], layouts(b)[b_layout]
        assert_same_bits(ops.matmul_integer(a, b, 5, 6), wanted)


def test_transposed_views_and_repeated_rows():
    rng = random_generator("views")
    a, b = codes(rng, (66, 35), "int8"), codes(rng, (41, 66), "uint8")
    check(a.T, b.T)
    check(a.T[::-3, ::2], b.T[::2, ::-1])
    check(np.broadcast_to(a[:, :1].T, (9, 66)), b.T)
    check(a.T, np.broadcast_to(b[0, :, None], (66, 4)))
    check(np.broadcast_to(a.T, (3, 35, 66)), b.T)


@st.composite
def strided(draw, shape, dtype):
    """An array of that shape somewhere in a larger one, axes in any order, steps of any sign."""
    order = draw(st.permutations(range(len(shape))))
    steps = draw(st.tuples(*[st.sampled_from([1, 1, -1, 2, -2, 3]) for _ in shape]))
    start = draw(st.integers(0, 3))
    room = [shape[i] * abs(steps[i]) + start for i in order]
    base = codes(random_generator(draw(st.integers(0, 9))), room, dtype)
    view = base.transpose(np.argsort(order))
    index = tuple(
        slice(start, start + n * s, s) if s > 0 else slice(start + n * -s - 1, None, s)
        for n, s in zip(shape, steps, strict=True)
    )
    view = view[index]
    view = view[tuple(slice(0, n) for n in shape)]
    assert view.shape == tuple(shape)
    return view


@st.composite
def operands(draw):
    """Two operands that numpy.matmul takes, and zero points that fit them."""
    size = st.one_of(st.integers(0, 4), st.sampled_from([7, 8, 9, 16, 17, 33, 65]))
    m, n, k = draw(size), draw(size), draw(size)
    batch = draw(st.lists(st.integers(0, 3), max_size=3))

    def one(last, dtype):
        own = batch[draw(st.integers(0, len(batch))) :]
        own = [1 if draw(st.booleans()) and draw(st.booleans()) else n for n in own]
        return draw(strided((*own, *last), dtype))

    a_type, b_type = draw(st.sampled_from(TYPES))
    a, b = one((m, k), a_type), one((k, n), b_type)

    def zero_points(x, axis):
        rng = random_generator(draw(st.integers(0, 9)))
        low, high = reference.grid(str(x.dtype))
        kind = draw(st.sampled_from(["none", "one", "line", "batches"]))
        if kind == "none":
            return 0
        if kind == "one":
            return int(rng.integers(low, high + 1))
        shape = [1] * x.ndim if kind == "line" else list(x.shape)
        shape[-1], shape[-2] = 1, 1
        shape[axis] = x.shape[axis]
        return rng.integers(low, high + 1, shape)

    return a, b, zero_points(a, -2), zero_points(b, -1)


@given(operands())
def test_any_operands(drawn):
    a, b, za, zb = drawn
    wanted = product(a, b, za, zb)
    assert_same_bits(ops.matmul_integer(a, b, za, zb), wanted)
    room = np.full([2 * s + 1 for s in wanted.shape], 77, np.int32)
    out = room[tuple(slice(1, 2 * s + 1, 2) for s in wanted.shape)][..., ::-1]
    assert ops.matmul_integer(a, b, za, zb, out=out) is out
    assert np.array_equal(out, wanted)
    out[...] = 77
    assert (room == 77).all()


# --- out ------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [n for n in LAYOUTS if n not in ("byte_swapped", "read_only")])
def test_out_in_every_layout(layout):
    rng = random_generator(layout)
    for a_shape, b_shape in [((19, 66), (66, 37)), ((3, 5, 20), (20, 9)), ((4, 2, 3), (4, 3, 5))]:
        a, b = codes(rng, a_shape, "int8"), codes(rng, b_shape, "int8")
        wanted = product(a, b, 1, 2)
        out = layouts(np.zeros(wanted.shape, np.int32))[layout]
        assert ops.matmul_integer(a, b, 1, 2, out=out) is out
        assert np.array_equal(out, wanted)


def test_out_of_vectors():
    a, b = np.int8([1, 2, 3]), np.int8([4, 5, 6])
    for left, right in ((a, b), (a[None], b), (a, b[:, None])):
        wanted = product(left, right)
        out = np.zeros(wanted.shape, np.int32)
        assert ops.matmul_integer(left, right, out=out) is out
        assert np.array_equal(out, wanted)


def test_out_with_odd_strides():
    raw = np.zeros(100, np.uint8)
    out = np.lib.stride_tricks.as_strided(raw[1:97].view(np.int32), (4, 5), (21, 4))
    rng = random_generator("odd")
    a, b = codes(rng, (4, 7), "int8"), codes(rng, (7, 5), "uint8")
    ops.matmul_integer(a, b, out=out)
    assert np.array_equal(out, product(a, b))


def test_a_wrong_out_is_refused_and_left_alone():
    a, b = np.ones((2, 3), np.int8), np.ones((3, 4), np.int8)
    room = np.zeros(64, np.int8)
    over = room[:6].reshape(2, 3)
    read_only = np.zeros((2, 4), np.int32)
    read_only.flags.writeable = False
    for out, words in [
        (np.zeros((4, 2), np.int32), r"out.*\(2, 4\)"),
        (np.zeros((1, 2, 4), np.int32), r"out.*\(2, 4\)"),
        (np.zeros((2, 4), np.int64), "out.*int32"),
        (np.zeros((2, 4), np.float32), "out.*int32"),
        (np.zeros((2, 4), ">i4"), "out.*int32"),
        (read_only, "out.*writeable"),
    ]:
        for left in (a, a[None][0], np.asfortranarray(a)):
            with pytest.raises(ValueError, match=words):
                ops.matmul_integer(left, b, out=out)
        assert not out.any()
    with pytest.raises(ValueError, match=r"out.*overlap"):
        ops.matmul_integer(over, b, out=room[:32].view(np.int32).reshape(2, 4))
    with pytest.raises(ValueError, match=r"out.*overlap"):
        ops.matmul_integer(a, room[20:32].reshape(3, 4), out=room[:32].view("i4").reshape(2, 4))
    assert not room.any()
    with pytest.raises(TypeError, match="out must be a NumPy array"):
        ops.matmul_integer(a, b, out=[[0] * 4] * 2)


# --- errors ---------------------------------------------------------------------------------

A, B = np.ones((2, 3), np.int8), np.ones((3, 4), np.uint8)
LONG = np.broadcast_to(np.zeros(1, np.int8), (1, 1 << 23))


@pytest.mark.parametrize("call, error, words", [
    (lambda: ops.matmul_integer(A.astype(np.int16), B), TypeError, ["a must", "int16"]),
    (lambda: ops.matmul_integer(A, B.astype(np.int32)), TypeError, ["b must", "int32"]),
    (lambda: ops.matmul_integer(A.astype(np.float32), B), TypeError, ["a must", "float32"]),
    (lambda: ops.matmul_integer(A > 0, B), TypeError, ["a must", "bool"]),
    (lambda: ops.matmul_integer([[1, 2, 3]], B), TypeError, ["a must", "int64"]),
    (lambda: ops.matmul_integer(A, B.astype(object)), TypeError, ["b must", "object"]),
    (lambda: ops.matmul_integer(np.int8(1), B), ValueError, ["a must", "dimension"]),
    (lambda: ops.matmul_integer(A, np.array(1, np.int8)), ValueError, ["b must", "dimension"]),
    (lambda: ops.matmul_integer(A, B.T), ValueError, ["(2, 3)", "(4, 3)", "3 and 4"]),
    (lambda: ops.matmul_integer(A[0], B.T), ValueError, ["(3,)", "(4, 3)"]),
    (lambda: ops.matmul_integer(np.ones((2, 1, 3), np.int8), np.ones((3, 3, 1), np.int8)),
     ValueError, ["(2, 1, 3)", "(3, 3, 1)", "broadcasting"]),
    (lambda: ops.matmul_integer(A, pq.pack(B.T)), ValueError, ["(2, 3)", "(4, 3)"]),
    (lambda: ops.matmul_integer(A, B, 128), ValueError, ["a_zero_point=128", "-128 ... 127"]),
    (lambda: ops.matmul_integer(A, B, 0, -1), ValueError, ["b_zero_point=-1", "0 ... 255"]),
    (lambda: ops.matmul_integer(A, B, 0, 1 << 40), ValueError, ["b_zero_point=1099511627776"]),
    (lambda: ops.matmul_integer(A, B, [0, 300]), ValueError, ["a_zero_point=300"]),
    (lambda: ops.matmul_integer(A, B, 0.5), TypeError, ["a_zero_point", "float64"]),
    (lambda: ops.matmul_integer(A, B, 0, True), TypeError, ["b_zero_point", "bool"]),
    (lambda: ops.matmul_integer(A, B, [1, 2, 3]), ValueError, ["a_zero_point", "(2,)", "(3,)"]),
    (lambda: ops.matmul_integer(A, B, [[1, 2]]), ValueError, ["a_zero_point", "(2, 1)", "(1, 2)"]),
    (lambda: ops.matmul_integer(A, B, 0, [1, 2, 3]), ValueError, ["b_zero_point", "(4,)"]),
    (lambda: ops.matmul_integer(A, B, 0, [[1], [2], [3], [4]]), ValueError,
     ["b_zero_point", "(1, 4)", "(4, 1)"]),
    (lambda: ops.matmul_integer(A, B, np.ones((2, 2, 1), int)), ValueError, ["a_zero_point"]),
    (lambda: ops.matmul_integer(LONG, LONG.T), OverflowError, ["K=8388608", "131071"]),
])  # fmt: skip
def test_mistakes(call, error, words):
    check_refused(call, error, words)


def test_small_integers_of_ml_dtypes():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    rng = random_generator("int4")
    a, b = rng.integers(-8, 8, (5, 9)), rng.integers(0, 16, (9, 4))
    narrow = a.astype(ml_dtypes.int4), b.astype(ml_dtypes.uint4)
    assert_same_bits(ops.matmul_integer(*narrow, -8, 15), product(a, b, -8, 15))


# --- packed matrices ------------------------------------------------------------------------


@each_pair
def test_a_packed_matrix(a_type, b_type):
    rng = random_generator(a_type, b_type)
    for m, n, k in [(1, 1, 1), (5, 17, 3), (16, 64, 64), (33, 129, 65), (7, 40, 0), (0, 5, 5)]:
        a, b = codes(rng, (m, k), a_type), codes(rng, (k, n), b_type)
        za, zb = codes(rng, (m, 1), a_type), codes(rng, (n,), b_type)
        packed = pq.pack(b)
        out = np.empty((m, n), np.int32)
        assert_same_bits(ops.matmul_integer(a, packed), product(a, b))
        assert_same_bits(ops.matmul_integer(a, packed, 9, 8), product(a, b, 9, 8))
        assert_same_bits(ops.matmul_integer(a, packed, za, zb), product(a, b, za, zb))
        assert ops.matmul_integer(a, packed, 9, 8, out=out) is out
        assert_same_bits(out, product(a, b, 9, 8))
        batches = codes(rng, (2, 3, m, k), a_type)
        assert_same_bits(ops.matmul_integer(batches, packed, za), product(batches, b, za))
        if m:
            assert_same_bits(ops.matmul_integer(a[0], packed), product(a[0], b))


# --- qlinear_matmul -------------------------------------------------------------------------

MODES = {
    "float": {}, "double": {"mode": "fixed"}, "single": {"mode": "fixed", "rounding": "single"},
}  # fmt: skip


def requantized(acc, multiplier, zero_point, dtype, mode="float", rounding="double"):
    """Element by element in exact arithmetic; multiplier broadcasts to acc."""
    low, high = reference.grid(dtype)
    result = np.empty(acc.shape, reference.storage(dtype))
    multiplier = np.broadcast_to(multiplier, acc.shape)
    for index in np.ndindex(acc.shape):
        arguments = int(acc[index]), float(multiplier[index]), zero_point, low, high
        result[index] = (
            reference.requantize_float(*arguments)
            if mode == "float"
            else reference.requantize_fixed(*arguments, rounding)
        )
    return result


@pytest.mark.parametrize("options", MODES.values(), ids=MODES)
@pytest.mark.parametrize("y_type", ["int8", "uint8", "int16", "uint16", "int4"])
@each_pair
def test_qlinear_matmul(a_type, b_type, y_type, options):
    rng = random_generator(a_type, b_type, y_type)
    low, high = reference.grid(y_type)
    f32 = np.float32
    for m, n, k in [(1, 1, 1), (3, 17, 40), (13, 33, 65)]:
        a, b = codes(rng, (m, k), a_type), codes(rng, (k, n), b_type)
        za, zb = codes(rng, (m, 1), a_type), codes(rng, (1, n), b_type)
        a_scale = (2.0 ** rng.uniform(-9, -4, (m, 1))).astype(f32)
        b_scale = (2.0 ** rng.uniform(-9, -4, (1, n))).astype(f32)
        y_scale = f32(k**0.5 * 200 * 0.02 / (high - low))
        for sa, sb in itertools.product((a_scale, a_scale[0, 0]), (b_scale, b_scale[0, 0])):
            for z in (low, high, (low + high) // 2 + 1):
                wanted = requantized(
                    product(a, b, za, zb), (sa * sb) / y_scale, z, y_type, **options
                )
                actual = ops.qlinear_matmul(
                    a, sa, za, b, sb, zb, y_scale, z, dtype=y_type, **options
                )
                assert_same_bits(actual, wanted)


def test_qlinear_matmul_takes_its_type_from_the_zero_point_as_onnx_does():
    a, b = np.ones((2, 3), np.uint8), np.ones((3, 4), np.int8)
    for zero_point, dtype in [
        (np.int8(3), "int8"), (np.array([3], np.uint8), "uint8"), (np.uint16(3), "uint16"),
        (np.array(3, np.int16), "int16"), (3, "uint8"), ([3], "uint8"), (np.int64(3), "uint8"),
    ]:  # fmt: skip
        assert ops.qlinear_matmul(a, 1, 0, b, 1, 0, 1, zero_point).dtype == dtype
    assert ops.qlinear_matmul(b.T, 1, 0, a.T, 1, 0, 1, 3).dtype == "int8"
    assert ops.qlinear_matmul(a, 1, 0, b, 1, 0, 1, np.uint8(3), dtype="int8").dtype == "int8"


def test_qlinear_matmul_of_batches():
    rng = random_generator("batches")
    a, b = codes(rng, (3, 1, 4, 6), "uint8"), codes(rng, (2, 6, 5), "int8")
    sa = rng.uniform(0.01, 0.1, (3, 1, 4, 1)).astype(np.float32)
    sb = rng.uniform(0.01, 0.1, (2, 1, 5)).astype(np.float32)
    za, zb = codes(rng, (3, 1, 4, 1), "uint8"), codes(rng, (2, 1, 5), "int8")
    wanted = requantized(product(a, b, za, zb), sa * sb / np.float32(0.3), 4, "uint8")
    assert_same_bits(ops.qlinear_matmul(a, sa, za, b, sb, zb, 0.3, 4), wanted)
    wanted = requantized(product(a, b[0], za, zb[0]), sa * sb[0] / np.float32(0.3), 4, "uint8")
    for right in (b[0], pq.pack(b[0])):
        assert_same_bits(ops.qlinear_matmul(a, sa, za, right, sb[0], zb[0], 0.3, 4), wanted)


@pytest.mark.parametrize("options", MODES.values(), ids=MODES)
@pytest.mark.parametrize("k", [33026, 70_000, 200_003])
def test_sums_beyond_int32_are_requantized_right(k, options):
    rng = random_generator(k)
    a, b = codes(rng, (2, k), "uint8") | 192, codes(rng, (k, 3), "uint8") | 128
    b[:, 1] = 255
    a[1] = 255
    exact = wide(a) @ wide(b)
    assert exact.max() > 2**31 - 1
    scale = np.float32(2.0 ** (7.3 - np.ceil(np.log2(exact.max()))))
    if options:
        wanted = np.empty(exact.shape, np.uint8)
        for index in np.ndindex(exact.shape):
            ratio = int(exact[index]) * float(scale)
            wanted[index] = np.clip(np.floor(ratio + 0.5), 0, 255)
            assert abs(ratio % 1 - 0.5) > 1e-3  # so that the kind of rounding does not matter
    else:
        wanted = requantized(exact, scale, 0, "uint8")
    assert len(np.unique(wanted)) > 1
    for right in (b, pq.pack(b)):
        actual = ops.qlinear_matmul(a, scale, 0, right, 1.0, 0, 1.0, np.uint8(0), **options)
        assert_same_bits(actual, wanted)


@pytest.mark.parametrize("m, n", [(1, 2), (3, 65), (40, 7)])
def test_long_sums_with_zero_points_and_strides(m, n):
    """A few rows, b where it is by rows and by columns, and tiles."""
    k, f32 = 100_001, np.float32
    rng = random_generator(m, n)
    a, b = codes(rng, (m, k), "uint8") | 192, codes(rng, (k, n), "uint8") | 128
    za, zb = codes(rng, (m, 1), "uint8") // 4, codes(rng, (1, n), "uint8") // 4
    scales = (2.0 ** rng.uniform(-1, 1, n)).astype(f32)
    for zeros in [(0, 0), (3, 0), (0, 9), (60, 50), (za, 7), (5, zb), (za, zb)]:
        exact = wide(a, zeros[0]) @ wide(b, zeros[1])
        assert exact.max() > 2**31
        y_scale = f32(exact.max() / 150)
        wanted = requantized(exact, scales / y_scale, 7, "uint8")
        for left, right in [(a, b), (a, np.asfortranarray(b)), (a.T.copy().T, b), (a, pq.pack(b))]:
            actual = ops.qlinear_matmul(
                left, 1.0, zeros[0], right, scales, zeros[1], y_scale, np.uint8(7)
            )
            assert_same_bits(actual, wanted)


def test_no_sum_is_too_long():
    k = (1 << 23) + 77
    rng = random_generator("longest")
    a, b = codes(rng, (2, k), "uint8"), codes(rng, (k, 1), "uint8")
    b[: k // 3] = a[0, : k // 3, None] = 255
    exact = wide(a) @ wide(b)
    scale = np.float32(150 / exact.max())
    wanted = requantized(exact, scale, 3, "uint8")
    for right in (b, pq.pack(b)):
        assert_same_bits(ops.qlinear_matmul(a, scale, 0, right, 1, 0, 1, np.uint8(3)), wanted)
    params = pq.QuantParams(0.5, 0, "uint8")
    actual = pq.matmul(pq.QuantizedArray(a, params), pq.QuantizedArray(b, params))
    assert_same_bits(actual, exact.astype(np.float32) * np.float32(0.25))


@pytest.mark.parametrize("call, error, words", [
    (lambda: ops.qlinear_matmul(A, 0.0, 0, B, 1, 0, 1, 0), ValueError, ["a_scale=0.0", "positive"]),
    (lambda: ops.qlinear_matmul(A, [1, np.nan], 0, B, 1, 0, 1, 0), ValueError, ["a_scale=nan"]),
    (lambda: ops.qlinear_matmul(A, 1, 0, B, -1, 0, 1, 0), ValueError, ["b_scale=-1.0"]),
    (lambda: ops.qlinear_matmul(A, 1, 0, B, [1, 2, 3], 0, 1, 0), ValueError, ["b_scale", "(4,)"]),
    (lambda: ops.qlinear_matmul(A, 1, 0, B, 1, 0, np.inf, 0), ValueError, ["y_scale=inf"]),
    (lambda: ops.qlinear_matmul(A, 1, 0, B, 1, 0, [1, 2], 0), ValueError, ["y_scale", "(2,)"]),
    (lambda: ops.qlinear_matmul(A, 1, 0, B, 1, 0, 1, 128), ValueError, ["y_zero_point=128"]),
    (lambda: ops.qlinear_matmul(A, 1, 0, B, 1, 0, 1, [0, 0]), ValueError, ["y_zero_point", "(2,)"]),
    (lambda: ops.qlinear_matmul(A, 1, 0, B, 1, 0, 1, 0.5), TypeError, ["y_zero_point", "float64"]),
    (lambda: ops.qlinear_matmul(A, 1, 0, B, 1, 0, 1, 0, dtype="int17"), ValueError, ["int17"]),
    (lambda: ops.qlinear_matmul(A, 1, 0, B, 1, 0, 1, 0, mode="exact"), ValueError, ["'exact'"]),
    (lambda: ops.qlinear_matmul(A, 1e-30, 0, B, 1e-30, 0, 1, 0), ValueError, ["multiplier"]),
    (lambda: ops.qlinear_matmul(A, 1e30, 0, B, 1e30, 0, 1, 0), ValueError, ["multiplier"]),
    (lambda: ops.qlinear_matmul(A, "1", 0, B, 1, 0, 1, 0), TypeError, ["a_scale"]),
])  # fmt: skip
def test_mistakes_of_qlinear_matmul(call, error, words):
    check_refused(call, error, words)


# --- the process ----------------------------------------------------------------------------


def test_it_works_in_the_child_of_a_fork():
    code = """
        import os
        import numpy as np
        from pyquant import ops
        a = np.ones((300, 400), np.int8)
        assert (ops.matmul_integer(a, a.T) == 400).all()
        child = os.fork()
        if child == 0:
            os._exit(0 if (ops.matmul_integer(a, a.T) == 400).all() else 3)
        assert os.waitpid(child, 0)[1] == 0
    """
    if not hasattr(os, "fork"):
        pytest.skip("no fork here")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True,
        timeout=120, check=False, env=os.environ | {"PYQUANT_NUM_THREADS": "3"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
