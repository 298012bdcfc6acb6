"""What only a device can show: streams, graphs, several devices, memory beyond 2**31 elements."""

import numpy as np
import pytest
from cases import assert_same_bits, random_generator
from on_device import fetched, moved

import pyquant as pq
from pyquant import ops

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(1200)]


def test_warmup_and_the_runtime_report(cp, capsys):
    pq.warmup()
    assert len(pq.runtime_info()["gpu"]["devices"]) == cp.cuda.runtime.getDeviceCount()
    pq.show_runtime()
    assert "kernels kept in" in capsys.readouterr().out


def test_the_current_stream_is_used(cp):
    """A long computation before the call, on a stream that the default one does not wait for."""
    x = cp.zeros(1 << 26, cp.float32)
    stream = cp.cuda.Stream(non_blocking=True)
    cp.cuda.Device().synchronize()
    with stream:
        for _ in range(50):
            x += 1
        q = ops.quantize_linear(x, 1.0)
        back = ops.dequantize_linear(q, 1.0)
        x.fill(0)
    stream.synchronize()
    assert int(q.min()) == int(q.max()) == 50
    assert float(back.min()) == float(back.max()) == 50.0


@pytest.mark.parametrize("where", ["host", "device"])
def test_calls_are_captured_in_a_graph(cp, where):
    """Nothing waits for the device and nothing is allocated when `out` is given."""
    rng = random_generator("graph")
    x = cp.asarray(rng.standard_normal(100_003).astype(np.float32))
    acc = cp.asarray(rng.integers(-100_000, 100_000, 100_003).astype(np.int32))
    scale = np.float32(0.02) if where == "host" else cp.asarray(np.float32(0.02))
    zero_point = 3 if where == "host" else cp.asarray(np.int32(3))
    q, r = cp.empty(x.shape, cp.int8), cp.empty(x.shape, cp.int8)
    back, fake = cp.empty_like(x), cp.empty_like(x)

    def everything():
        ops.quantize_linear(x, scale, zero_point, out=q)
        ops.dequantize_linear(q, scale, zero_point, out=back)
        ops.fake_quantize_linear(x, scale, zero_point, out=fake)
        ops.requantize(acc, scale, zero_point, out=r)

    everything()  # compiles and loads, which a capture does not allow
    stream = cp.cuda.Stream(non_blocking=True)
    cp.cuda.Device().synchronize()
    with stream:
        stream.begin_capture()
        everything()
        graph = stream.end_capture()
    for seed in (1, 2):
        values = np.random.default_rng(seed).standard_normal(x.shape).astype(np.float32)
        x.set(values)
        cp.cuda.Device().synchronize()
        graph.launch(stream)
        stream.synchronize()
        expected = ops.quantize_linear(values, np.float32(0.02), 3)
        assert_same_bits(q.get(), expected)
        assert_same_bits(back.get(), ops.dequantize_linear(expected, np.float32(0.02), 3))
        assert_same_bits(fake.get(), back.get())
        assert_same_bits(r.get(), ops.requantize(acc.get(), np.float32(0.02), 3))


def every_other(cp, x):
    wide = cp.zeros([2 * n for n in x.shape], x.dtype)
    wide[::2, ::2, ::2] = x
    return wide[::2, ::2, ::2]


def window(cp, x):
    wide = cp.zeros([n + 2 for n in x.shape], x.dtype)
    wide[1:-1, 1:-1, 1:-1] = x
    return wide[1:-1, 1:-1, 1:-1]


