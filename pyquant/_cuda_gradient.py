"""Gradients of fake quantize on the GPU: the name and signature of `_cpu`."""

from __future__ import annotations

from typing import Any

import cupy

from pyquant import _cpu
from pyquant._cuda_elementwise import FLOATS, Layout, address, parameter, refused_parameters
from pyquant._cuda_loader import kernel
from pyquant._cuda_reduce import Runs, blocks_along, counted, simplified, size_of

_CHUNK = 4096  # PQ_GRAD_CHUNK
_THREADS = 128


def fake_quantize_grad(
    grad: Any, x: Any, x_type: int, scale: Any, zero_point: Any, dx: Any, dscale: Any,
    dzero_point: Any, layout: Layout, qmin: int, qmax: int,
) -> int:  # fmt: skip
    layout = simplified(layout)
    refused = refused_parameters(scale, zero_point, qmin, qmax)
    if refused:
        return refused
    with x.device:
        scales, one_scale = parameter(scale, float)
        zero_points, one_zero_point = parameter(zero_point, int)
        params = (
            address(scales, 0), one_scale, address(zero_points, 0), one_zero_point, qmin, qmax,
        )  # fmt: skip
        if size_of(layout) == 0:
            dscale.fill(0)
            dzero_point.fill(0)
        elif layout[2] > 1 if layout[3] else layout[2] == 1 < layout[1]:
            _of_columns(grad, x, x_type, params, dx, dscale, dzero_point, layout)
        else:
            _of_runs(grad, x, x_type, params, dx, dscale, dzero_point, layout)
    return _cpu.OK


def _of_columns(
    grad: Any, x: Any, x_type: int, params: tuple[Any, ...], dx: Any, dscale: Any,
    dzero_point: Any, layout: Layout,
) -> None:  # fmt: skip
    outer, axis, inner, block = layout
    units, columns = (blocks_along(layout), inner) if block else (Runs(1, 1, outer, outer), axis)
    tiles = -(-columns // 32)
    kernel("gradient", f"grad_columns_{FLOATS[x_type][0]}")(
        (counted(units.number * tiles),), (256,),
        (grad, x, dx, *units, columns, tiles, *params, dscale, dzero_point),
    )  # fmt: skip


def _of_runs(
    grad: Any, x: Any, x_type: int, params: tuple[Any, ...], dx: Any, dscale: Any,
    dzero_point: Any, layout: Layout,
) -> None:  # fmt: skip
    outer, axis, inner, block = layout
    runs = blocks_along(layout) if block else Runs(outer * axis, 1, inner, inner)
    repeat, count = (1, runs.number) if block else (outer, axis)
    name, size = FLOATS[x_type]
    load = 16 // size
    chunks = -(-min(runs.block, runs.row) // _CHUNK)
    partial = cupy.empty(2 * runs.number * chunks, "float64")
    aligned = all(a.data.ptr % 16 == 0 for a in (grad, x, dx))
    direct = aligned and (runs.number == 1 or runs.row % load == runs.block % load == 0)
    groups = _THREADS * load // 16
    kernel("gradient", f"grad_runs_{name}")(
        (-(-counted(runs.number * chunks) // groups),), (_THREADS,),
        (grad, x, dx, *runs, count, chunks, int(direct), *params, partial),
    )  # fmt: skip
    if axis == 1 and not block:
        kernel("gradient", "grad_total")((1,), (1024,), (partial, chunks, dscale, dzero_point))
    else:
        kernel("gradient", "grad_sums")(
            (-(-2 * count // _THREADS),), (_THREADS,),
            (partial, repeat, count, chunks, dscale, dzero_point),
        )  # fmt: skip
