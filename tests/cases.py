"""Inputs that are hard, in one place: grids, scales, values, granularities and memory layouts."""

import numpy as np

GRIDS = [f"{sign}{bits}" for bits in range(2, 17) for sign in ("int", "uint")]

# Two widths per storage type and a width in between: enough where every grid would be too slow.
SOME_GRIDS = ["int8", "uint8", "int16", "uint16", "int4", "uint3", "int2", "int11"]

FLOAT32_MAX = float(np.finfo(np.float32).max)

SCALES = {
    "one": 1.0,
    "half": 0.5,
    "tenth": float(np.float32(0.1)),
    "spec_example": float(np.float32(0.00214854861)),
    "all_ones_below_one": 1.0 - 2.0**-24,
    "all_ones_below_two": 2.0 - 2.0**-23,
    "one_plus_ulp": 1.0 + 2.0**-23,
    "small": float(np.float32(1e-30)),
    "large": float(np.float32(1e30)),
    "smallest_subnormal": 2.0**-149,
    "three_subnormals": 3 * 2.0**-149,
    "largest_subnormal": 2.0**-126 - 2.0**-149,
    "smallest_normal": 2.0**-126,
    "all_ones_tiny": (2.0 - 2.0**-23) * 2.0**-126,
    "largest_power_of_two": 2.0**127,
    "largest": FLOAT32_MAX,
}


def named(mapping: dict) -> dict:
    """Keyword arguments of ``pytest.mark.parametrize`` for a {name: value} table."""
    return {"argvalues": list(mapping.values()), "ids": list(mapping)}


def random_generator(*seed) -> np.random.Generator:
    """A generator that depends on the test's own parameters only."""
    return np.random.default_rng([sum(map(ord, str(part))) for part in ("pyquant", *seed)])


def special_values(dtype=np.float32) -> np.ndarray:
    """±0, subnormals, the edges of the format, infinities and NaN."""
    dtype = np.dtype(dtype)
    if dtype.name == "bfloat16":  # the values of float32 that bfloat16 also has
        tiny, least, most = 2.0**-126, 2.0**-133, (2 - 2.0**-7) * 2.0**127
    else:
        info = np.finfo(dtype)
        tiny, least, most = (float(info.tiny), float(info.smallest_subnormal), float(info.max))
    positive = [0.0, 0.5, 1.0, 1.5, 2.5, least, tiny - least, tiny, 1e4, most, np.inf]
    return np.array([*positive, *(-v for v in positive), np.nan, -np.nan]).astype(dtype)


def ties(scale: float, steps: np.ndarray, dtype=np.float32) -> np.ndarray:
    """(k + 1/2) * scale for each k, and the neighbours of each on both sides."""
    with np.errstate(all="ignore"):
        middle = ((steps + 0.5) * scale).astype(dtype)
        if np.dtype(dtype).name == "bfloat16":
            return middle
        inf = np.dtype(dtype).type(np.inf)
        return np.concatenate([middle, np.nextafter(middle, inf), np.nextafter(middle, -inf)])


def hard_values(scale: float, low: int, high: int, rng, count=400, dtype=np.float32) -> np.ndarray:
    """Specials, ties around the whole grid and just outside it, and random floats of all sizes."""
    edge = np.arange(-3, 4)
    steps = np.concatenate([edge, low + edge, high + edge, rng.integers(low, high + 1, 40)])
    with np.errstate(all="ignore"):
        spread = (rng.uniform(low - 2, high + 2, count // 2) * scale).astype(dtype)
        bits = rng.integers(0, 1 << 32, count // 2, dtype=np.uint32).view(np.float32)
        scaled = np.concatenate([spread, bits.astype(dtype)])
    return np.concatenate(
        [special_values(dtype), ties(scale, steps, dtype), ties(scale, -steps, dtype), scaled]
    )


SHAPE = (3, 5, 7)

GRANULARITIES = {"tensor": (None, None)}
GRANULARITIES |= {f"axis{axis}": (axis, None) for axis in range(-3, 3)}
GRANULARITIES |= {
    f"axis{axis}_block{block}": (axis, block)
    for axis in (0, 1, -1)
    for block in (1, 2, 3, 4, 7, 16)
}


def random_params(rng, shape: tuple, low: int, high: int):
    """Scales over several octaves and zero points over the whole grid, of one shape."""
    scale = np.float32(2.0) ** rng.uniform(-6, 3, shape).astype(np.float32)
    return np.asarray(scale, np.float32), np.asarray(rng.integers(low, high + 1, shape))


def layouts(x: np.ndarray) -> dict[str, np.ndarray]:
    """Arrays with the same values as x (at least 2-D) in every arrangement of memory."""
    strided = np.zeros([2 * n for n in x.shape], x.dtype)
    strided[tuple(slice(None, None, 2) for _ in x.shape)] = x
    backwards = tuple(slice(None, None, -1) for _ in x.shape)
    raw = np.zeros(x.nbytes + 1, np.uint8)
    unaligned = raw[1:].view(x.dtype).reshape(x.shape)
    unaligned[...] = x
    read_only = x.copy()
    read_only.flags.writeable = False
    middle = np.zeros([n + 2 for n in x.shape], x.dtype)
    middle[tuple(slice(1, -1) for _ in x.shape)] = x
    result = {
        "contiguous": x.copy(),
        "every_other": strided[tuple(slice(None, None, 2) for _ in x.shape)],
        "backwards": np.ascontiguousarray(x[backwards])[backwards],
        "last_axis_backwards": np.ascontiguousarray(x[..., ::-1])[..., ::-1],
        "fortran": np.asfortranarray(x),
        "swapped_axes": np.ascontiguousarray(x.swapaxes(0, -1)).swapaxes(0, -1),
        "inner_window": middle[tuple(slice(1, -1) for _ in x.shape)],
        "read_only": read_only,
        "unaligned": unaligned,
    }
    if x.dtype.itemsize > 1 and x.dtype.kind in "fiu":
        result["byte_swapped"] = x.astype(x.dtype.newbyteorder())
    return result


LAYOUTS = [
    "contiguous", "every_other", "backwards", "last_axis_backwards", "fortran", "swapped_axes",
    "inner_window", "read_only", "unaligned", "byte_swapped",
]  # fmt: skip


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Same dtype, shape and bytes: unlike ==, this tells -0.0 from 0.0 and finds NaN equal."""
    a, b = np.asarray(a), np.asarray(b)
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def assert_same_bits(actual, expected) -> None:
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    if actual.tobytes() != expected.tobytes():
        unsigned = np.dtype(f"u{actual.dtype.itemsize}")
        a, b = (np.ascontiguousarray(v).reshape(-1) for v in (actual, expected))
        bad = np.flatnonzero(a.view(unsigned) != b.view(unsigned))
        first = bad[0]
        raise AssertionError(
            f"{bad.size} of {actual.size} differ, first at flat index {first}: "
            f"got {a[first]!r}, expected {b[first]!r}"
        )
