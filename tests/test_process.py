"""What pyquant does, and does not do, to the process it lives in."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
from cases import assert_same_bits, random_generator

import pyquant as pq
from pyquant import ops

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
BIG = (1500, 1000)


def python(code: str, timeout=120, check=True, **environment) -> subprocess.CompletedProcess:
    """Run code in a fresh interpreter; a value of None removes the variable."""
    full = {k: v for k, v in (os.environ | environment).items() if v is not None}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=full, capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip
    if check:
        assert done.returncode == 0, done.stderr
    return done


def big_work() -> list[np.ndarray]:
    x = random_generator("fork").standard_normal(BIG).astype(np.float32)
    q = pq.quantize(x, axis=0)
    return [q.data, q.scale, q.dequantize(), *pq.fake_quantize_grad(x, x, q.params),
            *ops.dynamic_quantize_linear(x)]  # fmt: skip


# --- fork -----------------------------------------------------------------------------------


def wait_for(pid: int, seconds: float) -> int:
    """The exit status of a child, or a failed test instead of a hanging one."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.killpg(pid, signal.SIGKILL)  # its own children too
    os.waitpid(pid, 0)
    pytest.fail("the forked child did not finish")


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("generations", [1, 2])
def test_os_fork_after_use(generations):
    with pq.set_num_threads(4):
        expected = big_work()
        pid = os.fork()
        if pid == 0:  # no pytest in the child: it leaves through os._exit alone
            status = 1
            os.setpgid(0, 0)
            try:
                if generations == 2:
                    big_work()
                    grandchild = os.fork()
                    if grandchild:
                        os._exit(os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1]))
                same = (
                    a.tobytes() == b.tobytes() for a, b in zip(big_work(), expected, strict=True)
                )
                status = 0 if all(same) else 3
            finally:
                os._exit(status)
        assert wait_for(pid, 60) == 0
        for a, b in zip(big_work(), expected, strict=True):  # the parent still works
            assert_same_bits(a, b)


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_multiprocessing_fork_after_use():
    expected = [a.tobytes() for a in big_work()]
    context = multiprocessing.get_context("fork")
    with context.Pool(3) as pool:
        results = [pool.apply_async(big_work) for _ in range(3)]
        for result in results:
            assert [a.tobytes() for a in result.get(timeout=60)] == expected


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_while_other_threads_work():
    stop = threading.Event()

    def work():
        while not stop.is_set():
            big_work()

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    try:
        for _ in range(5):
            pid = os.fork()
            if pid == 0:
                status = 1
                os.setpgid(0, 0)
                try:
                    status = 0 if len(big_work()) == 9 else 3
                finally:
                    os._exit(status)
            assert wait_for(pid, 60) == 0
    finally:
        stop.set()
        for worker in workers:
            worker.join()


# --- threads --------------------------------------------------------------------------------


def test_threads_hammering_the_first_call():
    """Sixteen threads make the process's very first calls at the same moment."""
    python("""
        import hashlib, threading
        import numpy as np
        import pyquant as pq
        x = np.random.default_rng(1).standard_normal((300, 1000)).astype(np.float32)
        barrier, results, lock = threading.Barrier(16), [], threading.Lock()
        def work():
            barrier.wait()
            for _ in range(3):
                q = pq.quantize(x, axis=0)
                digest = hashlib.sha256(q.data.tobytes() + q.dequantize().tobytes()).digest()
                with lock:
                    results.append(digest)
        threads = [threading.Thread(target=work) for _ in range(16)]
        for t in threads: t.start()
        for t in threads: t.join()
        assert len(results) == 48 and len(set(results)) == 1
    """)


def test_threads_change_the_number_of_threads_while_others_work():
    expected = big_work()[0].tobytes()
    failures = []

    def work(n):
        for i in range(4):
            pq.set_num_threads(1 + (n + i) % 5)
            if big_work()[0].tobytes() != expected:
                failures.append(n)

    before = pq.get_num_threads()
    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pq.set_num_threads(before)
    assert not failures


