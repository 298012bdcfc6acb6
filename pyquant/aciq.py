"""The clip that costs least when a known density is quantized uniformly to M bits.

Clipping a density that is symmetric about its mean to mean +- alpha costs the squared error of
what lies beyond plus alpha**2 / (3 * 4**M), the error step**2 / 12 of rounding to steps of
2 * alpha / 2**M. Banner, Nahshan, Soudry, "Post training 4-bit quantization of convolutional
networks for rapid-deployment", 2019, equations 5 and 6; there solved for 2, 3 and 4 bits, here
for any M by finding the root of the derivative.
"""

from __future__ import annotations

import math
from functools import lru_cache

_STEPS = 200


@lru_cache(maxsize=64)
def laplace(bits: int) -> float:
    """alpha / b for Laplace(0, b): w with w * exp(w) = 3 * 4**bits.

    The cost 2 b**2 exp(-alpha / b) + alpha**2 / (3 * 4**M) has the derivative zero there.
    """
    target = math.log(3.0) + bits * math.log(4.0)
    w = target
    for _ in range(_STEPS):  # Newton on w + log(w), which is concave: from the right side, no jumps
        step = (w + math.log(w) - target) / (1.0 + 1.0 / w)
        w -= step
        if abs(step) <= 1e-15 * w:
            break
    return w


@lru_cache(maxsize=64)
def gauss(bits: int) -> float:
    """alpha / sigma for a Gaussian.

    The cost over sigma**2, with t = alpha / sigma, density phi and tail Q, is
    2 ((1 + t**2) Q(t) - t phi(t)) + t**2 / (3 * 4**M); its derivative is zero where
    phi(t) - t Q(t) = t / (6 * 4**M). The left side falls and the right side rises: one root.
    """
    slope = 1.0 / (6.0 * 4.0**bits)
    low, high = 0.0, 40.0
    for _ in range(_STEPS):
        t = 0.5 * (low + high)
        if t in (low, high):
            break
        tail = 0.5 * math.erfc(t / math.sqrt(2.0))
        phi = math.exp(-0.5 * t * t) / math.sqrt(2.0 * math.pi)
        if phi - t * tail > slope * t:
            low = t
        else:
            high = t
    return high
