"""Integer matrix products on CuPy arrays: the choice of a kernel, its description, the launch."""

from __future__ import annotations

import ctypes
import importlib
import math
from functools import cache, lru_cache
from typing import Any

import numpy as np

from pyquant import _cpu, _cuda_loader
from pyquant._cuda_gemm_plan import (
    MOST_ROWS,
    NOTHING,
    Plan,
    packed,
    plan,
    plan_across,
    plan_blocks,
    plan_of_floats,
)
from pyquant._cuda_rows import (
    Blocks,
    PackedCodes,
    Rows,
    across_k,
    block_sums_of,
    blocks_along_k,
    even_step,
    launch,
    rows_along_k,
    sums_of,
)
from pyquant._operands import Operand, Result

_INT32_MAX = (1 << 31) - 1

_TENSOR_MAP = np.dtype("V128")
_PROCESSORS = 16  # cudaDevAttrMultiProcessorCount

_OUTPUTS = {
    _cpu.I32: 0, _cpu.F32: 1, _cpu.F16: 2, _cpu.BF16: 3,
    _cpu.I8: 4, _cpu.U8: 4, _cpu.I16: 5, _cpu.U16: 5,
}  # fmt: skip
_MODES = {_cpu.FLOAT: 0, _cpu.FIXED_DOUBLE: 1, _cpu.FIXED_SINGLE: 2}


@cache
def _device(number: int) -> tuple[int, int]:
    """Compute capability, 90 for 9.0, and multiprocessors."""
    import cupy

    processors = cupy.cuda.runtime.deviceGetAttribute(_PROCESSORS, number)
    return int(cupy.cuda.Device(number).compute_capability), int(processors)


def matmul(a: Operand, b: Operand, y: Result, block: int) -> int:
    """``y = a @ b``, as `_cpu.matmul`. A float `a` is quantized first."""
    import cupy

    target: Any = y.array
    if target.size == 0:
        return int(_cpu.OK)
    size = target.itemsize
    with target.device:
        step = even_step(target.shape[:-2], target.strides[:-2])
        if step is None or target.strides[-1] != size:
            target = cupy.empty(target.shape, target.dtype)
        y_there = y._replace(array=target)
        if isinstance(b.array, PackedCodes):
            beside = b.array.beside
            b = b._replace(scale=beside(b.scale), zero_point=beside(b.zero_point))
        status: int = _cpu.OK
        if block or not _multiply_floats(a, b, y_there):
            a = _with_codes(a, block)
            if block or not _multiply_across(a, b, y_there):
                status = _multiply(a, b, y_there, block)
        if target is not y.array:
            y.array[...] = target
    return status


