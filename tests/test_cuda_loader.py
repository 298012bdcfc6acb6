"""How CUDA kernels are compiled, kept on disk and loaded; without a GPU."""

import os
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from c_build import ROOT
from cuda_build import need_nvrtc

from pyquant import _cuda_loader

UNIT, ARCH = "bits", "sm_90"  # the smallest


@pytest.fixture
def cache(tmp_path, monkeypatch):
    need_nvrtc()
    folder = tmp_path / "cache"
    monkeypatch.setenv("PYQUANT_CACHE_DIR", str(folder))
    return folder


@pytest.fixture(scope="module")
def code():
    need_nvrtc()
    return _cuda_loader.compile(UNIT, ARCH)


@pytest.fixture
def compilations(monkeypatch, code):
    """What was compiled since the beginning of the test."""
    made = []

    def compile(unit, arch):
        made.append((unit, arch))
        return code

    monkeypatch.setattr(_cuda_loader, "compile", compile)
    return made


def python(program: str, **environment) -> subprocess.CompletedProcess:
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(paths)} | environment
    return subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False
    )


def test_the_machine_code_is_whole(code):
    """CuPy's binding drops the last byte; the section headers of an ELF file stand at its end."""
    assert code[:4] == b"\x7fELF"
    (begin,) = struct.unpack_from("<Q", code, 0x28)
    size, count = struct.unpack_from("<HH", code, 0x3A)
    assert begin + size * count <= len(code)
    (programs,) = struct.unpack_from("<Q", code, 0x20)
    size, count = struct.unpack_from("<HH", code, 0x36)
    assert programs + size * count <= len(code)


def test_a_second_call_takes_it_from_the_disk(cache, compilations, code):
    assert _cuda_loader.cubin(UNIT, ARCH) == code
    assert _cuda_loader.cubin(UNIT, ARCH) == code
    assert compilations == [(UNIT, ARCH)]
    assert [p.suffix for p in cache.iterdir()] == [".cubin"]


@pytest.mark.parametrize("damage", [
    lambda b: b"", lambda b: b[:20], lambda b: b[:-1], lambda b: b + b"\0",
    lambda b: b[:5000] + bytes([b[5000] ^ 1]) + b[5001:], lambda b: bytes(32) + b[32:],
], ids=["empty", "begun", "cut", "longer", "a bit", "digest"])  # fmt: skip
def test_a_damaged_entry_is_made_again(cache, compilations, code, damage):
    _cuda_loader.cubin(UNIT, ARCH)
    (entry,) = cache.iterdir()
    whole = entry.read_bytes()
    entry.write_bytes(damage(whole))
    assert _cuda_loader.cubin(UNIT, ARCH) == code
    assert len(compilations) == 2
    assert entry.read_bytes() == whole


@pytest.mark.parametrize("what", ["source", "options", "version", "architecture"])
def test_all_that_the_code_depends_on_names_the_entry(cache, monkeypatch, compilations, what):
    _cuda_loader.cubin(UNIT, ARCH)
    arch = ARCH
    if what == "source":
        monkeypatch.setattr(_cuda_loader, "source", lambda unit: "another")
    elif what == "options":
        monkeypatch.setattr(_cuda_loader, "OPTIONS", (*_cuda_loader.OPTIONS, "-lineinfo"))
    elif what == "version":
        monkeypatch.setattr(
            _cuda_loader, "_nvrtc", lambda: SimpleNamespace(getVersion=lambda: (99, 0))
        )
    else:
        arch = "sm_80"
    _cuda_loader.cubin(UNIT, arch)
    assert len(compilations) == len(list(cache.iterdir())) == 2


def test_without_a_folder_to_write_to_it_works_all_the_same(
    tmp_path, monkeypatch, compilations, code
):
    need_nvrtc()
    file = tmp_path / "file"
    file.write_text("not a folder")
    for place in (file, file / "below", "/proc/nowhere"):
        monkeypatch.setenv("PYQUANT_CACHE_DIR", str(place))
        assert _cuda_loader.cubin(UNIT, ARCH) == code
    assert len(compilations) == 3
    assert file.read_text() == "not a folder"


def test_the_folder_follows_the_environment(monkeypatch):
    monkeypatch.setenv("PYQUANT_CACHE_DIR", "/one")
    monkeypatch.setenv("XDG_CACHE_HOME", "/two")
    assert str(_cuda_loader.cache_folder()) == "/one"
    monkeypatch.delenv("PYQUANT_CACHE_DIR")
    assert str(_cuda_loader.cache_folder()) == "/two/pyquant"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/three")
    assert str(_cuda_loader.cache_folder()) == "/three/.cache/pyquant"


