"""CuPy for tests without a GPU: its arrays on NumPy memory, as far as pyquant uses CuPy.

What CuPy refuses is refused: implicit conversion to NumPy, NumPy arrays in arithmetic, element
types that its kernels lack. What waits for a device is counted in `fetches`. The kernels of pyquant
itself run by `cuda_host`; `installed` puts both in place.
"""

import math
import sys
import types
from contextlib import contextmanager
from unittest import mock

import cuda_host
import numpy as np

import pyquant
from pyquant import _backend, _cuda_loader

KERNEL_TYPES = "?bhilqBHILQefdFD"
fetches = 0
_devices = [0]
_streams = []


class _Flags:
    def __init__(self, flags) -> None:
        self.c_contiguous, self.f_contiguous = flags.c_contiguous, flags.f_contiguous
        self.owndata = flags.owndata


class _Pointer:
    """cupy.cuda.MemoryPointer."""

    def __init__(self, ptr: int, device_id: int) -> None:
        self.ptr, self.device_id = ptr, device_id


def _fetch(array: "ndarray") -> np.ndarray:
    global fetches
    fetches += 1
    return array._host.copy()


def _launch(dtype) -> np.dtype:
    """A kernel of CuPy's own is needed for this element type."""
    dtype = np.dtype(dtype)
    if dtype.char not in KERNEL_TYPES or not dtype.isnative:
        raise TypeError(f"Wrong type ({dtype}) for a kernel of CuPy")
    return dtype


def _operand(value) -> object:
    if isinstance(value, ndarray):
        _launch(value.dtype)
        if value.device.id != _devices[-1]:
            raise ValueError("Array device must be same as the current device")
        return value._host
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")
    return value


def _operator(name: str):
    function = getattr(np.ndarray, name)

    def operator(self, *others):
        with np.errstate(all="ignore"):
            return ndarray._of(function(_operand(self), *map(_operand, others)))

    return operator


def _reduction(name: str):
    def reduction(self, *args, **kwargs):
        return ndarray._of(getattr(np, name)(_operand(self), *args, **kwargs))

    return reduction


def _view(name: str):
    def view(self, *args, **kwargs):
        return ndarray._of(getattr(self._host, name)(*args, **kwargs), self.device.id)

    return view


class ndarray:
    __module__ = "cupy"
    __slots__ = ("_device", "_host")
    __hash__ = None
    __array_priority__ = 100

    def __init__(self, shape, dtype=float) -> None:
        dtype, shape = np.dtype(dtype), (shape,) if isinstance(shape, int) else tuple(shape)
        memory = get_allocator()(math.prod(shape) * dtype.itemsize)
        self._host, self._device = memory.view(dtype).reshape(shape), _devices[-1]

    @classmethod
    def _of(cls, host, device=None) -> "ndarray":
        made = object.__new__(cls)
        made._host, made._device = np.asarray(host), _devices[-1] if device is None else device
        return made

    shape = property(lambda self: self._host.shape)
    strides = property(lambda self: self._host.strides)
    dtype = property(lambda self: self._host.dtype)
    size = property(lambda self: self._host.size)
    ndim = property(lambda self: self._host.ndim)
    nbytes = property(lambda self: self._host.nbytes)
    itemsize = property(lambda self: self._host.itemsize)
    flags = property(lambda self: _Flags(self._host.flags))
    data = property(lambda self: _Pointer(self._host.ctypes.data, self._device))
    device = property(lambda self: Device(self._device))
    T = property(lambda self: ndarray._of(self._host.T, self._device))
    reshape, view, transpose, ravel = map(_view, ("reshape", "view", "transpose", "ravel"))
    take, swapaxes = map(_view, ("take", "swapaxes"))
    swapaxes = _view("swapaxes")
    sum, max, min, any, all, argmax = map(_reduction, ("sum", "max", "min", "any", "all", "argmax"))
    __add__, __radd__, __sub__, __mul__ = map(
        _operator, ("__add__", "__radd__", "__sub__", "__mul__")
    )
    __truediv__ = _operator("__truediv__")
    __floordiv__, __and__, __or__, __invert__ = map(
        _operator, ("__floordiv__", "__and__", "__or__", "__invert__")
    )
    __abs__, __neg__, __lt__, __gt__ = map(_operator, ("__abs__", "__neg__", "__lt__", "__gt__"))
    __eq__, __ne__, __le__, __ge__ = map(_operator, ("__eq__", "__ne__", "__le__", "__ge__"))

    def astype(self, dtype, order="K", casting=None, subok=None, copy=True) -> "ndarray":
        dtype = np.dtype(dtype)
        laid = order == "K" or self.flags.c_contiguous
        if not copy and dtype == self.dtype and laid:
            return self
        _launch(dtype)
        with np.errstate(all="ignore"):
            return ndarray._of(_operand(self).astype(dtype, order=order))

    def copy(self, order="C") -> "ndarray":
        return ndarray._of(_operand(self).copy(order))

    def fill(self, value) -> None:
        _operand(self).fill(_operand(value))

    def get(self, stream=None, order="C", out=None, blocking=True) -> np.ndarray:
        return _fetch(self)

    def item(self):
        return _fetch(self).item()

    def tolist(self):
        return _fetch(self).tolist()

    def __bool__(self) -> bool:
        return bool(_fetch(self))

    def __int__(self) -> int:
        return int(_fetch(self))

    def __index__(self) -> int:
        raise TypeError("only integer scalar arrays can be converted to a scalar index")

    def __float__(self) -> float:
        return float(_fetch(self))

    def __len__(self) -> int:
        return len(self._host)

    def __repr__(self) -> str:
        return repr(_fetch(self))

    def __getitem__(self, index) -> "ndarray":
        return ndarray._of(self._host[index], self._device)

    def __setitem__(self, index, value) -> None:
        _operand(self)[index] = _operand(value)

    def __reduce__(self):
        return array, (_fetch(self),)

    def __array__(self, dtype=None, copy=None):
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
        )

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        if method != "__call__" or kwargs:
            raise TypeError(f"Unsupported {method}")
        return ndarray._of(ufunc(*map(_operand, inputs)))

    def __array_function__(self, function, types, args, kwargs):
        return getattr(sys.modules[__name__], function.__name__)(*args, **kwargs)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self._device

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        if self.dtype.kind not in "biufc":
            raise BufferError("dtype is not supported for dlpack export")
        exports.append(stream)
        return self._host.__dlpack__(max_version=max_version)


