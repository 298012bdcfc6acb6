"""One process of the measurement: one set of contenders, every case; results as JSON lines.

Started by bench.elementwise, so that no library's threads disturb another's measurements.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

import numpy as np

from bench.cases import SCALE, Case, Data
from bench.contenders import PEERS, c_loops, pyquant_calls
from bench.limits import LimitsUnavailable
from bench.targets import LIMITS
from bench.timing import FRESH, Contender, Pace, measure

CHECKED_UP_TO = 2 * 10**6  # elements
# One step of difference is allowed: most peers multiply by a reciprocal where pyquant divides.
TOLERANCE = {"dequantize": 1e-6, "fake quantize": 1.01 * SCALE}


def _say(record: dict[str, Any]) -> None:
    print(json.dumps(record), flush=True)


def _wrong(contender: Contender, data: Data) -> str | None:
    """Run a statement once; say what is wrong with it or its result."""
    names = dict(contender.names)
    try:
        if contender.prepare is not None:
            contender.prepare()
        if contender.mode == FRESH:
            result = eval(contender.statement, names)
        else:
            result = None
            exec(contender.statement, names)
        if contender.array is None or data.case.n > CHECKED_UP_TO or data.expected is None:
            return None
        array = contender.array(result).reshape(data.case.shape).astype(np.float64)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    worst = float(np.abs(array - data.expected).max())
    return f"results differ by {worst:g}" if worst > TOLERANCE.get(data.case.op, 1.01) else None


def _contenders(group: str, case: Case, data: Data, threads: list[int]) -> list[Contender]:
    if group == LIMITS:
        sources = (pyquant_calls.contenders, pyquant_calls.per_tensor)
        found = [one for t in threads for source in sources for one in source(case, data, t)]
        try:
            found += [one for t in threads for one in c_loops.contenders(case, data, t)]
        except LimitsUnavailable as error:
            _say({"note": f"the limits are left out: {error}"})
        return found
    (count,) = threads
    peer = importlib.import_module(PEERS[group]).contenders(case, data, count)
    return [*pyquant_calls.contenders(case, data, count), *peer] if peer else []


def main() -> None:
    order = json.load(sys.stdin)
    group, pace = order["group"], Pace(**order["pace"])
    for given in order["cases"]:
        case = Case(**{**given, "shape": tuple(given["shape"])})
        data = Data(case, order["patient"])
        usable = []
        try:
            every = _contenders(group, case, data, order["threads"])
        except ImportError as error:
            _say({"note": f"{group} left out: {error}"})
            return
        except Exception as error:
            _say({"note": f"{group}: {case.name}: {type(error).__name__}: {error}"})
            continue
        for contender in every:
            problem = _wrong(contender, data)
            if problem is None:
                usable.append(contender)
            else:
                _say({"note": f"{case.name}: {contender.name} ({contender.mode}): {problem}"})
        if usable:
            statements = {one.key: one.statement for one in usable}
            seconds = measure(usable, pace)
            _say({"case": case.name, "seconds": seconds, "statements": statements})


if __name__ == "__main__":
    main()
