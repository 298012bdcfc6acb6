"""The CUDA kernels and their launches, run on the host, against the oracle and the CPU's kernels.

The cases are those of the CPU's tests: hard scales, all types and grids, granularities, lengths,
addresses. Everything is compared bit for bit.
"""

import numpy as np
import pytest
import reference
from cases import (
    GRANULARITIES,
    SCALES,
    SHAPE,
    SOME_GRIDS,
    assert_same_bits,
    hard_values,
    named,
    random_generator,
    random_params,
)
from cuda_host import DeviceArray, kernel

from pyquant import _cpu, ops
from pyquant._arguments import layout_of
from pyquant._cuda_divisor import packed_divisor
from pyquant._grid import float_code, float_dtype, grid_of

pytest.importorskip("cupy")
from pyquant import _cuda_elementwise as _cuda

FLOATS = ["float32", "float16", "bfloat16", "float64"]
STORAGE = ["int8", "uint8", "int16", "uint16"]
WHERE = GRANULARITIES | {
    "last_of_many": (1, None), "columns": (-1, None), "rows": (0, None), "block32": (-1, 32),
    "block_down": (0, 8),
}  # fmt: skip


@pytest.fixture(autouse=True)
def on_the_host(monkeypatch):
    monkeypatch.setattr(_cuda, "kernel", kernel)
    monkeypatch.setattr(_cuda, "to_device", DeviceArray)


def params_on_device(*values):
    return tuple(v if v is None else DeviceArray(np.ascontiguousarray(v)) for v in values)


def prepared(scale, zero_point):
    scale = np.asarray(scale, np.float32)
    zeros = np.asarray(zero_point, np.int32)
    return scale, np.array(np.broadcast_to(zeros, scale.shape), np.int32)


def quantize(x, scale, zero_point, dtype="int8", axis=None, block=None, narrow=False, out=None):
    grid = grid_of(dtype, narrow)
    q = np.empty(x.shape, grid.storage) if out is None else out
    layout = layout_of(x.shape, axis, block)
    results = []
    for place in (tuple, params_on_device):  # parameters on the host, and on the device
        params = prepared(scale, zero_point)
        params = params if place is tuple else place(*params)
        q[...] = 77
        status = _cuda.quantize(
            DeviceArray(x), float_code(x.dtype), *params, DeviceArray(q), grid.code, layout,
            grid.qmin, grid.qmax,
        )  # fmt: skip
        assert status == _cpu.OK
        results.append(q.copy())
    assert_same_bits(*results)
    return q


def dequantize(q, scale, zero_point, dtype="float32", axis=None, block=None, out=None):
    target = float_dtype(dtype)
    x = np.empty(q.shape, target) if out is None else out
    status = _cuda.dequantize(
        DeviceArray(q), grid_of(q.dtype.name, False).code, *prepared(scale, zero_point),
        DeviceArray(x), float_code(target), layout_of(q.shape, axis, block),
    )  # fmt: skip
    assert status == _cpu.OK
    return x


def fake_quantize(x, scale, zero_point, dtype="int8", axis=None, block=None, out=None):
    grid = grid_of(dtype, False)
    y = np.empty_like(x) if out is None else out
    status = _cuda.fake_quantize(
        DeviceArray(x), float_code(x.dtype), *prepared(scale, zero_point), DeviceArray(y),
        layout_of(x.shape, axis, block), grid.qmin, grid.qmax,
    )  # fmt: skip
    assert status == _cpu.OK
    return y


MODES = {
    "float": ({"mode": "float"}, _cpu.FLOAT),
    "fixed_double": ({"mode": "fixed"}, _cpu.FIXED_DOUBLE),
    "fixed_single": ({"mode": "fixed", "rounding": "single"}, _cpu.FIXED_SINGLE),
}


def requantize(acc, multiplier, zero_point, dtype, axis, mode):
    grid = grid_of(dtype, False)
    q = np.empty(acc.shape, grid.storage)
    status = _cuda.requantize(
        DeviceArray(acc), *prepared(multiplier, zero_point), DeviceArray(q), grid.code,
        layout_of(acc.shape, axis, None), grid.qmin, grid.qmax, mode,
    )  # fmt: skip
    assert status == _cpu.OK
    return q


def at_every_address(array: np.ndarray):
    """Copies that begin at each multiple of the item size within 16 bytes."""
    for first in range(0, 16, array.itemsize):
        raw = np.empty(array.nbytes + 32, np.uint8)
        begin = -raw.ctypes.data % 16 + first
        copy = raw[begin : begin + array.nbytes].view(array.dtype).reshape(array.shape)
        copy[...] = array
        yield copy


