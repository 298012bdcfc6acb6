"""CuPy with a device, for tests that need one: `pytest -m gpu`, or scripts/gpu.sh for everything.

Without a device they are skipped, and with PYQUANT_REQUIRE_GPU=1 they fail.
"""

import os

import pytest

from pyquant import _cuda_loader


@pytest.fixture(scope="session")
def cp():
    try:
        _cuda_loader.require()
    except RuntimeError as error:
        if os.environ.get("PYQUANT_REQUIRE_GPU") == "1":
            pytest.fail(str(error))
        pytest.skip(f"no GPU here: {error}")
    import cupy

    return cupy