exports: list = []
"""The streams that consumers of DLPack capsules have named."""


def array(obj, dtype=None, copy=True, order="K") -> ndarray:
    if isinstance(obj, ndarray):
        same = dtype is None or np.dtype(dtype) == obj.dtype
        if not copy and same and obj.device.id == _devices[-1]:
            return obj
        return ndarray._of(_operand(obj).astype(dtype or obj.dtype))
    host = np.array(obj, dtype=dtype, order="C")
    return ndarray._of(host.astype(host.dtype.newbyteorder("=")))


def asarray(a, dtype=None, order=None, *, copy=None, blocking=False) -> ndarray:
    return array(a, dtype, copy=False)


def ascontiguousarray(a: ndarray) -> ndarray:
    return a if a.flags.c_contiguous else a.copy()


def shape(a: ndarray) -> tuple[int, ...]:
    return a.shape


def asnumpy(a) -> np.ndarray:
    return a.get() if isinstance(a, ndarray) else np.asarray(a)


def empty(shape, dtype=float) -> ndarray:
    return ndarray(shape, dtype)


def zeros(shape, dtype=float) -> ndarray:
    return ndarray._of(np.zeros(shape, dtype))


def arange(*args, **kwargs) -> ndarray:
    return ndarray._of(np.arange(*args, **kwargs))


def broadcast_to(a: ndarray, shape) -> ndarray:
    return ndarray._of(np.broadcast_to(a._host, shape), a.device.id)


def moveaxis(a: ndarray, source, destination) -> ndarray:
    return ndarray._of(np.moveaxis(a._host, source, destination), a.device.id)


def take(a: ndarray, indices: ndarray, axis=None) -> ndarray:
    return ndarray._of(np.take(_operand(a), _operand(indices), axis))


def repeat(a: ndarray, repeats: int, axis=None) -> ndarray:
    return ndarray._of(np.repeat(_operand(a), repeats, axis))


def stack(arrays, axis=0) -> ndarray:
    return ndarray._of(np.stack([_operand(a) for a in arrays], axis))


def isfinite(a: ndarray) -> ndarray:
    return ndarray._of(np.isfinite(_operand(a)))


def count_nonzero(a: ndarray) -> ndarray:
    return ndarray._of(np.count_nonzero(_operand(a)))


def may_share_memory(a: ndarray, b: ndarray) -> bool:
    return np.may_share_memory(a._host, b._host)


