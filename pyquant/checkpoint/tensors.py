"""What a stored tensor is: its name, element type, shape and bytes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# NumPy (or ml_dtypes) name: (safetensors code, bits an element takes in the file)
_TYPES = {
    "bool": ("BOOL", 8),
    "int8": ("I8", 8),
    "uint8": ("U8", 8),
    "int16": ("I16", 16),
    "uint16": ("U16", 16),
    "int32": ("I32", 32),
    "uint32": ("U32", 32),
    "int64": ("I64", 64),
    "uint64": ("U64", 64),
    "float16": ("F16", 16),
    "float32": ("F32", 32),
    "float64": ("F64", 64),
    "complex64": ("C64", 64),
    "bfloat16": ("BF16", 16),
    "float8_e4m3fn": ("F8_E4M3", 8),
    "float8_e4m3fnuz": ("F8_E4M3FNUZ", 8),
    "float8_e5m2": ("F8_E5M2", 8),
    "float8_e5m2fnuz": ("F8_E5M2FNUZ", 8),
    "float8_e8m0fnu": ("F8_E8M0", 8),
    "float4_e2m1fn": ("F4", 4),
    "float6_e2m3fn": ("F6_E2M3", 6),
    "float6_e3m2fn": ("F6_E3M2", 6),
}
_NAMES = {code: name for name, (code, _) in _TYPES.items()}
ML_DTYPES = frozenset(name for name in _TYPES if name.startswith(("bfloat", "float8")))
"""Element types that come from ml_dtypes."""

FLOAT_TYPES = frozenset({"float16", "bfloat16", "float32", "float64"})
"""Element types that can be quantized."""

REAL_TYPES = frozenset(_TYPES) - {"complex64"}
"""Element types that hold real numbers."""

_MAX_RANK = 32  # what every supported NumPy can hold
_MAX_BYTES = 2**63 - 1


@dataclass(frozen=True)
class TensorSpec:
    """A stored tensor without its data.

    `dtype` is the NumPy name (``"float32"``, ``"bfloat16"``) or, for what only NumPy's own files
    can hold, the array-protocol string (``"<U5"``). An `optional` tensor may turn out not to be
    written; whoever lays out a file has to know that it might be.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    optional: bool = False

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        known = _TYPES.get(self.dtype)
        bits = known[1] if known else 8 * np.dtype(self.dtype).itemsize
        return (self.size * bits + 7) // 8

    def __str__(self) -> str:
        return f"{self.dtype} {shape_text(self.shape)}"


class TensorFile(Protocol):
    """One file of tensors opened for reading; what every format offers."""

    path: Any
    specs: dict[str, TensorSpec]
    metadata: dict[str, str]
    record: str | None

    def read(self, name: str, buffer: Array | None = None) -> Array:
        """Return the tensor, in `buffer` (bytes) when that is given and large enough."""
        ...

    def close(self) -> None: ...


class TensorWriter(Protocol):
    """One file of tensors being written; `written` has the bytes of each."""

    written: dict[str, int]

    def write(self, name: str, array: Array) -> None: ...

    def finish(self) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Layout:
    """All that is known of a file before its data: tensors, the user's metadata, the record."""

    specs: tuple[TensorSpec, ...]
    metadata: dict[str, str]
    record: str | None


def shape_text(shape: Iterable[int]) -> str:
    return "(" + ", ".join(map(str, shape)) + ")"


def checked_shape(shape: Iterable[Any], itemsize: int = 8) -> tuple[int, ...]:
    """Return `shape` as a tuple when an array of it can exist, else raise ``ValueError``."""
    dims = tuple(shape)
    if len(dims) > _MAX_RANK:
        raise ValueError(f"shape has {len(dims)} dimensions, at most {_MAX_RANK} are allowed")
    if any(type(d) is not int or d < 0 for d in dims):
        raise ValueError(f"shape {dims!r} must hold non-negative integers")
    if math.prod(max(d, 1) for d in dims) * itemsize > _MAX_BYTES:
        raise ValueError(f"shape {shape_text(dims)} is larger than any array can be")
    return dims


def dtype_name(dtype: np.dtype[Any]) -> str:
    """Return the name under which a NumPy element type is known here."""
    return dtype.name if dtype.name in _TYPES else dtype.str


def safetensors_code(spec: TensorSpec) -> str:
    if spec.dtype not in _TYPES:
        raise ValueError(
            f"tensor {spec.name!r} has dtype {spec.dtype}, which .safetensors cannot hold: "
            f"allowed are {', '.join(_TYPES)}"
        )
    return _TYPES[spec.dtype][0]


def name_of_code(code: str) -> str:
    if code not in _NAMES:
        raise ValueError(f"dtype {code!r} is not known, allowed are {', '.join(_NAMES)}")
    return _NAMES[code]


def numpy_dtype(spec: TensorSpec) -> np.dtype[Any]:
    """Return the little-endian NumPy type of a tensor, with ml_dtypes where NumPy has none."""
    if spec.dtype in ML_DTYPES:
        try:
            import ml_dtypes
        except ImportError:
            raise ImportError(
                f"tensor {spec.name!r} has dtype {spec.dtype}, which needs the ml_dtypes package: "
                f"pip install 'pyquant[files]'"
            ) from None
        dtype: np.dtype[Any] = np.dtype(getattr(ml_dtypes, spec.dtype))
        return dtype
    if spec.dtype in _TYPES and _TYPES[spec.dtype][1] < 8:
        raise ValueError(
            f"tensor {spec.name!r} has dtype {spec.dtype} of less than a byte, which is not read"
        )
    return _little_endian(np.dtype(spec.dtype))


def _little_endian(dtype: np.dtype[Any]) -> np.dtype[Any]:
    little = dtype.newbyteorder("<")
    return dtype if dtype == little else little


def stored_array(array: Array, spec: TensorSpec) -> Array:
    """Return `array`, which must be as `spec` says, little-endian and in C order."""
    if array.shape != spec.shape or dtype_name(array.dtype) != spec.dtype:
        raise ValueError(
            f"tensor {spec.name!r} is {array.dtype} {shape_text(array.shape)}, "
            f"but {spec} was announced"
        )
    # Not ascontiguousarray, which would make a 0-d array 1-d.
    return np.asarray(array, dtype=_little_endian(array.dtype), order="C")


def bytes_of(array: Array) -> memoryview:
    """Return the bytes of a C-order array, without a copy."""
    return array.reshape(-1).view(np.uint8).data


def place_for(nbytes: int, buffer: Array | None) -> Array:
    """Return `nbytes` bytes to read into: the front of `buffer` where it is large enough."""
    if buffer is not None and buffer.size >= nbytes:
        return buffer[:nbytes]
    return np.empty(nbytes, np.uint8)
