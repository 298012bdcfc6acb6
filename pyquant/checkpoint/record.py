"""How a quantized tensor is stored, and the check that a stored one is what it claims.

A quantized tensor ``NAME`` is the tensor ``NAME`` (its integers; packed: a 1-D bit stream of
bytes), ``NAME.scale``, ``NAME.zero_point`` (absent when all zero) and an entry in the record, a
JSON text ``{"version": 1, "tensors": {NAME: {...}}}`` in the metadata of the file.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from pyquant._arguments import params_shape
from pyquant.array import QuantizedArray, QuantParams
from pyquant.checkpoint.tensors import (
    FLOAT_TYPES,
    Array,
    TensorFile,
    TensorSpec,
    checked_shape,
    dtype_name,
    shape_text,
)

KEY = "pyquant"
_VERSION = 1
_MAX_TEXT = 2**25  # characters: more than 100,000 tensors; bounds what a hostile file can cost


@dataclass(frozen=True)
class Record:
    """What the integers of one stored tensor mean, but for scale and zero point."""

    dtype: str
    narrow_range: bool
    axis: int | None
    block_size: int | None
    shape: tuple[int, ...]
    packed: bool
    source_dtype: str

    def specs(self, name: str) -> tuple[TensorSpec, TensorSpec, TensorSpec]:
        """Return the stored tensors: data, scale and the zero point, which is optional."""
        grid = QuantParams(1.0, dtype=self.dtype)
        storage = dtype_name(grid.storage)
        data = TensorSpec(name, storage, self.shape)
        if self.packed:
            data = TensorSpec(name, "uint8", ((data.size * grid.bits + 7) // 8,))
        params = fitting_params_shape(self.shape, self.axis, self.block_size)
        scale_name, zero_point_name = companions(name)
        return (
            data,
            TensorSpec(scale_name, "float32", params),
            TensorSpec(zero_point_name, storage, params, optional=True),
        )


def companions(name: str) -> tuple[str, str]:
    """Return the names under which scale and zero point of a tensor are stored."""
    return f"{name}.scale", f"{name}.zero_point"


def refuse_collisions(quantized: Iterable[str], names: Container[str]) -> None:
    """Raise ``ValueError`` where a tensor has the name a scale or zero point will have."""
    for name in quantized:
        for companion in companions(name):
            if companion in names:
                raise ValueError(
                    f"tensor {companion!r} has the name that belongs to quantized tensor {name!r}"
                )


def fitting_params_shape(
    shape: tuple[int, ...], axis: int | None, block_size: int | None
) -> tuple[int, ...]:
    """Return the shape of the scale of a tensor of `shape`, refusing an axis it does not have."""
    if axis is None and block_size is not None:
        raise ValueError(f"block_size {block_size} needs an axis")
    if axis is not None and not -len(shape) <= axis < len(shape):
        raise ValueError(
            f"axis {axis} does not fit shape {shape_text(shape)}, allowed are "
            + (f"{-len(shape)} to {len(shape) - 1}" if shape else "none (the tensor is 0-d)")
        )
    return params_shape(shape, axis, block_size)


def record_of(q: QuantizedArray, source_dtype: str = "float32") -> Record:
    return Record(
        dtype=q.dtype,
        narrow_range=bool(q.params.narrow_range),
        axis=q.axis,
        block_size=q.block_size,
        shape=tuple(q.shape),
        packed=bool(q.packed),
        source_dtype=source_dtype,
    )


def parts_of(name: str, q: QuantizedArray) -> Iterator[tuple[str, Array]]:
    """Yield the stored tensors of `q` by name."""
    scale_name, zero_point_name = companions(name)
    yield name, q.data
    yield scale_name, np.asarray(q.scale, np.float32)
    zero_point = np.asarray(q.zero_point)
    if zero_point.any():
        yield zero_point_name, zero_point


def records_text(records: Mapping[str, Record]) -> str | None:
    """Return the JSON text of the record, None when no tensor is quantized."""
    if not records:
        return None
    tensors = {name: asdict(record) for name, record in records.items()}
    return json.dumps({"version": _VERSION, "tensors": tensors}, separators=(",", ":"))


def read_records(file: TensorFile) -> dict[str, Record]:
    """Return the record of `file`, with every entry checked against the tensors that are there."""
    if file.record is None:
        return {}
    try:
        records = _parsed(file.record)
    except ValueError as error:
        raise ValueError(f"{file.path}: the metadata entry {KEY!r} is damaged: {error}") from None
    for name, record in records.items():
        try:
            _check_stored(name, record, file.specs)
        except ValueError as error:
            raise ValueError(f"{file.path}: quantized tensor {name!r}: {error}") from None
    return records


def assembled(name: str, record: Record, file: TensorFile) -> QuantizedArray:
    """Read the quantized tensor `name`, refusing scales and integers that cannot be."""
    scale_name, zero_point_name = companions(name)
    stored = file.specs
    try:
        params = QuantParams(
            file.read(scale_name),
            file.read(zero_point_name) if zero_point_name in stored else 0,
            dtype=record.dtype,
            narrow_range=record.narrow_range,
            axis=record.axis,
            block_size=record.block_size,
        )
        data = file.read(name)
        if not record.packed:
            _check_grid(data, params)
        return QuantizedArray(data, params, shape=record.shape, packed=record.packed)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{file.path}: quantized tensor {name!r}: {error}") from error


def _parsed(text: str) -> dict[str, Record]:
    if len(text) > _MAX_TEXT:
        raise ValueError(f"it has {len(text)} characters, at most {_MAX_TEXT} are read")
    try:
        tree = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(tree, dict) or tree.get("version") != _VERSION:
        raise ValueError(f"it must be an object with version {_VERSION}")
    tensors = tree.get("tensors")
    if not isinstance(tensors, dict):
        raise ValueError("its 'tensors' must be an object")
    return {name: _record(name, entry) for name, entry in tensors.items()}


_OPTIONAL_INT = (int, type(None))
_ENTRY_TYPES: dict[str, tuple[type, ...]] = {
    "dtype": (str,),
    "narrow_range": (bool,),
    "axis": _OPTIONAL_INT,
    "block_size": _OPTIONAL_INT,
    "shape": (list,),
    "packed": (bool,),
    "source_dtype": (str,),
}
assert set(_ENTRY_TYPES) == {field.name for field in fields(Record)}


def _record(name: str, entry: Any) -> Record:
    if not isinstance(entry, dict) or set(entry) != set(_ENTRY_TYPES):
        raise ValueError(f"its entry for tensor {name!r} must have {', '.join(_ENTRY_TYPES)}")
    for key, types in _ENTRY_TYPES.items():
        if type(entry[key]) not in types:  # not isinstance: True is no int here
            allowed = " or ".join("null" if t is type(None) else t.__name__ for t in types)
            raise ValueError(f"{key} {entry[key]!r} of tensor {name!r} must be {allowed}")
    return Record(**{**entry, "shape": tuple(entry["shape"])})


def _check_stored(name: str, record: Record, stored: Mapping[str, TensorSpec]) -> None:
    checked_shape(record.shape)
    if record.block_size is not None and record.block_size < 1:
        raise ValueError(f"block_size {record.block_size} must be at least 1")
    if record.source_dtype not in FLOAT_TYPES:
        raise ValueError(
            f"source_dtype {record.source_dtype!r} must be one of {', '.join(sorted(FLOAT_TYPES))}"
        )
    for spec in record.specs(name):
        found = stored.get(spec.name)
        if found is None:
            if spec.optional:
                continue
            raise ValueError(f"tensor {spec.name!r} is missing")
        if (found.dtype, found.shape) != (spec.dtype, spec.shape):
            raise ValueError(f"tensor {spec.name!r} is {found}, but the metadata asks for {spec}")


def _check_grid(data: Array, params: QuantParams) -> None:
    limits = np.iinfo(data.dtype)
    if data.size == 0 or (params.qmin <= limits.min and params.qmax >= limits.max):
        return
    low, high = int(data.min()), int(data.max())
    if low < params.qmin or high > params.qmax:
        raise ValueError(
            f"it has integers from {low} to {high}, "
            f"the grid of {params.dtype} allows {params.qmin} to {params.qmax}"
        )
