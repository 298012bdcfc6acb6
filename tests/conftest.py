"""Session header and the hypothesis profile."""

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


@pytest.fixture(autouse=True)
def threads_stay_as_they_were():
    """A test that changes the number of threads must not change the next one."""
    before = pq.get_num_threads()
    yield
    if pq.get_num_threads() != before:
        pq.set_num_threads(before)
