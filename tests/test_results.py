"""Results are ordinary arrays: their memory is theirs alone, however it was come by."""

import gc
import random
import threading
import weakref

import numpy as np
import pytest

import pyquant as pq
from pyquant import ops

SIZES = [1, 1000, 300_000, 1 << 20, (1 << 20) + 1, 5 << 20]


@pytest.mark.parametrize("size", SIZES)
def test_a_result_is_an_ordinary_array(size):
    for result in (
        ops.quantize_linear(np.ones(size, np.float32), 1.0),
        ops.dequantize_linear(np.ones(size, np.int8), 1.0),
        pq.quantize(np.ones(size, np.float64)).data,
    ):
        assert type(result) is np.ndarray and result.base is None
        flags = result.flags
        assert flags.owndata and flags.writeable and flags.aligned and flags.c_contiguous
        result += 1
        result.resize(2 * size, refcheck=False)  # memory that NumPy itself makes larger
        assert (result[size:] == 0).all()


def test_results_that_live_are_never_overwritten():
    """Large ones come and go in random order; each keeps the value it was made with."""
    order = random.Random(1)
    alive = {}
    for value in range(120):
        size = order.choice([1 << 20, (1 << 20) + 77, 3 << 20])
        alive[value % 60] = (
            value % 100,
            ops.quantize_linear(np.full(size, value % 100, "f4"), 1.0),
        )
        if order.random() < 0.6:
            del alive[order.choice(list(alive))]
        for expected, array in alive.values():
            assert array[0] == array[-1] == array[array.size // 2] == expected
    for expected, array in alive.values():
        assert (array == expected).all()


def test_a_freed_result_takes_nothing_with_it():
    x = np.ones(2 << 20, np.float32)
    q = ops.quantize_linear(x, 0.5)
    view, gone = q[10:20], weakref.ref(q)
    del q
    gc.collect()
    others = [ops.quantize_linear(x, 1.0) for _ in range(3)]
    assert gone() is not None and (view == 2).all()  # a view keeps its array alive
    assert all((other == 1).all() for other in others)


def test_arrays_that_are_not_ours_keep_their_allocator():
    """NumPy lets a thread choose its allocator; ours must not outlast the making of a result."""
    get_handler_name = pytest.importorskip("numpy._core.multiarray").get_handler_name
    q = ops.quantize_linear(np.ones(4 << 20, np.float32), 1.0)
    assert get_handler_name() == "default_allocator"
    assert get_handler_name(np.ones(4 << 20)) == "default_allocator"
    assert q.size == 4 << 20


def test_results_of_many_threads_at_once():
    failures = []

    def work(value):
        x = np.full((1 << 20) + value, value, np.float32)
        kept = []
        for _ in range(8):
            kept.append(ops.quantize_linear(x, 1.0))
            if len(kept) > 2:
                kept.pop(0)
            if any((q != value).any() for q in kept):
                failures.append(value)

    threads = [threading.Thread(target=work, args=(v,)) for v in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
