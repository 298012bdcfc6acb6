"""Integer matrix products on CuPy arrays, as `_cpu.matmul`: which way a product goes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pyquant import _cpu, _cuda_loader
from pyquant._cuda_blocks import multiply_blocks
from pyquant._cuda_dynamic import dynamic_quantize
from pyquant._cuda_gemm import (
    INT32_MAX,
    OUTPUTS,
    described,
    farthest,
    on_its_grid,
    product,
    run,
    vector,
    wide_product,
)
from pyquant._cuda_gemm_plan import MOST_ROWS, plan_across, plan_of_floats
from pyquant._cuda_rows import (
    Blocks,
    PackedCodes,
    Rows,
    across_k,
    blocks_along_k,
    even_step,
    rows_along_k,
)
from pyquant._operands import Operand, Result


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
        if block or not _multiply_floats(a, b, y_there):
            a = _with_codes(a, block)
            if block or not _multiply_across(a, b, y_there):
                _multiply(a, b, y_there, block)
        if target is not y.array:
            y.array[...] = target
    return int(_cpu.OK)


def _multiply_floats(a: Operand, b: Operand, y: Result) -> bool:
    """All of it in one launch, where the left operand is a few rows of floats; else False."""
    x: Any = a.array
    target: Any = y.array
    dynamic, grid = a.scale is None, a.grid
    if a.code not in (_cpu.F32, _cpu.F16, _cpu.BF16) or (x.ndim, target.ndim) != (2, 2):
        return False
    (m, depth), n = x.shape, target.shape[1]
    k = -(-depth // 16) * 16
    chosen = plan_of_floats(m, n, k, x.itemsize, _cuda_loader.device_kind(target.device.id)[1])
    if chosen is None or across_k(b.array) is not None:
        return False
    unsigned = grid is not None and grid.qmin >= 0
    most = farthest(a._replace(code=_cpu.U8 if unsigned else _cpu.I8)) * farthest(b)
    if y.code != _cpu.I32 and k * most > INT32_MAX:
        return False
    (right,), (b_sum,) = _right(b, 0)[1:3]
    left = Rows(x, x.data.ptr, 1, m, depth, k, x.strides[0], 0, True)
    kept: list[Any] = []
    g = described(left, right, a, b, y, kept)
    if dynamic:
        g["a_scale"] = 0, 1, 0, 0, 1
    if unsigned:  # its codes are made 128 lower, where 0 is none that can be left out
        g["a_zero"] = *g["a_zero"][:-1], 1
    if g["a_zero"][-1] and b_sum is not None:
        g["b_sum"] = vector(b_sum[0], kept)
    qmin, qmax = (-127, 127) if grid is None else (grid.qmin, grid.qmax)
    lowered = 128 if unsigned else 0
    how = OUTPUTS[a.code], int(dynamic), qmin - lowered, qmax - lowered, lowered
    run(f"{chosen.unit}_{right.name}", chosen, g, *how)
    return True


def _multiply_across(a: Operand, b: Operand, y: Result) -> bool:
    """With few rows on the left, and contiguous rows on the right as they stand; else False."""
    target: Any = y.array
    m, n = target.shape[-2:]
    depth = a.array.shape[-1]
    right = across_k(b.array)
    if right is None or m > MOST_ROWS or depth == 0:
        return False
    if y.code != _cpu.I32 and depth * farthest(a) * farthest(b) > INT32_MAX:
        return False
    left, batches = rows_along_k(a.array), math.prod(target.shape[:-2])
    chosen = plan_across(m, n, depth, batches, _cuda_loader.device_kind(target.device.id)[1])
    kept: list[Any] = []
    g = described(left, right, a, b, y, kept)
    run(f"{chosen.unit}_{left.name}{right.name}", chosen, g)
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

    if a.scale is not None:
        return on_its_grid(a)
    x = cupy.ascontiguousarray(a.array)
    rows, k = math.prod(x.shape[:-1]), x.shape[-1]
    codes = cupy.empty(x.shape, np.int8)
    scale = cupy.empty(x.shape[:-1], np.float32)
    zero_point = cupy.empty(x.shape[:-1], np.int32)
    dynamic_quantize(
        x, a.code, codes, _cpu.I8, (1, rows, k, 0), _cpu.SYMMETRIC, -127, 127, scale, zero_point
    )
    return Operand(codes, _cpu.I8, None, scale)


def _multiply(a: Operand, b: Operand, y: Result, block: int) -> None:
    """With codes on both sides, and a result whose rows are contiguous."""
    right = _right(b, block)
    if block:
        multiply_blocks(right, a, b, y, block)
        return
    left = rows_along_k(a.array)
    most = farthest(a) * farthest(b)
    if y.code == _cpu.I32 or left.depth * most <= INT32_MAX:
        product(left, right.parts[0], a, b, y, right.sums[0])
    else:
        wide_product(left, right.parts[0], a, b, y, most)


def _right(b: Operand, block: int) -> Blocks:
    """The right operand along K."""
    if isinstance(b.array, PackedCodes):
        return b.array.blocks
    return blocks_along_k(b.array.swapaxes(-1, -2), block)
