"""The stand-in CuPy as a device of a chosen kind, for whole operations on it."""

import ctypes
from contextlib import ExitStack, contextmanager
from importlib import import_module
from types import SimpleNamespace
from unittest import mock

import cuda_host
import numpy as np
import standin_cupy
from cuda_products import TENSOR_MAP

from pyquant import _cuda_loader

_U32S, _U64S = ctypes.POINTER(ctypes.c_uint32), ctypes.POINTER(ctypes.c_uint64)


@ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32, ctypes.c_void_p, _U64S, _U64S,
    _U32S, _U32S, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int,
)  # fmt: skip
def _encode(to, kind, rank, address, sizes, strides, box, steps, interleave, swizzle, _, fill):
    """cuTensorMapEncodeTiled for pyquant/cuda/hopper.cuh on the host: it refuses what that does."""
    allowed = (
        (kind, rank, interleave, swizzle, fill) == (0, 3, 0, 3, 0)
        and to % 64 == address % 16 == 0
        and all(0 < n <= 1 << 32 for n in sizes[:3])
        and all(n % 16 == 0 and n < 1 << 40 for n in strides[:2])
        and all(0 < n <= 256 for n in box[:3])
        and box[0] == 128  # what is swizzled
        and all(n == 1 for n in steps[:3])
    )
    if not allowed:
        return 1
    one = np.zeros(1, TENSOR_MAP)
    one["data"], one["k"], one["rows"], one["batches"] = address, *sizes[:3]
    one["pitch"], one["batch_pitch"], one["box_rows"] = *strides[:2], box[1]
    ctypes.memmove(to, one.ctypes.data, one.nbytes)
    return 0


_driver = SimpleNamespace(cuTensorMapEncodeTiled=_encode)


class Device:
    """Call it to say of which compute capability it is, and how many multiprocessors it has."""

    def __init__(self) -> None:
        self.kind = (80, 8)
        self.launched: list[str] = []
        """The kernels, by name."""

    def __call__(self, capability: int, processors: int) -> None:
        self.kind = (capability, processors)

    def load(self, device: int, unit: str, name: str):
        """In the place of `_cuda_loader._load`; a cluster is one block of the shim."""
        cluster = unit.endswith("sm_90a")
        host = cuda_host.kernel(unit, name) if cluster else None
        host = host or standin_cupy._host_kernel(device, unit, name)

        def call(grid, block, args, shared_mem=0):
            self.launched.append(name)
            if cluster:
                host((grid[0] // 2,), (2 * block[0],), args)
            else:
                host(grid, block, args, shared_mem=shared_mem)

        return call


@contextmanager
def installed():
    """The device, while it is in CuPy's place."""
    with standin_cupy.installed(), ExitStack() as stack:
        device = Device()
        maps = import_module("pyquant._cuda_tensor_map")
        for module, name, value in (
            (_cuda_loader, "_load", device.load),
            (_cuda_loader, "device_kind", lambda _: device.kind),
            (maps, "_driver", lambda: _driver),
        ):
            stack.enter_context(mock.patch.object(module, name, value))
        yield device


def array(x):
    """On the device."""
    return standin_cupy.array(np.asarray(x))


def same(device, host) -> None:
    """Bit for bit."""
    got = device.get()
    assert got.dtype == host.dtype and got.shape == host.shape
    np.testing.assert_array_equal(
        np.ascontiguousarray(got).view(f"u{got.itemsize}"),
        np.ascontiguousarray(host).view(f"u{got.itemsize}"),
    )
