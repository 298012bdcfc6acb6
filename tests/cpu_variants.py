"""Which CPU variants this machine can run, from the library's own report."""

import platform

import pyquant as pq

ORDER = {
    "x86": ["scalar", "avx2", "avxvnni", "avx512", "avx512vnni", "amxint8"],
    "arm": ["scalar", "neon", "neondot", "neoni8mm"],
}


def known() -> list[str]:
    """Worst first: a cap on one keeps those before it."""
    arm = platform.machine().lower() in ("aarch64", "arm64")
    return ORDER["arm" if arm else "x86"]


def available() -> list[str]:
    return [name for name in known() if name in pq.runtime_info()["isa"]["usable"]]


def missing() -> list[str]:
    return [name for name in known() if name not in available()]


def best() -> str:
    return available()[-1]


def gpu() -> str:
    """What can run on a GPU here, or why nothing can."""
    found = pq.runtime_info()["gpu"]
    if found is None:
        return "none, and no CuPy"
    if found["devices"] is None:
        return f"not asked for, CuPy {found['cupy']} is not imported"
    return ", ".join(found["devices"]) or f"none ({found['reason']})"
