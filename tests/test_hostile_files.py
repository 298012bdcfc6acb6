"""Damaged and hostile files: one ``ValueError``, no memory blow-up, nothing executed."""

import io
import json
import random
import struct
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest

import pyquant as pq

pytest.importorskip("safetensors")

MB = 2**20


def normal(*shape):
    return np.random.default_rng(7).normal(size=shape).astype("f")


def refused(path, match=None, memory=16 * MB):
    """Assert that loading is a ValueError of one line which costs little memory."""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=match) as caught:
            pq.load(path)
        assert tracemalloc.get_traced_memory()[1] < memory
    finally:
        tracemalloc.stop()
    assert type(caught.value) is ValueError
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)


# --- safetensors: the container -----------------------------------------------------------------


@pytest.fixture
def path(tmp_path):
    return tmp_path / "hostile.safetensors"


def tensor(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def container(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


CONTAINERS = {
    "empty": b"",
    "seven bytes": b"\1\0\0\0\0\0\0",
    "no header": struct.pack("<Q", 0),
    "header ends early": container({"a": tensor("U8", [1], 0, 1)}, length=10_000),
    "huge header length": container({}, length=2**63),
    "largest header length": container({}, length=2**64 - 1),
    "header of 99 MB in a small file": container({}, length=99_000_000),
    "not JSON": container(b"hello, world!!"),
    "not UTF-8": container(b'{"\xff\xfe": 1}'),
    "deep JSON": container(b"[" * 100_000),
    "deep metadata": container(b'{"__metadata__":' * 100_000),
    "a list": container([]),
    "data missing": container({"a": tensor("F32", [4], 0, 16)}, bytes(15)),
    "data left over": container({"a": tensor("F32", [4], 0, 16)}, bytes(17)),
    "all data missing": container({"a": tensor("F32", [2**20], 0, 2**22)}),
    "terabytes": container({"a": tensor("F32", [2**40], 0, 2**42)}),
    "overlap": container({"a": tensor("U8", [4], 0, 4), "b": tensor("U8", [4], 2, 6)}, bytes(6)),
    "hole": container({"a": tensor("U8", [2], 0, 2), "b": tensor("U8", [2], 4, 6)}, bytes(6)),
    "begin after end": container({"a": tensor("U8", [2], 2, 0)}, bytes(2)),
    "negative offset": container({"a": tensor("U8", [2], -2, 0)}, bytes(2)),
    "shape and bytes disagree": container({"a": tensor("F32", [3], 0, 16)}, bytes(16)),
    "negative shape": container({"a": tensor("U8", [-1, -4], 0, 4)}, bytes(4)),
    "float shape": container({"a": tensor("U8", [4.0], 0, 4)}, bytes(4)),
    "overflowing shape": container({"a": tensor("U8", [2**32, 2**32], 0, 0)}),
    "huge empty shape": container({"a": tensor("U8", [0, 2**62, 2**62], 0, 0)}),
    "2**64 - 1 rows of nothing": container({"a": tensor("U8", [2**64 - 1, 0], 0, 0)}),
    "40 dimensions": container({"a": tensor("U8", [1] * 40, 0, 1)}, bytes(1)),
    "unknown dtype": container({"a": tensor("int99", [4], 0, 4)}, bytes(4)),
    "dtype is a number": container({"a": tensor(3, [4], 0, 4)}, bytes(4)),
    "no offsets": container({"a": {"dtype": "U8", "shape": [1]}}, bytes(1)),
    "less than a byte": container({"a": tensor("F4", [4], 0, 2)}, bytes(2)),
}


@pytest.mark.parametrize("how", CONTAINERS)
def test_safetensors_container(path, how):
    path.write_bytes(CONTAINERS[how])
    refused_or_sub_byte(path, how)


def refused_or_sub_byte(path, how):
    if how == "less than a byte":  # valid, but nothing NumPy could hold
        with pytest.raises(ValueError, match="'a' has dtype float4_e2m1fn of less than a byte"):
            pq.load(path)
        return
    refused(path)


def test_every_truncation_of_a_safetensors_file(path):
    pq.save(path, {"w": pq.quantize(normal(3, 4), axis=0), "b": np.ones(2)})
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        refused(path)


# --- safetensors: the record of what is quantized -----------------------------------------------


def rewritten(path, change):
    """Save a quantized tensor, let `change` alter its record and tensors, write them again."""
    from safetensors.numpy import load_file, save_file

    pq.save(path, {"w": pq.quantize(normal(4, 6), scheme="affine", axis=0, dtype="int4")})
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    record = json.loads(header["__metadata__"]["pyquant"])
    tensors = {name: array.copy() for name, array in load_file(path).items()}
    changed = change(record, record["tensors"]["w"], tensors)
    text = changed if isinstance(changed, str) else json.dumps(record)
    save_file(tensors, path, metadata={"pyquant": text})


def setting(**values):
    return lambda record, entry, tensors: entry.update(values)


def removing(key):
    return lambda record, entry, tensors: entry.__delitem__(key)


def placing(name, array):
    return lambda record, entry, tensors: tensors.__setitem__(name, np.asarray(array))


def text(value):
    return lambda record, entry, tensors: value


def versioned(version):
    return lambda record, entry, tensors: record.__setitem__("version", version)


KEYS = ("dtype", "narrow_range", "axis", "block_size", "shape", "packed", "source_dtype")
RECORDS = {
    "not JSON": text("{"),
    "deep JSON": text("[" * 100_000),
    "deep objects": text('{"a":' * 100_000),
    "huge integer": text('{"version": ' + "9" * 10_000 + "}"),
    "a list": text("[]"),
    "a number": text("7"),
    "null": text("null"),
    "empty": text(""),
    "no tensors": text('{"version": 1}'),
    "tensors is a list": text('{"version": 1, "tensors": []}'),
    "entry is a number": text('{"version": 1, "tensors": {"w": 3}}'),
    "version 2": versioned(2),
    "version is a string": versioned("1"),
    **{f"no {key}": removing(key) for key in KEYS},
    **{f"{key} is an object": setting(**{key: {}}) for key in KEYS},
    "unknown key": setting(hook="os.system"),
    "dtype int99": setting(dtype="int99"),
    "dtype int1": setting(dtype="int1"),
    "dtype float32": setting(dtype="float32"),
    "dtype of another storage": setting(dtype="int16"),
    "dtype of another sign": setting(dtype="uint4"),
    "dtype with a sign": setting(dtype="int-4"),
    "dtype of a million digits": setting(dtype="int" + "9" * 1_000_000),
    "axis 2": setting(axis=2),
    "axis -3": setting(axis=-3),
    "axis 1": setting(axis=1),
    "axis is true": setting(axis=True),
    "axis 2**70": setting(axis=2**70),
    "no axis": setting(axis=None),
    "block without axis": setting(axis=None, block_size=2),
    "block_size 0": setting(block_size=0),
    "block_size -1": setting(block_size=-1),
    "block_size 2": setting(block_size=2),
    "block_size is true": setting(block_size=True),
    "narrow_range is 1": setting(narrow_range=1),
    "packed but not": setting(packed=True),
    "shape (6, 4)": setting(shape=[6, 4]),
    "shape ()": setting(shape=[]),
    "negative shape": setting(shape=[-4, -6]),
    "huge shape": setting(shape=[2**40, 2**40]),
    "huge empty shape": setting(shape=[0, 2**62, 2**62]),
    "shape of strings": setting(shape=["4", "6"]),
    "shape of floats": setting(shape=[4.0, 6.0]),
    "shape of booleans": setting(shape=[True, True]),
    "shape of 1e5 ones": setting(shape=[1] * 100_000),
    "source_dtype object": setting(source_dtype="object"),
    "source_dtype int8": setting(source_dtype="int8"),
    "data missing": lambda record, entry, tensors: tensors.__delitem__("w"),
    "scale missing": lambda record, entry, tensors: tensors.__delitem__("w.scale"),
    "data is float": placing("w", np.ones((4, 6), "f")),
    "data outside the grid": placing("w", np.full((4, 6), 8, np.int8)),
    "data below the grid": placing("w", np.full((4, 6), -9, np.int8)),
    "scale is float64": placing("w.scale", np.ones(4)),
    "scale of 3": placing("w.scale", np.ones(3, "f")),
    "scale 0-d": placing("w.scale", np.ones((), "f")),
    "scale 0": placing("w.scale", np.zeros(4, "f")),
    "scale negative": placing("w.scale", np.array([1, 1, -1, 1], "f")),
    "scale NaN": placing("w.scale", np.array([1, np.nan, 1, 1], "f")),
    "scale infinite": placing("w.scale", np.array([1, 1, 1, np.inf], "f")),
    "zero point outside": placing("w.zero_point", np.full(4, 8, np.int8)),
    "zero point of int32": placing("w.zero_point", np.zeros(4, np.int32)),
    "zero point of 5": placing("w.zero_point", np.zeros(5, np.int8)),
}


@pytest.mark.parametrize("how", RECORDS)
def test_record(path, how):
    rewritten(path, RECORDS[how])
    refused(path)


def test_record_control(path):
    """The unchanged file is fine, so that the cases above fail for their own reason."""
    rewritten(path, lambda record, entry, tensors: None)
    assert isinstance(pq.load(path)["w"], pq.QuantizedArray)


def test_packed_of_a_huge_shape(path):
    pq.save(path, {"w": pq.quantize(normal(4, 6), dtype="int4", packed=True)})
    whole = path.read_bytes()
    assert whole.count(rb"\"shape\":[4,6]") == 1
    path.write_bytes(whole.replace(rb"\"shape\":[4,6]", rb"\"shape\":[9,6]"))
    refused(path, "'w' is uint8 \\(12\\)")


# --- npy and npz --------------------------------------------------------------------------------


class Payload:
    """Creates a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def npy(header, data=b"", version=b"\1\0"):
    text = header.encode("latin-1")
    size = struct.pack("<H" if version == b"\1\0" else "<I", len(text))
    return b"\x93NUMPY" + version + size + text + data


def described(descr="'<f4'", order="False", shape="(4,)", data=bytes(16)):
    return npy(f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n", data)


NPY = {
    "empty": b"",
    "wrong magic": b"\x93NUMPZ\1\0",
    "version 3": npy("{}", version=b"\3\0"),
    "version 9": npy("{}", version=b"\x09\0"),
    "header ends early": described()[:30],
    "truncated data": described()[:-1],
    "data left over": described(data=bytes(17)),
    "terabytes": described(shape="(1099511627776,)"),
    "overflow": described(shape="(4294967296, 4294967296, 4294967296)"),
    "huge and empty": described(shape="(0, 4611686018427387904, 4)", data=b""),
    "negative": described(shape="(-4,)"),
    "negative squared": described(shape="(-2, -2)"),
    "booleans": described(shape="(True, 4)"),
    "floats": described(shape="(4.0,)"),
    "a number for a shape": described(shape="4"),
    "a call": described(shape="(__import__('os').getpid(),)"),
    "deep": described(shape="(" * 500),
    "deep signs": described(shape="-" * 5000 + "1"),
    "no such type": described(descr="'<q99'"),
    "objects": described(descr="'|O'"),
    "objects in a record": described(descr="[('a', '|O')]"),
    "elements of no size": described(descr="'|V0'", shape="(1099511627776,)", data=b""),
    "header of 4 GB": npy("{}", version=b"\2\0")[:8] + struct.pack("<I", 2**32 - 1),
    "header of 1 MB": npy(" " * 2**20 + "{}", version=b"\2\0"),
}


@pytest.mark.parametrize("how", NPY)
def test_npy(tmp_path, how):
    path = tmp_path / "hostile.npy"
    path.write_bytes(NPY[how])
    refused(path)


@pytest.mark.parametrize("how", NPY)
def test_npy_inside_npz(tmp_path, how):
    path = tmp_path / "hostile.npz"
    write_npz(path, {"a.npy": NPY[how]})
    refused(path)


def write_npz(path, members, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as file:
        for name, data in members.items():
            file.writestr(name, data)


def test_pickles_are_never_loaded(tmp_path):
    witness = tmp_path / "executed"
    array = np.array([Payload(witness)], dtype=object)
    np.savez(tmp_path / "a.npz", x=array)
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    refused(tmp_path / "a.npz", "pickled")
    refused(tmp_path / "a.npy", "pickled")
    assert not witness.exists()


def test_bomb_of_zeros(tmp_path):
    """A real bomb: 300 MB of zeros in 0.3 MB. Refused by its sizes, before it is unpacked."""
    path = tmp_path / "bomb.npz"
    header = described(shape=f"({300 * MB},)", descr="'|u1'", data=b"")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:  # noqa: SIM117
        with file.open("a.npy", "w", force_zip64=True) as member:
            member.write(header)
            for _ in range(300):
                member.write(bytes(MB))
    refused(path, "save such arrays uncompressed")


def patched(path, signature, offset, value):
    """Overwrite a 32-bit field of the first zip entry with this signature."""
    data = bytearray(path.read_bytes())
    at = data.index(signature) + offset
    data[at : at + 4] = struct.pack("<I", value)
    path.write_bytes(data)


CENTRAL = b"PK\1\2"


def test_member_that_lies_about_its_size(tmp_path):
    path = tmp_path / "liar.npz"
    write_npz(path, {"a.npy": described(shape="(268435456,)", data=bytes(16))})
    header = len(described(shape="(268435456,)", data=b""))
    patched(path, CENTRAL, 24, header + 2**30)
    refused(path, "more than its")


def test_member_that_ends_early(tmp_path):
    path = tmp_path / "short.npz"
    write_npz(path, {"a.npy": described(shape="(1000,)", data=bytes(16))})
    patched(path, CENTRAL, 24, len(described(shape="(1000,)", data=b"")) + 4000)
    refused(path)


def test_members_that_share_their_bytes(tmp_path):
    """Two entries of the directory over the same data."""
    path = tmp_path / "overlap.npz"
    write_npz(path, {"a.npy": described(), "b.npy": described()}, zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    second = data.rindex(CENTRAL)
    data[second + 42 : second + 46] = struct.pack("<I", 0)
    path.write_bytes(data)
    refused(path)


def test_checksum(tmp_path):
    path = tmp_path / "crc.npz"
    write_npz(path, {"a.npy": described()}, zipfile.ZIP_STORED)
    data = path.read_bytes()
    path.write_bytes(data.replace(bytes(16), b"\1" + bytes(15), 1))
    refused(path, "CRC")


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"a.txt": b"x"}, "'a.txt' is no array"),
        ({"../../a.txt": b"x"}, "no array"),
        ({"__pyquant__.npy": described()}, "__pyquant__"),
        ({"__pyquant__.npy": described("'|u1'", shape="(1,)", data=b"[")}, "JSON"),
        ({"__pyquant__.npy": described("'|u1'", shape="(2,)", data=b"[]")}, "JSON object"),
        ({"__pyquant__.npy": described("'|u1'", shape="(4,)", data=b"\xff\xfe\xfd\xfc")}, "JSON"),
        ({"__pyquant__.npy": described("'|u1'", shape="(90000,)", data=b"[" * 90000)}, "deeply"),
        ({"__pyquant__.npy": described("'|u1'", shape="(8,)", data=b'{"a": 3}')}, "strings"),
    ],
)  # fmt: skip
def test_npz_members(tmp_path, members, words):
    path = tmp_path / "hostile.npz"
    write_npz(path, members)
    refused(path, words)


def test_npz_that_is_none(tmp_path):
    path = tmp_path / "hostile.npz"
    for data in (b"", b"PK", zlib.compress(b"x" * 100)):
        path.write_bytes(data)
        refused(path, "not a valid .npz")


def test_npz_with_the_same_name_twice(tmp_path):
    path = tmp_path / "twice.npz"
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "w") as file:
        file.writestr("a.npy", described())
        file.writestr("a.npy", described())
    refused(path, "twice")


def test_npz_of_another_method(tmp_path):
    path = tmp_path / "method.npz"
    write_npz(path, {"a.npy": described()}, zipfile.ZIP_LZMA)
    refused(path, "neither stored nor deflated")


def test_npz_that_is_encrypted(tmp_path):
    path = tmp_path / "locked.npz"
    write_npz(path, {"a.npy": described()})
    data = bytearray(path.read_bytes())
    data[data.index(CENTRAL) + 8] |= 1
    path.write_bytes(data)
    refused(path, "encrypted")


# --- chance -------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_random_damage(tmp_path, suffix):
    """Whatever is changed in a file, it loads or is a ValueError; never anything else."""
    path = tmp_path / f"noise{suffix}"
    q = pq.quantize(normal(3, 4), axis=0, scheme="affine", dtype="int4", packed=True)
    pq.save(path, {"w": q, "b": np.ones(2), "v": pq.quantize(normal(4, 4), axis=0, block_size=2)})
    whole = path.read_bytes()
    chance = random.Random(7)
    loaded = 0
    for _ in range(1500):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.choice((0, 1, 127, 255, 34, 57, 93))
        path.write_bytes(damaged)
        try:
            pq.load(path)
            loaded += 1
        except ValueError as error:
            assert type(error) is ValueError
    assert 0 < loaded < 1500


def test_random_damage_of_npy(tmp_path):
    path = tmp_path / "noise.npy"
    buffer = io.BytesIO()
    np.save(buffer, normal(3, 4))
    chance = random.Random(7)
    for _ in range(1500):
        damaged = bytearray(buffer.getvalue())
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(80)] = chance.randrange(256)
        path.write_bytes(damaged)
        try:
            pq.load(path)
        except ValueError as error:
            assert type(error) is ValueError
