"""What ran and what could not, the hypothesis profile, and which tests share a process."""

from contextlib import suppress
from pathlib import Path

import cpu_variants
import pytest
from hypothesis import settings

import pyquant as pq

# Derandomised: a run must not depend on the day. No deadline: the machine may be shared.
settings.register_profile("pyquant", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("pyquant")


def pytest_report_header() -> list[str]:
    return [
        f"pyquant: running {cpu_variants.best()}, threads {pq.get_num_threads()}",
        f"pyquant CPU variants tested here: {', '.join(cpu_variants.available())}",
        f"pyquant CPU variants that could not run: {', '.join(cpu_variants.missing()) or 'none'}",
        f"pyquant GPU: {cpu_variants.gpu()}",
    ]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The header's lines again, and what the C programs said, where a log is read: at its end.

    The workers of a parallel run print nothing; their tests' properties come to this process.
    """
    terminalreporter.section("variants and devices")
    with suppress(Exception):  # only now: tests look at what is imported
        import cupy  # noqa: F401
    for line in pytest_report_header():
        terminalreporter.write_line(line)
    for report in terminalreporter.getreports("passed"):
        for what, lines in report.user_properties:
            terminalreporter.write_line(f"{what}:")
            for line in lines:
                terminalreporter.write_line(f"  {line}")


# Tests that share something slow to set up: one process of a parallel run makes all of a group.
TOGETHER = {
    "test_cli_dask.py": "a cluster",
    "test_cuda_compile.py": "the machine code of every kernel",
    "test_cuda_gemm_compile.py": "the machine code of every kernel",
    "test_dask.py": "a cluster",
    "test_digits_network.py": "a trained network",
    "test_example.py": "a run of the example",
    "test_isa.py": "the digests of scalar code",
    "test_wheel.py": "a wheel and an environment",
}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Deal the groups out first and then the other tests one by one, whatever --dist says."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return TOGETHER.get(Path(nodeid.partition("::")[0]).name, nodeid)

    return Groups(config, log)


@pytest.fixture(autouse=True)
def threads_stay_as_they_were():
    """A test that changes the number of threads must not change the next one."""
    before = pq.get_num_threads()
    yield
    if pq.get_num_threads() != before:
        pq.set_num_threads(before)
