"""`save` and `load`: exact round trips, the layout of the file, and what is refused."""

import json
import os
import sys

import numpy as np
import pytest

import pyquant as pq

safetensors_numpy = pytest.importorskip("safetensors.numpy")

SUFFIXES = (".safetensors", ".npz")


def assert_same(a, b):
    """Equal in every bit and in everything that is known of them."""
    assert type(a) is type(b)
    if isinstance(a, pq.QuantizedArray):
        assert a.params == b.params
        assert (a.shape, a.packed, a.dtype) == (b.shape, b.packed, b.dtype)
        assert a.params.narrow_range == b.params.narrow_range
        a, b = a.data, b.data
    assert (a.dtype, a.shape) == (b.dtype, b.shape)
    assert a.tobytes() == b.tobytes()


def normal(*shape, dtype="float32"):
    return np.random.default_rng(7).normal(size=shape).astype(dtype)


@pytest.fixture(params=SUFFIXES)
def path(request, tmp_path):
    return tmp_path / f"model{request.param}"


QUANTIZED = {
    "per tensor": {},
    "per channel": {"axis": 0},
    "last axis": {"axis": -1, "dtype": "uint8", "scheme": "affine"},
    "full range": {"narrow_range": False},
    "blocks": {"axis": 1, "block_size": 4, "scheme": "affine"},
    "blocks, 4 bits": {"axis": -1, "block_size": 3, "dtype": "int4", "packed": True},
    "3 bits packed": {"dtype": "int3", "packed": True},
    "2 bits not packed": {"dtype": "uint2", "scheme": "affine"},
    "12 bits": {"dtype": "int12", "axis": 0},
    "12 bits packed": {"dtype": "uint12", "scheme": "affine", "packed": True},
    "16 bits": {"dtype": "uint16", "scheme": "symmetric"},
}


@pytest.mark.parametrize("how", QUANTIZED)
def test_round_trip_of_quantized_arrays(path, how):
    q = pq.quantize(normal(5, 11), **QUANTIZED[how])
    pq.save(path, {"w": q})
    assert_same(pq.load(path)["w"], q)


@pytest.mark.parametrize(
    "dtype",
    [
        *("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
        *("float16", "float32", "float64", "complex64"),
    ],
)
def test_round_trip_of_plain_arrays(path, dtype):
    arrays = {
        "m": normal(3, 4).astype(dtype),
        "0-d": np.array(1, dtype),
        "e": np.ones((0, 3), dtype),
    }
    pq.save(path, arrays)
    loaded = pq.load(path)
    assert set(loaded) == set(arrays)
    for name, array in arrays.items():
        assert_same(loaded[name], array)


def test_round_trip_of_0d_and_tiny_quantized_arrays(path):
    tensors = {
        "0-d": pq.quantize(np.float32(3.0)),
        "one": pq.quantize(np.ones((1, 1), "f"), axis=1),
    }
    pq.save(path, tensors)
    for name, q in tensors.items():
        assert_same(pq.load(path)[name], q)


def test_round_trip_of_an_empty_quantized_array(path):
    params = pq.QuantParams(0.5, 3)
    q = pq.QuantizedArray(np.empty((0, 4), np.int8), params)
    pq.save(path, {"e": q})
    assert_same(pq.load(path)["e"], q)


def test_empty_dictionary(path):
    pq.save(path, {})
    assert pq.load(path) == {}


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_ml_dtypes_only_in_safetensors(tmp_path, dtype):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    array = normal(3, 5).astype(getattr(ml_dtypes, dtype))
    pq.save(tmp_path / "a.safetensors", {"x": array})
    assert_same(pq.load(tmp_path / "a.safetensors")["x"], array)
    with pytest.raises(ValueError, match=f"'x' has dtype {dtype}.*\\.npz"):
        pq.save(tmp_path / "a.npz", {"x": array})
    assert not (tmp_path / "a.npz").exists()


def test_any_memory_layout(path):
    x = normal(6, 8)
    views = {
        "fortran": np.asfortranarray(x),
        "transposed": x.T,
        "negative": x[::-1, ::-2],
        "swapped": x.astype(x.dtype.newbyteorder()),
        "broadcast": np.broadcast_to(x[0], (3, 8)),
    }
    pq.save(path, views)
    loaded = pq.load(path)
    for name, view in views.items():
        np.testing.assert_array_equal(loaded[name], view)
        assert loaded[name].dtype.isnative


def test_names_are_kept(path):
    names = ["a/b", "ünïcode ✓", "with space", "a.b.c", "x.scale", "quote\"'\\"]
    pq.save(path, {name: np.full(2, i, "f") for i, name in enumerate(names)})
    loaded = pq.load(path)
    assert {name: int(array[0]) for name, array in loaded.items()} == dict(
        zip(names, range(len(names)), strict=True)
    )


def test_safetensors_layout(tmp_path):
    """What another program finds: integers, scale, zero point, one metadata entry."""
    path = tmp_path / "m.safetensors"
    x = normal(4, 6) + 3
    symmetric, affine = pq.quantize(x, axis=0), pq.quantize(x, scheme="affine", axis=0)
    four = pq.quantize(x, dtype="int4", packed=True)
    pq.save(path, {"s": symmetric, "a": affine, "p": four, "b": np.ones(3, "f")})
    stored = safetensors_numpy.load_file(path)
    assert set(stored) == {"s", "s.scale", "a", "a.scale", "a.zero_point", "p", "p.scale", "b"}
    np.testing.assert_array_equal(stored["s"], symmetric.data)
    np.testing.assert_array_equal(stored["s.scale"], symmetric.scale)
    np.testing.assert_array_equal(stored["a.zero_point"], affine.zero_point)
    assert (stored["p"].dtype, stored["p"].shape) == (np.uint8, (12,))
    record = json.loads(header_of(path)["__metadata__"]["pyquant"])
    assert record["version"] == 1
    assert record["tensors"]["p"] == {
        "dtype": "int4",
        "narrow_range": True,
        "axis": None,
        "block_size": None,
        "shape": [4, 6],
        "packed": True,
        "source_dtype": "float32",
    }


def header_of(path):
    data = path.read_bytes()
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])


