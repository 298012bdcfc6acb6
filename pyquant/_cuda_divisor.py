"""Divisors for kernels, which divide by multiplying (pyquant/cuda/primitives.cuh)."""


def divisor(d: int) -> tuple[int, int]:
    """d for the kernels; see Divisor in cuda/primitives.cuh."""
    power = 31 + (d - 1).bit_length()
    return -(-(1 << power) // d), power


def packed_divisor(d: int) -> int:
    """The same as one number."""
    multiplier, power = divisor(d)
    return multiplier | power << 32
