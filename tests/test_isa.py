"""The same bits under every CPU variant of this machine and every number of threads."""

import functools
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import cpu_variants
import pytest

BATTERY = Path(__file__).with_name("battery.py")
RUNS = [(isa, threads) for isa in cpu_variants.available() for threads in (1, 2, 7)]


@functools.cache
def digests(isa: str, threads: int) -> dict[str, str]:
    environment = os.environ | {"PYQUANT_ISA": isa, "PYQUANT_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [sys.executable, str(BATTERY)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["isa"], report["threads"]) == (isa, threads)
    return report["digests"]


@pytest.mark.parametrize("isa, threads", RUNS)
def test_same_bits_as_scalar_on_one_thread(isa, threads):
    expected = digests("scalar", 1)
    actual = digests(isa, threads)
    assert len(expected) > 400
    assert actual.keys() == expected.keys()
    different = [name for name in expected if actual[name] != expected[name]]
    assert not different, f"{len(different)} of {len(expected)} differ: {different[:20]}"


def test_variants_that_could_not_run_are_printed():
    """They show in the header of the session and here, so that no log hides them."""
    missing = cpu_variants.missing()
    print(f"not run on this machine: {', '.join(missing) or 'none'}")
    if missing:
        warnings.warn(f"CPU variants not tested here: {', '.join(missing)}", stacklevel=1)
    assert "scalar" in cpu_variants.available()
    assert set(cpu_variants.available()) | set(missing) == set(cpu_variants.known())


@pytest.mark.parametrize("isa", cpu_variants.known())
def test_a_cap_keeps_the_variants_before_it(isa):
    code = "import json, pyquant as pq; print(json.dumps(pq.runtime_info()['isa']['usable']))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYQUANT_ISA": isa},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    allowed = cpu_variants.known()[: cpu_variants.known().index(isa) + 1]
    assert json.loads(done.stdout) == [v for v in cpu_variants.available() if v in allowed]
