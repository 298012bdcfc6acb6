"""What a CUDA graph asks of the calls that it captures: it runs at any time, without the host."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import cupy

_kept: list[Any] = []
"""Memory that captured calls have used, which is theirs for good."""


class _Keeper:
    """An allocator of CuPy whose memory is never given back."""

    def __init__(self, allocate: Callable[[int], Any]) -> None:
        self._allocate = allocate

    def __call__(self, size: int) -> Any:
        memory = self._allocate(size)
        _kept.append(memory)
        return memory


def is_under_way() -> bool:
    """Does a graph capture what is launched?"""
    capturing: bool = cupy.cuda.get_current_stream().is_capturing()
    return capturing


def is_unprepared() -> bool:
    """Is a call captured whose temporary memory others will get?"""
    return is_under_way() and not isinstance(cupy.cuda.get_allocator(), _Keeper)


def lasting_memory() -> AbstractContextManager[None]:
    """Inside, memory stays with the graph."""
    context: AbstractContextManager[None] = cupy.cuda.using_allocator(
        _Keeper(cupy.cuda.get_allocator())
    )
    return context


def to_device(values: Any) -> Any:
    """A copy of scales or zero points of the host, which no graph can hold."""
    if is_under_way():
        raise RuntimeError(
            f"scales, zero points and bias must be on the device while a graph is captured, "
            f"and these, of shape {values.shape}, are NumPy's"
        )
    return cupy.asarray(values)
