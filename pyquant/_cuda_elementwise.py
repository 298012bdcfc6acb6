"""Elementwise operations on CuPy arrays: grid, launch, nothing else.

Arrays come in C-contiguous and of the types that pyquant.ops has checked. Scales and zero points
may be NumPy arrays, whose values are checked here, or arrays on the device, whose values are not:
nothing here waits for the GPU or reads from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import cupy
import numpy as np

from pyquant._cpu import (
    BF16,
    ERROR_SCALE,
    ERROR_ZERO_POINT,
    F16,
    F32,
    F64,
    FIXED_DOUBLE,
    FIXED_SINGLE,
    FLOAT,
    I8,
    I16,
    OK,
    U8,
    U16,
)
from pyquant._cuda_capture import to_device
from pyquant._cuda_divisor import packed_divisor
from pyquant._cuda_loader import kernel

Layout = tuple[int, int, int, int]

_THREADS = 256
# How many vectors (one, rows), rows (columns) or elements (each) a thread has; see cuda/map.cuh.
_UNROLL = {"one": 4, "rows": 2, "columns": 4, "each": 2}
_SINGLES = 16
_BITS_UNROLL = 4
_MOST_ELEMENTS = 1 << 30
_MOST_CODES = 1 << 26
_LARGEST_SCALE = float(np.finfo(np.float32).max)

FLOATS = {F32: ("f32", 4), F16: ("f16", 2), BF16: ("bf16", 2), F64: ("f64", 8)}
# Stored integers: the kernels' name, bytes, 2**(bits - 1) of a signed type, and the values.
_CODES = {
    I8: ("i8", 1, 128, -128, 127),
    U8: ("i8", 1, 0, 0, 255),
    I16: ("i16", 2, 32768, -32768, 32767),
    U16: ("i16", 2, 0, 0, 65535),
}
_MODES = {FLOAT: "float", FIXED_DOUBLE: "fixed_double", FIXED_SINGLE: "fixed_single"}


def empty(shape: tuple[int, ...], dtype: Any) -> Any:
    """A new array on the current device."""
    return cupy.empty(shape, dtype)


def quantize(
    x: Any,
    x_type: int,
    scale: Any,
    zero_point: Any,
    q: Any,
    q_type: int,
    layout: Layout,
    qmin: int,
    qmax: int,
) -> int:
    x_name, x_size = FLOATS[x_type]
    q_name, q_size, *_ = _CODES[q_type]
    name = f"quantize_{x_name}_{q_name}"
    return _map(
        "quantize", name, x, x_size, q, q_size, layout, scale, zero_point, qmin, qmax, (qmin, qmax)
    )


def dequantize(
    q: Any, q_type: int, scale: Any, zero_point: Any, x: Any, x_type: int, layout: Layout
) -> int:
    x_name, x_size = FLOATS[x_type]
    q_name, q_size, sign, low, high = _CODES[q_type]
    name = f"dequantize_{q_name}_{x_name}"
    return _map(
        "dequantize", name, q, q_size, x, x_size, layout, scale, zero_point, low, high, (sign,)
    )


def fake_quantize(
    x: Any,
    x_type: int,
    scale: Any,
    zero_point: Any,
    y: Any,
    layout: Layout,
    qmin: int,
    qmax: int,
) -> int:
    x_name, size = FLOATS[x_type]
    name = f"fake_quantize_{x_name}"
    return _map(
        "fake_quantize", name, x, size, y, size, layout, scale, zero_point, qmin, qmax, (qmin, qmax)
    )


def requantize(
    acc: Any,
    multiplier: Any,
    zero_point: Any,
    q: Any,
    q_type: int,
    layout: Layout,
    qmin: int,
    qmax: int,
    mode: int,
) -> int:
    q_name, q_size, *_ = _CODES[q_type]
    name = f"requantize_{_MODES[mode]}_{q_name}"
    return _map(
        "requantize", name, acc, 4, q, q_size, layout, multiplier, zero_point, qmin, qmax,
        (qmin, qmax),
    )  # fmt: skip


def pack_bits(q: Any, bits: int, is_signed: bool, packed: Any) -> int:
    """Codes that do not fit lose their high bits: to find them would be to wait for the GPU."""
    size = 1 if bits <= 8 else 2
    with q.device:
        for first in range(0, q.size, _MOST_CODES):
            n = min(_MOST_CODES, q.size - first)
            source, target = q.data.ptr + first * size, packed.data.ptr + first * bits // 8
            done = _whole_vectors(n, bits, source, target)
            if done:
                _bits(f"pack_{bits}", done // 16, _BITS_UNROLL, source, target, done // 16)
            if done < n:
                words = -(-(n - done) * bits // 32)
                _bits(
                    f"pack_any_i{8 * size}", words, 1, source + done * size,
                    target + done * bits // 8, n - done, bits, packed_divisor(bits),
                )  # fmt: skip
    return OK


def unpack_bits(packed: Any, bits: int, is_signed: bool, q: Any) -> int:
    size = 1 if bits <= 8 else 2
    sign = 1 << (bits - 1) if is_signed else 0
    with q.device:
        for first in range(0, q.size, _MOST_CODES):
            n = min(_MOST_CODES, q.size - first)
            source, target = packed.data.ptr + first * bits // 8, q.data.ptr + first * size
            done = _whole_vectors(n, bits, target, source)
            if done:
                _bits(f"unpack_{bits}", done // 16, _BITS_UNROLL, source, target, done // 16, sign)
            if done < n:
                _bits(
                    f"unpack_any_i{8 * size}", n - done, 1, source + done * bits // 8,
                    target + done * size, n - done, bits, sign,
                )  # fmt: skip
    return OK


def _whole_vectors(n: int, bits: int, codes: int, packed: int) -> int:
    """How many of n codes at these addresses go 16 at a time."""
    quick = bits in (1, 2, 4) and codes % 16 == 0 and packed % (2 * bits) == 0
    return n - n % 16 if quick else 0


def _bits(name: str, items: int, each: int, *arguments: int) -> None:
    kernel("bits", name)((-(-items // (_THREADS * each)),), (_THREADS,), arguments)


def _map(
    unit: str,
    name: str,
    source: Any,
    source_size: int,
    target: Any,
    target_size: int,
    layout: Layout,
    scale: Any,
    zero_point: Any,
    low: int,
    high: int,
    own: tuple[int, ...],
) -> int:
    """An operation of cuda/map.cuh on a whole array; own are the last of its parameters."""
    refused = refused_parameters(scale, zero_point, low, high)
    if refused or source.size == 0:
        return refused
    with source.device:
        scales, one_scale = parameter(scale, float)
        zero_points, one_zero_point = parameter(zero_point, int)
        begin, end = source.data.ptr, target.data.ptr
        for element, place, piece in _pieces(layout):
            from_, to = begin + element * source_size, end + element * target_size
            way, blocks, counts, places = _plan(
                piece, source_size, target_size, from_ % 16, to % 16
            )
            kernel(unit, f"{name}_{way}")(
                (blocks,),
                (_THREADS,),
                (
                    from_, to, *counts, address(scales, place), one_scale,
                    address(zero_points, place), one_zero_point, *own, *places,
                ),
            )  # fmt: skip
    return OK


def refused_parameters(scale: Any, zero_point: Any, low: int, high: int) -> int:
    """The status for parameters on the host."""
    if isinstance(scale, np.ndarray):
        if scale.size == 1:
            fine = 0.0 < float(scale.item()) <= _LARGEST_SCALE
        else:
            fine = bool(((scale > 0) & (scale <= _LARGEST_SCALE)).all())
        if not fine:
            return int(ERROR_SCALE)
    if zero_point is None:
        return int(OK) if low <= 0 <= high else int(ERROR_ZERO_POINT)
    if isinstance(zero_point, np.ndarray) and ((zero_point < low) | (zero_point > high)).any():
        return int(ERROR_ZERO_POINT)
    return int(OK)


def parameter(values: Any, number: type) -> tuple[Any, Any]:
    """An array on the device, or None and the one value there is."""
    if values is None:
        return None, number(0)
    if isinstance(values, np.ndarray):
        if values.size == 1:
            return None, number(values.item())
        values = to_device(values)
    return values, number(0)


def address(values: Any, place: int) -> int:
    return 0 if values is None else int(values.data.ptr) + 4 * place


def _pieces(layout: Layout) -> Iterator[tuple[int, int, Layout]]:
    """Layouts small enough for 32-bit indices: (first element, first scale, layout) of each."""
    outer, axis, inner, block = layout
    if outer * axis * inner <= _MOST_ELEMENTS:
        yield 0, 0, layout
        return
    each_outer = -(-axis // block) * inner if block else 0
    row = axis * inner
    if outer > 1:
        for first, n in _cut(outer, row):
            for element, place, piece in _pieces((n, axis, inner, block)):
                yield first * row + element, first * each_outer + place, piece
    elif axis > 1:
        for first, n in _cut(axis, inner, block):
            skipped = first // block * inner if block else first
            for element, place, piece in _pieces((1, n, inner, min(block, n))):
                yield first * inner + element, skipped + place, piece
    else:
        for first, n in _cut(inner, 1):
            yield first, first if block else 0, (1, 1, n, min(block, 1))


def _cut(n: int, size: int, block: int = 0) -> Iterator[tuple[int, int]]:
    """(begin, length) of parts of n with at most so many elements; of whole blocks, or of one."""
    step = max(1, _MOST_ELEMENTS // size)
    if block and step >= block:
        step -= step % block
    elif block:
        step = 1
    elif step > 16:
        step -= step % 16
    for first in range(0, n, step):
        yield first, min(step, n - first)


@lru_cache(maxsize=4096)
def _plan(
    layout: Layout, from_size: int, to_size: int, from_at: int, to_at: int
) -> tuple[str, int, tuple[int, int], tuple[int, ...]]:
    """Which kernel, how many blocks, (elements, head), and the numbers of Places in cuda/map.cuh.

    from_at and to_at are the addresses modulo 16.
    """
    outer, axis, inner, block = layout
    n = outer * axis * inner
    vector = 16 // max(from_size, to_size)
    head = -(from_at // from_size) % vector
    if (to_at // to_size + head) % vector:
        head = n  # never both aligned
    head = min(head, n)
    if axis == 1 and not block:
        vectors = (n - head) // vector
        singles = n - vectors * vector
        blocks = max(
            -(-vectors // (_THREADS * _UNROLL["one"])), -(-singles // (_THREADS * _SINGLES))
        )
        return "one", blocks, (n, head), ()
    # The array as rows of `width`; see Places for the rest.
    if not block and inner == 1:
        width, period, blocks_of, by, stride, run = axis, 1, 0, 1, 1, 1
    elif not block:
        width, period, blocks_of, by, stride, run = inner, axis, 0, 1, 1, inner
    elif inner > 1:
        by = min(block, axis)
        width, period, blocks_of, stride, run = inner, axis, -(-axis // by), inner, 1
    elif axis % min(block, axis) == 0:
        width = run = min(block, axis)
        period, blocks_of, by, stride = 1, 1, 1, 1
    else:
        width, period, blocks_of, by, stride, run = axis, 1, -(-axis // block), 1, 1, block
    rows = n // width
    whole = head == 0 and width % vector == 0
    if whole and run % vector == 0:
        way, blocks = "rows", -(-n // (vector * _THREADS * _UNROLL["rows"]))
    elif whole and run == 1 and (not block or (period % 4 == 0 and by % 4 == 0)):
        groups = -(-rows // _UNROLL["columns"])
        way, blocks = "columns", -(-width // vector * groups // _THREADS)
    else:
        way, blocks = "each", -(-n // (_THREADS * _UNROLL["each"]))
    places = (
        width, packed_divisor(width), rows, period, packed_divisor(period), blocks_of,
        packed_divisor(by), stride, packed_divisor(run),
    )  # fmt: skip
    return way, blocks, (n, 0), places
