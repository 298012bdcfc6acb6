"""Who takes part: one module for each library, all with the same function.

`contenders(case, data, threads)` gives the statements with which the library does the work of a
case, none where its API has no such operation. Importing a module raises ImportError where the
library is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bench.cases import Case, Data
from bench.timing import FRESH, OPENMP_SPINS, OUT, Contender

Offer = Callable[[Case, Data, int], list[Contender]]

PYQUANT = "pyquant"
PEERS: dict[str, str] = {
    "NumPy": "bench.contenders.numpy_expression",
    "torch": "bench.contenders.torch_cpu",
    "ONNX Runtime": "bench.contenders.onnx_runtime",
    "numba": "bench.contenders.numba_loops",
    "NumKong": "bench.contenders.numkong_calls",
}
ONE_THREAD_ONLY = frozenset({"NumPy", "NumKong"})


def offers(
    name: str,
    names: Mapping[str, Any],
    threads: int,
    *,
    fresh: str | None = None,
    out: str | None = None,
    array: Callable[[Any], np.ndarray] = np.asarray,
    prepare: Callable[[], object] | None = None,
    spins: float = OPENMP_SPINS,
) -> list[Contender]:
    """Contenders for the statements given; the one with `out` leaves its result in names["out"]."""
    found = []
    if fresh is not None:
        found.append(Contender(name, FRESH, fresh, names, threads, 1, prepare, array, spins))
    if out is not None:
        target = names["out"]
        read = lambda _: np.asarray(target)  # noqa: E731
        found.append(Contender(name, OUT, out, names, threads, 1, prepare, read, spins))
    return found
