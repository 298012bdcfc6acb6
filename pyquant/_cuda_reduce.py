"""Ranges and parameters on the GPU: the names and signatures of `_cpu`.

Nothing waits for the device, so nothing is refused: a parameter whose data hold NaN or infinity
(and are not to be omitted) gets NaN in both bounds, float64 data beyond float32 an infinite bound,
and a scale made of either is NaN. Who needs an exception fetches the bounds and looks.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cupy

from pyquant import _cpu
from pyquant._cuda_elementwise import FLOATS, Layout
from pyquant._cuda_loader import kernel

THREADS = 256
FILL = 8 * 132  # blocks that keep a large GPU busy
_SHARE = 1 << 14  # bytes that are worth a block: four loads of every thread
_SHORT_RUN = 128  # bytes below which the runs of channels are read as columns
RAW, MINMAX, ABSMAX, SYMMETRIC, AFFINE = range(5)  # Outcome of cuda/reduce.cu


class Runs(NamedTuple):
    """Contiguous runs, as in cuda/runs.cuh."""

    number: int
    per_row: int
    row: int
    block: int


def blocks_along(layout: Layout) -> Runs:
    """The blocks of a layout, in units of its inner elements."""
    outer, axis, _, block = layout
    if axis % block == 0:
        return Runs(outer * (axis // block), 1, block, block)
    per_row = axis // block + 1
    return Runs(outer * per_row, per_row, axis, block)


def counted(runs: int) -> int:
    """A number of runs, which the kernels count in 32 bits and add to."""
    if runs >= 1 << 31:
        raise ValueError(f"x has {runs} runs of one scale, and on a GPU must have fewer than 2**31")
    return runs


def simplified(layout: Layout) -> Layout:
    """One channel is a tensor, blocks of one are channels; as pq_simplify."""
    outer, axis, inner, block = layout
    if block == 1:
        return 1, outer * axis * inner, 1, 0
    if block == 0 and axis == 1:
        return 1, 1, outer * inner, 0
    return layout


def size_of(layout: Layout) -> int:
    outer, axis, inner, _ = layout
    return outer * axis * inner


def power_of_two(n: int, least: int, most: int) -> int:
    """The smallest that is n or more, within bounds."""
    return max(least, min(most, 1 << max(0, n - 1).bit_length()))


def _fold(
    lows: Any, highs: Any, splits: int, params: int, inner: int, outcome: int, first: Any,
    second: Any, qmin: int, qmax: int,
) -> None:  # fmt: skip
    lanes = THREADS if params < FILL else 32 if splits * inner >= 32 else 1
    blocks = -(-params * lanes // THREADS)
    kernel("reduce", "range_fold")(
        (blocks,), (THREADS,),
        (lows, highs, splits, params, inner, lanes, outcome, qmin, qmax, first, second),
    )  # fmt: skip


def find_ranges(
    x: Any, x_type: int, layout: Layout, omit: bool, outcome: int, first: Any, second: Any,
    qmin: int = 0, qmax: int = 0,
) -> None:  # fmt: skip
    """The outcome per parameter: one read of x, and what blocks have found folded if several."""
    outer, axis, inner, block = layout = simplified(layout)
    name, size = FLOATS[x_type]
    load = 16 // size
    params = outer * -(-axis // block) * inner if block else axis
    if params == 0:
        return
    if size_of(layout) == 0:
        _fold(first, first, 0, params, 1, outcome, first, second, qmin, qmax)
        return
    folded = 1  # partial ranges a parameter and split
    if block and inner > 1:
        runs, columns = blocks_along(layout), inner
    elif not block and axis > 1 and (inner == 1 or (outer > 1 and inner * size < _SHORT_RUN)):
        runs, columns, folded = Runs(1, 1, outer, outer), axis * inner, inner
    else:
        columns = 0
        runs = blocks_along(layout) if block else Runs(axis, 1, inner, inner)
    if columns:
        across = power_of_two(-(-columns // load), 1, 32)
        tiles = -(-columns // (across * load))
        blocks = counted(runs.number * tiles)
        share = runs.block * min(columns, across * load) * size
        most = -(-runs.block * across // THREADS)
        stem, partials, parts = "range_columns", runs.number * columns, min(runs.block, runs.row)
        head, last = (columns, tiles), across
    else:
        repeat = 1 if block else outer
        loads = -(-runs.block // load)
        lanes = THREADS if loads >= 4 * THREADS else power_of_two(loads, 1, 32)
        blocks, share = -(-counted(runs.number) * lanes // THREADS), runs.block * repeat * size
        most = repeat if repeat > 1 else -(-loads // THREADS)
        stem, partials = "range_runs", runs.number
        parts = repeat if repeat > 1 else min(runs.block, runs.row)
        head, last = (repeat, axis * inner), lanes
    splits = max(1, min(FILL // blocks, share // _SHARE, most, 65535))
    launch = kernel("reduce", f"{stem}_{name}")
    numbers = (*runs, *head, -(-parts // splits), last, int(omit))
    grid, threads = (blocks, splits), (THREADS,)
    if splits == folded == 1 and outcome < SYMMETRIC:
        launch(grid, threads, (x, *numbers, outcome, first, second))
        return
    lows, highs = (cupy.empty(splits * partials, "float32") for _ in range(2))
    launch(grid, threads, (x, *numbers, RAW, lows, highs))
    _fold(lows, highs, splits, params, folded, outcome, first, second, qmin, qmax)


def minmax(x: Any, x_type: int, layout: Layout, omit: bool, low: Any, high: Any) -> int:
    with x.device:
        find_ranges(x, x_type, layout, omit, MINMAX, low, high)
    return _cpu.OK


def absmax(x: Any, x_type: int, layout: Layout, omit: bool, high: Any) -> int:
    with x.device:
        find_ranges(x, x_type, layout, omit, ABSMAX, high, high)
    return _cpu.OK


def outcome_of(scheme: int) -> int:
    """What a scheme makes of a range."""
    return AFFINE if scheme == _cpu.AFFINE else SYMMETRIC


def choose_params(
    alpha: Any, beta: Any, scheme: int, qmin: int, qmax: int, scale: Any, zero_point: Any
) -> int:
    n = alpha.size
    with alpha.device:
        if n:
            kernel("reduce", "choose_params")(
                (-(-n // THREADS),), (THREADS,),
                (alpha, beta, n, outcome_of(scheme), qmin, qmax, scale, zero_point),
            )  # fmt: skip
    return _cpu.OK
