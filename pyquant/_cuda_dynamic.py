"""Dynamic quantization on the GPU: the name and signature of `_cpu`.

Runs of one scale (rows, blocks, whole small tensors) are read once; what is longer or not
contiguous is read twice, and its parameters stay on the device. Data that are not finite give a
scale of NaN and codes at the zero point: see `_cuda_reduce`.
"""

from __future__ import annotations

from typing import Any

from pyquant import _cpu
from pyquant._cuda_elementwise import FLOATS, Layout, quantize
from pyquant._cuda_loader import kernel
from pyquant._cuda_reduce import (
    THREADS,
    Runs,
    blocks_along,
    counted,
    find_ranges,
    outcome_of,
    power_of_two,
    simplified,
    size_of,
)

_LOADS = 4  # of 16 bytes a thread, in cuda/dynamic.cu
_MOST_THREADS = 1024
_WELL_SPREAD = 64  # runs that are long and not aligned, from which on a block for each is fine


def _runs_of(layout: Layout) -> Runs | None:
    """Where every parameter has one contiguous run."""
    outer, axis, inner, block = layout
    if block:
        return blocks_along(layout) if inner == 1 else None
    return Runs(axis, 1, inner, inner) if outer == 1 and (axis == 1 or inner > 1) else None


def _plan(runs: Runs, load: int, aligned: bool) -> tuple[str, int, int] | None:
    """Kernel, threads a block and threads a run; None where two reads are better."""
    length = min(runs.block, runs.row)
    loads = -(-length // load)
    if loads > _LOADS * _MOST_THREADS:
        return None
    if not aligned or runs.row % load or runs.block % load:
        if length > 4096 and runs.number < _WELL_SPREAD:
            return None
        return "dynamic_runs", THREADS, THREADS if length > 1024 else power_of_two(length, 1, 32)
    if loads <= 32:
        return "dynamic_blocks", THREADS, power_of_two(loads, 4, 32)
    lanes = -(-loads // (_LOADS * 32)) * 32
    return "dynamic_rows", THREADS if lanes == 32 else lanes, lanes


def dynamic_quantize(
    x: Any, x_type: int, q: Any, q_type: int, layout: Layout, scheme: int, qmin: int, qmax: int,
    scale: Any, zero_point: Any,
) -> int:  # fmt: skip
    layout = simplified(layout)
    name, size = FLOATS[x_type]
    load, wide = 16 // size, q_type in (_cpu.I16, _cpu.U16)
    runs = _runs_of(layout) if size_of(layout) else None
    aligned = x.data.ptr % 16 == 0 and q.data.ptr % (load << wide) == 0
    plan = None if runs is None else _plan(runs, load, aligned)
    with x.device:
        if runs is None or plan is None:
            outcome = outcome_of(scheme)
            find_ranges(x, x_type, layout, False, outcome, scale, zero_point, qmin, qmax)
            return quantize(x, x_type, scale, zero_point, q, q_type, layout, qmin, qmax)
        stem, threads, lanes = plan
        groups = threads // lanes * (_LOADS if stem == "dynamic_blocks" else 1)
        kernel("dynamic", f"{stem}_{name}")(
            (-(-counted(runs.number) // groups),), (threads,),
            (x, *runs, lanes, int(scheme == _cpu.AFFINE), qmin, qmax, int(wide), scale, zero_point,
             q),
        )  # fmt: skip
    return _cpu.OK
