"""Seconds on a device for calls that go round several buffers.

What is timed is the replay of a CUDA graph where the contender can be captured, so that Python's
part is not measured, and plain calls between two events where it cannot.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Use = Callable[[int], object]  # of the buffers with this number


class Timer:
    """Seconds on the device for one call, by replays of a graph that goes round the buffers."""

    def __init__(self, cp: Any, use: Use, count: int) -> None:
        self._cp, self._use, self._count = cp, use, count
        self.stream = cp.cuda.Stream(non_blocking=True)
        self.graph: Any = None
        self._round()
        try:
            with self.stream:
                self.stream.begin_capture()
                self._round()
                self.graph = self.stream.end_capture()
        except Exception:
            self.stream = cp.cuda.Stream(non_blocking=True)
        self.stream.synchronize()

    def _round(self) -> None:
        with self.stream:
            for i in range(self._count):
                self._use(i)
        if self.graph is None and not self.stream.is_capturing():
            self.stream.synchronize()

    def __call__(self) -> float:
        cp = self._cp
        start, stop = cp.cuda.Event(), cp.cuda.Event()
        with self.stream:
            start.record(self.stream)
            if self.graph is not None:
                self.graph.launch(self.stream)
            else:
                for i in range(self._count):
                    self._use(i)
            stop.record(self.stream)
        stop.synchronize()
        return float(cp.cuda.get_elapsed_time(start, stop)) / 1e3 / self._count


def torch_timer(torch: Any, use: Use, count: int) -> Callable[[], float]:
    """The same for torch, whose graphs are its own."""
    for i in range(count):
        use(i)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for i in range(count):
            use(i)
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def seconds() -> float:
        start.record()
        graph.replay()
        stop.record()
        stop.synchronize()
        return float(start.elapsed_time(stop)) / 1e3 / count

    return seconds