def test_processes_that_compile_at_once_do_not_disturb_each_other(cache, code):
    program = (
        "import hashlib; from pyquant._cuda_loader import cubin; "
        f"print(hashlib.sha256(cubin({UNIT!r}, {ARCH!r})).hexdigest())"
    )
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: python(program), range(4)))
    assert [d.returncode for d in done] == [0] * 4, done
    assert len({d.stdout for d in done}) == 1
    (entry,) = cache.iterdir()
    assert entry.read_bytes()[32:] == code


def test_what_the_compiler_says_is_in_the_error(monkeypatch):
    need_nvrtc()
    monkeypatch.setattr(_cuda_loader, "source", lambda unit: '#line 7 "x.cuh"\nint f( {}\n')
    with pytest.raises(RuntimeError, match=r"did not compile bits.cu for sm_90(?s:.*)x\.cuh\(7\)"):
        _cuda_loader.compile(UNIT, ARCH)
    with pytest.raises(RuntimeError, match=r"NVRTC [\d.]+ did not compile bits.cu for sm_10"):
        _cuda_loader.compile(UNIT, "sm_10")


def test_lines_keep_their_numbers_in_the_spliced_text():
    text = _cuda_loader.source("quantize").splitlines()
    file, number, checked = "", 0, 0
    for line in text:
        if line.startswith("#line"):
            _, number, file = line.split()
            number, file = int(number) - 1, file.strip('"')
            continue
        number += 1
        folder = "csrc/include" if file.endswith(".h") else "pyquant/cuda"
        own = (ROOT / folder / file).read_text().splitlines()[number - 1]
        assert line == own or (line == "" and own.startswith("#include"))
        checked += 1
    assert checked > 300


@pytest.mark.parametrize("unit, capability, arch", [
    ("quantize", "90", "sm_90"), ("quantize", "120", "sm_120"), ("gemm_sm_90a", "90", "sm_90a"),
    ("gemm_sm_90a", "80", "sm_90a"),
])  # fmt: skip
def test_architecture(unit, capability, arch):
    assert _cuda_loader.architecture(unit, capability) == arch


def compiler(monkeypatch, version, *known):
    """An NVRTC of this version that knows these architectures."""
    nvrtc = SimpleNamespace(getVersion=lambda: version, getSupportedArchs=lambda: known)
    monkeypatch.setattr(_cuda_loader, "_nvrtc", lambda: nvrtc)


@pytest.mark.parametrize("arch, compiled_for", [
    ("sm_75", "sm_75"), ("sm_90", "sm_90"), ("sm_90a", "sm_90a"), ("sm_87", "sm_86"),
    ("sm_103", "sm_100"), ("sm_121", "compute_100"), ("sm_110", "compute_100"),
])  # fmt: skip
def test_a_device_that_is_newer_than_the_compiler(monkeypatch, arch, compiled_for):
    """A relative's machine code runs on it, and PTX on every newer one."""
    compiler(monkeypatch, (12, 8), 50, 70, 75, 80, 86, 89, 90, 100)
    assert _cuda_loader.understood(arch) == compiled_for


def test_devices_that_are_too_old_are_refused(monkeypatch):
    compiler(monkeypatch, (12, 8), 50, 70, 75, 80)
    with pytest.raises(RuntimeError, match=r"need compute capability 7\.5 or newer, not 7\.0"):
        _cuda_loader.understood("sm_70")
    compiler(monkeypatch, (15, 0), 80, 90)
    with pytest.raises(RuntimeError, match=r"NVRTC 15\.0 does not compile for .* 7\.5"):
        _cuda_loader.understood("sm_75")


def test_ptx_for_a_driver_to_translate():
    need_nvrtc()
    text = _cuda_loader.compile(UNIT, "compute_90")
    assert b".target sm_90" in text and text.endswith(b"\0")
    assert b"pack_4" in text


def test_mixed_signs_on_hopper_need_a_compiler_that_knows_them(monkeypatch):
    for version, known in (((12, 3), False), ((12, 4), True), ((13, 0), True)):
        compiler(monkeypatch, version, 90)
        assert _cuda_loader.compiles("gemm_hopper_i8u8_sm_90a") is known
        assert _cuda_loader.compiles("gemm_hopper_i8i8_sm_90a")
        assert _cuda_loader.compiles("gemm_mma_i8u8")


