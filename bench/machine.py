"""What was measured on: no names of hosts, users or folders."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

LIBRARIES = (
    "pyquant", "numpy", "torch", "onnxruntime", "onnx", "numba", "numkong", "mkl",
    "safetensors", "ml_dtypes",
)  # fmt: skip


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _caches() -> dict[str, str]:
    found = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = (
            (index / name).read_text().strip() for name in ("level", "type", "size")
        )
        found[f"L{level} {kind.lower()}"] = size
    return found


def _version(library: str) -> str | None:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def _compiler() -> str | None:
    compiler = os.environ.get("CC", "cc").split()[0]
    if shutil.which(compiler) is None:
        return None
    done = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False)
    return done.stdout.splitlines()[0] if done.stdout else None


def cpus() -> int:
    """CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_to_use(wanted: Sequence[int] | None) -> tuple[list[int], list[str]]:
    """How many threads to measure with (default: one and two), and notes on those left out."""
    available = cpus()
    threads = list(wanted) if wanted else ([1, 2] if available > 1 else [1])
    notes = [f"{t} threads left out: {available} CPUs" for t in threads if t > available]
    return [t for t in threads if t <= available], notes


def busy(machine: dict[str, Any]) -> list[str]:
    """A note, where others were using the machine."""
    load = machine["load average before"]
    if load is None or load <= machine["cpus"] / 2:
        return []
    return [f"the machine was busy (load {load:.1f}): two-thread figures mean little"]


def describe() -> dict[str, Any]:
    """The machine, the versions and what pyquant chose on it, ready for JSON."""
    import pyquant

    runtime = pyquant.runtime_info()
    chosen = {row["chosen"] for row in runtime["operations"].values()}
    return {
        "cpu": _cpu_model(),
        "cpus": cpus(),
        "caches": _caches(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "compiler of the limits": _compiler(),
        "libraries": {name: _version(name) for name in LIBRARIES},
        "pyquant runs": f"{', '.join(sorted(chosen))}, at most {runtime['threads']} threads",
        "usable variants": runtime["isa"]["usable"],
        "load average before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }
