"""`pack` and PackedMatrix: the same matrix, whatever layout it is kept in."""

import copy
import json
import os
import pickle
import subprocess
import sys
import textwrap
import threading

import cpu_variants
import numpy as np
import pytest
import reference
from cases import LAYOUTS, assert_same_bits, layouts, random_generator
from refusals import check_refused

import pyquant as pq
from pyquant import _cpu, ops


def codes(rng, shape, dtype):
    low, high = reference.grid(dtype)
    return rng.integers(low, high, shape, dtype, endpoint=True)


SHAPES = [(1, 1), (0, 3), (3, 0), (4, 8), (5, 9), (63, 31), (64, 32), (65, 33), (130, 200)]


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_plain_integers_come_back(dtype):
    rng = random_generator(dtype)
    for shape in SHAPES:
        b = codes(rng, shape, dtype)
        packed = pq.pack(b)
        assert (packed.shape, packed.dtype, packed.ndim) == (shape, dtype, 2)
        assert packed.params is None and packed.scale == 1 and packed.zero_point == 0
        assert packed.nbytes >= b.nbytes
        assert_same_bits(packed.unpack(), b)
        other = pq.pack(b, transposed=True)
        assert other.shape == shape[::-1]
        assert_same_bits(other.unpack(), np.ascontiguousarray(b.T))


@pytest.mark.parametrize("layout", [n for n in LAYOUTS if n != "byte_swapped"])
def test_strides(layout):
    rng = random_generator(layout)
    for shape in [(7, 9), (66, 40)]:
        b = codes(rng, shape, "int8")
        assert_same_bits(pq.pack(layouts(b)[layout]).unpack(), b)
        assert_same_bits(pq.pack(layouts(b)[layout].T, transposed=True).unpack(), b)


PLACES = {"tensor": {}, "column": {"axis": 1}, "block": {"axis": 0, "block_size": 8},
          "long_block": {"axis": 0, "block_size": 500}}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("options", [
    {}, {"dtype": "uint8", "scheme": "affine"}, {"dtype": "int4", "packed": True},
    {"dtype": "uint3"}, {"dtype": "int8", "narrow_range": False},
])  # fmt: skip
def test_a_quantized_array_comes_back(options, place):
    w = random_generator(place).standard_normal((66, 35), dtype=np.float32)
    q = pq.quantize(w, **options, **PLACES[place])
    packed = pq.pack(q)
    back = packed.unpack()
    assert back.params == q.params and np.array_equal(back.data, q.unpack().data)
    assert packed.dtype == q.dtype and packed.block_size == q.block_size
    assert np.array_equal(packed.scale, q.scale)
    assert np.array_equal(packed.zero_point, q.zero_point)
    axis = {"axis": 1 - PLACES[place]["axis"]} if place != "tensor" else {}
    turned = pq.pack(pq.quantize(w.T, **options, **{**PLACES[place], **axis}), transposed=True)
    assert turned.unpack() == back


def test_negative_axes():
    w = random_generator("negative").standard_normal((6, 5), dtype=np.float32)
    for where in ({"axis": -1}, {"axis": -2, "block_size": 2}):
        q = pq.quantize(w, **where)
        turned = pq.quantize(w.T, **{**where, "axis": -3 - where["axis"]})
        a, b = pq.pack(q), pq.pack(turned, transposed=True)
        assert np.array_equal(a.unpack().data, b.unpack().data)
        assert np.array_equal(a.unpack().dequantize(), b.unpack().dequantize())
        x = pq.quantize(w.T)
        assert_same_bits(pq.matmul(x, a), pq.matmul(x, b))


def test_it_keeps_what_it_was_made_from():
    b = np.arange(12, dtype=np.int8).reshape(3, 4)
    packed = pq.pack(b)
    b[...] = 0
    assert packed.unpack()[2, 3] == 11


def test_it_is_immutable_and_prints_a_summary():
    packed = pq.pack(pq.quantize(np.ones((4, 6), np.float32), dtype="int4", axis=0, block_size=2))
    assert copy.copy(packed) is packed and copy.deepcopy(packed) is packed
    with pytest.raises(AttributeError):
        packed.anything = 1
    text = repr(packed)
    for word in ("PackedMatrix", "(4, 6)", "'int4'", "block_size=2", packed.isa):
        assert word in text
    with pytest.raises(TypeError, match="pack"):
        pq.PackedMatrix()


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickle(protocol):
    rng = random_generator("pickle")
    x = rng.standard_normal((5, 66), dtype=np.float32)
    for where in ({}, {"axis": 0}, {"axis": 1, "block_size": 16}):
        q = pq.quantize(rng.standard_normal((35, 66), dtype=np.float32), **where)
        packed = pq.pack(q, transposed=True)
        back = pickle.loads(pickle.dumps(packed, protocol))
        assert back.unpack() == packed.unpack() and back.shape == packed.shape
        assert_same_bits(pq.linear(x, back), pq.linear(x, packed))
    plain = pq.pack(codes(rng, (9, 7), "uint8"))
    back = pickle.loads(pickle.dumps(plain, protocol))
    assert_same_bits(back.unpack(), plain.unpack())
    assert back.params is None


