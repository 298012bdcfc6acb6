"""Observers: histograms against exact arithmetic, splits and merges, files, memory."""

import copy
import math
import pickle
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from battery import float_types
from cases import FLOAT32_MAX, LAYOUTS, layouts, named, random_generator

import pyquant as pq

HISTOGRAMS = ["percentile", "mse", "entropy", "aciq_laplace", "aciq_gauss"]
MERGEABLE = ["minmax", *HISTOGRAMS]


def exact_histogram(values, half):
    """(counts, exponent) from the definition, in rational arithmetic."""
    exact = [Fraction(float(np.float32(v))) for v in values]
    most = max((abs(v) for v in exact), default=Fraction(0))
    exponent = -126
    while most >= half * Fraction(2) ** exponent:
        exponent += 1
    counts = [0] * (2 * half + 1)
    for v in exact:
        away = math.floor(abs(v) / Fraction(2) ** exponent) + 1
        counts[half + (0 if v == 0 else away if v > 0 else -away)] += 1
    return np.array(counts, np.uint64), exponent


def samples(kind, n=4000):
    rng = random_generator("observers", kind)
    normal = rng.standard_normal(n)
    tiny = 2.0**-149
    return np.asarray({
        "normal": normal,
        "one_sided": np.maximum(normal, 0.0),
        "negative": -np.abs(normal),
        "integers": rng.integers(-8, 9, n),
        "powers": 2.0 ** rng.integers(-12, 13, n) * rng.choice([-1, 1], n),
        "octaves": normal * 2.0 ** rng.uniform(-30, 30, n),
        "zeros": np.where(rng.random(n) < 0.5, 0.0, -0.0),
        "subnormals": tiny * rng.integers(-(1 << 20), 1 << 20, n),
        "huge": FLOAT32_MAX * np.concatenate([rng.uniform(-1, 1, n - 2), [1.0, -1.0]]),
        "constant": np.full(n, 0.3),
        "two": np.where(rng.random(n) < 0.5, -1.0, 2.0),
        "outlier": np.concatenate([normal[:-1] * 1e-6, [1e9]]),
    }[kind], np.float32)  # fmt: skip


KINDS = [
    "normal", "one_sided", "negative", "integers", "powers", "octaves", "zeros", "subnormals",
    "huge", "constant", "two", "outlier",
]  # fmt: skip


def assert_same_state(a, b):
    a, b = a.state(), b.state()
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype, name
        assert a[name].tobytes() == b[name].tobytes(), name


@pytest.mark.parametrize("kind", KINDS)
def test_histogram_is_the_definition(kind):
    x = samples(kind, 1500)
    state = pq.Observer("percentile", bins=64).update(x).state()
    counts, exponent = exact_histogram(x, 128)
    assert state["exponent"] == exponent
    assert np.array_equal(state["counts"][0], counts)
    assert state["counts"].sum() == x.size
    assert (state["low"][0], state["high"][0]) == (x.min(), x.max())


@pytest.mark.parametrize("bins", [16, 17, 100, 2048, 5000])
def test_so_many_bins_up_to_the_largest_or_twice_as_many(bins):
    for most in (1.0, 0.999, 1.001, 1.999):
        state = pq.Observer("mse", bins=bins).update(np.float32([most])).state()
        width = 2.0 ** int(state["exponent"][0])
        assert bins <= most / width < 4 * bins


