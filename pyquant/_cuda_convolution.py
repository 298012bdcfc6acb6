"""Convolutions of CuPy arrays: images laid for the kernels, the choice of one, and its launch.

The product of a convolution has the pixels of the result as its rows and reads them from the image
itself (pyquant/cuda/conv.cuh): what is written before is one copy of the image, with channels last,
its padding around it and floats quantized, and not even that where the image lies so already.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import cupy
import numpy as np

from pyquant import _cpu, _cuda_loader
from pyquant._cuda_divisor import packed_divisor
from pyquant._cuda_gather import (
    CHUNK,
    Codes,
    Frame,
    Places,
    Source,
    laid_frame,
    laying,
    places,
    three,
)  # fmt: skip
from pyquant._cuda_gemm import (
    INT32_MAX,
    describe_results,
    farthest,
    on_its_grid,
    product,
    run,
    vector,
    wide_product,
)  # fmt: skip
from pyquant._cuda_gemm_plan import NOTHING, packed, plan_conv
from pyquant._cuda_rows import DeviceCopies, Rows, even_step, launch, sums_of
from pyquant._geometry import Geometry
from pyquant._operands import Operand, Result

_FLOATS = {_cpu.F32: "f32", _cpu.F16: "f16", _cpu.BF16: "bf16"}
_MOST_CHUNKS = (1 << 31) - 1
_FEW = 32
"""Products of one kernel element and group, up to which tensor cores would be idle."""
_ALWAYS_FITS = INT32_MAX // 255**2


def _is_direct(g: Geometry) -> bool:
    """Have groups so few channels that a thread sums up its results alone?

    A tile has 64 columns and 16 channels at least, of which a group would fill few.
    """
    per_group = g.channels // g.groups * (g.outputs // g.groups)
    return g.groups > 1 and per_group <= _FEW and g.products <= _ALWAYS_FITS


class Laid(NamedTuple):
    """Images as the kernels read them."""

    array: Any
    """Keeps the memory."""
    pointer: int
    frame: Frame


def _lay(
    x: Any, source: Source, name: str, groups: int, before: tuple[int, int, int],
    size: tuple[int, int, int], codes: Codes,
) -> Laid:  # fmt: skip
    """Images of `size` with channels last, those of a group in whole chunks."""
    of_pixel = groups * -(-source.channels // groups // CHUNK)
    frame = laid_frame(size, of_pixel)
    chunks = source.images * frame.pixels * of_pixel
    if chunks > _MOST_CHUNKS:
        raise ValueError(f"an image of {chunks * CHUNK} bytes as a GPU reads it is too large")
    to = cupy.empty(chunks * CHUNK, x.dtype if x.dtype.itemsize == 1 else np.uint8)
    if chunks:
        described = laying(source, to.data.ptr, frame, before, groups, codes)
        launch("conv_image", f"lay_{name}", -(-chunks // 256), 256, described)
    return Laid(to, to.data.ptr, frame)


class PackedFilters:
    """The weights of a convolution as the kernels read them."""

    isa = "cuda"

    def __init__(self, g: Geometry, w: Any, code: int) -> None:
        outputs, channels = w.shape[:2]
        signed = code == _cpu.I8
        kernel, strides = three(w.shape[2:], 1), three(w.strides[2:], 0)
        source = Source(
            w.data.ptr, outputs, channels, kernel, w.strides[0], w.strides[1], strides
        )  # fmt: skip
        laid = _lay(w, source, "codes", 1, (0, 0, 0), kernel, Codes())
        k = math.prod(kernel) * laid.frame.of_pixel * CHUNK
        self.rows = Rows(laid.array, laid.pointer, 1, outputs, g.products, k, k, 0, signed)
        self.sums = sums_of(self.rows)[0]
        self.direct: Laid | None = None
        if _is_direct(g):  # (kernel, channel of the group, output)
            w = cupy.ascontiguousarray(w)
            taps = math.prod(kernel)
            source = Source(
                w.data.ptr, 1, outputs, (1, taps, channels), 0, channels * taps, (0, 1, taps)
            )
            self.direct = _lay(w, source, "codes", 1, (0, 0, 0), source.size, Codes())
        self.copies = DeviceCopies()

    @property
    def nbytes(self) -> int:
        """Bytes on the device."""
        direct = 0 if self.direct is None else int(self.direct.array.nbytes)
        return int(self.rows.array.nbytes) + int(self.sums.nbytes) + direct


def pack_convolution(geometry: Geometry, w: Any, code: int) -> PackedFilters:
    """PackedFilters of an array (outputs, channels of a group, *kernel)."""
    with w.device:
        return PackedFilters(geometry, w, code)


def convolve(geometry: Geometry, channels_last: bool, x: Operand, w: Operand, y: Result) -> int:
    """y = x convolved with w, as `_cpu.convolve`."""
    target: Any = y.array
    if target.size == 0:
        return int(_cpu.OK)
    with target.device:
        filters = w.array
        if not isinstance(filters, PackedFilters):
            filters = PackedFilters(geometry, filters, w.code)
        beside = filters.copies.of
        w = w._replace(array=filters, scale=beside(w.scale), zero_point=beside(w.zero_point))
        y = y._replace(bias=beside(y.bias))
        if x.code == _cpu.F64:  # which is divided
            x = on_its_grid(x)
        for first, count in _shares(geometry, channels_last):
            here = geometry._replace(
                images=count, result=(count, *geometry.result[1:])
            ) if count < geometry.images else geometry  # fmt: skip
            part = slice(first, first + count)
            _convolve(
                here, channels_last, x._replace(array=x.array[part]), w,
                y._replace(array=target[part]),
            )  # fmt: skip
    return int(_cpu.OK)


def _shares(g: Geometry, last: bool) -> list[tuple[int, int]]:
    """Images that go together: the first one, and how many; the kernels count in 32 bits."""
    padded = [n + a + b for n, a, b in zip(g.size, g.before, g.after, strict=True)]
    chunks = math.prod(padded) * g.groups * -(-g.channels // g.groups // CHUNK)
    pixels = math.prod(g.result[1:-1] if last else g.result[2:])
    together = max(1, _MOST_CHUNKS // max(chunks, pixels, 1))
    return [(i, min(together, g.images - i)) for i in range(0, g.images, together)]


def _source(x: Any, last: bool) -> Source:
    """Images of an array whose strides are whole elements."""
    size = x.itemsize
    strides = [s // size for s in x.strides]
    channel, spatial = (x.ndim - 1, slice(1, -1)) if last else (1, slice(2, None))
    return Source(
        x.data.ptr, x.shape[0], x.shape[channel], three(x.shape[spatial], 1), strides[0],
        strides[channel], three(strides[spatial], 0),
    )  # fmt: skip


def _as_it_is(x: Any, source: Source, groups: int) -> Laid | None:
    """Images that need no laying: codes with channels last, in whole chunks."""
    sizes = (source.images, *source.size)
    given = (source.image, *source.along)
    steps = [step if n > 1 else CHUNK for n, step in zip(sizes, given, strict=True)]
    if source.channel != 1 or source.channels // groups % CHUNK or source.pointer % CHUNK:
        return None
    if any(step <= 0 or step % CHUNK for step in steps) or max(steps) // CHUNK > _MOST_CHUNKS:
        return None
    image, depth, height, width = (step // CHUNK for step in steps)
    frame = Frame(source.size, source.channels // CHUNK, (image, depth, height, width))
    return Laid(x, source.pointer, frame)


def _images(g: Geometry, last: bool, x: Operand, groups: int) -> tuple[Laid, Operand]:
    """The laid images, and the operand as codes."""
    source = _source(x.array, last)
    before, after = three(g.before, 0), three(g.after, 0)
    size = tuple(n + a + b for n, a, b in zip(source.size, before, after, strict=True))
    name = _FLOATS.get(x.code, "codes")
    if name == "codes" and size == source.size:
        laid = _as_it_is(x.array, source, groups)
        if laid is not None:
            return laid, x
    scale: Any = np.float32(1) if x.scale is None else x.scale
    zero_point: Any = np.int32(0) if x.zero_point is None else x.zero_point
    grid = x.grid
    codes = Codes(
        *_by_value(scale, 0.0), *_by_value(zero_point, 0),
        *((0, 0) if grid is None else (grid.qmin, grid.qmax)),
    )  # fmt: skip
    depth, height, width = size
    laid = _lay(x.array, source, name, groups, before, (depth, height, width), codes)
    return laid, x if grid is None else x._replace(code=grid.code, grid=None)


def _by_value(value: Any, nothing: Any) -> tuple[Any, int]:
    """A parameter of the host, or the address of one on the device."""
    host = isinstance(value, (np.ndarray, np.generic))
    return (value.item(), 0) if host else (nothing, value.data.ptr)


def _convolve(g: Geometry, last: bool, x: Operand, w: Operand, y: Result) -> None:
    """With images that fit one launch."""
    filters: PackedFilters = w.array
    direct = filters.direct is not None
    laid, x = _images(g, last, x, 1 if direct else g.groups)
    of_group = laid.frame.of_pixel // g.groups
    where = places(g, last, laid.frame, 1 if direct else of_group)
    most = farthest(x) * farthest(w)
    wide = y.code != _cpu.I32 and g.products * most > INT32_MAX
    if last and _is_pointwise(g) and (left := _as_rows(g, laid, x)) is not None:
        rows = y._replace(array=y.array.reshape(left.rows, g.outputs))
        if wide:
            wide_product(left, filters.rows, x, w, rows, most)
        else:
            product(left, filters.rows, x, w, rows, filters.sums[None])
    elif wide:
        _wide(g, last, where, laid, x, w, y, INT32_MAX // most // CHUNK)
    elif direct:
        _launch_direct(g, last, where, laid, x, w, y)
    else:
        _launch_tiles(g, last, where, laid, x, w, y, 0, filters.rows.k // CHUNK)


def _is_pointwise(g: Geometry) -> bool:
    """Is it a product of matrices?"""
    return g.groups == 1 and math.prod(g.kernel) == 1 and math.prod(g.stride) == 1


def _as_rows(g: Geometry, laid: Laid, x: Operand) -> Rows | None:
    """Pixels at one distance from each other as the rows of a matrix."""
    frame = laid.frame
    step = even_step((g.images, *frame.size), frame.steps)
    if step is None:
        return None
    k = frame.of_pixel * CHUNK
    rows, pitch, signed = g.images * frame.pixels, step * CHUNK or k, x.code == _cpu.I8
    return Rows(laid.array, laid.pointer, 1, rows, g.channels, k, pitch, 0, signed)


def _type(x: Operand) -> str:
    return "i8" if x.code == _cpu.I8 else "u8"


def _launch_tiles(
    g: Geometry, last: bool, where: Places, laid: Laid, x: Operand, w: Operand, y: Result,
    first: int, chunks: int,
) -> None:  # fmt: skip
    """On tensor cores: some chunks of K, and the sums that they need."""
    right: Rows = w.array.rows
    here = right.part(first * CHUNK, chunks * CHUNK)
    outputs, of_group = g.outputs // g.groups, laid.frame.of_pixel // g.groups
    kept: list[Any] = []
    d = described(g, last, where, x, w, y, kept)
    d["a"], d["b"], d["ldb"] = laid.pointer, here.pointer, here.pitch
    d["a_batch"], d["b_batch"] = of_group * CHUNK, outputs * here.pitch
    d["n"], d["k"], d["batches"] = outputs, here.k, g.groups
    d["depth"] = _depth(g, of_group, first + chunks) - _depth(g, of_group, first)
    gathered = where.packed(g.outputs * where.pixels, first)
    m = d["m"]
    if x.zero_point is not None:
        b_sum = w.array.sums if here.k == right.k else sums_of(here)[0]
        d["b_sum"] = vector(b_sum, kept, batch=outputs)
    if w.zero_point is not None:
        a_sum = cupy.empty((g.groups, m), np.int32)
        launch(
            "conv_image", f"result_sums_{_type(x)}", g.groups * -(-m // 8), 256,
            gathered, laid.pointer, a_sum, m, chunks, of_group,
        )  # fmt: skip
        d["a_sum"] = vector(a_sum, kept, batch=m)
    kind = _cuda_loader.device_kind(laid.array.device.id)
    chosen = plan_conv(m, outputs, here.k, g.groups, *kind)
    chosen = chosen._replace(name=f"{chosen.name}_{'nhwc' if last else 'nchw'}")
    run(f"{chosen.unit}_{_type(x)}{right.name}", chosen, d, gathered)


def _launch_direct(
    g: Geometry, last: bool, where: Places, laid: Laid, x: Operand, w: Operand, y: Result
) -> None:
    """With a thread for four outputs of a pixel."""
    filters: PackedFilters = w.array
    assert filters.direct is not None
    kept: list[Any] = []
    d = described(g, last, where, x, w, y, kept)
    d["a"] = laid.pointer
    d["b"], d["ldb"] = filters.direct.pointer, filters.direct.frame.of_pixel * CHUNK
    if x.zero_point is not None:
        d["b_sum"] = vector(filters.sums, kept)
    channels, outputs, quads = g.channels // g.groups, g.outputs // g.groups, -(-g.outputs // 4)
    # Pixels and quads of a block, as in conv_direct.cuh.
    down, across = (4 * 8, 32) if last else (4 * 32, 8)
    kind = "depthwise" if channels == outputs == 1 else "grouped"
    launch(
        f"conv_direct_{_type(x)}{filters.rows.name}", f"{kind}_{'nhwc' if last else 'nchw'}",
        -(-d["m"] // down) * -(-quads // across), 256,
        packed(d), where.packed(g.outputs * where.pixels), math.prod(g.kernel), channels,
        packed_divisor(outputs),
    )  # fmt: skip


def described(
    g: Geometry, last: bool, where: Places, x: Operand, w: Operand, y: Result, kept: list[Any]
) -> dict[str, Any]:
    """The fields of pq_gemm that results and parameters decide, all outputs being one matrix."""
    outputs = g.outputs // g.groups
    d = dict(NOTHING)
    target: Any = y.array
    d["c"] = target.data.ptr
    d["ldc"] = g.outputs if last else where.pixels
    d["c_batch"] = outputs if last else outputs * where.pixels
    one = np.float32(1)
    d["a_zero"] = vector(x.zero_point, kept)
    d["a_scale"] = vector(one if x.scale is None else x.scale, kept)
    of_outputs = {
        "b_zero": w.zero_point, "b_scale": one if w.scale is None else w.scale, "bias": y.bias
    }  # fmt: skip
    for name, values in of_outputs.items():
        each = values is not None and values.ndim > 0
        d[name] = vector(values, kept, batch=outputs if each else 0)
    d["m"], d["n"], d["batches"] = g.images * where.pixels, g.outputs, 1
    d["depth"] = g.products
    describe_results(d, y)
    return d


def _depth(g: Geometry, of_group: int, chunks: int) -> int:
    """Products among the first chunks along K, without what only fills the last one of a pixel."""
    if of_group == 0:
        return 0
    channels = g.channels // g.groups
    return chunks // of_group * channels + min(chunks % of_group * CHUNK, channels)


def _wide(
    g: Geometry, last: bool, where: Places, laid: Laid, x: Operand, w: Operand, y: Result,
    most: int,
) -> None:  # fmt: skip
    """In parts of at most `most` chunks of K, added up in 64 bits, channels last."""
    m, n = g.images * where.pixels, g.outputs
    part, sums = cupy.empty((m, n), np.int32), cupy.empty((m, n), np.int64)
    chunks, blocks = w.array.rows.k // CHUNK, -(-(m * n) // 256)
    piece = Result(part, _cpu.I32)
    for first in range(0, chunks, most):
        count = min(most, chunks - first)
        _launch_tiles(g, True, where, laid, x, w, piece, first, count)
        launch("gemm_wide", "add_part", blocks, 256, sums, part, m * n, int(first == 0))
    kept: list[Any] = []
    result = y.array if last else cupy.empty((g.images, where.pixels, n), y.array.dtype)
    plain = x._replace(zero_point=None), w._replace(zero_point=None)
    d = described(g, True, where, *plain, y._replace(array=result), kept)
    launch("gemm_wide", "finish", blocks, 256, sums, packed(d))
    if not last:
        bits = np.dtype(f"u{result.itemsize}")  # CuPy copies no bfloat16
        target = y.array.reshape(g.images, n, where.pixels).view(bits)
        target[...] = result.view(bits).swapaxes(1, 2)
