"""QuantizedArray: what it holds, and that it does nothing by accident."""

import copy
import operator
import pickle

import numpy as np
import pytest
import reference
from cases import assert_same_bits, random_generator

import pyquant as pq

CONFIGURATIONS = {
    "tensor": {},
    "affine": {"dtype": "uint8", "scheme": "affine"},
    "channel": {"axis": 0},
    "last_channel": {"axis": -1, "dtype": "uint16"},
    "block": {"axis": 1, "block_size": 4, "dtype": "int4"},
    "packed": {"axis": 1, "block_size": 4, "dtype": "int3", "packed": True},
}


def example(name: str) -> pq.QuantizedArray:
    x = random_generator("array").standard_normal((6, 10)).astype(np.float32)
    return pq.quantize(x, **CONFIGURATIONS[name])


every_configuration = pytest.mark.parametrize("name", CONFIGURATIONS)


@every_configuration
def test_attributes_are_those_of_the_params(name):
    q = example(name)
    options = CONFIGURATIONS[name]
    assert isinstance(q, pq.QuantizedArray) and isinstance(q.params, pq.QuantParams)
    assert (q.shape, q.ndim, q.size) == ((6, 10), 2, 60)
    assert q.dtype == q.params.dtype == options.get("dtype", "int8")
    assert (q.axis, q.block_size) == (options.get("axis"), options.get("block_size"))
    assert q.packed is options.get("packed", False)
    assert_same_bits(q.scale, q.params.scale)
    assert_same_bits(q.zero_point, q.params.zero_point)
    if not q.packed:
        assert (q.data.shape, q.data.dtype) == ((6, 10), reference.storage(q.dtype))


@every_configuration
def test_nbytes_counts_zero_points_only_where_they_say_something(name):
    q = example(name)
    expected = q.data.nbytes + q.scale.nbytes
    if np.any(q.zero_point):
        expected += q.zero_point.nbytes
    assert q.nbytes == expected


CLONES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{f"pickle{n}": lambda q, n=n: pickle.loads(pickle.dumps(q, n)) for n in range(2, 6)},
}


@pytest.mark.parametrize("clone", CLONES.values(), ids=CLONES)
@every_configuration
def test_copies_and_pickles(name, clone):
    q = example(name)
    again = clone(q)
    assert type(again) is type(q)
    assert again == q
    assert (again != q) is False
    assert_same_bits(again.data, q.data)
    assert_same_bits(again.dequantize(), q.dequantize())
    assert again.params == q.params


def test_deepcopy_shares_nothing():
    q = example("channel")
    again = copy.deepcopy(q)
    again.data[...] = 0
    assert np.any(q.data) and again != q


def test_arrays_differ_by_data_params_shape_and_packing():
    all_of_them = [example(name) for name in CONFIGURATIONS]
    for i, a in enumerate(all_of_them):
        for j, b in enumerate(all_of_them):
            assert bool(a == b) is (i == j)
    q = example("tensor")
    changed = q.data.copy()
    changed[3, 3] += 1
    assert pq.QuantizedArray(changed, q.params) != q
    assert pq.QuantizedArray(q.data.reshape(10, 6), q.params) != q
    assert q != 3 and q != "q" and q is not None


ARITHMETIC = [
    operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod,
    operator.pow, operator.lt, operator.le, operator.gt, operator.ge, operator.and_, operator.or_,
]  # fmt: skip


@pytest.mark.parametrize("operation", ARITHMETIC, ids=lambda f: f.__name__)
@pytest.mark.parametrize("other", [2, 2.5, np.float32(2), np.ones((6, 10), np.float32)],
                         ids=["int", "float", "numpy_scalar", "ndarray"])  # fmt: skip
def test_no_arithmetic_by_accident(operation, other):
    q = example("tensor")
    with pytest.raises(TypeError):
        operation(q, other)
    with pytest.raises(TypeError):
        operation(other, q)
    with pytest.raises(TypeError):
        operation(q, example("tensor"))


@pytest.mark.parametrize("ufunc", [np.add, np.multiply, np.exp, np.isnan, np.maximum])
def test_no_ufunc_by_accident(ufunc):
    q = example("tensor")
    assert pq.QuantizedArray.__array_ufunc__ is None
    with pytest.raises(TypeError):
        ufunc(*[q] * ufunc.nin)


@pytest.mark.parametrize("operation", [operator.neg, operator.pos, abs, float, int, round],
                         ids=lambda f: f.__name__)  # fmt: skip
