"""torch's and JAX's tensors on a GPU, for tests without one: host memory that says it is there.

As far as `pyquant._tensors` asks them; their DLPack capsules go to and from `standin_cupy`.
"""

import types
from contextlib import contextmanager

import numpy as np


class _Exporting:
    """A tensor whose capsule notes for which stream it was made."""

    def __init__(self, host: np.ndarray, index: int = 0, dtype=None) -> None:
        self.host, self.index = host, index
        self.dtype = host.dtype if dtype is None else dtype
        self.streams: list = []

    shape = property(lambda self: self.host.shape)

    def __dlpack_device__(self):
        return 2, self.index

    def __dlpack__(self, *, stream=None, max_version=None, copy=None):
        self.streams.append(stream)
        return self.host.__dlpack__(max_version=max_version)


class _Gpu:
    platform = "gpu"


class _Importing:
    """What a library asks of a CuPy array that it takes over."""

    def __init__(self, array, stream: int) -> None:
        self._array, self._stream = array, stream

    def __dlpack_device__(self):
        return 1, 0

    def __dlpack__(self, **_):
        assert self._array.__dlpack_device__()[0] == 2
        return self._array.__dlpack__(stream=self._stream, max_version=(1, 0))


def torch(stream: int) -> types.ModuleType:
    """A module whose current stream on device 1 has that address."""
    module = types.ModuleType("torch")
    module.strided, module.bfloat16, module.int16 = "strided", "torch.bfloat16", "torch.int16"
    devices = [0]

    class Tensor(_Exporting):
        layout = "strided"
        requires_grad = False

        def __init__(self, host, index=0, dtype=None, shared=None) -> None:
            super().__init__(host, index, dtype)
            self.device = types.SimpleNamespace(type="cuda", index=index)
            if shared is not None:
                self.streams = shared

        def detach(self):
            return Tensor(self.host, self.index, self.dtype, self.streams)

        resolve_neg = detach

        def view(self, dtype):
            return Tensor(self.host, self.index, dtype, self.streams)

        def __dlpack__(self, **kwargs):
            assert devices[-1] == self.index, "torch exports from its current device alone"
            assert self.dtype != "torch.bfloat16", "CuPy does not import bfloat16"
            return super().__dlpack__(**kwargs)

    @contextmanager
    def device(index):
        devices.append(index)
        yield
        devices.pop()

    Tensor.__module__ = "torch"
    module.Tensor = Tensor
    module.is_grad_enabled = lambda: True
    module.from_dlpack = lambda array: Tensor(
        np.from_dlpack(_Importing(array, stream)), array.__dlpack_device__()[1]
    )
    module.cuda = types.SimpleNamespace(
        device=device, current_stream=lambda index: types.SimpleNamespace(cuda_stream=stream)
    )
    return module


def jax(stream: int) -> types.ModuleType:
    """A module that waits for arrays on the stream of that address."""
    module = types.ModuleType("jax")

    class ArrayImpl(_Exporting):
        def devices(self):
            return {_Gpu()}

    def bitcast(tensor, dtype):
        return ArrayImpl(tensor.host.view(dtype), tensor.index)

    ArrayImpl.__module__ = "jaxlib._jax"
    module.Array = ArrayImpl
    module.core = types.SimpleNamespace(Tracer=type("Tracer", (), {}))
    module.lax = types.SimpleNamespace(bitcast_convert_type=bitcast)
    module.dlpack = types.SimpleNamespace(
        from_dlpack=lambda array: ArrayImpl(
            np.from_dlpack(_Importing(array, stream)), array.__dlpack_device__()[1]
        )
    )
    return module
