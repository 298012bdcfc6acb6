"""One process of the measurement: one set of contenders, every case; results as JSON lines.

Started by bench.process, so that no library's threads disturb another's measurements. The suite
module has `data(case as given, patient)`, `contenders(group, data, threads, note)` and
`problem(result, data)`.
"""

from __future__ import annotations

import importlib
import json
import sys
from types import ModuleType
from typing import Any

from bench.timing import FRESH, Contender, Pace, measure


def _say(record: dict[str, Any]) -> None:
    print(json.dumps(record), flush=True)


def _note(text: str) -> None:
    _say({"note": text})


def _problem(contender: Contender, suite: ModuleType, data: Any) -> str | None:
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
        if contender.array is None:
            return None
        problem: str | None = suite.problem(contender.array(result), data)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return problem


def main() -> None:
    order = json.load(sys.stdin)
    group, pace = order["group"], Pace(**order["pace"])
    suite = importlib.import_module(order["suite"])
    for given in order["cases"]:
        data = suite.data(given, order["patient"])
        case = data.case
        usable = []
        try:
            every = suite.contenders(group, data, order["threads"], _note)
        except ImportError as error:
            _note(f"{group} left out: {error}")
            return
        except Exception as error:
            _note(f"{group}: {case.name}: {type(error).__name__}: {error}")
            continue
        for contender in every:
            problem = _problem(contender, suite, data)
            if problem is None:
                usable.append(contender)
            else:
                _note(f"{case.name}: {contender.name} ({contender.mode}): {problem}")
        if usable:
            statements = {one.key: one.statement for one in usable}
            seconds = measure(usable, pace)
            _say({"case": case.name, "seconds": seconds, "statements": statements})


if __name__ == "__main__":
    main()
