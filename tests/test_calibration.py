"""What each method chooses, against independent optimisation on densities and recorded data."""

import math

import numpy as np
import pytest
from cases import random_generator
from scipy import integrate, optimize, stats

import pyquant as pq
from pyquant import aciq

METHODS = [
    "minmax", "moving_average", "percentile", "mse", "entropy", "aciq_laplace", "aciq_gauss",
]  # fmt: skip
DENSITIES = {"laplace": stats.laplace, "gauss": stats.norm}


def stratified(density, n=1_000_000):
    """As many values as follow the density exactly."""
    return density.ppf((np.arange(n) + 0.5) / n).astype(np.float32)


@pytest.fixture(scope="module")
def recorded():
    """Digits through a layer of random weights, before and behind its rectifier."""
    datasets = pytest.importorskip("sklearn.datasets")
    digits = datasets.load_digits().data.astype(np.float32) / 16
    weights = random_generator("layer").standard_normal((64, 96)).astype(np.float32) / 8
    linear = digits @ weights - np.float32(0.1)
    return {"linear": linear, "rectified": np.maximum(linear, 0)}


def end_of(observer, x):
    low, high = observer.update(x).range()
    return max(-float(low), float(high))


def squared_error(x, scale, lowest, highest):
    return np.square(x - scale * np.clip(np.rint(x / scale), lowest, highest)).mean()


# ACIQ


@pytest.mark.parametrize("bits", range(2, 18))
def test_aciq_clips_minimise_the_expected_error(bits):
    def laplace(a):
        return 2 * math.exp(-a) + a * a / (3 * 4**bits)

    def gauss(a):
        tail = integrate.quad(
            lambda x: (x - a) ** 2 * stats.norm.pdf(x), a, np.inf, epsabs=0, epsrel=1e-11
        )[0]
        return 2 * tail + a * a / (3 * 4**bits)

    for cost, found in ((laplace, aciq.laplace(bits)), (gauss, aciq.gauss(bits))):
        best = optimize.minimize_scalar(cost, bounds=(0, 40), options={"xatol": 1e-9})
        # A minimum is known to the root of the precision of the cost: 1e-8 and more here.
        if bits <= 10:
            assert best.x == pytest.approx(found, rel=1e-4)
        assert cost(found) <= best.fun * (1 + 1e-12)


def test_aciq_clips_of_the_literature():
    expected = {2: 2.83, 3: 3.90, 4: 5.03, 8: 9.90}
    for bits, alpha in expected.items():
        assert round(aciq.laplace(bits), 2) == pytest.approx(alpha, abs=0.006)
        w = aciq.laplace(bits)
        assert w * math.exp(w) == pytest.approx(3 * 4**bits, rel=1e-13)
    assert round(aciq.gauss(2), 2) == 1.71
    assert round(aciq.gauss(4), 2) == 2.56
    assert round(aciq.gauss(8), 2) == 3.92


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 8, 12, 16])
@pytest.mark.parametrize("name", list(DENSITIES))
def test_aciq_measures_mean_and_spread(name, bits):
    x = np.float32(0.7) * stratified(DENSITIES[name]) + np.float32(0.2)
    low, high = pq.Observer(f"aciq_{name}", dtype=f"int{bits}").update(x).range()
    wide = x.astype(np.float64)
    if name == "laplace":
        clip = np.abs(wide - wide.mean()).mean() * aciq.laplace(bits)
    else:
        clip = wide.std() * aciq.gauss(bits)
    assert high == pytest.approx(min(wide.mean() + clip, wide.max()), rel=1e-3)
    assert low == pytest.approx(max(wide.mean() - clip, wide.min()), rel=1e-3)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("dead", [0.0, 0.5])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_aciq_of_one_sided_data_is_half_of_a_symmetric_density(bits, dead, sign):
    x = sign * np.abs(stratified(stats.laplace, 200_000))
    x[random_generator("dead").random(x.size) < dead] = 0
    low, high = pq.Observer(
        "aciq_laplace", dtype=f"uint{bits}", scheme="affine"
    ).update(x).range()  # fmt: skip
    near, far = (low, high) if sign > 0 else (-high, -low)
    assert near == pytest.approx(0, abs=1e-5)
    assert far == pytest.approx(aciq.laplace(bits + 1), rel=2e-3)

    def error(a):
        scale = a / (2**bits - 1)
        return squared_error(np.abs(x), scale, 0, 2**bits - 1)

    best = min(error(far * part) for part in np.linspace(0.7, 1.3, 31))
    assert error(far) <= best * 1.05


