"""torch's and JAX's tensors: arrays on the same memory on the way in, tensors on the way out.

By DLPack, so nothing is copied; bfloat16, which it does not carry between all of them, crosses as
integers. What lies on a GPU becomes a CuPy array. torch's are computed on torch's current stream,
JAX's on CuPy's, for which JAX makes them ready and which JAX waits for.
"""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from importlib import import_module
from typing import Any, ParamSpec, TypeVar

import numpy as np

from pyquant._arrays import Array, on_device, on_host
from pyquant._backend import CallAgain, TensorsGiven, library_of
from pyquant._grid import float_dtype

P = ParamSpec("P")
R = TypeVar("R")


def takes_tensors(*, differentiable: bool = False) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function of arrays one of torch's and JAX's tensors too.

    It must call `backend_of` with its arrays before anything else. A tensor that requires a
    gradient is taken without it, but refused if the result is `differentiable` by it.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def taking(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return function(*args, **kwargs)
            except CallAgain as again:
                context = again.context
            except TensorsGiven as given:
                context, library = None, given.library
            if context is not None:
                with context:
                    return taking(*args, **kwargs)
            exchange = _Torch(differentiable) if library == "PyTorch" else _Jax()
            with exchange:
                arrays = [exchange.array_in(value) for value in args]
                named = {name: exchange.array_in(v, name) for name, v in kwargs.items()}
                result: R = exchange.tensor_of(taking(*arrays, **named))
            return result

        return taking

    return decorate


class _Exchange(ExitStack):
    """The tensors of one call as arrays, and its results as tensors."""

    library: str

    def __init__(self) -> None:
        super().__init__()
        self._taken: dict[int, tuple[Array, Any]] = {}
        self._has_stream = False

    def array_in(self, value: Any, name: str = "") -> Any:
        """value, or the array on its memory, or one whose parts are such arrays."""
        if library_of(type(value)) == self.library:
            array = self.array_of(value, name)
            self._taken[id(array)] = array, value
            return array
        return value._over(self.array_in, self.array_in) if hasattr(value, "_over") else value

    def tensor_of(self, value: Any) -> Any:
        """A result as a tensor; the tensor itself if it is one that came in."""
        if id(value) in self._taken:
            return self._taken[id(value)][1]
        if type(value) is np.ndarray or on_device(value):
            return self.new_tensor(value)
        if type(value) is tuple:
            return tuple(map(self.tensor_of, value))
        return value._over(self.tensor_of, self._came_in) if hasattr(value, "_over") else value

    def _came_in(self, value: Any) -> Any:
        """Parameters stay what they were."""
        return self._taken[id(value)][1] if id(value) in self._taken else value

    @abstractmethod
    def array_of(self, tensor: Any, name: str) -> Array:
        """An array on the memory of a tensor."""

    @abstractmethod
    def new_tensor(self, array: Array) -> Any:
        """A tensor on the memory of a result."""

    def _imported(self, tensor: Any, place: Any, from_dlpack: Callable[[Any], Array]) -> Array:
        try:
            return from_dlpack(tensor)
        except (BufferError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
            raise TypeError(
                f"{self.library}'s {type(tensor).__name__} of {tensor.dtype} on {place} "
                f"cannot be taken as an array: {error}"
            ) from None


class _Torch(_Exchange):
    library = "PyTorch"

    def __init__(self, differentiable: bool) -> None:
        super().__init__()
        self._differentiable = differentiable

    def array_of(self, tensor: Any, name: str) -> Array:
        torch = sys.modules["torch"]
        place = tensor.device
        if tensor.layout != torch.strided or place.type not in ("cpu", "cuda"):
            raise TypeError(
                f"tensors must be dense and on the CPU or an NVIDIA GPU, "
                f"not {tensor.layout} on {place}"
            )
        if self._differentiable and tensor.requires_grad and torch.is_grad_enabled():
            raise TypeError(
                "tensors must not require a gradient where none would pass: detach them, "
                "or see pyquant.torch.fake_quantize"
            )
        plain = tensor.detach().resolve_neg()
        narrow = plain.dtype == torch.bfloat16
        if narrow:
            plain = plain.view(torch.int16)
        if place.type == "cpu":
            array = self._imported(plain, place, np.from_dlpack)
        else:
            array = self._imported(plain, place, self._on_stream(place.index).from_dlpack)
        return array.view(float_dtype("bfloat16")) if narrow else array

    def _on_stream(self, device: int) -> Any:
        """cupy, whose current stream is torch's until the end of the call."""
        cupy = _cupy()
        if not self._has_stream:
            self._has_stream = True
            torch = sys.modules["torch"]
            self.enter_context(torch.cuda.device(device))
            self.enter_context(cupy.cuda.Device(device))
            stream = torch.cuda.current_stream(device)
            if hasattr(cupy.cuda.Stream, "from_external"):
                self.enter_context(cupy.cuda.Stream.from_external(_Stream(stream)))
            else:  # before CuPy 14
                self.enter_context(cupy.cuda.ExternalStream(stream.cuda_stream, device))
        return cupy

    def new_tensor(self, array: Array) -> Any:
        torch = sys.modules["torch"]
        if array.dtype.name == "bfloat16":
            return torch.from_dlpack(_exported(array.view(np.int16))).view(torch.bfloat16)
        return torch.from_dlpack(_exported(array))


class _Stream:
    """torch's stream in CUDA's stream protocol, which not every version of torch speaks."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self._stream.cuda_stream


class _Jax(_Exchange):
    library = "JAX"

    def array_of(self, tensor: Any, name: str) -> Array:
        jax = sys.modules["jax"]
        if isinstance(tensor, jax.core.Tracer):
            raise TypeError(
                f"arrays must have values, and {tensor.aval} is traced: "
                f"jax.pure_callback calls pyquant from inside jax.jit"
            )
        if name == "out":
            raise TypeError("out must be an array that can be written, and JAX's cannot")
        places = tensor.devices()
        if len(places) != 1:
            raise TypeError(f"arrays must be on one device, not on {len(places)}")
        (place,) = places
        if place.platform == "cpu":
            return np.asarray(tensor)  # no copy, and it knows every element type of JAX
        narrow = tensor.dtype.name == "bfloat16"
        if narrow:
            tensor = jax.lax.bitcast_convert_type(tensor, np.uint16)
        array = self._imported(tensor, place, _cupy().from_dlpack)
        return array.view(float_dtype("bfloat16")) if narrow else array

    def new_tensor(self, array: Array) -> Any:
        jax = sys.modules["jax"]
        if array.dtype.name == "bfloat16":
            bits = jax.dlpack.from_dlpack(_exported(array.view(np.uint16)))
            return jax.lax.bitcast_convert_type(bits, array.dtype)
        tensor = jax.dlpack.from_dlpack(_exported(array))
        if tensor.dtype != array.dtype:
            raise TypeError(f"JAX has no {array.dtype} arrays here: set jax_enable_x64")
        return tensor


def values_of(array: Any) -> Array:
    """The values of any library's array, on the host."""
    library = library_of(type(array))
    if library not in ("PyTorch", "JAX"):
        return on_host(array)
    with _Torch(False) if library == "PyTorch" else _Jax() as exchange:
        return on_host(exchange.array_in(array))


def _cupy() -> Any:
    """The module, or the error that says what is missing for it."""
    import_module("pyquant._cuda")
    return sys.modules["cupy"]


def _exported(array: Array) -> Array:
    """The array, or a copy where DLPack would refuse to hand out what is read-only."""
    return array if on_device(array) or array.flags.writeable else array.copy()