def test_safetensors_data_is_aligned(tmp_path):
    path = tmp_path / "m.safetensors"
    odd = normal(3, 5)
    tensors = {f"q{i}": pq.quantize(odd, axis=1) for i in range(3)}
    tensors |= {"d": odd.astype("f8"), "h": odd.astype("f2"), "u": np.ones(7, np.uint8)}
    pq.save(path, tensors)
    sizes = {"F64": 8, "F32": 4, "F16": 2}
    header = header_of(path)
    start = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    assert start % 8 == 0
    for name, entry in header.items():
        if name != "__metadata__":
            assert entry["data_offsets"][0] % sizes.get(entry["dtype"], 1) == 0


def test_npz_is_read_by_numpy(tmp_path):
    path = tmp_path / "m.npz"
    q = pq.quantize(normal(4, 6), scheme="affine", axis=1)
    pq.save(path, {"w": q, "b": np.arange(3)})
    with np.load(path, allow_pickle=False) as stored:
        np.testing.assert_array_equal(stored["w"], q.data)
        np.testing.assert_array_equal(stored["w.scale"], q.scale)
        np.testing.assert_array_equal(stored["b"], np.arange(3))


def test_loads_what_numpy_saved(tmp_path):
    x = normal(4, 6)
    swapped = x.astype(x.dtype.newbyteorder())
    np.savez(tmp_path / "a.npz", x=x, f=np.asfortranarray(x), s=swapped, e=x[:0], z=x[0, 0])
    np.savez_compressed(tmp_path / "c.npz", x=x, f=np.asfortranarray(x), s=swapped)
    for file in ("a.npz", "c.npz"):
        loaded = pq.load(tmp_path / file)
        for name in ("x", "f", "s"):
            np.testing.assert_array_equal(loaded[name], x)
    np.save(tmp_path / "x.npy", np.asfortranarray(x))
    np.testing.assert_array_equal(pq.load(tmp_path / "x.npy")["arr_0"], x)


def test_loads_what_safetensors_saved(tmp_path):
    tensors = {"x": normal(4, 6), "i": np.arange(5), "e": np.zeros((0, 2), "f2")}
    safetensors_numpy.save_file(tensors, tmp_path / "a.safetensors", metadata={"format": "np"})
    loaded = pq.load(tmp_path / "a.safetensors")
    for name, array in tensors.items():
        assert_same(loaded[name], array)


def test_same_tensors_same_file(path):
    tensors = {"w": pq.quantize(normal(5, 5), axis=0), "b": np.ones(3)}
    pq.save(path, tensors)
    first = path.read_bytes()
    pq.save(path, tensors)
    assert path.read_bytes() == first


def test_loaded_arrays_are_writable_and_independent(path):
    pq.save(path, {"a": np.zeros(3), "b": np.zeros(3)})
    loaded = pq.load(path)
    loaded["a"][:] = 1
    assert not loaded["b"].any()