# Percentiles


@pytest.mark.parametrize(
    "percentile", [99.99, 99, (1, 99), (0, 100), (50, 50), (0, 90), (2.5, 97.5)]
)
@pytest.mark.parametrize("n", [1, 2, 3, 10, 1001, 200_000])
def test_percentiles_are_numpys_to_a_bin(percentile, n):
    x = random_generator("percentile", n).standard_normal(n).astype(np.float32)
    x[::5] = np.maximum(x[::5], 0)
    observer = pq.Observer("percentile", percentile=percentile).update(x)
    pair = percentile if isinstance(percentile, tuple) else (100 - percentile, percentile)
    expected = np.percentile(x.astype(np.float64), pair)
    width = 2.0 ** int(observer.state()["exponent"][0])
    assert width <= max(np.abs(x).max() / 2048, 2.0**-126)
    assert np.abs(np.array(observer.range()) - expected).max() <= width
    if pair == (0, 100):
        assert observer.range() == (x.min(), x.max())


def test_symmetric_percentile_ends_at_the_larger_of_two():
    x = np.linspace(-1, 3, 100_001, dtype=np.float32)
    params = pq.calibrate(x, "percentile", percentile=(10, 90))
    assert params.scale * 127 == pytest.approx(2.6, abs=1e-3)
    q = pq.quantize(x, calibration="percentile", percentile=(10, 90))
    assert q.params == params
    affine = pq.calibrate(x, "percentile", percentile=(10, 90), scheme="affine", dtype="uint8")
    assert affine.scale * 255 == pytest.approx(3.2, abs=2e-3)


# Least squared error


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
@pytest.mark.parametrize("name", list(DENSITIES))
def test_mse_clips_of_densities(name, bits):
    """Against the integral over the density itself, minimised by Brent's method."""
    density, last = DENSITIES[name], (1 << (bits - 1)) - 1

    def cost(a):
        scale, total = a / last, 0.0
        ends = [0.0, *((k + 0.5) * scale for k in range(last))]
        for k in range(last):
            total += integrate.fixed_quad(
                lambda x, k=k: (x - k * scale) ** 2 * density.pdf(x), ends[k], ends[k + 1], n=12
            )[0]
        tail = integrate.quad(lambda x: (x - a) ** 2 * density.pdf(x), ends[-1], np.inf)
        return total + tail[0]

    found = end_of(pq.Observer("mse", dtype=f"int{bits}"), stratified(density, 4_000_000))
    best = optimize.minimize_scalar(cost, bracket=(0.7 * found, found, 1.4 * found), tol=1e-8)
    assert found == pytest.approx(best.x, rel=1e-3)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("kind", ["linear", "rectified"])
def test_mse_clips_of_recorded_activations(recorded, kind, bits):
    x = recorded[kind].astype(np.float64).ravel()
    last = (1 << (bits - 1)) - 1
    found = end_of(pq.Observer("mse", dtype=f"int{bits}"), recorded[kind])

    def cost(a):
        return squared_error(x, a / last, -last, last)

    scan = np.abs(x).max() * np.arange(1, 101) / 100
    start = scan[np.argmin([cost(a) for a in scan])]
    best = optimize.minimize_scalar(
        cost, bounds=(start * 0.95, min(start * 1.05, scan[-1])), options={"xatol": 1e-6}
    )
    assert cost(found) <= best.fun * (1 + 1e-3)
    assert found == pytest.approx(best.x, rel=1e-3 if bits < 8 else 2e-2)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("kind", ["linear", "rectified", "skewed", "far"])