def test_the_gil_is_released():
    """Another thread's Python code runs while one call is inside the library."""
    x = np.ones(20_000_000, np.float32)
    out = np.empty(x.size, np.int8)
    steps, stop = [], threading.Event()

    def count():
        while not stop.is_set():
            steps.append(None)
            time.sleep(0)

    counter = threading.Thread(target=count)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)  # so that nothing but a release inside the call lets count() run
    try:
        counter.start()
        seen = 0
        for _ in range(20):
            before = len(steps)
            ops.quantize_linear(x, 1.0, out=out)
            seen += len(steps) - before
    finally:
        stop.set()
        sys.setswitchinterval(interval)
        counter.join()
    assert seen > 0


@pytest.mark.parametrize("environment, expected", [
    ({"PYQUANT_NUM_THREADS": "3", "OMP_NUM_THREADS": None}, 3),
    ({"PYQUANT_NUM_THREADS": None, "OMP_NUM_THREADS": "5"}, 5),
    ({"PYQUANT_NUM_THREADS": "2", "OMP_NUM_THREADS": "5"}, 2),
    ({"PYQUANT_NUM_THREADS": None, "OMP_NUM_THREADS": "4,2"}, 4),
])  # fmt: skip
def test_environment_sets_the_number_of_threads(environment, expected):
    done = python("import pyquant as pq; print(pq.get_num_threads())", **environment)
    assert int(done.stdout) == expected


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no CPU affinity here")
def test_without_environment_the_usable_cpus_count():
    one = min(os.sched_getaffinity(0))
    for prepare, expected in (("", len(os.sched_getaffinity(0))),
                              (f"import os; os.sched_setaffinity(0, {{{one}}})", 1)):  # fmt: skip
        code = f"{prepare}\nimport pyquant as pq\nprint(pq.get_num_threads())"
        done = python(code, PYQUANT_NUM_THREADS=None, OMP_NUM_THREADS=None)
        assert int(done.stdout) == expected


@pytest.mark.parametrize("value", ["0", "-2", "many", "1e3", "99999999999999999999"])
def test_a_number_of_threads_that_is_none_does_not_break_the_import(value):
    done = python(
        "import pyquant as pq; print(pq.get_num_threads())", check=False, PYQUANT_NUM_THREADS=value
    )
    if done.returncode == 0:
        assert int(done.stdout) >= 1
    else:
        assert "PYQUANT_NUM_THREADS" in done.stderr.strip().splitlines()[-1]


def test_set_num_threads_as_a_context():
    before = pq.get_num_threads()
    with pq.set_num_threads(3):
        assert pq.get_num_threads() == 3
        with pq.set_num_threads(5):
            assert pq.get_num_threads() == 5
        assert pq.get_num_threads() == 3
    assert pq.get_num_threads() == before
    with pytest.raises(RuntimeError, match="on purpose"), pq.set_num_threads(6):
        raise RuntimeError("on purpose")
    assert pq.get_num_threads() == before
    pq.set_num_threads(4)
    assert pq.get_num_threads() == 4


# --- import ---------------------------------------------------------------------------------

