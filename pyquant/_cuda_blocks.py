"""Products of CuPy arrays whose scales change in blocks along K: all in one launch, or one each."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyquant import _cpu, _cuda_loader
from pyquant._cuda_gemm import (
    INT32_MAX,
    described,
    farthest,
    product,
    run,
    there,
    wide_product,
)
from pyquant._cuda_gemm_plan import plan_blocks
from pyquant._cuda_rows import Blocks, Rows, block_sums_of, blocks_along_k, rows_along_k
from pyquant._operands import Operand, Result


def multiply_blocks(right: Blocks, a: Operand, b: Operand, y: Result, block: int) -> None:
    """With codes on both sides, and a result whose rows are contiguous."""
    import cupy

    most = farthest(a) * farthest(b)
    if right.whole is not None and block % 32 == 0 and block * most <= INT32_MAX:
        _blocked_product(rows_along_k(a.array), right.whole, a, b, y, block, right.block_sums)
        return
    # No kernel has other sizes: a launch for each, which adds to the float32 sums of those before.
    # The last one makes the result of the sum.
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
        if part.depth * most <= INT32_MAX:
            product(left, part, of_a, of_b, to, right.sums[i], before)
        else:
            wide_product(left, part, of_a, of_b, to, most, before)


def _of_block(values: Any, index: Any) -> Any:
    """Parameters of one block of K; one value stays what it is."""
    return values if values is None or values.ndim == 0 else values[index]


def _blocked_product(
    left: Rows, right: Rows, a: Operand, b: Operand, y: Result, block: int, b_sum: Any
) -> None:
    """One launch for all blocks of K, of a multiple of 32."""
    target: Any = y.array
    m, n = target.shape[-2:]
    blocks = -(-left.depth // block)
    kept: list[Any] = []
    g = described(left, right, _without_blocks(a), _without_blocks(b), y, kept)
    g["block"], g["blocks"] = block, blocks
    for name, values in (("a_zero", a.zero_point), ("a_scale", a.scale)):
        if values is not None and values.ndim > 0:
            kept.append(values := there(values))
            each = blocks if values.strides[-1] else 1  # 1: one value for all blocks of a row
            g[name] = values.data.ptr, each, m * each if values.ndim > 2 else 0, 0, 1
            g[f"{name}_block"] = int(each == blocks)
    for name, values in (("b_zero", b.zero_point), ("b_scale", b.scale)):
        if values is not None and values.ndim > 0:
            kept.append(values := there(values))
            g[name], g[f"{name}_block"] = (values.data.ptr, 1, 0, 0, 1), n
    chosen = plan_blocks(m, n, block, g["batches"], *_cuda_loader.device_kind(target.device.id))
    in_passing = chosen.unit == "gemm_rows_blocks"
    if a.zero_point is not None and not in_passing:
        kept.append(b_sum := block_sums_of(right, block) if b_sum is None else b_sum)
        g["b_sum"] = b_sum.data.ptr, 1, n * blocks if right.step else 0, 0, 1
        g["b_sum_block"] = n
    if b.zero_point is not None and not in_passing:
        kept.append(a_sum := block_sums_of(left, block))
        g["a_sum"] = a_sum.data.ptr, 1, m * blocks if left.step else 0, 0, 1
        g["a_sum_block"] = m
    run(f"{chosen.unit}_{left.name}{right.name}", chosen, g)


def _without_blocks(x: Operand) -> Operand:
    """With those parameters alone that are one for all."""

    def single(values: Any) -> Any:
        return values if values is None or values.ndim == 0 else None

    return x._replace(zero_point=single(x.zero_point), scale=single(x.scale))
