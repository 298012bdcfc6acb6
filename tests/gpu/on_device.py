"""NumPy arrays to the device and back, and modules whose functions compute there."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np

TESTS = Path(__file__).resolve().parent.parent


def moved(cp, value):
    """A NumPy array on the device; everything else as it is."""
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype.name == "bfloat16":  # NumPy knows it by another package
        return cp.asarray(np.ascontiguousarray(value).view(np.uint16)).view(value.dtype)
    return cp.asarray(value)


def fetched(value):
    """A device's array as a NumPy array; everything else as NumPy sees it."""
    return value.get() if hasattr(value, "get") else np.asarray(value)


class OnDevice:
    """A module whose functions are given arrays of the device for NumPy's."""

    def __init__(self, module: ModuleType, cp, params: str) -> None:
        self._module, self._cp, self._params = module, cp, params

    def __getattr__(self, name: str):
        value = getattr(self._module, name)
        if isinstance(value, type) or not callable(value):
            return value
        keep = self._params == "host"  # scales and zero points stay NumPy's

        def call(*args, **kwargs):
            first, rest = args[:1], args[1:]
            if not keep or name in ("error", "fake_quantize_grad"):
                rest = [moved(self._cp, a) for a in rest]
            return value(*(moved(self._cp, a) for a in first), *rest, **kwargs)

        return call


def battery_on(cp, params: str) -> ModuleType:
    """tests/battery.py, computing on the device."""
    spec = importlib.util.spec_from_file_location("battery_on_device", TESTS / "battery.py")
    battery = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(battery)
    on_host = battery.digest
    battery.digest = lambda *arrays: on_host(*map(fetched, arrays))
    battery.ops = OnDevice(battery.ops, cp, params)
    battery.pq = OnDevice(battery.pq, cp, params)
    return battery
