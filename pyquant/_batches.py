"""From operands with batches to calls of a backend: as few as the parameters allow, no copies."""

from __future__ import annotations

import math
from types import ModuleType

import numpy as np

from pyquant._arguments import Array
from pyquant._operands import Operand, Result


def multiply(backend: ModuleType, a: Operand, b: Operand, y: Result, block: int = 0) -> int:
    """``y = a @ b``, and the status. Arrays are (..., rows, columns); y has all the batches."""
    if y.array.size == 0:
        return 0
    batch = y.array.shape[:-2]
    core = 2 if block else 1  # dimensions of parameters that are no batches
    if batch:
        b = _without_single_batches(b)
        if _is_shared(b, core) and (tall := _tall(a, y, batch, core)):
            a, y, batch = *tall, ()
    if batch and (_varies(a, core) or _varies(b, core)):
        status = 0
        for index in np.ndindex(*batch):
            one = y._replace(array=y.array[index])
            status = status or _call(
                backend, _at(a, index, batch, core), _at(b, index, batch, core), one, block
            )
        return status
    return _call(backend, _spread(a, batch), _spread(b, batch), y, block)


def _call(backend: ModuleType, a: Operand, b: Operand, y: Result, block: int) -> int:
    return int(backend.matmul(_contiguous(a), _contiguous(b), y, block))


def _contiguous(x: Operand) -> Operand:
    """With parameters that are one after the other."""
    if (x.zero_point is None or x.zero_point.flags.c_contiguous) and (
        x.scale is None or x.scale.flags.c_contiguous
    ):
        return x
    return x._replace(
        zero_point=None if x.zero_point is None else np.ascontiguousarray(x.zero_point),
        scale=None if x.scale is None else np.ascontiguousarray(x.scale),
    )


def _without_single_batches(x: Operand) -> Operand:
    shape = getattr(x.array, "shape", ())
    if len(shape) > 2 and math.prod(shape[:-2]) == 1:
        return x._replace(array=x.array[(0,) * (len(shape) - 2)])
    return x


def _parameters(x: Operand) -> tuple[Array, ...]:
    return tuple(p for p in (x.zero_point, x.scale) if p is not None)


def _varies(x: Operand, core: int) -> bool:
    """Do parameters differ from batch to batch?"""
    return any(p.ndim > core for p in _parameters(x))


def _is_shared(x: Operand, core: int) -> bool:
    """Is it one matrix, with its parameters, for all batches?"""
    return len(getattr(x.array, "shape", ())) <= 2 and not _varies(x, core)


def _tall(
    a: Operand, y: Result, batch: tuple[int, ...], core: int
) -> tuple[Operand, Result] | None:
    """All rows of all batches as one matrix, where memory has them at one distance."""
    if a.array.shape[:-2] != batch or not (_one_distance(a.array) and _one_distance(y.array)):
        return None
    rows = math.prod(y.array.shape[:-1])

    def stacked(p: Array | None) -> Array | None:
        if p is None or p.ndim == 0:
            return p
        own = p.shape[-core:]
        return np.broadcast_to(p, (*batch, *own)).reshape(rows, *own[1:])

    a = a._replace(
        array=a.array.reshape(rows, a.array.shape[-1]),
        zero_point=stacked(a.zero_point),
        scale=stacked(a.scale),
    )
    return a, y._replace(array=y.array.reshape(rows, y.array.shape[-1]))


def _one_distance(x: Array) -> bool:
    """Are all dimensions but the last like one, so that reshaping makes a view?"""
    step = rows = 0
    for n, stride in zip(x.shape[-2::-1], x.strides[-2::-1], strict=True):
        if n == 1:
            continue
        if rows and stride != step * rows:
            return False
        step, rows = (step, rows * n) if rows else (stride, n)
    return True


def _at(x: Operand, index: tuple[int, ...], batch: tuple[int, ...], core: int) -> Operand:
    """The operand of one batch."""

    def at(p: Array | None) -> Array | None:
        if p is None or p.ndim <= core:
            return p
        one: Array = np.broadcast_to(p, (*batch, *p.shape[-core:]))[index]
        return one

    array = x.array
    if len(getattr(array, "shape", ())) > 2:
        array = np.broadcast_to(array, (*batch, *array.shape[-2:]))[index]
    return x._replace(array=array, zero_point=at(x.zero_point), scale=at(x.scale))


def _spread(x: Operand, batch: tuple[int, ...]) -> Operand:
    """With y's batches, by strides of zero; a single matrix needs none."""
    shape = getattr(x.array, "shape", ())
    if len(shape) <= 2 or shape[:-2] == batch:
        return x
    return x._replace(array=np.broadcast_to(x.array, (*batch, *shape[-2:])))
