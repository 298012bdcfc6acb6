"""The geometry of a convolution: sizes, kernel, strides, dilations and padding, checked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

_LAYOUTS = {"NCHW": False, "NHWC": True}
_TOO_LARGE = 1 << 30


class Geometry(NamedTuple):
    """What a backend is told; the tuples have one number for each spatial dimension."""

    images: int
    channels: int
    outputs: int
    groups: int
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    products: int
    """How many one sum has."""
    result: tuple[int, ...]
    """The shape of the result, with its channels where those of x are."""


def channels_last(layout: str) -> bool:
    """Are channels the last dimension?"""
    if layout not in _LAYOUTS:
        raise ValueError(
            f"layout must be 'NCHW' (channels second) or 'NHWC' (channels last), not {layout!r}"
        )
    return _LAYOUTS[layout]


@lru_cache(maxsize=1024)
def geometry(
    x: tuple[int, ...],
    w: tuple[int, ...],
    last: bool,
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    padding: str | tuple[tuple[int, ...], tuple[int, ...]],
    groups: int,
    names: tuple[str, str] = ("x", "w"),
) -> Geometry:
    """From the shapes of x and w; padding is ONNX's auto_pad, or (before, after)."""
    of_x, of_w = names
    if len(w) not in (3, 4, 5):
        raise ValueError(
            f"{of_w} must have shape (outputs, channels, *kernel) with a kernel of one to three "
            f"dimensions, not {w}"
        )
    if len(x) != len(w):
        raise ValueError(f"{of_x} must have {len(w)} dimensions as {of_w} has, not shape {x}")
    images, channels = x[0], x[-1] if last else x[1]
    size = x[1:-1] if last else x[2:]
    outputs, channels_of_group, kernel = w[0], w[1], w[2:]
    if groups < 1 or outputs % groups:
        raise ValueError(f"groups={groups} must divide the {outputs} outputs of {of_w}")
    if channels != channels_of_group * groups:
        raise ValueError(
            f"{of_x} of shape {x} has {channels} channels, and {of_w} of shape {w} with "
            f"groups={groups} needs {channels_of_group * groups}"
        )
    if 0 in kernel:
        raise ValueError(f"{of_w} must have a kernel of at least one element, not shape {w}")
    seen = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
    if isinstance(padding, str):
        before, after = _automatic(padding, size, seen, stride)
    else:
        before, after = padding
    padded = tuple(n + a + b for n, a, b in zip(size, before, after, strict=True))
    spatial = tuple((n - k) // s + 1 for n, k, s in zip(padded, seen, stride, strict=True))
    if min(spatial) < 1:
        raise ValueError(
            f"{of_w} must fit into {of_x}: its kernel spans {seen}, and {of_x} with its padding "
            f"has {padded}"
        )
    result = (images, *spatial, outputs) if last else (images, outputs, *spatial)
    return Geometry(
        images, channels, outputs, groups, size, kernel, stride, dilation, before, after,
        math.prod(w[1:]), result,
    )  # fmt: skip


def _automatic(
    rule: str, size: Sequence[int], seen: Sequence[int], stride: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """ONNX's auto_pad: the result has ceil(size / stride) elements, or there is no padding."""
    if rule in ("NOTSET", "VALID"):
        nothing = (0,) * len(size)
        return nothing, nothing
    total = [
        max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(size, seen, stride, strict=True)
    ]
    less, more = tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
    return (less, more) if rule == "SAME_UPPER" else (more, less)


def numbers(value: Any, count: int, least: int, name: str) -> tuple[int, ...]:
    """`count` integers of at least `least`; one stands for all, None for the least."""
    if value is None:
        return (least,) * count
    if type(value) is int and least <= value < _TOO_LARGE:
        return (value,) * count
    given = np.asarray(value)
    if given.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, not {value!r}")
    if given.shape not in ((), (count,)):
        raise ValueError(f"{name} must be {count} integers, not {value!r}")
    if (given < least).any() or (given >= _TOO_LARGE).any():
        raise ValueError(f"{name}={value!r} must be from {least} to 2**30 - 1")
    return tuple(int(v) for v in np.broadcast_to(given, (count,)))
