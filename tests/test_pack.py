"""`ops.pack_bits` and `ops.unpack_bits`: one little-endian bit stream."""

import numpy as np
import pytest
import reference
from cases import assert_same_bits, random_generator

from pyquant import ops

BITS = range(1, 17)
LENGTHS = [*range(40), 63, 64, 65, 127, 128, 129, 1000, 4099]


def codes(bits: int, signed: bool, length: int) -> np.ndarray:
    kind = f"{'' if signed else 'u'}int{8 if bits <= 8 else 16}"
    low = -(1 << (bits - 1)) if signed else 0
    return random_generator(bits, length).integers(low, low + (1 << bits), length).astype(kind)


@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
@pytest.mark.parametrize("bits", BITS)
def test_stream_and_back_at_every_length(bits, signed):
    for length in LENGTHS:
        q = codes(bits, signed, length)
        packed = ops.pack_bits(q, bits)
        assert packed.dtype == np.uint8 and packed.ndim == 1
        assert packed.tobytes() == reference.pack_bits(q.tolist(), bits)
        assert_same_bits(ops.unpack_bits(packed, bits, length, signed=signed), q)


@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
@pytest.mark.parametrize("bits", BITS)
def test_any_bytes_unpack_as_the_oracle_says(bits, signed):
    """Bytes that nobody packed, with the unused high bits set too."""
    for length in (1, 7, 8, 9, 33, 517):
        packed = random_generator(bits).integers(0, 256, (length * bits + 7) // 8).astype(np.uint8)
        packed[-1] |= 0x80
        actual = ops.unpack_bits(packed, bits, length, signed=signed)
        expected = reference.unpack_bits(packed.tobytes(), bits, length, signed)
        assert actual.tolist() == expected


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 8, 11, 16])
def test_big_streams(bits):
    q = codes(bits, True, 300_007)
    packed = ops.pack_bits(q, bits)
    assert packed.size == (q.size * bits + 7) // 8
    assert_same_bits(ops.unpack_bits(packed, bits, q.shape), q)
    # Any eight elements fill a whole number of bytes, so the middle can be checked by itself.
    for start in (0, 80_000, 299_992):
        piece = packed[start * bits // 8 : (start + 8) * bits // 8]
        assert piece.tobytes() == reference.pack_bits(q[start : start + 8].tolist(), bits)


def test_shapes():
    q = codes(4, True, 24)
    packed = ops.pack_bits(q.reshape(2, 3, 4), 4)
    assert_same_bits(packed, ops.pack_bits(q, 4))
    assert_same_bits(ops.unpack_bits(packed, 4, (2, 3, 4)), q.reshape(2, 3, 4))
    assert ops.unpack_bits(np.empty(0, np.uint8), 4, (0, 5)).shape == (0, 5)
    assert ops.unpack_bits(ops.pack_bits(np.array(-3, np.int8), 4), 4, ()) == -3


def test_out():
    q = codes(5, False, 40)
    packed = ops.pack_bits(q, 5)
    out = np.zeros((5, 16), np.uint8)[:, ::2]
    assert ops.unpack_bits(packed, 5, (5, 8), signed=False, out=out) is out
    np.testing.assert_array_equal(out.ravel(), q)


def test_first_element_in_the_low_bits():
    assert ops.pack_bits(np.array([1, 2, 3], np.uint8), 4).tolist() == [0x21, 0x03]
    assert ops.pack_bits(np.array([-1, 0], np.int8), 4).tolist() == [0x0F]
    assert ops.pack_bits(np.array([1, 2, 3, 0, 1], np.uint8), 2).tolist() == [0b00111001, 1]
    assert ops.pack_bits(np.array([5, 6, 7], np.uint8), 3).tolist() == [0b11110101, 1]


@pytest.mark.parametrize("name, bits", [("uint4", 4), ("int4", 4), ("uint2", 2), ("int2", 2)])
def test_same_bytes_as_the_onnx_package(name, bits):
    helper = pytest.importorskip("onnx.numpy_helper")
    ml_dtypes = pytest.importorskip("ml_dtypes")
    q = codes(bits, name[0] == "i", 37)
    tensor = helper.from_array(q.astype(getattr(ml_dtypes, name)))
    assert tensor.raw_data == ops.pack_bits(q, bits).tobytes()