def test_another_process_packs_for_itself(tmp_path):
    """A pickle is not bound to the variant that wrote it."""
    rng = random_generator("process")
    a, b = codes(rng, (5, 66), "uint8"), codes(rng, (66, 35), "int8")
    (tmp_path / "packed").write_bytes(pickle.dumps((a, pq.pack(b))))
    code = """
        import json, pickle, sys
        import pyquant as pq
        a, packed = pickle.load(open("packed", "rb"))
        print(json.dumps([packed.isa, pq.ops.matmul_integer(a, packed, 3, 4).tolist()]))
    """
    wanted = (a.astype(int) - 3) @ (b.astype(int) - 4)
    for isa in cpu_variants.available():
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)], cwd=tmp_path, capture_output=True,
            text=True, timeout=60, check=False, env=os.environ | {"PYQUANT_ISA": isa},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        used, result = json.loads(done.stdout)
        order = cpu_variants.known()
        assert order.index(used) <= order.index(isa)
        assert np.array_equal(result, wanted)


@pytest.fixture
def no_cap_afterwards():
    yield
    _cpu.set_isa(os.environ.get("PYQUANT_ISA", ""))


def test_a_cap_that_comes_later_packs_it_anew(no_cap_afterwards):
    rng = random_generator("cap")
    x = rng.standard_normal((5, 66), dtype=np.float32)
    a, b = codes(rng, (5, 66), "uint8"), codes(rng, (66, 35), "int8")
    plain, layer = pq.pack(b), pq.pack(pq.quantize(b.astype("f4"), axis=0, block_size=16))
    y = pq.linear(x, layer)
    for isa in (*reversed(cpu_variants.available()), cpu_variants.available()[-1]):
        assert _cpu.set_isa(isa) == 0
        expected = _cpu.operations()["gemm"][0]
        assert_same_bits(ops.matmul_integer(a, plain), a.astype("i4") @ b.astype("i4"))
        assert_same_bits(pq.linear(x, layer), y)
        assert plain.isa == layer.isa == expected
        assert_same_bits(plain.unpack(), b)


def test_threads_use_one_matrix_while_it_is_packed_anew(no_cap_afterwards):
    rng = random_generator("threads")
    a, b = codes(rng, (40, 300), "uint8"), codes(rng, (300, 200), "int8")
    packed, wanted = pq.pack(b), a.astype("i4") @ b.astype("i4")
    failures = []

    def work():
        for _ in range(30):
            if not np.array_equal(ops.matmul_integer(a, packed), wanted):
                failures.append(1)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for isa in cpu_variants.available() * 3:
        _cpu.set_isa(isa)
    for thread in threads:
        thread.join()
    assert not failures


W = pq.quantize(np.ones((4, 6), np.float32))
IN_BLOCKS = pq.quantize(np.ones((6, 4), np.float32), axis=0, block_size=2)


@pytest.mark.parametrize("call, error, words", [
    (lambda: pq.pack(np.ones((3, 4), np.float32)), TypeError, ["weight", "float32"]),
    (lambda: pq.pack(np.ones((3, 4), np.int16)), TypeError, ["weight", "int16"]),
    (lambda: pq.pack(np.ones(3, np.int8)), ValueError, ["weight", "two dimensions", "(3,)"]),
    (lambda: pq.pack(np.ones((2, 3, 4), np.int8)), ValueError, ["two dimensions", "(2, 3, 4)"]),
    (lambda: pq.pack(pq.pack(W)), TypeError, ["weight", "packed already"]),
    (lambda: pq.pack(pq.quantize(np.ones((3, 4), "f4"), dtype="int16")), TypeError,
     ["weight", "8 bits", "int16"]),
    (lambda: pq.pack(pq.quantize(np.ones((3, 4), "f4"), axis=0)), ValueError,
     ["weight", "axis=-1", "axis=0"]),
    (lambda: pq.pack(pq.quantize(np.ones((3, 4), "f4"), axis=1), transposed=True), ValueError,
     ["weight", "axis=0", "axis=1"]),
    (lambda: pq.pack(pq.quantize(np.ones((3, 4), "f4"), axis=1, block_size=2)), ValueError,
     ["weight", "axis=-2", "block_size=2"]),
    (lambda: ops.matmul_integer(W.data, pq.pack(IN_BLOCKS)), ValueError,
     ["b must", "without blocks", "2"]),
])  # fmt: skip
def test_mistakes(call, error, words):
    check_refused(call, error, words)
