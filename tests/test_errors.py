"""SPEC section 4: each mistake is refused, in one sentence, and nothing is written."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

import pyquant as pq
from pyquant import ops

X = np.linspace(-3, 3, 12, dtype=np.float32).reshape(3, 4)
Q = np.arange(12, dtype=np.int8).reshape(3, 4)
ACC = np.arange(12, dtype=np.int32).reshape(3, 4)
PARAMS = pq.QuantParams(0.5)


@dataclass
class Mistake:
    """A call that must fail, and what its message must mention."""

    call: Callable
    words: list
    error: type[Exception] = ValueError


def scale_mistakes() -> dict[str, Mistake]:
    calls = {
        "quantize_linear": lambda s: ops.quantize_linear(X, s),
        "quantize_linear_list": lambda s: ops.quantize_linear([1.0], s),
        "quantize_linear_channel": lambda s: ops.quantize_linear(X, [1.0, s, 1.0], axis=0),
        "dequantize_linear": lambda s: ops.dequantize_linear(Q, s),
        "dequantize_linear_block": lambda s: ops.dequantize_linear(
            Q, [[1.0, s]] * 3, axis=1, block_size=2),
        "params": lambda s: pq.QuantParams(s),
        "params_channel": lambda s: pq.QuantParams([1.0, s], axis=0),
    }  # fmt: skip
    values = {
        "zero": 0.0, "negative": -0.5, "nan": np.nan, "inf": np.inf, "minus_inf": -np.inf,
        "rounds_to_zero": 1e-60, "rounds_to_inf": 1e60, "negative_zero": -0.0,
    }  # fmt: skip
    shown = {"nan": "nan", "inf": "inf", "minus_inf": "-inf", "negative": "-0.5", "zero": "0"}
    return {
        f"scale_{value}_{name}": Mistake(
            lambda call=call, value=value: call(values[value]), ["scale", shown.get(value, "")]
        )
        for name, call in calls.items()
        for value in values
    }


def requantize_mistakes() -> dict[str, Mistake]:
    mistakes = {
        f"multiplier_{m}": Mistake(lambda m=m: ops.requantize(ACC, m), ["multiplier", str(m)])
        for m in (-1.0, np.nan, np.inf)
    }
    return mistakes | {
        "requantize_mode": Mistake(
            lambda: ops.requantize(ACC, 0.5, mode="exact"), ["mode", "'exact'", "float", "fixed"]),
        "requantize_rounding": Mistake(
            lambda: ops.requantize(ACC, 0.5, mode="fixed", rounding="triple"),
            ["rounding", "'triple'", "double", "single"]),
        "requantize_zero_point": Mistake(
            lambda: ops.requantize(ACC, 0.5, 128), ["zero_point", "128", "-128", "127"]),
        "requantize_channels": Mistake(
            lambda: ops.requantize(ACC, [0.5, 0.5], axis=0), ["multiplier", "(2,)", "(3,)"]),
        "requantize_axis": Mistake(
            lambda: ops.requantize(ACC, [0.5, 0.5], axis=2), ["axis", "2"]),
        "requantize_dtype": Mistake(
            lambda: ops.requantize(ACC, 0.5, dtype="int17"), ["dtype", "int17"]),
        "requantize_float_acc": Mistake(
            lambda: ops.requantize(X, 0.5), ["acc", "float32", "int32"], TypeError),
    }  # fmt: skip


def grid_mistakes() -> dict[str, Mistake]:
    out_of_grid = {
        "int8_high": (128, "int8", "127"), "int8_low": (-129, "int8", "-128"),
        "uint8_low": (-1, "uint8", "0"), "int4_high": (8, "int4", "7"),
        "uint2_high": (4, "uint2", "3"), "uint16_high": (65536, "uint16", "65535"),
        "far": (2**40, "int8", "127"),
    }  # fmt: skip
    mistakes = {}
    for name, (z, dtype, bound) in out_of_grid.items():
        words = ["zero_point", str(z), bound]
        mistakes[f"zero_point_{name}_quantize"] = Mistake(
            lambda z=z, dtype=dtype: ops.quantize_linear(X, 1.0, z, dtype=dtype), words
        )
        mistakes[f"zero_point_{name}_params"] = Mistake(
            lambda z=z, dtype=dtype: pq.QuantParams(1.0, z, dtype), words
        )
        mistakes[f"zero_point_{name}_channel"] = Mistake(
            lambda z=z, dtype=dtype: pq.QuantParams([1.0, 1.0], [0, z], dtype, axis=0), words
        )
    for dtype in ("int1", "int17", "uint0", "float8", "int", "Int8", "", "int08", "int-4", "i8"):
        for name, call in {
            "quantize_linear": lambda d: ops.quantize_linear(X, 1.0, dtype=d),
            "quantize": lambda d: pq.quantize(X, dtype=d),
            "params": lambda d: pq.QuantParams(1.0, 0, d),
            "choose_params": lambda d: pq.choose_params(-1.0, 1.0, dtype=d, scheme="affine"),
            "calibrate": lambda d: pq.calibrate(X, dtype=d),
        }.items():
            mistakes[f"dtype_{dtype or 'empty'}_{name}"] = Mistake(
                lambda call=call, dtype=dtype: call(dtype), ["dtype", repr(dtype)]
            )
    narrow = Mistake(lambda: ops.quantize_linear(X, 1.0, -128, narrow_range=True),
                     ["zero_point", "-128", "-127"])  # fmt: skip
    return mistakes | {"zero_point_narrow": narrow}


def name_mistakes() -> dict[str, Mistake]:
    return {
        "scheme": Mistake(
            lambda: pq.quantize(X, scheme="assymetric"), ["scheme", "'assymetric'", "affine"]),
        "scheme_choose": Mistake(
            lambda: pq.choose_params(-1, 1, dtype="int8", scheme="a"), ["scheme", "'a'"]),
        "calibration": Mistake(
            lambda: pq.quantize(X, calibration="magic"), ["'magic'", "minmax"]),
        "method": Mistake(lambda: pq.calibrate(X, "magic"), ["method", "'magic'", "minmax"]),
        "nan_policy": Mistake(
            lambda: pq.calibrate(X, nan_policy="ignore"), ["nan_policy", "'ignore'", "omit"]),
        "out_dtype": Mistake(
            lambda: ops.dequantize_linear(Q, 1.0, dtype="float8"),
            ["dtype", "'float8'", "float16"]),
        "packed_bits_0": Mistake(lambda: ops.pack_bits(Q, 0), ["bits", "0", "16"]),
        "packed_bits_17": Mistake(lambda: ops.pack_bits(Q, 17), ["bits", "17", "16"]),
        "unpack_bits_33": Mistake(
            lambda: ops.unpack_bits(np.zeros(4, np.uint8), 33, 1), ["bits", "33", "16"]),
        "unpack_short": Mistake(
            lambda: ops.unpack_bits(np.zeros(3, np.uint8), 4, 7), ["packed", "3", "4"]),
        "unpack_long": Mistake(
            lambda: ops.unpack_bits(np.zeros(5, np.uint8), 4, 7), ["packed", "5", "4"]),
        "unpack_negative_shape": Mistake(
            lambda: ops.unpack_bits(np.zeros(4, np.uint8), 4, (-2, 4)), ["shape", "-2"]),
        "params_and_more": Mistake(
            lambda: pq.quantize(X, PARAMS, dtype="int4"), ["params", "dtype"]),
        "unknown_option": Mistake(
            lambda: pq.quantize(X, percentil=3), ["percentil"], TypeError),
        "num_threads_0": Mistake(lambda: pq.set_num_threads(0), ["0"]),
        "num_threads_negative": Mistake(lambda: pq.set_num_threads(-3), ["-3"]),
    }  # fmt: skip


def shape_mistakes() -> dict[str, Mistake]:
    mistakes = {}
    for name, call in {
        "quantize": lambda *a, **k: ops.quantize_linear(X, *a, **k),
        "dequantize": lambda *a, **k: ops.dequantize_linear(Q, *a, **k),
    }.items():
        rows = {
            "scale_vector_without_axis": (([0.5, 0.5, 0.5],), {}, ["scale", "(3,)"]),
            "scale_too_short": (([0.5, 0.5],), {"axis": 0}, ["scale", "(2,)", "(3,)"]),
            "scale_2d": ((np.ones((3, 1)),), {"axis": 0}, ["scale", "(3, 1)", "(3,)"]),
            "scale_blocks": ((np.ones((3, 3)),), {"axis": 1, "block_size": 2},
                             ["scale", "(3, 3)", "(3, 2)"]),
            "scale_0d_with_axis_and_block": ((np.ones((3,)),), {"axis": 1, "block_size": 2},
                                             ["scale", "(3,)", "(3, 2)"]),
            "zero_point_too_long": (([0.5] * 3, [0] * 4), {"axis": 0}, ["zero_point", "(4,)"]),
            "zero_point_vector": ((0.5, [0, 0, 0]), {}, ["zero_point", "(3,)"]),
            "axis_too_large": (([0.5] * 3,), {"axis": 2}, ["axis", "2"]),
            "axis_too_small": (([0.5] * 3,), {"axis": -3}, ["axis", "-3"]),
            "block_size_0": ((np.ones((3, 4)),), {"axis": 1, "block_size": 0},
                             ["block_size", "0"]),
            "block_size_negative": ((np.ones((3, 4)),), {"axis": 1, "block_size": -2},
                                    ["block_size", "-2"]),
            "block_size_without_axis": ((0.5,), {"block_size": 2}, ["block_size", "axis"]),
        }  # fmt: skip
        for row, (args, options, words) in rows.items():
            mistakes[f"{name}_{row}"] = Mistake(
                lambda call=call, args=args, options=options: call(*args, **options), words
            )
    mistakes["quantize_axis"] = Mistake(lambda: pq.quantize(X, axis=5), ["axis", "5"])
    mistakes["quantize_params_axis"] = Mistake(
        lambda: pq.quantize(X, pq.QuantParams([1.0, 1.0], axis=0)), ["scale", "(2,)", "(3,)"]
    )
    mistakes["calibrate_block"] = Mistake(
        lambda: pq.calibrate(X, axis=0, block_size=0), ["block_size", "0"]
    )
    mistakes["error_shape"] = Mistake(lambda: pq.error(X, X[:2]), ["(2, 4)", "(3, 4)"])
    mistakes["grad_shape"] = Mistake(
        lambda: pq.fake_quantize_grad(X[:2], X, PARAMS), ["grad", "(2, 4)", "(3, 4)"]
    )
    return mistakes


def type_mistakes() -> dict[str, Mistake]:
    bad = {
        "int32": np.arange(3), "int8": Q, "bool": np.array([True]), "complex": np.array([1j]),
        "object": np.array([1.0, None]), "string": np.array(["a"]),
        "list_of_int": [1, 2], "datetime": np.array(["2020-01-01"], "datetime64[D]"),
    }  # fmt: skip
    calls = {
        "quantize": lambda x: pq.quantize(x),
        "quantize_params": lambda x: pq.quantize(x, PARAMS),
        "quantize_linear": lambda x: ops.quantize_linear(x, 1.0),
        "dynamic": lambda x: ops.dynamic_quantize_linear(x),
        "calibrate": lambda x: pq.calibrate(x),
        "fake_quantize": lambda x: pq.fake_quantize(x, PARAMS),
    }
    mistakes = {
        f"type_{kind}_{name}": Mistake(
            lambda call=call, kind=kind: call(bad[kind]), ["x"], TypeError)
        for kind in bad
        for name, call in calls.items()
    }  # fmt: skip
    return mistakes | {
        "type_dequantize_float": Mistake(
            lambda: ops.dequantize_linear(X, 1.0), ["q", "float32"], TypeError),
        "type_pq_dequantize": Mistake(lambda: pq.dequantize(Q), ["q"], TypeError),
        "type_zero_point": Mistake(
            lambda: ops.quantize_linear(X, 1.0, 0.5), ["zero_point"], TypeError),
        "type_scale": Mistake(lambda: ops.quantize_linear(X, "a"),
            ["scale"], (TypeError, ValueError)),
        "type_params": Mistake(lambda: pq.quantize(X, 0.5), ["params"], TypeError),
        "type_axis": Mistake(
            lambda: ops.quantize_linear(X, [0.5] * 3, axis=0.0), ["axis"], TypeError),
        "type_pack_float": Mistake(lambda: ops.pack_bits(X, 4), ["q", "float32"], TypeError),
    }  # fmt: skip


def out_mistakes() -> dict[str, Mistake]:
    read_only = np.zeros((3, 4), np.int8)
    read_only.flags.writeable = False
    return {
        "out_shape": Mistake(
            lambda: ops.quantize_linear(X, 1.0, out=np.zeros((4, 3), np.int8)),
            ["out", "(4, 3)", "(3, 4)"]),
        "out_size_one": Mistake(
            lambda: ops.quantize_linear(X, 1.0, out=np.zeros((1, 3, 4), np.int8)),
            ["out", "(1, 3, 4)"]),
        "out_dtype": Mistake(
            lambda: ops.quantize_linear(X, 1.0, out=np.zeros((3, 4), np.uint8)),
            ["out", "uint8", "int8"]),
        "out_dtype_16": Mistake(
            lambda: ops.quantize_linear(X, 1.0, dtype="int9", out=np.zeros((3, 4), np.int8)),
            ["out", "int8", "int16"]),
        "out_read_only": Mistake(
            lambda: ops.quantize_linear(X, 1.0, out=read_only), ["out", "writ"]),
        "out_dequantize_dtype": Mistake(
            lambda: ops.dequantize_linear(Q, 1.0, dtype="float16", out=np.zeros((3, 4), "f4")),
            ["out", "float32", "float16"]),
        "out_fake_dtype": Mistake(
            lambda: pq.fake_quantize(X, PARAMS, out=np.zeros((3, 4))), ["out", "float64"]),
        "out_requantize": Mistake(
            lambda: ops.requantize(ACC, 1.0, out=np.zeros((3, 4), np.int16)), ["out", "int16"]),
        "out_unpack": Mistake(
            lambda: ops.unpack_bits(np.zeros(2, np.uint8), 4, 4, out=np.zeros(5, np.int8)),
            ["out", "(5,)", "(4,)"]),
        "out_quantize": Mistake(
            lambda: pq.quantize(X, out=np.zeros((4, 3), np.int8)), ["out", "(4, 3)", "(3, 4)"]),
        "out_list": Mistake(
            lambda: ops.quantize_linear(X, 1.0, out=[0] * 12), ["out"], (TypeError, ValueError)),
    }  # fmt: skip


def range_mistakes() -> dict[str, Mistake]:
    return {
        "alpha_above_beta": Mistake(
            lambda: pq.choose_params(2.0, 1.0, dtype="int8", scheme="affine"), ["alpha", "2", "1"]),
        "alpha_nan": Mistake(
            lambda: pq.choose_params(np.nan, 1.0, dtype="int8", scheme="affine"), ["alpha", "nan"]),
        "beta_inf": Mistake(
            lambda: pq.choose_params(0.0, np.inf, dtype="int8", scheme="affine"), ["beta", "inf"]),
        "float64_beyond_float32": Mistake(
            lambda: pq.calibrate(np.array([1e300, -1e300])), ["x"]),
    }  # fmt: skip


MISTAKES = (
    scale_mistakes() | requantize_mistakes() | grid_mistakes() | name_mistakes()
    | shape_mistakes() | type_mistakes() | out_mistakes() | range_mistakes()
)  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_refused_in_one_sentence(mistake):
    with pytest.raises(mistake.error) as caught:
        mistake.call()
    message = str(caught.value)
    assert message and "\n" not in message
    assert not re.search(r"[.!?] +[A-Z]", message), f"more than one sentence: {message}"
    for word in mistake.words:
        assert word in message, f"{word!r} is missing from {message!r}"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shape, index", [
    ((9,), (4,)), ((5, 7), (3, 2)), ((40, 50, 60), (31, 17, 44)), ((200_000,), (199_999,)),
])  # fmt: skip
@pytest.mark.parametrize("axis", [None, 0, -1])
def test_the_first_bad_index_is_named(bad, shape, index, axis):
    x = np.zeros(shape, np.float32)
    x[(-1,) * len(shape)] = np.nan  # mostly a later one, which is not the first
    x[index] = bad
    shown = str(index[0]) if len(index) == 1 else ", ".join(map(str, index))
    calls = [lambda: pq.calibrate(x, axis=axis), lambda: pq.quantize(x, axis=axis)]
    if axis is None:
        calls.append(lambda: ops.dynamic_quantize_linear(x))
    for call in calls:
        with pytest.raises(ValueError) as caught:
            call()
        assert shown in str(caught.value)
        assert str(float(bad)).lstrip("-") in str(caught.value)
    strided = np.zeros((*shape, 2), np.float32)[..., 0]
    strided[...] = x
    with pytest.raises(ValueError, match=re.escape(shown)):
        pq.calibrate(strided, axis=axis)


def test_a_refused_call_leaves_out_as_it_was():
    x = np.ones((300, 40), np.float32)
    x[250, 3] = np.nan
    out = np.full(x.shape, 77, np.int8)
    for call in (
        lambda: pq.quantize(x, out=out),
        lambda: pq.quantize(x, axis=0, out=out),
        lambda: ops.quantize_linear(x, [1.0] * 39 + [0.0], axis=1, out=out),
        lambda: ops.quantize_linear(x, [1.0] * 40, [0] * 39 + [300], axis=1, out=out),
    ):
        with pytest.raises(ValueError):
            call()
        assert (out == 77).all()


@pytest.mark.parametrize("call", [
    lambda x: ops.quantize_linear(x, 0.5), lambda x: ops.dequantize_linear(x, 0.5), pq.quantize,
    lambda x: pq.fake_quantize(x, PARAMS), pq.calibrate, ops.dynamic_quantize_linear,
    lambda x: ops.requantize(x, 0.5), lambda x: ops.pack_bits(x, 4),
])  # fmt: skip
def test_arrays_of_another_device_are_not_converted_in_secret(call):
    """The type alone decides, and where there is a GPU, whether it really is an array of CuPy."""

    class Elsewhere:
        def __array__(self, *args, **kwargs):
            raise AssertionError("converted")

    Elsewhere.__module__ = "cupy"
    with pytest.raises((TypeError, RuntimeError), match=r"arrays (of CuPy must|on a GPU need)"):
        call(Elsewhere())


def test_more_elements_than_memory_is_a_memory_error():
    huge = np.broadcast_to(np.float32(1), (1 << 60,))
    with pytest.raises((MemoryError, ValueError)):
        ops.quantize_linear(huge, 1.0)