@pytest.mark.parametrize("dtype", SOME_GRIDS)
@pytest.mark.parametrize("scale", **named(SCALES))
def test_quantize_hard_values_at_hard_scales(scale, dtype):
    low, high = reference.grid(dtype)
    rng = random_generator(dtype, scale)
    for zero_point in (max(low, 0), low, high, int(rng.integers(low, high + 1))):
        x = hard_values(scale, low - zero_point, high - zero_point, rng, 200)
        expected = reference.quantize_fast(x, scale, zero_point, dtype)
        assert_same_bits(quantize(x, scale, zero_point, dtype), expected)


@pytest.mark.parametrize("x_dtype", FLOATS)
@pytest.mark.parametrize("scale", **named(SCALES))
def test_quantize_every_input_type(x_dtype, scale):
    rng = random_generator(x_dtype, scale)
    for dtype, zero_point in (("int8", 3), ("uint8", 128), ("int16", -7), ("uint16", 40_000)):
        low, high = reference.grid(dtype)
        x = hard_values(scale, low - zero_point, high - zero_point, rng, 100, float_dtype(x_dtype))
        expected = reference.quantize_fast(x, scale, zero_point, dtype)
        assert_same_bits(quantize(x, scale, zero_point, dtype), expected)


@pytest.mark.parametrize("x_dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("scale", **named(SCALES))
def test_quantize_every_16_bit_float_there_is(x_dtype, scale):
    x = np.arange(1 << 16, dtype=np.uint16).view(float_dtype(x_dtype))
    for dtype, zero_point in (("int8", -5), ("uint16", 30_000)):
        expected = reference.quantize_fast(x, scale, zero_point, dtype)
        assert_same_bits(quantize(x, scale, zero_point, dtype), expected)


@pytest.mark.parametrize("scale", **named(SCALES))
def test_quantize_many_floats_of_every_size(scale):
    """A million bit patterns, and a million values near the ties of the grid."""
    rng = random_generator("many", scale)
    bits = rng.integers(0, 1 << 32, 1 << 20, dtype=np.uint32).view(np.float32)
    with np.errstate(all="ignore"):
        near = ((rng.integers(-130, 130, 1 << 20) + 0.5) * scale).astype(np.float32)
        near = (near.view(np.int32) + rng.integers(-3, 4, near.size).astype(np.int32)).view("f4")
    for x in (bits, near):
        assert_same_bits(quantize(x, scale, 0), ops.quantize_linear(x, scale))


@pytest.mark.parametrize("x_dtype, dtype", [
    ("float32", "int8"), ("float32", "uint13"), ("float16", "uint4"), ("bfloat16", "int16"),
    ("float64", "int8"),
])  # fmt: skip
@pytest.mark.parametrize("axis, block", **named(WHERE))
@pytest.mark.parametrize("shape", [SHAPE, (8, 12, 64), (5, 8, 48)], ids=str)
def test_granularities(shape, axis, block, x_dtype, dtype):
    low, high = reference.grid(dtype)
    rng = random_generator(dtype, axis, block, shape)
    params = random_params(rng, reference.params_shape(shape, axis, block), low, high)
    x = rng.normal(0, 30, shape).astype(float_dtype(x_dtype))
    x.flat[:4] = [np.nan, np.inf, -np.inf, -0.0]
    q = quantize(x, *params, dtype, axis, block)
    expected = reference.quantize_fast(x, *params, dtype, False, axis, block)
    assert_same_bits(q, expected)
    with np.errstate(all="ignore"):
        back = reference.dequantize_fast(q, *params, axis, block).astype(x.dtype)
    assert_same_bits(dequantize(q, *params, x_dtype, axis, block), back)
    assert_same_bits(fake_quantize(x, *params, dtype, axis, block), back)


@pytest.mark.parametrize("x_dtype", FLOATS)
@pytest.mark.parametrize("dtype", STORAGE)
@pytest.mark.parametrize("scale", **named(SCALES))
def test_dequantize_every_integer(scale, dtype, x_dtype):
    low, high = reference.grid(dtype)
    q = np.arange(low, high + 1, 1 if high - low < 256 else 29).astype(dtype)
    for z in (max(low, 0), low, high, int(random_generator(scale, dtype).integers(low, high + 1))):
        with np.errstate(all="ignore"):
            expected = reference.dequantize_fast(q, scale, z).astype(float_dtype(x_dtype))
        assert_same_bits(dequantize(q, scale, z, x_dtype), expected)


@pytest.mark.parametrize("x_dtype", FLOATS)
@pytest.mark.parametrize("scale", **named(SCALES))
def test_fake_quantize_equals_the_cpu(scale, x_dtype):
    rng = random_generator("fake", scale)
    for dtype, zero_point in (("int8", 3), ("uint4", 15), ("int16", -7), ("uint16", 40_000)):
        low, high = reference.grid(dtype)
        x = hard_values(scale, low - zero_point, high - zero_point, rng, 100, float_dtype(x_dtype))
        expected = ops.fake_quantize_linear(x, scale, zero_point, dtype=dtype)
        assert_same_bits(fake_quantize(x, scale, zero_point, dtype), expected)


@pytest.mark.parametrize("way", ["quantize", "dequantize", "fake_quantize"])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_every_length_and_address(way, axis):
    for length in (*range(1, 40), 255, 256, 1000, 4099):
        shape = (length,) if axis is None else (2, length)
        x = random_generator(length).uniform(-300, 300, shape).astype(np.float32)
        params = random_params(
            random_generator(axis), reference.params_shape(shape, axis, None), -9, 9
        )
        q = reference.quantize_fast(x, *params, "int8", False, axis)
        back = reference.dequantize_fast(q, *params, axis)
        starts = list(zip(at_every_address(x), at_every_address(q), strict=False))
        starts += list(zip(at_every_address(x), list(at_every_address(q))[5:], strict=False))
        for source, codes in starts if length < 40 or length == 255 else starts[:1]:
            if way == "quantize":
                codes[...] = 0
                assert_same_bits(quantize(source, *params, "int8", axis, out=codes), q)
            elif way == "dequantize":
                source[...] = 0
                assert_same_bits(dequantize(codes, *params, "float32", axis, out=source), back)
            else:  # in place
                assert_same_bits(fake_quantize(source, *params, "int8", axis, out=source), back)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", STORAGE)
def test_requantize(dtype, mode):
    low, high = reference.grid(dtype)
    options, code = MODES[mode]
    rng = random_generator(dtype, mode)
    acc = (rng.integers(-(1 << 31), 1 << 31, (4, 9, 16)) >> rng.integers(0, 28, (4, 9, 16))).astype(
        "i4"
    )
    acc.flat[:4] = [2**31 - 1, -(2**31), 0, 2**24 + 1]
    for multiplier in (0.5, 1 - 2.0**-24, 0.0037, 777.0, 2.0**-31, 2.0**-33, 2.0**-149, 2.0**40):
        expected = ops.requantize(acc, multiplier, max(low, 0), dtype=dtype, **options)
        assert_same_bits(requantize(acc, multiplier, max(low, 0), dtype, None, code), expected)
    for axis in range(3):
        n = acc.shape[axis]
        multiplier = (2.0 ** rng.uniform(-20, 1, n)).astype(np.float32)
        zero_point = rng.integers(low, high + 1, n)
        expected = ops.requantize(acc, multiplier, zero_point, dtype=dtype, axis=axis, **options)
        assert_same_bits(requantize(acc, multiplier, zero_point, dtype, axis, code), expected)


@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
@pytest.mark.parametrize("bits", range(1, 17))
def test_pack_and_unpack(bits, signed):
    kind = f"{'' if signed else 'u'}int{8 if bits <= 8 else 16}"
    low = -(1 << (bits - 1)) if signed else 0
    for length in (1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 4099, 20_000):
        q = random_generator(bits, length).integers(low, low + (1 << bits), length).astype(kind)
        expected = np.frombuffer(reference.pack_bits(q.tolist(), bits), np.uint8)
        places = zip(at_every_address(q), list(at_every_address(expected))[::3], strict=False)
        for codes, packed in places if length in (33, 100) else list(places)[:1]:
            packed[...] = 0xEE
            _cuda.pack_bits(DeviceArray(codes), bits, signed, DeviceArray(packed))
            assert_same_bits(packed, expected)
            codes[...] = 0
            _cuda.unpack_bits(DeviceArray(packed), bits, signed, DeviceArray(codes))
            assert_same_bits(codes, q)


@pytest.mark.parametrize("axis, block", [
    (None, None), (0, None), (1, None), (2, None), (0, 2), (1, 4), (1, 3), (2, 16), (2, 7), (1, 99),
])  # fmt: skip
@pytest.mark.parametrize("most", [7, 100, 333, 2048])
def test_arrays_beyond_32_bit_indices_go_in_pieces(monkeypatch, most, axis, block):
    """As large arrays do, with a smaller limit."""
    monkeypatch.setattr(_cuda, "_MOST_ELEMENTS", most)
    shape = (3, 10, 48)
    rng = random_generator(axis, block)
    params = random_params(rng, reference.params_shape(shape, axis, block), -128, 127)
    x = rng.normal(0, 30, shape).astype(np.float32)
    expected = reference.quantize_fast(x, *params, "int8", False, axis, block)
    assert_same_bits(quantize(x, *params, "int8", axis, block), expected)
    pieces = list(_cuda._pieces(layout_of(shape, axis, block)))
    assert all(p[0] * p[1] * p[2] <= most for _, _, p in pieces)
    assert (len(pieces) > 1) == (x.size > most)


@pytest.mark.parametrize("bits", [3, 4, 11])
def test_streams_beyond_32_bit_indices_go_in_pieces(monkeypatch, bits):
    monkeypatch.setattr(_cuda, "_MOST_CODES", 96)
    q = random_generator(bits).integers(0, 1 << bits, 1001).astype("u1" if bits < 9 else "u2")
    packed = np.zeros(_cpu.packed_size(q.size, bits), np.uint8)
    _cuda.pack_bits(DeviceArray(q), bits, False, DeviceArray(packed))
    assert packed.tobytes() == reference.pack_bits(q.tolist(), bits)
    back = np.zeros_like(q)
    _cuda.unpack_bits(DeviceArray(packed), bits, False, DeviceArray(back))
    assert_same_bits(back, q)


def test_divisors_divide():
    rng = random_generator("divisors")
    for d in (1, 2, 3, 5, 7, 255, 256, 257, 1000, 65535, 65537, (1 << 30) - 1, 1 << 30):
        packed = packed_divisor(d)
        multiplier, shift = packed & 0xFFFFFFFF, packed >> 32
        ends = [
            k * d + e for k in rng.integers(0, (1 << 31) // d, 200).tolist() for e in (-1, 0, 1)
        ]
        for n in [*ends, 0, 1, (1 << 31) - 1]:
            if 0 <= n < 1 << 31:
                assert n * multiplier >> shift == n // d


def test_parameters_on_the_host_are_checked_and_on_the_device_not():
    x, q = np.ones(8, np.float32), np.empty(8, np.int8)
    arguments = DeviceArray(x), _cpu.F32
    rest = DeviceArray(q), _cpu.I8, (1, 1, 8, 0), -128, 127
    for bad in (0.0, -1.0, np.nan, np.inf):
        scale = np.asarray(bad, np.float32)
        assert _cuda.quantize(*arguments, scale, None, *rest) == _cpu.ERROR_SCALE
        assert _cuda.quantize(*arguments, *params_on_device(scale, None), *rest) == _cpu.OK
    scale = np.asarray(1.0, np.float32)
    for bad in (-129, 128):
        zero_point = np.asarray(bad, np.int32)
        assert _cuda.quantize(*arguments, scale, zero_point, *rest) == _cpu.ERROR_ZERO_POINT
    channels = np.array([1, np.nan], np.float32)
    status = _cuda.quantize(*arguments, channels, None, *rest[:2], (1, 2, 4, 0), -128, 127)
    assert status == _cpu.ERROR_SCALE


@pytest.mark.parametrize("x_dtype", FLOATS)
def test_a_scale_of_nan_on_the_device_gives_zero_points_and_nan(x_dtype):
    """What dynamic quantization of non-finite data leaves behind must not look like data."""
    x = np.linspace(-3, 3, 100).astype(float_dtype(x_dtype))
    nan = np.full((), np.nan, np.float32)
    q = np.zeros(100, np.int8)
    scale, zero_point = params_on_device(nan, np.int32(7))
    _cuda.quantize(
        DeviceArray(x), float_code(x.dtype), scale, zero_point, DeviceArray(q), _cpu.I8,
        (1, 1, 100, 0), -128, 127,
    )  # fmt: skip
    assert (q == 7).all()
    back = np.zeros_like(x)
    _cuda.dequantize(
        DeviceArray(q), _cpu.I8, scale, zero_point, DeviceArray(back), float_code(x.dtype),
        (1, 1, 100, 0),
    )  # fmt: skip
    assert np.isnan(back.astype(np.float64)).all()
