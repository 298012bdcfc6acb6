"""Integer matrix products on CuPy arrays: the choice of a kernel, its description, the launch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pyquant import _cpu, _cuda_loader, _cuda_tensor_map
from pyquant._cuda_gemm_plan import NOTHING, Plan, packed, plan
from pyquant._cuda_rows import Rows, even_step, launch, sums_of
from pyquant._operands import Operand, Result

INT32_MAX = (1 << 31) - 1

OUTPUTS = {
    _cpu.I32: 0, _cpu.F32: 1, _cpu.F16: 2, _cpu.BF16: 3,
    _cpu.I8: 4, _cpu.U8: 4, _cpu.I16: 5, _cpu.U16: 5,
}  # fmt: skip
_MODES = {_cpu.FLOAT: 0, _cpu.FIXED_DOUBLE: 1, _cpu.FIXED_SINGLE: 2}


def on_its_grid(x: Operand) -> Operand:
    """A float operand with static parameters as codes."""
    import cupy

    from pyquant._cuda_elementwise import quantize

    grid = x.grid
    assert grid is not None
    floats = cupy.ascontiguousarray(x.array)
    codes = cupy.empty(floats.shape, grid.storage)
    layout = 1, 1, floats.size, 0
    quantize(
        floats, x.code, x.scale, x.zero_point, codes, grid.code, layout, grid.qmin, grid.qmax
    )
    return x._replace(array=codes, code=grid.code, grid=None)


def farthest(x: Operand) -> int:
    """The largest absolute value of a code less its zero point, which may be on the device."""
    return 255 if x.zero_point is not None or x.code == _cpu.U8 else 128


def wide_product(
    left: Rows, right: Rows, a: Operand, b: Operand, y: Result, most: int, before: int = 0
) -> None:
    """The same in parts of K that int32 holds, added up in 64 bits; `most` is one product's."""
    import cupy

    step = INT32_MAX // most // 16 * 16
    part = cupy.empty(y.array.shape, np.int32)
    sums = cupy.empty(y.array.shape, np.int64)
    for first in range(0, left.depth, step):
        depth = min(step, left.depth - first)
        piece = Result(part, _cpu.I32)
        product(left.part(first, depth), right.part(first, depth), a, b, piece, None)
        n = part.size
        launch("gemm_wide", "add_part", -(-n // 256), 256, sums, part, n, int(first == 0))
    kept: list[Any] = []
    g = described(left, right, a._replace(zero_point=None), b._replace(zero_point=None), y, kept)
    g["before"] = before
    launch("gemm_wide", "finish", -(-sums.size // 256), 256, sums, packed(g))


def product(
    left: Rows, right: Rows, a: Operand, b: Operand, y: Result, b_sum: Any, before: int = 0
) -> None:
    """One launch of a matrix kernel, and those of the sums that it needs."""
    target: Any = y.array
    device = target.device.id
    kept: list[Any] = []
    g = described(left, right, a, b, y, kept)
    m, n = target.shape[-2:]
    capability, processors = _cuda_loader.device_kind(device)
    if capability == 90 and not _cuda_loader.compiles(_hopper(left, right)):
        capability = 89
    chosen = plan(m, n, left.k, g["batches"], capability, processors)
    in_passing = chosen.unit == "gemm_rows"
    if a.zero_point is not None and (b_sum is not None or not in_passing):
        b_sum = sums_of(right) if b_sum is None else b_sum
        g["b_sum"] = vector(b_sum[0], kept, batch=n if right.step else 0)
    if b.zero_point is not None and not in_passing:
        g["a_sum"] = vector(sums_of(left)[0], kept, batch=m if left.step else 0)
    g["before"] = before
    unit = f"{chosen.unit}_{left.name}{right.name}"
    if chosen.unit == "gemm_hopper":
        maps = _cuda_tensor_map.tensor_map(left), _cuda_tensor_map.tensor_map(right)
        kernel = _cuda_loader.kernel(_hopper(left, right), chosen.name)
        kernel((chosen.grid,), (chosen.block,), (*maps, packed(g)), shared_mem=chosen.shared)
        return
    run(unit, chosen, g)


def run(unit: str, chosen: Plan, g: dict[str, Any], *more: Any) -> None:
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


def described(
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
    g["a_zero"] = vector(a.zero_point, kept)
    g["b_zero"] = vector(b.zero_point, kept)
    rows = m if a.scale is not None and a.scale.ndim > 1 else 0
    g["a_scale"] = vector(np.float32(1) if a.scale is None else a.scale, kept, batch=rows)
    g["b_scale"] = vector(np.float32(1) if b.scale is None else b.scale, kept)
    g["bias"] = vector(y.bias, kept)
    g["m"], g["n"], g["k"], g["depth"], g["batches"] = m, n, left.k, left.depth, batches
    describe_results(g, y)
    return g


def describe_results(g: dict[str, Any], y: Result) -> None:
    """What becomes of the sums."""
    g["output"], g["mode"] = OUTPUTS[y.code], _MODES[y.mode]
    g["zero_point"], g["qmin"], g["qmax"] = y.zero_point, y.qmin, y.qmax
    g["scale"], g["low"], g["high"] = y.scale, y.low, y.high


def vector(values: Any, kept: list[Any], batch: int = 0) -> tuple[int, int, int, int, int]:
    """pq_vector of nothing, a host value, or values that are on the device or copied there.

    The last dimension runs along rows or columns; `batch` elements on are those of the next matrix.
    """
    if values is None:
        return 0, 0, 0, 0, 0
    if isinstance(values, (np.ndarray, np.generic)):
        if values.ndim == 0:
            return 0, 0, 0, int(np.asarray(values).view(np.uint32)), 1
        values = there(np.asarray(values))
    kept.append(values)
    step = values.strides[-1] // values.itemsize if values.ndim else 0
    return values.data.ptr, step, batch, 0, 1


def there(values: Any) -> Any:
    """Parameters on the device."""
    from pyquant._cuda_capture import to_device

    return to_device(values) if isinstance(values, np.ndarray) else values