def test_affine_mse_beats_a_search_over_both_ends(recorded, kind, bits):
    if kind in recorded:
        data = recorded[kind]
    else:
        rng = random_generator(kind)
        data = rng.gamma(2.0, 1.0, 30_000).astype(np.float32) + np.float32(
            -1 if kind == "skewed" else 5
        )
    x = data.astype(np.float64).ravel()
    params = pq.calibrate(data, "mse", dtype=f"uint{bits}", scheme="affine")
    z, last = int(params.zero_point), (1 << bits) - 1
    found = squared_error(x, float(params.scale), -z, last - z)
    low, high = min(x.min(), 0.0), max(x.max(), 0.0)
    best = np.inf
    for below in sorted({round(last * k / 24) for k in range(25)}):
        most = max(-low / below if below else 0, high / (last - below) if below < last else 0)
        for part in range(1, 41) if most else ():
            best = min(best, squared_error(x, most * part / 40, -below, last - below))
    assert found <= best * 1.001


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int4", "uint4", "int16"])
@pytest.mark.parametrize("scheme", ["symmetric", "affine"])
def test_mse_is_never_worse_than_minmax(scheme, dtype):
    for seed in range(5):
        x = random_generator(seed).standard_t(3, 20_000).astype(np.float32)
        best = pq.quantize(x, calibration="mse", dtype=dtype, scheme=scheme)
        widest = pq.quantize(x, dtype=dtype, scheme=scheme)
        # The rounding errors of these samples differ from their expectation; all of it at 16 bits.
        slack = 1e-2 if dtype == "int16" else 1e-4
        assert pq.error(x, best).mse <= pq.error(x, widest).mse * (1 + slack)


# Entropy


def divergence(counts, half, clip, codes):
    """The definition, bin after bin and code after code."""
    p = {}
    for at in np.flatnonzero(counts):
        index = int(at) - half
        inside = max(-clip, min(clip, index))
        p[inside] = p.get(inside, 0) + int(counts[at])
    members = {}
    for index in p:
        nearest = next(
            j for j in range(codes + 1)
            if j == codes or abs(index) <= ((2 * j + 1) * clip + codes) // (2 * codes)
        )  # fmt: skip
        members.setdefault(int(math.copysign(nearest, index)), []).append(index)
    held = {code: sum(int(counts[half + i]) for i in bins) for code, bins in members.items()}
    total, within, result = sum(p.values()), sum(held.values()), 0.0
    for code, bins in members.items():
        if held[code] == 0:
            return math.inf
        q = held[code] / within / len(bins)
        result += sum(p[i] / total * math.log(p[i] / total / q) for i in bins)
    return result


@pytest.mark.parametrize("bits", [3, 4, 6])
@pytest.mark.parametrize("kind", ["laplace", "gauss", "linear", "rectified", "sparse"])
def test_entropy_clips_minimise_the_divergence(recorded, kind, bits):
    if kind == "sparse":
        x = np.float32([*[0.0] * 50, *[0.1] * 30, *[-0.1] * 20, 0.3, 0.5, *[0.9] * 9, 1.0, 7.0])
    else:
        x = recorded[kind] if kind in recorded else stratified(DENSITIES[kind], 20_000)
    observer = pq.Observer("entropy", dtype=f"int{bits}", bins=128).update(x)
    state = observer.state()
    counts, half = state["counts"][0], (state["counts"].shape[1] - 1) // 2
    width = 2.0 ** int(state["exponent"][0])
    most = int(np.abs(np.flatnonzero(counts) - half).max())
    codes = (1 << (bits - 1)) - 1
    clips = range(codes, most + 1)
    costs = {clip: divergence(counts, half, clip, codes) for clip in clips}
    low, high = (float(end) for end in observer.range())
    found = max(-low, high)
    best = min(costs, key=costs.get)
    assert costs[round(found / width + 0.499)] <= costs[best] + 1e-12
    assert found == pytest.approx(min(best * width, float(np.abs(x).max())), rel=1e-3)


def test_entropy_keeps_everything_where_codes_are_finer_than_bins():
    x = random_generator("fine").standard_normal(5000).astype(np.float32)
    assert pq.calibrate(x, "entropy", dtype="int16") == pq.calibrate(x, dtype="int16")


def test_entropy_clips_outliers():
    x = np.append(random_generator("outliers").standard_normal(100_000), [60.0]).astype(np.float32)
    assert end_of(pq.Observer("entropy"), x) < 10


