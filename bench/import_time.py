"""How long `import pyquant` takes beyond NumPy, and what else it brings in."""

from __future__ import annotations

import json
import subprocess
import sys

from bench.timing import Spread

ALLOWED_SECONDS = 0.030  # issue: under 30 ms beyond NumPy, needs only NumPy
_PROGRAM = """
import json, sys, time
import numpy
before = set(sys.modules)
started = time.perf_counter()
import pyquant
spent = time.perf_counter() - started
new = set(sys.modules) - before
new = {n.partition(".")[0] for n in new if getattr(sys.modules[n], "__spec__", None)}
new -= set(sys.stdlib_module_names) | {"numpy", "pyquant"}
print(json.dumps([spent, sorted(new)]))
"""


def run(rounds: int = 20) -> bool:
    """Import in fresh processes, print the spread, say whether the target is met."""
    seconds: list[float] = []
    others: list[str] = []
    for _ in range(rounds):
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM], stdout=subprocess.PIPE, text=True, check=True
        )
        spent, others = json.loads(done.stdout)
        seconds.append(spent)
    spread = Spread.of(seconds[1:] or seconds)  # the first may write byte code
    met = spread.median <= ALLOWED_SECONDS and not others
    print(
        f"import pyquant beyond NumPy: {spread.median * 1e3:.1f} ms "
        f"(p10-p90 {spread.low * 1e3:.1f}-{spread.high * 1e3:.1f}), "
        f"other packages: {', '.join(others) or 'none'}; "
        f"{'pass' if met else 'MISS'} <= {ALLOWED_SECONDS * 1e3:.0f} ms and only NumPy"
    )
    return met