PROCESS_STATE = """
    import ctypes, locale, os, signal, sys, warnings
    import numpy as np

    def floating_point():
        tiny = np.full(64, 1e-40, np.float32)
        third = np.float32(1) / np.full(64, 3, np.float32)
        down = np.float32(-1) / np.full(64, 3, np.float32)
        parts = [tiny * np.float32(0.5), tiny + tiny, third, down,
                 np.full(64, 1e-310) * 0.5, np.float64(1) / np.full(64, 3.0)]
        return b"".join(p.tobytes() for p in parts), 1e-310 * 0.5, 0.1 + 0.2

    def control_word():
        # The control bits of MXCSR, at byte 28 of glibc's fenv_t; its low six are sticky flags.
        if not sys.platform.startswith("linux") or os.uname().machine != "x86_64":
            return None
        environment = (ctypes.c_uint8 * 64)()
        ctypes.CDLL(None).fegetenv(environment)
        word = int.from_bytes(bytes(environment)[28:32], "little")
        return ctypes.CDLL(None).fegetround(), word & ~0x3F

    def kernel_view():
        try:
            with open("/proc/self/status") as status:
                lines = status.read().splitlines()
        except OSError:
            return None
        return [l for l in lines if l.split(":")[0] in ("SigBlk", "SigIgn", "SigCgt", "Threads")]

    def state():
        return {
            "floating point": floating_point(),
            "control word": control_word(),
            "signals": [signal.getsignal(s) for s in signal.valid_signals()],
            "kernel": kernel_view(),
            "environment": dict(os.environ),
            "c environment": [ctypes.CDLL(None).getenv(n) is None for n in
                              (b"OMP_NUM_THREADS", b"KMP_DUPLICATE_LIB_OK", b"GOMP_SPINCOUNT")],
            "locale": locale.setlocale(locale.LC_ALL),
            "warnings": list(warnings.filters),
            "np.geterr": np.geterr(),
            "print options": np.get_printoptions(),
            "np.random": np.random.get_state()[1].tobytes(),
            "hooks": (sys.excepthook, sys.displayhook, sys.path[:], sys.meta_path[:]),
            "recursion": sys.getrecursionlimit(),
            "directory": os.getcwd(),
        }

    floating_point()
    before = state()
"""


@pytest.mark.parametrize("use", [False, True], ids=["import", "use"])
def test_import_and_use_leave_the_process_alone(use):
    work = """
        x = np.linspace(-1e-39, 4, 500_000, dtype=np.float32)
        with pq.set_num_threads(1):
            q = pq.quantize(x)
            q.dequantize(), pq.fake_quantize(x, q.params), pq.fake_quantize_grad(x, x, q.params)
            pq.error(x, q), pq.ops.dynamic_quantize_linear(x)
    """
    done = python(
        textwrap.dedent(PROCESS_STATE) + "\nimport pyquant as pq\n"
        + (textwrap.dedent(work) if use else "")
        + "after = state()\nfor name in before:\n    assert before[name] == after[name], name\n",
        PYTHONWARNINGS="error",
    )  # fmt: skip
    assert done.stdout == "" and done.stderr == ""


def test_import_brings_no_third_party_module_but_numpy():
    done = python("""
        import sys
        import numpy
        before = set(sys.modules)
        import pyquant
        new = {name.partition(".")[0] for name in set(sys.modules) - before}
        new -= set(sys.stdlib_module_names) | {"pyquant", "numpy", "cython_runtime"}
        print(sorted(n for n in new if not n.startswith("_cython")))
    """)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["avx9", "AVX2", "sse", "avx2,avx512"])
def test_unknown_isa_is_an_error_at_import_that_lists_the_names(name):
    done = python("import pyquant", check=False, PYQUANT_ISA=name)
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert "PYQUANT_ISA" in last and name in last
    for known in ("scalar", "avx2", "avx512", "avx512vnni", "amxint8", "neon", "neoni8mm"):
        assert known in last


PRINT_VARIANTS = "import pyquant as pq; print(pq.runtime_info()['isa']['usable'])"


@pytest.mark.parametrize("value", ["", None])
def test_no_cap(value):
    done = python(PRINT_VARIANTS, PYQUANT_ISA=value)
    uncapped = python(PRINT_VARIANTS, PYQUANT_ISA=None)
    assert done.stdout == uncapped.stdout


@pytest.mark.parametrize("name", ["neon", "neondot", "neoni8mm", "avx2", "amxint8"])
def test_every_known_name_imports_on_every_architecture(name):
    done = python(PRINT_VARIANTS, PYQUANT_ISA=name)
    arm = os.uname().machine in ("aarch64", "arm64") if hasattr(os, "uname") else False
    if name.startswith("neon") is not arm:
        assert done.stdout.strip() == "['scalar']"


def test_show_runtime_prints_per_operation_chosen_and_available(capsys):
    pq.show_runtime()
    text = capsys.readouterr().out
    assert "quantize_f32_i8" in text and "scalar" in text
    assert "threads" in text.lower() and "GPU" in text
