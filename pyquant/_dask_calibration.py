"""Scale and zero point of a Dask array as a tree reduction over observers.

Chunks without a common channel meet nowhere: each run of channels has a tree of its own. Blocks
are whole in their chunk and need no tree.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np

from pyquant import _cpu
from pyquant._arguments import Array, float_input, nonfinite_sentence
from pyquant._lazy import record_of
from pyquant.calibration import calibrate
from pyquant.observers import Observer


@dataclass(frozen=True)
class _Seen:
    """What was observed of some chunks, or where and why they were refused."""

    observer: Observer | None
    place: tuple[int, ...] = ()
    refusal: str = ""


def records_of(
    x: Any,
    chunks: tuple[tuple[int, ...], ...],
    dtype: np.dtype[Any],
    method: str,
    axis: int | None,
    block_size: int | None,
    settings: dict[str, Any],
) -> Any:
    """Scales and zero points of x as a structured Dask array in these chunks."""
    if method == "moving_average":  # which of one array is this
        method = "minmax"
    if block_size is not None:
        return x.map_blocks(
            _block_records, chunks=chunks, dtype=dtype, meta=np.empty((0,) * x.ndim, dtype),
            method=method, axis=axis, block_size=block_size,
            settings=settings,
        )  # fmt: skip
    seen = x.map_blocks(
        _observed, chunks=tuple((1,) * len(sizes) for sizes in x.chunks), dtype=object,
        meta=np.empty((0,) * x.ndim, object), method=method, axis=axis, settings=settings,
    )  # fmt: skip
    others = tuple(i for i in range(x.ndim) if i != axis)
    meta = np.empty((0,) * len(chunks), object)
    whole = da.reduction(
        seen, _as_is, _merged, combine=_merged, axis=others, dtype=object, meta=meta
    )
    return whole.map_blocks(
        _records, chunks=chunks, dtype=dtype, meta=np.empty((0,) * len(chunks), dtype)
    )


def _observed(
    x: Array, *, method: str, axis: int | None, settings: dict[str, Any], block_info: Any = None
) -> Array:
    observer = Observer(method, axis=axis, **settings)
    try:
        seen = _Seen(observer.update(x))
    except ValueError as error:
        place, refusal = _first_nonfinite(x, _offset(block_info, x.ndim))
        if not place:
            raise error
        seen = _Seen(None, place, refusal)
    return _boxed(seen, x.ndim)


def _boxed(seen: _Seen, ndim: int) -> Array:
    box = np.empty((1,) * ndim, object)
    box[...] = seen
    return box


def _offset(block_info: Any, ndim: int) -> tuple[int, ...]:
    """Where in the whole array a chunk begins."""
    return tuple(int(begin) for begin, _ in block_info[0]["array-location"]) if ndim else ()


def _first_nonfinite(x: Array, offset: tuple[int, ...]) -> tuple[tuple[int, ...], str]:
    """Its index in the whole array, and the refusal that names it; nothing where all is finite."""
    array, code = float_input(x)
    if np.isfinite(array).all():
        return (), ""
    local = np.unravel_index(int(_cpu.find_nonfinite(array, code)), array.shape)
    place = tuple(int(i) + begin for i, begin in zip(local, offset, strict=True))
    return place, nonfinite_sentence(place, array[local])


def _as_is(seen: Array, axis: Any, keepdims: bool) -> Array:
    return seen


def _merged(seen: Array, axis: tuple[int, ...], keepdims: bool) -> Array:
    parts: list[_Seen] = list(seen.flat)
    refused = [part for part in parts if part.observer is None]
    if refused:
        whole = min(refused, key=lambda part: part.place)  # the first in C order
    else:
        # The parts stay as they are: a scheduler may hand them out again.
        observer = copy.deepcopy(parts[0].observer)
        assert observer is not None
        for part in parts[1:]:
            assert part.observer is not None
            observer.merge(part.observer)
        whole = _Seen(observer)
    return _boxed(whole, seen.ndim if keepdims else seen.ndim - len(axis))


def _records(seen: Array) -> Array:
    part: _Seen = seen.flat[0]
    if part.observer is None:
        raise ValueError(part.refusal)
    return record_of(part.observer.params())


def _block_records(
    x: Array,
    *,
    method: str,
    axis: int,
    block_size: int,
    settings: dict[str, Any],
    block_info: Any = None,
) -> Array:
    try:
        params = calibrate(x, method, axis=axis, block_size=block_size, **settings)
    except ValueError:
        _, refusal = _first_nonfinite(x, _offset(block_info, x.ndim))
        if not refusal:
            raise
        raise ValueError(refusal) from None
    return record_of(params)