def test_no_unary_arithmetic_by_accident(operation):
    with pytest.raises(TypeError):
        operation(example("tensor"))


@pytest.mark.parametrize("convert", [
    np.asarray, np.array, np.asanyarray, np.ascontiguousarray,
    lambda q: np.asarray(q, dtype=np.float32), lambda q: np.concatenate([q, q]),
    lambda q: np.array(q, copy=False), lambda q: np.stack([q]),
], ids=["asarray", "array", "asanyarray", "ascontiguousarray", "asarray_dtype",
        "concatenate", "array_nocopy", "stack"])  # fmt: skip
@pytest.mark.parametrize("name", ["tensor", "packed"])
def test_conversion_raises_and_names_the_two_ways(convert, name):
    with pytest.raises(TypeError, match=r"\.data\b.*\.dequantize\(\)"):
        convert(example(name))


@pytest.mark.parametrize("consume", [list, iter, len], ids=["list", "iter", "len"])
def test_is_no_sequence_of_raw_integers(consume):
    """A list of the rows would carry integers without their scale."""
    q = example("tensor")
    try:
        result = consume(q)
    except TypeError:
        return
    assert result == 6  # len() may be that of an array


@every_configuration
def test_prints_a_short_summary(name):
    q = example(name)
    for text in (repr(q), str(q), f"{q}"):
        assert "QuantizedArray" in text
        assert q.dtype in text and "6" in text and "10" in text
        assert len(text) < 300
    big = pq.quantize(np.ones((300, 300), np.float32), axis=0)
    assert len(repr(big)) < 300


def test_no_instance_dictionary_of_surprises():
    with pytest.raises((AttributeError, TypeError)):
        example("tensor").sacle = 3


@pytest.mark.parametrize("name", ["tensor", "affine", "block", "last_channel"])
def test_pack_and_unpack_are_inverse(name):
    q = example(name)
    packed = q.pack()
    bits = q.params.bits
    assert packed.packed and not q.packed
    assert (packed.data.ndim, packed.data.dtype) == (1, np.uint8)
    assert packed.data.size == (60 * bits + 7) // 8
    assert packed.data.tobytes() == reference.pack_bits(q.data.ravel().tolist(), bits)
    assert (packed.shape, packed.params) == (q.shape, q.params)
    assert packed.unpack() == q
    assert packed.pack() == packed and q.unpack() == q


def test_built_from_raw_parts():
    data = np.arange(-6, 6, dtype=np.int8).reshape(3, 4)
    params = pq.QuantParams([0.5, 0.25, 1.0], 0, "int8", axis=0)
    q = pq.QuantizedArray(data, params)
    assert_same_bits(q.data, data)
    expected = reference.dequantize_fast(data, params.scale, params.zero_point, 0)
    assert_same_bits(q.dequantize(), expected)
    stream = np.frombuffer(reference.pack_bits(data.ravel().tolist(), 8), np.uint8)
    assert pq.QuantizedArray(stream, params, shape=(3, 4), packed=True).unpack() == q


@pytest.mark.parametrize("make", {
    "wrong_storage": lambda: pq.QuantizedArray(np.zeros(3, np.int16), pq.QuantParams(1.0)),
    "float_data": lambda: pq.QuantizedArray(np.zeros(3, np.float32), pq.QuantParams(1.0)),
    "channels": lambda: pq.QuantizedArray(
        np.zeros((3, 4), np.int8), pq.QuantParams([1.0, 2.0], axis=0)),
    "axis": lambda: pq.QuantizedArray(np.zeros(2, np.int8), pq.QuantParams([1.0, 2.0], axis=1)),
    "blocks": lambda: pq.QuantizedArray(
        np.zeros((3, 4), np.int8), pq.QuantParams(np.ones((3, 3)), axis=1, block_size=2)),
    "short_stream": lambda: pq.QuantizedArray(
        np.zeros(3, np.uint8), pq.QuantParams(1.0, 0, "int4"), shape=(7,), packed=True),
    "long_stream": lambda: pq.QuantizedArray(
        np.zeros(5, np.uint8), pq.QuantParams(1.0, 0, "int4"), shape=(7,), packed=True),
}.items(), ids=lambda item: item[0])  # fmt: skip
def test_parts_that_do_not_fit_are_refused(make):
    with pytest.raises((ValueError, TypeError)):
        make[1]()
