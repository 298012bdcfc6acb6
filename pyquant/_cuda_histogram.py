"""Histograms on the GPU: the name and signature of `_cpu`.

Two reads: the range, from which the exponent follows, and the counts. Data that `_cpu` refuses
leave NaN (not finite) or an infinite bound (beyond float32) in `low` and `high`, and no counts.
"""

from __future__ import annotations

from typing import Any

from pyquant import _cpu
from pyquant._cuda_elementwise import FLOATS, Layout
from pyquant._cuda_loader import kernel
from pyquant._cuda_reduce import FILL, RAW, THREADS, find_ranges, simplified

_WINDOW = 4096  # bins on either side of zero whose counters are in shared memory, 33 KB
_SHARE = 1 << 16  # elements that are worth clearing and adding up a block's counters


def histogram(
    x: Any, x_type: int, layout: Layout, omit: bool, half: int, counts: Any, exponent: Any,
    low: Any, high: Any,
) -> int:  # fmt: skip
    layout = simplified(layout)
    with x.device:
        find_ranges(x, x_type, layout, omit, RAW, low, high)
        counts.fill(0)
        _count(x, x_type, layout, half, low, high, counts, exponent)
    return _cpu.OK


def _count(x: Any, x_type: int, layout: Layout, half: int, *results: Any) -> None:
    outer, channels, inner, _ = layout
    name, size = FLOATS[x_type]
    window, each = min(half, _WINDOW), outer * inner
    if channels and each > 8 * window and inner * size >= 64:
        splits = max(1, min(FILL // channels, -(-each // _SHARE), 65535))
        if outer > 1:
            splits = min(splits, outer)
        splits = max(splits, min(-(-each >> 31), 65535))  # the counters have 32 bits
        share = -(-(outer if outer > 1 else inner) // splits)
        kernel("histogram", f"histogram_runs_{name}")(
            (channels, splits), (THREADS,),
            (x, inner, outer, channels * inner, share, half, window, *results),
            shared_mem=4 * (2 * window + 1),
        )  # fmt: skip
    elif channels:
        n = each * channels
        kernel("histogram", f"histogram_elements_{name}")(
            (max(1, min(-(-n // THREADS), 4 * FILL)),), (THREADS,),
            (x, n, max(inner, 1), channels, half, *results),
        )  # fmt: skip
