"""Calls on CuPy arrays that are recognised at once give what the long road gives."""

import numpy as np
import pytest
import standin_cupy
from cases import assert_same_bits, random_generator

from pyquant import _backend, ops


@pytest.fixture
def cp():
    with standin_cupy.installed():
        import cupy

        yield cupy


@pytest.fixture
def plain(cp):
    """The module that recognises, which comes with the first call."""
    ops.quantize_linear(cp.asarray(np.ones(4, np.float32)), 0.5)
    return _backend.PLAIN[cp.ndarray]


SCALES = {
    "float": 0.5, "int": 1, "float32": np.float32(0.3), "array": np.array(0.7, np.float32),
    "subnormal": 2.0**-149, "largest": float(np.finfo(np.float32).max),
}  # fmt: skip


@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
@pytest.mark.parametrize("x_dtype", ["float32", "float16", "float64"])
@pytest.mark.parametrize("dtype", ["int8", "uint4", "int16", "uint16"])
def test_recognised_and_right(cp, plain, dtype, x_dtype, scale):
    host = (random_generator(dtype, x_dtype).standard_normal((5, 41)) * 90).astype(x_dtype)
    x, zero_point = cp.asarray(host), np.array(3, np.int32)
    arguments = scale, zero_point, dtype, False, None, None
    codes = ops.quantize_linear(host, scale, zero_point, dtype=dtype)
    q = plain.quantize_plain(x, *arguments, None)
    assert_same_bits(q.get(), codes)
    out = cp.empty(q.shape, q.dtype)
    assert plain.quantize_plain(x, *arguments, out) is out
    assert_same_bits(out.get(), codes)
    with np.errstate(all="ignore"):
        back = ops.dequantize_linear(codes, scale, zero_point, dtype=x_dtype)
        fake = ops.fake_quantize_linear(host, scale, zero_point, dtype=dtype)
    made = plain.dequantize_plain(q, scale, zero_point, None, None, x_dtype, None)
    assert_same_bits(made.get(), back)
    assert_same_bits(plain.fake_quantize_plain(x, *arguments, None).get(), fake)
    assert plain.fake_quantize_plain(x, *arguments, x) is x  # in place
    assert_same_bits(x.get(), fake)


UNUSUAL = {
    "strided": lambda cp, x: {"x": x[:, ::2]},
    "empty": lambda cp, x: {"x": x[:0]},
    "integers": lambda cp, x: {"x": cp.asarray(np.ones(3, np.int32))},
    "axis": lambda cp, x: {"axis": 0},
    "block": lambda cp, x: {"block_size": 4},
    "scale on the device": lambda cp, x: {"scale": cp.asarray(np.float32(0.5))},
    "scales": lambda cp, x: {"scale": np.ones(1, np.float32)},
    "scale of 0": lambda cp, x: {"scale": 0.0},
    "scale that is 0 in float32": lambda cp, x: {"scale": 1e-60},
    "scale of NaN": lambda cp, x: {"scale": float("nan")},
    "infinite scale": lambda cp, x: {"scale": np.float32(np.inf)},
    "text": lambda cp, x: {"scale": "1"},
    "zero point off the grid": lambda cp, x: {"zero_point": 128},
    "zero point that is no integer": lambda cp, x: {"zero_point": 1.0},
    "truth": lambda cp, x: {"zero_point": True},
    "zero points": lambda cp, x: {"zero_point": np.zeros(4, np.int32)},
    "out of another type": lambda cp, x: {"out": cp.empty(x.shape, np.uint8)},
    "out of another shape": lambda cp, x: {"out": cp.empty((4, 4), np.int8)},
    "strided out": lambda cp, x: {"out": cp.empty((10, 12), np.int8)[::2]},
    "out of NumPy": lambda cp, x: {"out": np.empty(x.shape, np.int8)},
    "out in x": lambda cp, x: {"out": x.reshape(-1).view(np.int8)[:60].reshape(x.shape)},
}


@pytest.mark.parametrize("change", UNUSUAL.values(), ids=UNUSUAL)
def test_whatever_else_takes_the_long_road(cp, plain, change):
    x = cp.asarray(np.ones((5, 12), np.float32))
    given = {
        "x": x, "scale": 0.5, "zero_point": 0, "dtype": "int8", "narrow_range": False,
        "axis": None, "block_size": None, "out": None,
    }  # fmt: skip
    assert plain.quantize_plain(**given) is not None
    assert plain.quantize_plain(**given | change(cp, x)) is None


def test_an_array_of_another_device_takes_the_long_road(cp, plain):
    with cp.cuda.Device(1):
        x = cp.asarray(np.ones(5, np.float32))
    assert plain.quantize_plain(x, 0.5, 0, "int8", False, None, None, None) is None
    q = ops.quantize_linear(x, 0.5)
    assert q.device.id == 1 and q.get().tolist() == [2] * 5