def test_str_paths_and_symbolic_links(path):
    pq.save(path, {"a": np.zeros(3)})
    link = path.with_name(f"link{path.suffix}")
    os.symlink(path, link)
    pq.save(str(link), {"a": np.ones(3)})
    assert link.is_symlink()
    assert pq.load(str(path))["a"].all()


def test_failed_save_keeps_the_old_file(path):
    pq.save(path, {"a": np.zeros(3)})
    before = path.read_bytes()
    bad = {"a": np.zeros(3), "o": np.array([object()])}
    with pytest.raises(ValueError, match="'o'"):
        pq.save(path, bad)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_interrupted_save_leaves_nothing(path, monkeypatch):
    from pyquant.checkpoint import npz, safetensors_format

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(safetensors_format, "stored_array", interrupt)
    monkeypatch.setattr(npz, "stored_array", interrupt)
    with pytest.raises(KeyboardInterrupt):
        pq.save(path, {"a": np.zeros(3)})
    assert os.listdir(path.parent) == []


q1 = pq.quantize(np.ones((2, 2), np.float32))


@pytest.mark.parametrize(
    ("tensors", "error", "words"),
    [
        ({1: np.zeros(2)}, TypeError, "name 1"),
        ({"a": [1, 2]}, TypeError, "'a' is a list"),
        ({"w": q1, "w.scale": np.ones(2)}, ValueError, "'w.scale'"),
        ({"w": q1, "w.zero_point": np.ones(2)}, ValueError, "'w.zero_point'"),
        ({"w": q1, "w.scale": q1}, ValueError, "'w.scale'"),
    ],
)
def test_refused_tensors(path, tensors, error, words):
    with pytest.raises(error, match=words):
        pq.save(path, tensors)
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize(
    ("suffix", "name"),
    [(".safetensors", "__metadata__"), (".npz", "__pyquant__"), (".npz", "nul\0")],
)
def test_reserved_names(tmp_path, suffix, name):
    with pytest.raises(ValueError, match="tensor name"):
        pq.save(tmp_path / f"m{suffix}", {name: np.zeros(2)})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("dtype", ["<U3", "M8[s]", "complex128", "longdouble"])
def test_types_that_safetensors_cannot_hold(tmp_path, dtype):
    array = np.zeros(2, dtype)
    with pytest.raises(ValueError, match="'x' has dtype"):
        pq.save(tmp_path / "m.safetensors", {"x": array})
    pq.save(tmp_path / "m.npz", {"x": array})
    assert_same(pq.load(tmp_path / "m.npz")["x"], array)


@pytest.mark.parametrize("name", ["m.npy", "m.pt", "m", "m.SAFETENSORS"])
def test_refused_paths(tmp_path, name):
    with pytest.raises(ValueError, match=r"must end in \.safetensors or \.npz"):
        pq.save(tmp_path / name, {})


def test_folder_that_is_not_there(path):
    with pytest.raises(ValueError, match="the folder of"):
        pq.save(path.parent / "gone" / path.name, {})


def test_load_of_what_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        pq.load(tmp_path / "m.safetensors")
    (tmp_path / "m.txt").write_text("x")
    with pytest.raises(ValueError, match="must end in"):
        pq.load(tmp_path / "m.txt")
    with pytest.raises(ValueError, match="holds no"):
        pq.load(tmp_path)


def test_longest_name_a_folder_can_hold(tmp_path):
    path = tmp_path / f"{'n' * 243}.safetensors"
    pq.save(path, {"a": np.zeros(3)})
    assert set(pq.load(path)) == {"a"}


def test_missing_packages_are_named(tmp_path, monkeypatch):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    pq.save(tmp_path / "m.safetensors", {"x": np.ones(2, ml_dtypes.bfloat16)})
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(
        ImportError, match=r"'x' has dtype bfloat16.*pip install 'pyquant\[files\]'"
    ):
        pq.load(tmp_path / "m.safetensors")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match=r"safetensors package: pip install 'pyquant\[files\]'"):
        pq.load(tmp_path / "m.safetensors")
    pq.save(tmp_path / "m.npz", {"x": np.ones(2)})
    assert pq.load(tmp_path / "m.npz")["x"].all()


def test_load_of_a_folder(tmp_path):
    q = pq.quantize(normal(3, 3))
    pq.save(tmp_path / "a.safetensors", {"w": q})
    pq.save(tmp_path / "b.safetensors", {"b": np.ones(2)})
    loaded = pq.load(tmp_path)
    assert_same(loaded["w"], q)
    assert set(loaded) == {"w", "b"}