VIEWS = {
    "contiguous": lambda cp, x: x,
    "every_other": every_other,
    "backwards": lambda cp, x: cp.ascontiguousarray(x[::-1, ::-1, ::-1])[::-1, ::-1, ::-1],
    "last_axis_backwards": lambda cp, x: cp.ascontiguousarray(x[..., ::-1])[..., ::-1],
    "fortran": lambda cp, x: cp.asfortranarray(x),
    "swapped_axes": lambda cp, x: cp.ascontiguousarray(x.swapaxes(0, 2)).swapaxes(0, 2),
    "window": window,
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
@pytest.mark.parametrize("axis", [None, 0, 1, 2])
def test_any_strides(cp, view, axis):
    host = (random_generator("strides").standard_normal((6, 10, 7)) * 9).astype(np.float32)
    scale = np.float32(0.5) if axis is None else np.linspace(0.1, 2, host.shape[axis], dtype="f4")
    expected = ops.quantize_linear(host, scale, axis=axis)
    x = view(cp, cp.asarray(host))
    assert_same_bits(ops.quantize_linear(x, scale, axis=axis).get(), expected)
    out = cp.zeros((12, 10, 14), cp.int8)[::2, :, ::2]
    assert ops.quantize_linear(x, scale, axis=axis, out=out) is out
    assert_same_bits(out.get(), expected)


def test_every_device(cp):
    if cp.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("this machine has one GPU")
    host = random_generator("devices").standard_normal(1000).astype(np.float32)
    expected = ops.quantize_linear(host, 0.1)
    arrays = []
    for device in range(cp.cuda.runtime.getDeviceCount()):
        with cp.cuda.Device(device):
            arrays.append(cp.asarray(host))
    for device, x in enumerate(arrays):  # from device 0, which need not be the array's
        q = ops.quantize_linear(x, 0.1)
        assert q.device.id == device
        assert_same_bits(q.get(), expected)
    with pytest.raises(TypeError, match="one device"):
        ops.quantize_linear(arrays[0], arrays[1][:1].reshape(()))


SCALES = {
    "tenth": 0.1, "specification": 0.00214854861, "one": 1.0, "subnormal": 3e-40,
    "tiny": 1e-31, "huge": 2e38,
}  # fmt: skip


@pytest.mark.parametrize("dtype, zero_point", [("int8", 5), ("uint16", 33_000)])
@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
def test_all_floats_there_are(cp, scale, dtype, zero_point):
    """All 2**32 of them."""
    piece = 1 << 27
    for first in range(0, 1 << 32, piece):
        bits = np.arange(first, first + piece, dtype=np.uint64).astype(np.uint32)
        expected = ops.quantize_linear(bits.view(np.float32), scale, zero_point, dtype=dtype)
        x = cp.arange(first, first + piece, dtype=cp.uint64).astype(cp.uint32).view(cp.float32)
        actual = ops.quantize_linear(x, scale, zero_point, dtype=dtype)
        bad = actual != cp.asarray(expected)
        assert not bool(bad.any()), f"first at {first + int(bad.argmax()):#010x}"


def need_memory(cp, gigabytes: float) -> None:
    cp.get_default_memory_pool().free_all_blocks()
    free, _ = cp.cuda.runtime.memGetInfo()
    if free < gigabytes * 1e9:
        pytest.skip(f"{gigabytes} GB of device memory needed, {free / 1e9:.0f} GB free")


def repeated(cp, pattern, n):
    """n elements of the pattern over and over."""
    x = cp.empty(n, pattern.dtype)
    times = n // pattern.size
    x[: times * pattern.size].reshape(times, pattern.size)[...] = pattern
    x[times * pattern.size :] = pattern[: n - times * pattern.size]
    return x


def is_repeated(cp, x, pattern) -> bool:
    times = x.size // pattern.size
    whole = x[: times * pattern.size].reshape(times, pattern.size)
    same = all(bool((whole[i : i + 256] == pattern).all()) for i in range(0, times, 256))
    rest = x[times * pattern.size :]
    return same and bool((rest == pattern[: rest.size]).all())


def test_more_than_31_bits_of_elements(cp):
    need_memory(cp, 24)
    n = (1 << 31) + (1 << 20) + 17
    pattern = (random_generator("big").standard_normal(1 << 20) * 4).astype(np.float16)
    x = repeated(cp, cp.asarray(pattern), n)
    expected = ops.quantize_linear(pattern, 0.05)
    q = ops.quantize_linear(x, 0.05)
    assert is_repeated(cp, q, cp.asarray(expected))
    back = ops.dequantize_linear(q, 0.05, dtype="float16", out=x)
    values = ops.dequantize_linear(expected, 0.05, dtype="float16")
    assert is_repeated(cp, back, cp.asarray(values))
    codes = repeated(cp, cp.asarray(expected & 7), n - n % (1 << 20))
    packed = ops.pack_bits(codes, 4)
    assert is_repeated(cp, packed, cp.asarray(ops.pack_bits(expected & 7, 4)))
    assert is_repeated(cp, ops.unpack_bits(packed, 4), cp.asarray(expected & 7))


@pytest.mark.parametrize("axis, block_size", [(0, None), (1, None), (1, 128), (0, 2)])
def test_more_than_31_bits_of_elements_with_many_scales(cp, axis, block_size):
    need_memory(cp, 24)
    rows, columns = 4, (1 << 29) + (1 << 20)
    pattern = (random_generator("rows").standard_normal((rows, 1 << 20)) * 4).astype(np.float16)
    x = cp.empty((rows, columns), cp.float16)
    for row in range(rows):
        x[row] = repeated(cp, cp.asarray(pattern[row]), columns)
    shape = {(0, None): (4,), (1, None): (1 << 20,), (1, 128): (4, 1 << 13), (0, 2): (2, 1 << 20)}
    small = random_generator("s").uniform(0.01, 0.1, shape[axis, block_size]).astype(np.float32)
    times = columns >> 20
    scale = (
        cp.asarray(small) if axis == 0 and block_size is None else cp.tile(cp.asarray(small), times)
    )
    q = ops.quantize_linear(x, scale, axis=axis, block_size=block_size)
    expected = ops.quantize_linear(pattern, small, axis=axis, block_size=block_size)
    for row in range(rows):
        assert is_repeated(cp, q[row], cp.asarray(expected[row]))


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_parameters_of_the_host_are_checked(cp, bad):
    x = cp.ones(4, cp.float32)
    with pytest.raises(ValueError, match="must be positive and finite"):
        ops.quantize_linear(x, bad)


def test_bfloat16_and_float64_come_back_as_what_they_were(cp):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    host = random_generator("types").standard_normal(1003)
    for dtype in (np.float64, ml_dtypes.bfloat16, np.float16):
        values = host.astype(dtype)
        fake = ops.fake_quantize_linear(moved(cp, values), 0.1)
        assert_same_bits(fetched(fake), ops.fake_quantize_linear(values, 0.1))
