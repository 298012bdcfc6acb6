"""The example network: what the recipes promise, and that the integer one is made of integers."""

import sys
from pathlib import Path

import numpy as np
import pytest
import reference

import pyquant as pq

pytest.importorskip("sklearn")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from examples.digits_network import convolution, few_bits, network
from examples.digits_network import static as static_module
from examples.digits_network.data import digits
from examples.digits_network.dynamic import DynamicNetwork
from examples.digits_network.static import StaticNetwork, calibrate_inputs
from examples.digits_network.training import train
from examples.digits_network.weights_only import BLOCK, quantize_weights


@pytest.fixture(scope="module")
def data():
    return digits()


@pytest.fixture(scope="module")
def trained(data):
    """Six epochs and not twenty: enough for the recipes to be told apart."""
    return train(data.train, data.train_labels, epochs=6)


@pytest.fixture(scope="module")
def static(data, trained):
    inputs = calibrate_inputs(trained, data.calibration, "minmax", dtype="int8", scheme="affine")
    return StaticNetwork(trained, inputs)


def accuracy(scores, data):
    return 100 * float((scores.argmax(axis=1) == data.test_labels).mean())


@pytest.fixture(scope="module")
def exact(data, trained):
    return accuracy(network.forward(trained, data.test), data)


def test_the_network_learned_something(exact):
    assert exact > 94


def test_static_int8_is_as_good_as_float(data, trained, static, exact):
    assert accuracy(static(data.test), data) >= exact - 0.3
    assert static.weight_bytes < 0.26 * network.weight_bytes(trained)


def test_dynamic_int8_is_as_good_as_float(data, trained, exact):
    assert accuracy(DynamicNetwork(trained)(data.test), data) >= exact - 0.3


def test_4_bit_weights_per_block_cost_less_than_a_point(data, trained, exact):
    rounded, nbytes = quantize_weights(trained, dtype="int4", axis=-1, block_size=BLOCK)
    assert accuracy(network.forward(rounded, data.test), data) >= exact - 1
    values = network.weight_bytes(trained) // 4
    assert nbytes / values == pytest.approx(0.5 + 4 / BLOCK, rel=0.03)


def test_training_at_2_bits_beats_rounding_to_2_bits(data, trained):
    methods = ("minmax", "mse", "aciq_gauss")
    rounded = {}
    for method in methods:
        grids = few_bits.rounded_grids(trained, data.calibration, 2, method)
        rounded[method] = accuracy(few_bits.fake_forward(trained, grids, data.test), data)
    learned, grids = few_bits.learn(trained, data.train, data.train_labels, 2, epochs=4)
    result = accuracy(few_bits.fake_forward(learned, grids, data.test), data)
    print(f"2 bits: trained {result:.1f} %, rounded {rounded}")
    assert result > 88
    assert result > max(rounded.values()) + 8


class IntegersOnly(np.ndarray):
    """An array that refuses to meet a float: as operand, as result, in a function.

    Whatever is made of it is of its kind again, so that nothing gets lost on the way.
    """

    def __array_finalize__(self, other):
        refuse_floats(self)

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        out = options.pop("out", ())
        refuse_floats(*inputs, *out)
        if out:
            options["out"] = tuple(map(plain, out))
        result = getattr(ufunc, method)(*map(plain, inputs), **options)
        return out[0] if out else guarded(result)

    def __array_function__(self, function, types, arguments, options):
        return guarded(function(*map(plain, arguments), **options))


def plain(value):
    return value.view(np.ndarray) if isinstance(value, IntegersOnly) else value


def guarded(value):
    refuse_floats(value)
    return np.asarray(value).view(IntegersOnly)


def refuse_floats(*values):
    for value in values:
        kind = np.asarray(plain(value)).dtype.kind
        if kind not in "iub":
            raise AssertionError(f"a value of kind {kind!r} in the integer path")


def test_the_guard_refuses_floats():
    x = guarded(np.arange(4, dtype=np.int32))
    assert isinstance(x + np.int32(1), IntegersOnly)
    for mistake in (
        lambda: x * 0.5, lambda: x / 2, lambda: x.astype(np.float32), lambda: np.mean(x),
        lambda: np.sqrt(x), lambda: x + np.ones(4), lambda: np.pad(x, 1) * np.float32(1),
    ):  # fmt: skip
        with pytest.raises(AssertionError, match="integer path"):
            mistake()


