"""The CUDA kernels, run on the host, against the oracle and the CPU's kernels: bit for bit."""

import numpy as np
import pytest
import reference
from cases import SCALES, assert_same_bits, hard_values, named, random_generator
from cuda_host import kernel


@pytest.mark.parametrize("scale", **named(SCALES))
def test_quantize_per_tensor(scale):
    rng = random_generator(scale)
    for zero_point in (0, -128, 127, 5):
        x = hard_values(scale, -128 - zero_point, 127 - zero_point, rng, 1200)
        q = np.empty(x.size, np.int8)
        kernel("quantize", "quantize_f32_i8_one")(
            (2,), (256,), (x, q, x.size, 0, 0, float(scale), 0, zero_point, -128, 127)
        )
        assert_same_bits(q, reference.quantize_fast(x, scale, zero_point, "int8"))
