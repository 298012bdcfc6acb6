"""The stand-in CuPy as a device of a chosen kind, for whole operations on it."""

from contextlib import ExitStack, contextmanager
from importlib import import_module
from unittest import mock

import cuda_host
import numpy as np
import standin_cupy
from cuda_products import TENSOR_MAP

from pyquant import _cuda_loader


def _host_map(x):
    """`_cuda_gemm._tensor_map` for pyquant/cuda/hopper.cuh on the host."""
    one = np.zeros(1, TENSOR_MAP)
    one["data"], one["k"], one["rows"], one["pitch"] = x.pointer, x.k, x.rows, x.pitch
    one["batches"], one["batch_pitch"], one["box_rows"] = x.batches, x.step, 128
    return one


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
        _cuda_gemm = import_module("pyquant._cuda_gemm")
        for module, name, value in (
            (_cuda_loader, "_load", device.load),
            (_cuda_gemm, "_tensor_map", _host_map),
            (_cuda_gemm, "_device", lambda _: device.kind),
            (import_module("pyquant._cuda_blocks"), "_device", lambda _: device.kind),
            (import_module("pyquant._cuda_convolution"), "_device", lambda _: device.kind),
            (import_module("pyquant._cuda_matmul"), "_device", lambda _: device.kind),
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