# All of them


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scheme", ["symmetric", "affine"])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int2", "uint3", "int16"])
def test_every_method_takes_every_data(method, scheme, dtype):
    most = float(np.finfo(np.float32).max)
    for values in (
        [0.0], [-0.0, 0.0], [1.0], [-2.5] * 7, [1e-45, -1e-45], [most, -most], [0.0, most],
        [5.0, 6.0, 7.0], [-5.0, -6.0], [1.0, 2.0**-140], [0.0] * 99 + [1.0], [-1.0, 1.0],
    ):  # fmt: skip
        x = np.float32(values)
        low, high = pq.Observer(method, scheme=scheme, dtype=dtype).update(x).range()
        assert np.isfinite([low, high]).all()
        assert low <= high
        params = pq.calibrate(x, method, scheme=scheme, dtype=dtype)
        assert params.scale > 0
        pq.quantize(x, params)


@pytest.mark.parametrize("method", METHODS)
def test_quantize_takes_every_method(method):
    x = random_generator("quantize").standard_normal((8, 500)).astype(np.float32)
    q = pq.quantize(x, calibration=method, axis=0, dtype="int4")
    assert q.params == pq.calibrate(x, method, axis=0, dtype="int4")
    assert q.scale.shape == (8,)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("block_size", [1, 7, 16, 100])
@pytest.mark.parametrize("method", ["percentile", "mse", "aciq_laplace", "aciq_gauss"])
def test_blocks_are_tensors_of_their_own(method, axis, block_size):
    x = random_generator("blocks", axis).standard_t(3, (6, 33, 4)).astype(np.float32)
    params = pq.calibrate(
        x, method, dtype="int4", axis=axis, block_size=block_size, percentile=90, bins=300
    )
    along, scales = np.moveaxis(x, axis, -1), np.moveaxis(params.scale, axis, -1)
    for place in np.ndindex(scales.shape):
        begin = place[-1] * block_size
        block = along[place[:-1]][begin : begin + block_size]
        alone = pq.calibrate(block, method, dtype="int4", percentile=90, bins=300)
        assert scales[place] == alone.scale
    q = pq.quantize(x, calibration="mse", dtype="int4", axis=axis, block_size=block_size)
    widest = pq.quantize(x, dtype="int4", axis=axis, block_size=block_size)
    assert pq.error(x, q).mse <= pq.error(x, widest).mse * (1 + 1e-4)


def test_blocks_and_what_they_refuse():
    x = random_generator("blocks").standard_normal((3, 40)).astype(np.float32)
    with pytest.raises(ValueError, match="block_size=8"):
        pq.calibrate(x, "entropy", axis=1, block_size=8)
    assert pq.calibrate(x[:0], "mse", axis=1, block_size=8).scale.shape == (0, 5)
    x[2, 17] = np.nan
    with pytest.raises(ValueError, match=r"\(2, 17\)"):
        pq.calibrate(x, "mse", axis=1, block_size=8)
    params = pq.calibrate(x, "mse", axis=1, block_size=8, nan_policy="omit")
    assert (params.scale > 0).all()
    with pytest.raises(ValueError, match="axis"):
        pq.calibrate(x, "mse", block_size=8)


def test_mistakes():
    x = np.ones(5, np.float32)
    for call in (pq.calibrate, lambda x, m: pq.Observer(m)):
        with pytest.raises(ValueError, match="'magic'") as caught:
            call(x, "magic")
        assert all(method in str(caught.value) for method in METHODS)
    for percentile in (101, -1, (99, 1), (1, 2, 3), 49, float("nan"), (0, 200)):
        with pytest.raises(ValueError, match="percentile="):
            pq.calibrate(x, "percentile", percentile=percentile)
    for bins in (15, 0, -1, 1 << 21):
        with pytest.raises(ValueError, match=f"bins={bins}"):
            pq.calibrate(x, "mse", bins=bins)
    with pytest.raises(TypeError, match="bins"):
        pq.calibrate(x, "mse", bins=20.5)
    with pytest.raises(ValueError, match="momentum=1"):
        pq.calibrate(x, "moving_average", momentum=1.0)
    with pytest.raises(ValueError, match="nan_policy"):
        pq.calibrate(x, "mse", nan_policy="ignore")
    with pytest.raises(ValueError, match="axis=3"):
        pq.calibrate(x, "mse", axis=3)
    with pytest.raises(ValueError, match="scheme"):
        pq.calibrate(x, "mse", scheme="magic")
    with pytest.raises(ValueError, match="int17"):
        pq.calibrate(x, "mse", dtype="int17")
    with pytest.raises(ValueError, match=r"x\[2\] is nan"):
        pq.calibrate(np.float32([1, 2, np.nan]), "mse")