def _multiply_floats(a: Operand, b: Operand, y: Result) -> bool:
    """All of it in one launch, where the left operand is a few rows of floats; else False."""
    x: Any = a.array
    target: Any = y.array
    dynamic, grid = a.scale is None, a.grid
    if a.code not in (_cpu.F32, _cpu.F16, _cpu.BF16) or (x.ndim, target.ndim) != (2, 2):
        return False
    (m, depth), n = x.shape, target.shape[1]
    k = -(-depth // 16) * 16
    chosen = plan_of_floats(m, n, k, x.itemsize, _device(target.device.id)[1])
    if across_k(b.array) is not None:
        return False
    unsigned = grid is not None and grid.qmin >= 0
    most = _farthest(a._replace(code=_cpu.U8 if unsigned else _cpu.I8)) * _farthest(b)
    if chosen is None or (y.code != _cpu.I32 and k * most > _INT32_MAX):
        return False
    (right,), (b_sum,) = _right(b, 0)[1:3]
    left = Rows(x, x.data.ptr, 1, m, depth, k, x.strides[0], 0, True)
    kept: list[Any] = []
    g = _described(left, right, a, b, y, kept)
    if dynamic:
        g["a_scale"] = 0, 1, 0, 0, 1
    if unsigned:  # its codes are made 128 lower, where 0 is none that can be left out
        g["a_zero"] = *g["a_zero"][:-1], 1
    if g["a_zero"][-1] and b_sum is not None:
        g["b_sum"] = _vector(b_sum[0], kept)
    qmin, qmax = (-127, 127) if grid is None else (grid.qmin, grid.qmax)
    lowered = 128 if unsigned else 0
    how = _OUTPUTS[a.code], int(dynamic), qmin - lowered, qmax - lowered, lowered
    _run(f"{chosen.unit}_{right.name}", chosen, g, *how)
    return True


def _multiply_across(a: Operand, b: Operand, y: Result) -> bool:
    """With few rows on the left, and contiguous rows on the right as they stand; else False."""
    target: Any = y.array
    m, n = target.shape[-2:]
    depth = a.array.shape[-1]
    right = across_k(b.array)
    if right is None or m > MOST_ROWS or depth == 0:
        return False
    if y.code != _cpu.I32 and depth * _farthest(a) * _farthest(b) > _INT32_MAX:
        return False
    left, batches = rows_along_k(a.array), math.prod(target.shape[:-2])
    chosen = plan_across(m, n, depth, batches, _device(target.device.id)[1])
    kept: list[Any] = []
    g = _described(left, right, a, b, y, kept)
    _run(f"{chosen.unit}_{left.name}{right.name}", chosen, g)
    return True


def _with_codes(a: Operand, block: int) -> Operand:
    """A left operand of codes; those of floats are made, in one launch."""
    import cupy

    if a.code in (_cpu.I8, _cpu.U8):
        return a
    in_rows, a = a.scale is None, _quantized(a)
    if in_rows and block:  # a row has one scale for all its blocks
        blocks = -(-a.array.shape[-1] // block)
        scale: Any = a.scale
        a = a._replace(scale=cupy.broadcast_to(scale[..., None], (*scale.shape, blocks)))
    return a


def _quantized(a: Operand) -> Operand:
    """A float operand as codes: on its grid, or symmetric int8 row by row, scales left there."""
    import cupy

    _cuda: Any = importlib.import_module("pyquant._cuda")
    x = cupy.ascontiguousarray(a.array)
    rows, k = math.prod(x.shape[:-1]), x.shape[-1]
    if a.scale is None:
        codes = cupy.empty(x.shape, np.int8)
        scale = cupy.empty(x.shape[:-1], np.float32)
        zero_point = cupy.empty(x.shape[:-1], np.int32)
        _cuda.dynamic_quantize(
            x, a.code, codes, _cpu.I8, (1, rows, k, 0), _cpu.SYMMETRIC, -127, 127, scale, zero_point
        )
        return Operand(codes, _cpu.I8, None, scale)
    grid = a.grid
    assert grid is not None
    codes = cupy.empty(x.shape, grid.storage)
    _cuda.quantize(
        x,
        a.code,
        a.scale,
        a.zero_point,
        codes,
        grid.code,
        (1, 1, rows * k, 0),
        grid.qmin,
        grid.qmax,
    )
    return Operand(codes, grid.code, a.zero_point, a.scale)


def _multiply(a: Operand, b: Operand, y: Result, block: int) -> int:
    """With codes on both sides, and a result whose rows are contiguous."""
    import cupy

    k = a.array.shape[-1]
    most = _farthest(a) * _farthest(b)
    right = _right(b, block)
    if block == 0:
        left = rows_along_k(a.array)
        if y.code == _cpu.I32 or k * most <= _INT32_MAX:
            _product(left, right.parts[0], a, b, y, right.sums[0])
        else:
            _wide_product(left, right.parts[0], a, b, y, most)
        return int(_cpu.OK)
    if right.whole is not None and block % 32 == 0 and block * most <= _INT32_MAX:
        _blocked_product(rows_along_k(a.array), right.whole, a, b, y, block, right.block_sums)
        return int(_cpu.OK)
    # Other blocks one by one, added up in float32 in the order of K; the last one makes the result
    # of the sum.
    sums_so_far = cupy.empty(y.array.shape, np.float32)
    partial = Result(sums_so_far, _cpu.F32)
    lefts = blocks_along_k(a.array, block).parts
    for i, (left, part) in enumerate(zip(lefts, right.parts, strict=True)):
        of_a = Operand(
            None, a.code, _of_block(a.zero_point, (..., i)), _of_block(a.scale, (..., i))
        )
        of_b = Operand(None, b.code, _of_block(b.zero_point, i), _of_block(b.scale, i))
        to = y if part is right.parts[-1] else partial
        before = sums_so_far.data.ptr if i else 0
        if part.depth * most <= _INT32_MAX:
            _product(left, part, of_a, of_b, to, right.sums[i], before)
        else:
            _wide_product(left, part, of_a, of_b, to, most, before)
    return int(_cpu.OK)


def _of_block(values: Any, index: Any) -> Any:
    """Parameters of one block of K; one value stays what it is."""
    return values if values is None or values.ndim == 0 else values[index]


def _right(b: Operand, block: int) -> Blocks:
    """The right operand along K."""
    if isinstance(b.array, PackedCodes):
        return b.array.blocks
    return blocks_along_k(b.array.swapaxes(-1, -2), block)


def _farthest(x: Operand) -> int:
    """The largest absolute value of a code less its zero point, which may be on the device."""
    return 255 if x.zero_point is not None or x.code == _cpu.U8 else 128


def _wide_product(
    left: Rows, right: Rows, a: Operand, b: Operand, y: Result, most: int, before: int = 0
) -> None:
    """The same in parts of K that int32 holds, added up in 64 bits; `most` is one product's."""
    import cupy

    step = _INT32_MAX // most // 16 * 16
    part = cupy.empty(y.array.shape, np.int32)
    sums = cupy.empty(y.array.shape, np.int64)
    for first in range(0, left.depth, step):
        depth = min(step, left.depth - first)
        piece = Result(part, _cpu.I32)
        _product(left.part(first, depth), right.part(first, depth), a, b, piece, None)
        n = part.size
        launch("gemm_wide", "add_part", -(-n // 256), 256, sums, part, n, int(first == 0))
    kept: list[Any] = []
    g = _described(left, right, a._replace(zero_point=None), b._replace(zero_point=None), y, kept)
    g["before"] = before
    launch("gemm_wide", "finish", -(-sums.size // 256), 256, sums, packed(g))


def _product(
    left: Rows, right: Rows, a: Operand, b: Operand, y: Result, b_sum: Any, before: int = 0
) -> None:
    """One launch of a matrix kernel, and those of the sums that it needs."""
    target: Any = y.array
    device = target.device.id
    kept: list[Any] = []
    g = _described(left, right, a, b, y, kept)
    m, n = target.shape[-2:]
    capability, processors = _device(device)
    if capability == 90 and not _cuda_loader.compiles(_hopper(left, right)):
        capability = 89
    chosen = plan(m, n, left.k, g["batches"], capability, processors)
    in_passing = chosen.unit == "gemm_rows"
    if a.zero_point is not None and (b_sum is not None or not in_passing):
        b_sum = sums_of(right) if b_sum is None else b_sum
        g["b_sum"] = _vector(b_sum[0], kept, batch=n if right.step else 0)
    if b.zero_point is not None and not in_passing:
        g["a_sum"] = _vector(sums_of(left)[0], kept, batch=m if left.step else 0)
    g["before"] = before
    unit = f"{chosen.unit}_{left.name}{right.name}"
    if chosen.unit == "gemm_hopper":
        maps = _tensor_map(left), _tensor_map(right)
        kernel = _cuda_loader.kernel(_hopper(left, right), chosen.name)
        kernel((chosen.grid,), (chosen.block,), (*maps, packed(g)), shared_mem=chosen.shared)
        return
    _run(unit, chosen, g)


def _run(unit: str, chosen: Plan, g: dict[str, Any], *more: Any) -> None:
    """The kernel of a plan, with what splitting K needs."""
    import cupy

    g["splits"] = chosen.splits
    if chosen.splits > 1 and chosen.sums:
        partial = cupy.empty(chosen.grid * chosen.sums, np.int32)
        done = cupy.zeros(chosen.grid // chosen.splits, np.int32)
        g["partial"], g["done"] = partial.data.ptr, done.data.ptr
    kernel = _cuda_loader.kernel(unit, chosen.name)
    kernel((chosen.grid,), (chosen.block,), (packed(g), *more), shared_mem=chosen.shared)


def _hopper(left: Rows, right: Rows) -> str:
    return f"gemm_hopper_{left.name}{right.name}_sm_90a"


def _blocked_product(
    left: Rows, right: Rows, a: Operand, b: Operand, y: Result, block: int, b_sum: Any
) -> None:
    """One launch for all blocks of K, of a multiple of 32."""
    target: Any = y.array
    m, n = target.shape[-2:]
    blocks = -(-left.depth // block)
    kept: list[Any] = []
    g = _described(left, right, _without_blocks(a), _without_blocks(b), y, kept)
    g["block"], g["blocks"] = block, blocks
    for name, values in (("a_zero", a.zero_point), ("a_scale", a.scale)):
        if values is not None and values.ndim > 0:
            kept.append(values := _there(values))
            each = blocks if values.strides[-1] else 1  # 1: one value for all blocks of a row
            g[name] = values.data.ptr, each, m * each if values.ndim > 2 else 0, 0, 1
            g[f"{name}_block"] = int(each == blocks)
    for name, values in (("b_zero", b.zero_point), ("b_scale", b.scale)):
        if values is not None and values.ndim > 0:
            kept.append(values := _there(values))
            g[name], g[f"{name}_block"] = (values.data.ptr, 1, 0, 0, 1), n
    chosen = plan_blocks(m, n, block, g["batches"], *_device(target.device.id))
    in_passing = chosen.unit == "gemm_rows_blocks"
    if a.zero_point is not None and not in_passing:
        kept.append(b_sum := block_sums_of(right, block) if b_sum is None else b_sum)
        g["b_sum"] = b_sum.data.ptr, 1, n * blocks if right.step else 0, 0, 1
        g["b_sum_block"] = n
    if b.zero_point is not None and not in_passing:
        kept.append(a_sum := block_sums_of(left, block))
        g["a_sum"] = a_sum.data.ptr, 1, m * blocks if left.step else 0, 0, 1
        g["a_sum_block"] = m
    g["splits"] = 1
    kernel = _cuda_loader.kernel(f"{chosen.unit}_{left.name}{right.name}", chosen.name)
    kernel((chosen.grid,), (chosen.block,), (packed(g),), shared_mem=chosen.shared)


def _without_blocks(x: Operand) -> Operand:
    """With those parameters alone that are one for all."""

    def single(values: Any) -> Any:
        return values if values is None or values.ndim == 0 else None

    return x._replace(zero_point=single(x.zero_point), scale=single(x.scale))


def _there(values: Any) -> Any:
    """Parameters on the device."""
    from pyquant._cuda_capture import to_device

    return to_device(values) if isinstance(values, np.ndarray) else values


def _described(
    left: Rows, right: Rows, a: Operand, b: Operand, y: Result, kept: list[Any]
) -> dict[str, Any]:
    """The fields of pq_gemm, but for sums and split-K; `kept` holds memory until the launch."""
    target: Any = y.array
    m, n = target.shape[-2:]
    size = target.itemsize
    batches = math.prod(target.shape[:-2])
    step = even_step(target.shape[:-2], target.strides[:-2])
    assert step is not None
    g = dict(NOTHING)
    g["a"], g["b"], g["c"] = left.pointer, right.pointer, target.data.ptr
    g["lda"], g["ldb"], g["ldc"] = left.pitch, right.pitch, target.strides[-2] // size
    g["a_batch"], g["b_batch"], g["c_batch"] = left.step, right.step, step // size
    g["a_zero"] = _vector(a.zero_point, kept)
    g["b_zero"] = _vector(b.zero_point, kept)
    rows = m if a.scale is not None and a.scale.ndim > 1 else 0
    g["a_scale"] = _vector(np.float32(1) if a.scale is None else a.scale, kept, batch=rows)
    g["b_scale"] = _vector(np.float32(1) if b.scale is None else b.scale, kept)
    g["bias"] = _vector(y.bias, kept)
    g["m"], g["n"], g["k"], g["depth"], g["batches"] = m, n, left.k, left.depth, batches
    _describe_results(g, y)
    return g


def _describe_results(g: dict[str, Any], y: Result) -> None:
    """What becomes of the sums."""
    g["output"], g["mode"] = _OUTPUTS[y.code], _MODES[y.mode]
    g["zero_point"], g["qmin"], g["qmax"] = y.zero_point, y.qmin, y.qmax
    g["scale"], g["low"], g["high"] = y.scale, y.low, y.high


def _vector(values: Any, kept: list[Any], batch: int = 0) -> tuple[int, int, int, int, int]:
    """pq_vector of nothing, a host value, or values that are on the device or copied there.

    The last dimension runs along rows or columns; `batch` elements on are those of the next matrix.
    """
    if values is None:
        return 0, 0, 0, 0, 0
    if isinstance(values, (np.ndarray, np.generic)):
        if values.ndim == 0:
            return 0, 0, 0, int(np.asarray(values).view(np.uint32)), 1
        values = _there(np.asarray(values))
    kept.append(values)
    step = values.strides[-1] // values.itemsize if values.ndim else 0
    return values.data.ptr, step, batch, 0, 1


def _tensor_map(x: Rows) -> np.ndarray[Any, Any]:
    """What Hopper's copy engine is told of an operand: boxes of 128 x 128 bytes, swizzled."""
    separate = 1 if x.step == 0 else x.batches
    return _encoded_map(x.pointer, x.k, x.rows, separate, x.pitch, x.step or x.rows * x.pitch)


@lru_cache(maxsize=256)
def _encoded_map(
    pointer: int, k: int, rows: int, batches: int, pitch: int, step: int
) -> np.ndarray[Any, Any]:
    memory = np.zeros(192, np.uint8)
    start = -memory.ctypes.data % 64
    encoded = memory[start : start + 128].view(_TENSOR_MAP)
    status = _driver().cuTensorMapEncodeTiled(
        ctypes.c_void_p(encoded.ctypes.data),
        ctypes.c_int(0),  # CU_TENSOR_MAP_DATA_TYPE_UINT8
        ctypes.c_uint32(3),
        ctypes.c_void_p(pointer),
        (ctypes.c_uint64 * 3)(k, rows, batches),
        (ctypes.c_uint64 * 2)(pitch, step),
        (ctypes.c_uint32 * 3)(128, 128, 1),
        (ctypes.c_uint32 * 3)(1, 1, 1),
        ctypes.c_int(0),  # CU_TENSOR_MAP_INTERLEAVE_NONE
        ctypes.c_int(3),  # CU_TENSOR_MAP_SWIZZLE_128B
        ctypes.c_int(2),  # CU_TENSOR_MAP_L2_PROMOTION_L2_128B
        ctypes.c_int(0),  # CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE: zeros
    )
    if status:
        raise RuntimeError(
            f"the driver refused a tensor map of {batches} matrices of {rows} rows of {k} bytes, "
            f"{pitch} apart (CUresult {status})"
        )
    return encoded


@cache
def _driver() -> ctypes.CDLL:
    """The CUDA driver, which CuPy has loaded already; CuPy has no name for tensor maps."""
    import sys

    return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
