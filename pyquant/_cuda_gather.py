"""How images lie for convolutions on a GPU, as the kernels are told (pyquant/cuda/conv.cuh)."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from pyquant._cuda_divisor import divisor
from pyquant._geometry import Geometry

CHUNK = 16
"""Bytes that are copied at a time, and channels."""
_DIVISOR = [("multiplier", "u4"), ("shift", "u4")]
ODOMETER = np.dtype([("bound", "u4", 3), ("by", _DIVISOR, 3), ("worth", "u4", 4)])
GATHER = np.dtype(
    [
        ("result", ODOMETER), ("kernel", ODOMETER),
        ("first", "u4"), ("pixels", "u4"), ("by_pixels", _DIVISOR), ("image", "i8"),
    ]
)  # fmt: skip
"""pq_gather of pyquant/cuda/conv.cuh."""
LAYING = np.dtype(
    [
        *((name, "u8") for name in ("source", "to", "scales", "zero_points")),
        ("image", "i8"), ("channel", "i8"), ("along", "i8", 3),
        ("scale", "f4"), *((name, "i4") for name in ("zero_point", "qmin", "qmax", "last")),
        ("chunks", "u4"), ("size", "u4", 3), ("before", "u4", 3),
        *((name, "u4") for name in ("pixels", "of_pixel", "plane", "line", "of_group", "channels")),
        *((f"by_{name}", _DIVISOR) for name in ("pixels", "pixel", "plane", "line", "group")),
    ]
)  # fmt: skip
"""pq_laying of pyquant/cuda/conv_image.cu."""
_ODOMETER = "3I6I4I"
_GATHER = struct.Struct(f"={_ODOMETER}{_ODOMETER}4Iq")
_LAYING = struct.Struct("=4Q5q" + "f4i" + "7I" + "6I" + "10I")


class Odometer(NamedTuple):
    """A number in a mixed radix: three bounds and what four digits are worth, the lowest first."""

    bounds: tuple[int, int, int]
    worth: tuple[int, int, int, int]

    def numbers(self) -> list[int]:
        divisors = [number for bound in self.bounds for number in divisor(bound)]
        return [*self.bounds, *divisors, *self.worth]


class Frame(NamedTuple):
    """A laid image: sizes with the padding, and chunks from one neighbour to the next."""

    size: tuple[int, int, int]
    of_pixel: int
    """Chunks that a pixel has."""
    steps: tuple[int, int, int, int]
    """Of an image, and along the three dimensions."""

    @property
    def pixels(self) -> int:
        return math.prod(self.size)


class Places(NamedTuple):
    """Where the pixels of results and the elements of kernels are in a frame."""

    result: Odometer
    kernel: Odometer
    pixels: int

    def packed(self, image: int, first: int = 0) -> np.ndarray:
        """An array of one pq_gather, for kernels from chunk `first` of K on."""
        numbers = (*self.result.numbers(), *self.kernel.numbers())
        flat = _GATHER.pack(*numbers, first, self.pixels, *divisor(self.pixels), image)
        return np.frombuffer(flat, GATHER)


def three(numbers: Sequence[int], missing: int) -> tuple[int, int, int]:
    """For three spatial dimensions, the last of which are given."""
    depth, height, width = (missing,) * (3 - len(numbers)) + tuple(numbers)
    return depth, height, width


@lru_cache(maxsize=1024)
def places(g: Geometry, last: bool, frame: Frame, of_group: int) -> Places:
    """`of_group` chunks of channels are multiplied for each element of a kernel."""
    out = three(g.result[1:-1] if last else g.result[2:], 1)
    kernel, stride, dilation = (three(v, 1) for v in (g.kernel, g.stride, g.dilation))
    image, *along = frame.steps
    strides = [step * s for step, s in zip(along, stride, strict=True)]
    apart = [step * d for step, d in zip(along, dilation, strict=True)]
    return Places(
        Odometer((out[2], out[1], out[0]), (strides[2], strides[1], strides[0], image)),
        Odometer((max(of_group, 1), kernel[2], kernel[1]), (1, apart[2], apart[1], apart[0])),
        math.prod(out),
    )


@lru_cache(maxsize=1024)
def laid_frame(size: tuple[int, int, int], of_pixel: int) -> Frame:
    """Pixels one after the other."""
    _, height, width = size
    line = width * of_pixel
    return Frame(size, of_pixel, (size[0] * height * line, height * line, line, of_pixel))


class Source(NamedTuple):
    """An array of any strides as images: elements from one to the next."""

    pointer: int
    images: int
    channels: int
    size: tuple[int, int, int]
    image: int
    channel: int
    along: tuple[int, int, int]


class Codes(NamedTuple):
    """What floats become, and what stands around an image: by value, or by address where not 0."""

    scale: float = 1.0
    scales: int = 0
    zero_point: int = 0
    zero_points: int = 0
    qmin: int = 0
    qmax: int = 0


def laying(
    x: Source, to: int, frame: Frame, before: tuple[int, int, int], groups: int, codes: Codes
) -> np.ndarray:
    """An array of one pq_laying."""
    of_group = frame.of_pixel // groups
    plane, line = frame.size[1] * frame.size[2], frame.size[2]
    divided = (frame.pixels, frame.of_pixel, plane, line, of_group)
    flat = _LAYING.pack(
        x.pointer, to, codes.scales, codes.zero_points, x.image, x.channel, *x.along,
        codes.scale, codes.zero_point, codes.qmin, codes.qmax, int(x.channel == 1),
        x.images * frame.pixels * frame.of_pixel, *x.size, *before,
        frame.pixels, frame.of_pixel, plane, line, of_group, x.channels // groups,
        *(part for d in divided for part in divisor(max(d, 1))),
    )  # fmt: skip
    return np.frombuffer(flat, LAYING)