def from_dlpack(tensor, *, device=None, copy=None) -> ndarray:
    """Of what says that it is on a GPU, and is in host memory."""
    kind, index = tensor.__dlpack_device__()
    assert kind == 2, "CPU arrays cannot be directly imported to CuPy"

    class OnHost:
        def __dlpack_device__(self):
            return 1, 0

        def __dlpack__(self, **kwargs):
            stream = get_current_stream().ptr or 1
            return tensor.__dlpack__(stream=stream, max_version=(1, 0), copy=copy)

    return ndarray._of(np.from_dlpack(OnHost()), index)


def _malloc(size: int) -> np.ndarray:
    memory = np.full(size + 512, 0xA5, np.uint8)  # nobody shall count on zeros
    return memory[-memory.ctypes.data % 512 :][:size]


_allocators = [_malloc]


def get_allocator():
    return _allocators[-1]


@contextmanager
def using_allocator(allocator):
    _allocators.append(allocator)
    yield
    _allocators.pop()


class Event:
    done = False


waits: list = []
"""The events that streams were told to wait for."""


class Stream:
    def __init__(self, ptr: int = 0) -> None:
        self.ptr = ptr

    @classmethod
    def from_external(cls, stream) -> "Stream":
        version, ptr = stream.__cuda_stream__()
        assert version == 0
        return cls(ptr)

    capturing = False

    def is_capturing(self) -> bool:
        return self.capturing

    def record(self) -> Event:
        return Event()

    def wait_event(self, event: Event) -> None:
        waits.append((self.ptr, event))

    def __enter__(self) -> "Stream":
        _streams.append(self)
        return self

    def __exit__(self, *_) -> None:
        _streams.pop()


def get_current_stream() -> Stream:
    return _streams[-1] if _streams else Stream()


class Device:
    def __init__(self, device: int | None = None) -> None:
        self.id = _devices[-1] if device is None else int(device)

    compute_capability = "90"

    def __enter__(self) -> "Device":
        _devices.append(self.id)
        return self

    def __exit__(self, *_) -> None:
        _devices.pop()

    def __eq__(self, other) -> bool:
        return self.id == other.id

    __hash__ = None


class CUDARuntimeError(RuntimeError):
    pass


runtime = types.SimpleNamespace(
    getDevice=lambda: _devices[-1], getDeviceCount=lambda: 2, CUDARuntimeError=CUDARuntimeError,
    deviceGetAttribute=lambda attribute, device: {16: 132}[attribute],
)  # fmt: skip
cuda = types.SimpleNamespace(
    Device=Device, Stream=Stream, get_current_stream=get_current_stream, runtime=runtime,
    get_allocator=get_allocator, using_allocator=using_allocator,
)  # fmt: skip


def _host_kernel(device: int, unit: str, name: str):
    launch = cuda_host.kernel(unit, name)

    def call(grid, block, args, shared_mem=0):
        for argument in args:
            by_value = isinstance(argument, np.ndarray) and argument.dtype.kind == "V"
            assert by_value or not isinstance(argument, np.ndarray), f"{name} was given host memory"
            if isinstance(argument, ndarray):
                assert argument.device.id == device == _devices[-1]
        launch(grid, block, args, shared_mem)

    return call


def _forget() -> dict:
    """Take the modules that have imported CuPy out of sys.modules, and give them back."""
    names = [n for n in sys.modules if n == "cupy" or n.startswith("pyquant._cuda")]
    return {n: sys.modules.pop(n) for n in names if n != _cuda_loader.__name__}


@contextmanager
def installed():
    """`import cupy` gives this module, and pyquant's kernels run on the host."""
    before = _forget()
    sys.modules["cupy"] = sys.modules[__name__]
    try:
        with (
            mock.patch.object(_cuda_loader, "_kernels", {}),
            mock.patch.object(_cuda_loader, "_usable", True),
            mock.patch.object(_cuda_loader, "_load", _host_kernel),
            mock.patch.object(_cuda_loader, "compiles", lambda unit: True),
            mock.patch.dict(_backend.PLAIN, clear=True),
        ):
            yield
    finally:
        _forget()
        sys.modules.update(before)
        for name in [n for n in vars(pyquant) if n.startswith("_cuda") and n != "_cuda_loader"]:
            delattr(pyquant, name)
        for name, module in before.items():
            if name.startswith("pyquant."):
                setattr(pyquant, name.removeprefix("pyquant."), module)


@contextmanager
def nothing_fetched():
    """Fails where something waits for the device."""
    before = fetches
    yield
    assert fetches == before, f"{fetches - before} values were fetched from the device"