@pytest.mark.parametrize("dtype", **named(float_types()))
def test_other_float_types_count_as_float32(dtype):
    x = samples("normal").astype(dtype)
    if dtype == np.float64:
        x = samples("normal").astype(np.float64) * (1 + 1e-12)
    observer = pq.Observer("mse").update(x)
    assert_same_state(observer, pq.Observer("mse").update(x.astype(np.float32)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", MERGEABLE)
def test_any_split_and_any_merge_order_give_the_same_bits(method, kind):
    x = samples(kind)
    whole = pq.Observer(method).update(x)
    rng = random_generator(method, kind)
    for _ in range(4):
        parts = np.split(rng.permutation(x), np.sort(rng.integers(0, x.size, 7)))
        streamed = pq.Observer(method)
        for part in parts:
            streamed.update(part)
        assert_same_state(streamed, whole)
        observers = [pq.Observer(method).update(part) for part in parts]
        while len(observers) > 1:
            i, j = rng.choice(len(observers), 2, replace=False)
            observers[i].merge(observers[j])
            del observers[j]
        assert_same_state(observers[0], whole)
    assert streamed.params() == whole.params() == pq.calibrate(x, method)


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("method", MERGEABLE)
def test_channels_are_tensors_of_their_own(method, axis):
    rng = random_generator("channels", axis)
    x = rng.standard_normal((6, 5, 7)).astype(np.float32)
    x *= (2.0 ** rng.integers(-9, 9, (6, 5, 7))).astype(np.float32)
    x[2] = x[:, 3] = 0.0
    low, high = pq.Observer(method, axis=axis).update(x).range()
    rows = np.moveaxis(x, axis, 0)
    assert low.shape == high.shape == (x.shape[axis],)
    for channel, row in enumerate(rows):
        expected = pq.Observer(method).update(row).range()
        assert (low[channel], high[channel]) == tuple(float(end) for end in expected)
    streamed = pq.Observer(method, axis=axis)
    for batch in np.array_split(x, 3, axis=(axis + 1) % 3):
        streamed.update(batch)
    assert_same_state(streamed, pq.Observer(method, axis=axis).update(x))


@pytest.mark.parametrize("shape", [(3, 200_000), (200_000, 3), (2, 40, 9000), (700, 40, 30)])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_large_batches_and_threads(shape, axis):
    x = random_generator(*shape).standard_normal(shape).astype(np.float32) ** 3
    rows = x.reshape(1, -1) if axis is None else np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1)
    for threads in (1, 2, 3):
        pq.set_num_threads(threads)
        state = pq.Observer("percentile", axis=axis, bins=128).update(x).state()
        width = 2.0 ** state["exponent"].astype(np.float64)
        for channel in {0, len(rows) // 2, len(rows) - 1}:
            row = rows[channel]
            bins = np.sign(row) * (np.floor(np.abs(row) / width[channel]) + 1)
            counts = np.bincount(bins.astype(np.int64) + 256, minlength=513)
            assert np.array_equal(state["counts"][channel], counts)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_memory_layout(layout):
    x = samples("normal").reshape(20, 200)
    observer = pq.Observer("mse", axis=0).update(layouts(x)[layout])
    assert_same_state(observer, pq.Observer("mse", axis=0).update(x))


@pytest.mark.parametrize("method", [*MERGEABLE, "moving_average"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_policy(method, bad):
    x = samples("normal")
    dirty = np.insert(x, 1234, np.float32(bad))
    observer = pq.Observer(method).update(x)
    before = observer.state()
    with pytest.raises(ValueError, match=r"\[1234\]"):
        observer.update(dirty)
    assert all(np.array_equal(before[name], observer.state()[name]) for name in before)
    clean = pq.Observer(method, nan_policy="omit").update(x)
    assert_same_state(pq.Observer(method, nan_policy="omit").update(dirty), clean)
    nothing = np.full(5, bad, np.float32)
    assert_same_state(clean.update(nothing), pq.Observer(method, nan_policy="omit").update(x))
    assert pq.calibrate(nothing, method, nan_policy="omit").scale == 1


@pytest.mark.parametrize("method", MERGEABLE)
def test_omitted_channels_do_not_count(method):
    x = np.float32([[np.nan, np.inf], [1.0, 2.0]])
    observer = pq.Observer(method, axis=0, nan_policy="omit").update(x)
    observer.update(np.float32([[3.0, 4.0], [1.0, np.nan]]))
    low, high = observer.range()
    if method == "minmax":
        assert low.tolist() == [3, 1]
        assert high.tolist() == [4, 2]
    else:
        state = observer.state()
        assert state["low"].tolist() == [3, 1]
        assert state["high"].tolist() == [4, 2]


@pytest.mark.parametrize("method", [*MERGEABLE, "moving_average"])
def test_empty_data(method):
    empty = np.empty(0, np.float32)
    assert pq.calibrate(empty, method).scale == 1
    assert pq.Observer(method).params().scale == 1
    assert pq.calibrate(np.empty((3, 0), np.float32), method, axis=0).scale.tolist() == [1, 1, 1]
    x = samples("normal")
    observer = pq.Observer(method).update(empty).update(x).update(empty)
    assert observer.params() == pq.Observer(method).update(x).params()
    with pytest.raises(ValueError, match="number of channels"):
        pq.Observer(method, axis=0).params()


def test_moving_average():
    observer = pq.Observer("moving_average", momentum=0.75, dtype="uint8", scheme="affine")
    low = high = None
    for k in range(5):
        batch = np.float32([-1.0 - k, 2.0 * k])
        observer.update(batch)
        low = batch[0] if low is None else 0.75 * low + 0.25 * batch[0]
        high = batch[1] if high is None else 0.75 * high + 0.25 * batch[1]
    assert np.allclose(observer.range(), (low, high), rtol=1e-6)
    with pytest.raises(ValueError, match="order"):
        observer.merge(observer)


def test_blocks():
    x = samples("normal").reshape(40, 100)
    for method in ("minmax", "moving_average"):
        observer = pq.Observer(method, axis=1, block_size=32).update(x)
        assert observer.params() == pq.calibrate(x, axis=1, block_size=32)
    observer = pq.Observer("minmax", axis=1, block_size=32).update(x).update(2 * x)
    assert observer.params() == pq.calibrate(2 * x, axis=1, block_size=32)
    for method in HISTOGRAMS:
        with pytest.raises(ValueError, match=f"block_size=32 .*minmax.*{method} "):
            pq.Observer(method, axis=1, block_size=32)


@pytest.mark.parametrize("method", [*MERGEABLE, "moving_average"])
@pytest.mark.parametrize("axis", [None, 1])
def test_saved_copied_and_pickled(method, axis, tmp_path):
    x = samples("normal").reshape(80, 50)
    observer = pq.Observer(
        method, axis=axis, dtype="uint4", scheme="affine", percentile=(2, 98.5), bins=300,
        nan_policy="omit", momentum=0.5,
    )  # fmt: skip
    for stage in (observer, observer.update(x)):
        stage.save(tmp_path / "observer.npz")
        for other in (
            pq.Observer.load(tmp_path / "observer.npz"),
            pq.Observer.from_state(observer.state()),
            pickle.loads(pickle.dumps(observer)),
            copy.deepcopy(observer),
        ):
            assert_same_state(other, observer)
            again = copy.deepcopy(observer).update(x)
            assert_same_state(other.update(x), again)
            assert other.params() == again.params()
    assert all(array.dtype.kind in "iufUb" for array in observer.state().values())


def test_files_that_are_no_observers(tmp_path):
    path = tmp_path / "observer.npz"
    pq.Observer("mse", axis=0).update(np.eye(3, dtype=np.float32)).save(path)
    with np.load(path, allow_pickle=False) as file:
        good = dict(file)
    text = np.frombuffer(b"magic", np.uint8)
    bad = {
        "format": np.array(99), "method": text, "counts": good["counts"][:2],
        "exponent": np.array([1000, 0, 0]),
        "low": np.float32([np.nan, 0, 0]), "high": np.float32([2, 1, 1]),
        "bins": np.array(1 << 40), "shape": np.array([1 << 40]), "dtype": text,
    }  # fmt: skip
    for name, value in bad.items():
        np.savez(path, **(good | {name: value}))
        with pytest.raises(ValueError, match="not the state of an observer"):
            pq.Observer.load(path)
    np.savez(path, method=text)
    with pytest.raises(ValueError, match="observer"):
        pq.Observer.load(path)
    np.savez(path, **(good | {"low": np.array([{}, [], 0], object)}))
    with pytest.raises(ValueError, match="pickled"):
        pq.Observer.load(path)
    pq.Observer("mse").update(np.ones(9, np.float32)).save(path)
    whole = path.read_bytes()
    for damaged in (b"", b"PK", whole[: len(whole) // 2], b"\x93NUMPY", pickle.dumps({"a": 1})):
        path.write_bytes(damaged)
        with pytest.raises(ValueError):
            pq.Observer.load(path)
    with pytest.raises(FileNotFoundError):
        pq.Observer.load(tmp_path / "nothing.npz")


def test_mistakes():
    x = samples("normal").reshape(80, 50)
    observer = pq.Observer("mse", axis=0).update(x)
    with pytest.raises(ValueError, match=r"\(80,\).*\(40,\)"):
        observer.update(x[:40])
    with pytest.raises(ValueError, match=r"\(80,\).*\(40,\)"):
        observer.merge(pq.Observer("mse", axis=0).update(x[:40]))
    with pytest.raises(ValueError, match=r"bins=2048.*100"):
        observer.merge(pq.Observer("mse", axis=0, bins=100))
    with pytest.raises(TypeError, match="Observer"):
        observer.merge(x)
    with pytest.raises(TypeError, match="int64"):
        observer.update(np.arange(5))
    with pytest.raises(ValueError, match="range"):
        pq.Observer("mse").update(np.array([1e300]))
    assert_same_state(observer, pq.Observer("mse", axis=0).update(x))


_STREAM = """
import re, sys
from pathlib import Path
import numpy as np
import pyquant as pq

def peak():
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

n, size = int(float(sys.argv[1])), 1_000_000
batch = np.random.default_rng(1).standard_normal(size).astype(np.float32)
scaled = batch.copy()
observer = pq.Observer("percentile", percentile=99.9)
before = peak()
for k in range(n // size):
    np.multiply(batch, np.float32(1 + k % 7), out=scaled)
    observer.update(scaled)
observer.params()
assert int(observer.state()["counts"].sum()) == n
print(peak() - before)
"""


def streamed_memory(n):
    done = subprocess.run(
        [sys.executable, "-c", _STREAM, str(n)], stdout=subprocess.PIPE, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's peak memory")
@pytest.mark.parametrize("n", [1e8, pytest.param(1e9, marks=pytest.mark.slow)])
def test_memory_of_a_stream(n):
    assert streamed_memory(n) < 50e6