def requantize_in_integers(acc, multiplier, zero_point, *, axis, mode):
    """What `ops.requantize` computes, in Python's integers, from multipliers that are integers.

    The float32 multiplier is a constant of the network: split into an integer and a shift before
    anything runs.
    """
    assert mode == "fixed" and axis == 1
    assert isinstance(acc, IntegersOnly) and acc.dtype == np.int32
    constants = [reference.fixed_multiplier(float(m)) for m in multiplier]
    assert all(isinstance(v, int) for pair in constants for v in pair)
    result = np.empty(acc.shape, np.int8)
    for channel, m in enumerate(multiplier):
        for index in np.ndindex(acc[:, channel].shape):
            n, *place = index
            code = reference.requantize_fixed(
                int(acc[(n, channel, *place)]), float(m), zero_point, -128, 127, "double"
            )
            result[(n, channel, *place)] = code
    return guarded(result)


def convolve_in_integers(x, w, x_zero_point, *, strides, pads):
    """What `ops.conv_integer` computes, in NumPy's integer arithmetic, from arrays of integers."""
    assert isinstance(x, IntegersOnly) and isinstance(w, IntegersOnly)
    assert len(set(strides)) == len(set(pads)) == 1
    shifted = x.astype(np.int32) - np.int32(x_zero_point)
    seen = convolution.patches(shifted, w.shape[-1], strides[0], pads[0])
    return convolution.convolve(seen, w.astype(np.int32))


def test_between_the_quantizers_everything_is_integer(data, static, monkeypatch):
    """Codes, weights and biases refuse floats on their whole way; the scores are the same bits."""
    codes = pq.quantize(data.test[:4], static.input_params).data
    expected = static.integers(codes)
    assert expected.dtype == np.int32
    network_of_integers = StaticNetwork.__new__(StaticNetwork)
    network_of_integers.steps = [
        step._replace(weight=guarded(step.weight), bias=guarded(step.bias))
        for step in static.steps
    ]
    for step in network_of_integers.steps:
        assert step.weight.dtype == np.int8 and step.bias.dtype == np.int32
        assert type(step.zero_point) is int and type(step.output_zero_point) is int
    monkeypatch.setattr(static_module, "conv_integer", convolve_in_integers)
    monkeypatch.setattr(static_module, "requantize", requantize_in_integers)
    scores = network_of_integers.integers(guarded(codes))
    assert isinstance(scores, IntegersOnly)
    assert np.array_equal(scores, expected)


def test_the_dynamic_network_is_not_made_of_integers(data, trained):
    """The guard is no formality: the recipe that goes through floats does not pass it."""
    dynamic = DynamicNetwork(trained)
    dynamic.biases = {
        name: guarded(np.zeros_like(bias, dtype=np.int32))
        for name, bias in dynamic.biases.items()
    }
    with pytest.raises(AssertionError, match="integer path"):
        dynamic(data.test[:2])


def test_relu_is_the_end_of_the_grid(static):
    assert {step.output_zero_point for step in static.steps[:-1]} == {-128}


@pytest.mark.parametrize("stride, padding, size", [(1, 1, 3), (2, 1, 3), (1, 0, 2)])
def test_gradients_of_the_convolution_are_finite_differences(stride, padding, size):
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal((2, 3, 6, 6)), rng.standard_normal((4, 3, size, size))

    def f(x, w):
        return convolution.convolve(convolution.patches(x, size, stride, padding), w)

    upstream = rng.standard_normal(f(x, w).shape)
    seen = convolution.patches(x, size, stride, padding)
    by_w = convolution.weight_gradient(upstream, seen, w)
    by_x = convolution.input_gradient(upstream, w, x.shape, stride, padding)
    for _ in range(10):
        dx, dw = rng.standard_normal(x.shape), rng.standard_normal(w.shape)
        # The convolution is linear in each: a difference of any width is its derivative.
        np.testing.assert_allclose((by_x * dx).sum(), (upstream * (f(x + dx, w) - f(x, w))).sum())
        np.testing.assert_allclose((by_w * dw).sum(), (upstream * (f(x, w + dw) - f(x, w))).sum())