def test_without_cupy_one_sentence_names_the_extras():
    hide = "import sys; sys.modules['cupy'] = None\nfrom pyquant import _cuda_loader as l\n"
    for call in ("l.require()", "l.kernel('bits', 'pack_4')", "l.warmup()"):
        done = python(hide + call)
        last = done.stderr.splitlines()[-1]
        assert last.startswith("RuntimeError: arrays on a GPU need CuPy (pip install"), done.stderr
        assert "pyquant[cuda13]" in last and "pyquant[cuda12]" in last
    done = python(hide + "l.compile('bits', 'sm_90')")
    last = done.stderr.splitlines()[-1]
    assert last.startswith("RuntimeError: compiling for the GPU needs CuPy and NVRTC")


def has_gpu() -> bool:
    cupy = pytest.importorskip("cupy")
    return not _cuda_loader._no_device(cupy)


def test_without_a_driver_one_sentence_says_so():
    if has_gpu():
        pytest.skip("this machine has a GPU")
    for call in (_cuda_loader.require, _cuda_loader.warmup):
        with pytest.raises(
            RuntimeError, match="arrays on a GPU need an NVIDIA GPU and its driver"
        ):
            call()


class FakeDriver:
    """As much of CuPy as loading needs: two devices and a record of what was asked."""

    def __init__(self, monkeypatch):
        self.device, self.loaded, self.limits = 0, [], []
        outer = self

        class Module:
            def load(self, code):
                outer.loaded.append((outer.device, code))

            def get_function(self, name):
                return SimpleNamespace(ptr=(outer.device, name))

        self.__version__ = "0"
        self.cuda = SimpleNamespace(
            Module=Module,
            Device=lambda i: SimpleNamespace(compute_capability=("90", "120")[i]),
            runtime=SimpleNamespace(
                getDevice=lambda: self.device, getDeviceCount=lambda: 2,
                deviceGetAttribute=lambda attribute, device: 232448,
                CUDARuntimeError=RuntimeError,
                getDeviceProperties=lambda i: {"major": (9, 12)[i], "minor": 0, "name": b"A GPU"},
            ),
            driver=SimpleNamespace(
                funcGetAttribute=lambda attribute, function: 1024,
                funcSetAttribute=lambda function, attribute, value: self.limits.append(
                    (function, attribute, value)
                ),
            ),
        )  # fmt: skip
        monkeypatch.setitem(sys.modules, "cupy", self)
        monkeypatch.setattr(_cuda_loader, "_kernels", {})
        monkeypatch.setattr(_cuda_loader, "_modules", {})
        monkeypatch.setattr(_cuda_loader, "_usable", None)
        monkeypatch.setattr(_cuda_loader, "cubin", lambda unit, arch: f"{unit} {arch}")
        compiler(monkeypatch, (13, 0), 75, 80, 90, 100, 120)


def test_kernels_are_loaded_once_a_device(monkeypatch):
    fake = FakeDriver(monkeypatch)
    first = _cuda_loader.kernel("bits", "pack_4")
    assert _cuda_loader.kernel("bits", "pack_4") is first
    _cuda_loader.kernel("bits", "pack_2")
    assert fake.loaded == [(0, "bits sm_90")]
    fake.device = 1
    assert _cuda_loader.kernel("bits", "pack_4") is not first
    assert fake.loaded == [(0, "bits sm_90"), (1, "bits sm_120")]
    assert fake.limits[0] == ((0, "pack_4"), 8, 232448 - 1024)


def test_warmup_loads_every_unit_that_the_device_can_run(monkeypatch):
    fake = FakeDriver(monkeypatch)
    monkeypatch.setattr(_cuda_loader, "units", lambda: ["bits", "gemm_sm_90a", "quantize"])
    _cuda_loader.warmup()
    assert fake.loaded == [(0, "bits sm_90"), (0, "gemm_sm_90a sm_90a"), (0, "quantize sm_90")]
    fake.device = 1
    _cuda_loader.warmup()
    assert [code for device, code in fake.loaded if device] == ["bits sm_120", "quantize sm_120"]


def test_the_runtime_report_names_the_devices(monkeypatch, capsys):
    import pyquant as pq

    FakeDriver(monkeypatch)
    assert pq.runtime_info()["gpu"]["devices"] == ["A GPU (sm_90)", "A GPU (sm_120)"]
    pq.show_runtime()
    assert "GPU: A GPU (sm_90), A GPU (sm_120); CuPy 0, kernels kept in" in capsys.readouterr().out


def test_the_runtime_report_says_why_there_is_no_gpu(monkeypatch, capsys):
    import pyquant as pq

    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr(_cuda_loader, "_version", lambda distribution: "")
    pq.show_runtime()
    assert "GPU: none (CuPy is not installed: pip install" in capsys.readouterr().out
    fake = FakeDriver(monkeypatch)
    fake.cuda.runtime.getDeviceCount = lambda: 0
    pq.show_runtime()
    assert "GPU: none (the driver has none)" in capsys.readouterr().out
