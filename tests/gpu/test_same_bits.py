"""Everything that tests/battery.py computes, on the GPU and on the CPU: the same bits."""

import battery
import numpy as np
import pytest
from on_device import battery_on

pytestmark = pytest.mark.gpu


def differing(expected: dict, actual: dict) -> list[str]:
    assert expected.keys() == actual.keys()
    return [key for key in expected if expected[key] != actual[key]]


@pytest.fixture(scope="module")
def expected():
    with np.errstate(all="ignore"):
        return {"hard": dict(battery.hard()), "lengths": dict(battery.lengths())}


@pytest.mark.parametrize("params", ["device", "host"])
def test_hard_values_at_hard_scales(cp, expected, params):
    with np.errstate(all="ignore"):
        actual = dict(battery_on(cp, params).hard())
    assert differing(expected["hard"], actual) == []


def test_every_length_and_address(cp, expected):
    with np.errstate(all="ignore"):
        actual = dict(battery_on(cp, "host").lengths())
    assert differing(expected["lengths"], actual) == []


@pytest.mark.parametrize("params", ["device", "host"])
@pytest.mark.parametrize("shape", battery.SHAPES)
@pytest.mark.parametrize("where", battery.WHERE)
def test_types_and_granularities(cp, shape, where, params):
    with np.errstate(all="ignore"):
        expected = dict(battery.elementwise(shape, battery.SHAPES[shape], where))
        actual = dict(battery_on(cp, params).elementwise(shape, battery.SHAPES[shape], where))
    assert differing(expected, actual) == []


@pytest.mark.parametrize("shape", battery.SHAPES)
def test_requantize_packing_and_dynamic_quantize(cp, shape):
    size = battery.SHAPES[shape]
    on_device = battery_on(cp, "device")
    with np.errstate(all="ignore"):
        expected = dict(battery.integers(shape, size)) | dict(battery.dynamic(size))
        actual = dict(on_device.integers(shape, size)) | dict(on_device.dynamic(size))
    assert differing(expected, actual) == []
