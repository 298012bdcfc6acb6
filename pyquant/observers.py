"""Streaming calibration: data in batches, parameters at the end."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pyquant import ops
from pyquant._arguments import Array, float_input, layout_of, params_shape
from pyquant._arrays import finite, on_host
from pyquant._backend import backend_of
from pyquant._grid import default_narrow, grid_of
from pyquant._tensors import takes_tensors
from pyquant.array import QuantParams
from pyquant.calibration import METHODS, choose_params
from pyquant.clipping import CLIPS
from pyquant.histogram import FEWEST_BINS, LEAST_EXPONENT, MOST_BINS, Histogram, half_of
from pyquant.ops.dynamic import scheme_code
from pyquant.ops.ranges import host_range

_FORMAT = 1
_MOST = float(np.finfo(np.float32).max)


class Observer:
    """Choose parameters from data that come in batches, in memory of one histogram a channel.

    Batches may be split and ordered in any way, and observers of parts merged in any order: the
    state, and so the parameters, are the same bits ("moving_average" excepted, which weighs later
    batches more by definition).

    Parameters
    ----------
    method : str
        As in `pyquant.calibrate`.
    dtype, scheme, narrow_range, axis, block_size, nan_policy, percentile, bins, momentum
        As in `pyquant.calibrate`. All batches have as many channels, or blocks.

    Raises
    ------
    ValueError
        An argument is out of its range, or the method needs a histogram and blocks are asked for.

    Examples
    --------
    >>> import numpy as np, pyquant as pq
    >>> observer = pq.Observer("percentile", percentile=(1, 99), dtype="uint8", scheme="affine")
    >>> for batch in np.split(np.linspace(0, 100, 1000, dtype=np.float32), 10):
    ...     _ = observer.update(batch)
    >>> [round(float(end)) for end in observer.range()]
    [1, 99]
    """

    def __init__(
        self,
        method: str = "minmax",
        *,
        dtype: str = "int8",
        scheme: str = "symmetric",
        narrow_range: bool | None = None,
        axis: int | None = None,
        block_size: int | None = None,
        nan_policy: str = "raise",
        percentile: float | tuple[float, float] = 99.99,
        bins: int = 2048,
        momentum: float = 0.9,
    ) -> None:
        if method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
        if nan_policy not in ("raise", "omit"):
            raise ValueError(f"nan_policy must be 'raise' or 'omit', not {nan_policy!r}")
        layout_of((1,) * 64, axis, block_size)  # types and signs; dimensions come with the data
        if block_size is not None and method in CLIPS:
            raise ValueError(
                f"block_size={block_size} goes with the methods minmax and moving_average of an "
                f"observer: the histogram that {method} keeps is larger than a block"
            )
        if isinstance(bins, bool) or not isinstance(bins, (int, np.integer)):
            raise TypeError(f"bins must be an integer, not {bins!r}")
        if not FEWEST_BINS <= bins <= MOST_BINS:
            raise ValueError(f"bins={bins} must be from {FEWEST_BINS} to {MOST_BINS}")
        if not 0.0 <= momentum < 1.0:
            raise ValueError(f"momentum={momentum} must be at least 0 and below 1")
        narrow = default_narrow(narrow_range, dtype, scheme)
        self._grid = grid_of(dtype, narrow)
        scheme_code(scheme)
        self._method, self._scheme = method, scheme
        self._axis = None if axis is None else int(axis)
        self._block_size = None if block_size is None else int(block_size)
        self._nan_policy = nan_policy
        self._percentile = _two_sided(percentile)
        self._bins, self._momentum = int(bins), float(momentum)
        self._shape: tuple[int, ...] | None = None if axis is not None else ()
        self._histogram: Histogram | None = None
        self._ends: tuple[Array, Array] | None = None

    @property
    def method(self) -> str:
        """How the range is chosen."""
        return self._method

    @takes_tensors()
    def update(self, batch: npt.ArrayLike) -> Observer:
        """Take in a batch; a batch that is refused leaves the observer as it was.

        Parameters
        ----------
        batch : float array
            float64 counts as the nearest float32.

        Returns
        -------
        Observer
            This one.

        Raises
        ------
        TypeError
            The batch is not floating-point.
        ValueError
            It holds NaN or infinity, or has another number of channels than those before.
        """
        backend_of(batch)
        x, code = float_input(batch, "batch")
        layout = layout_of(x.shape, self._axis, self._block_size)
        shape = params_shape(x.shape, self._axis, self._block_size)
        if self._shape is not None and shape != self._shape:
            raise ValueError(
                f"batch must have scales of shape {self._shape} as those before, not {shape}"
            )
        if self._method in CLIPS:
            omit = self._nan_policy == "omit"
            seen = Histogram.of(x, code, layout, half_of(self._bins), omit)
            if self._histogram is None:
                self._histogram = seen
            else:
                self._histogram.merge(seen)
        elif x.size:
            self._widen(*self._extremes(x))
        self._shape = shape
        return self

    def _extremes(self, x: Array) -> tuple[Array, Array]:
        """Of each channel or block, infinite and upside down where nothing counts."""
        low, high = host_range(x, self._axis, self._block_size, self._nan_policy)
        if self._nan_policy == "omit":
            empty = (low == 0) & (high == 0)
            if empty.any():  # zeros, or nothing at all
                some = finite(x).astype(np.float32)
                most = ops.absmax(some, axis=self._axis, block_size=self._block_size)
                empty &= on_host(most) == 0
                low = np.where(empty, np.float32(np.inf), low)
                high = np.where(empty, np.float32(-np.inf), high)
        return np.asarray(low, np.float64), np.asarray(high, np.float64)

    def _widen(self, low: Array, high: Array) -> None:
        if self._ends is None:
            self._ends = low, high
            return
        old_low, old_high = self._ends
        if self._method == "minmax":
            self._ends = np.minimum(old_low, low), np.maximum(old_high, high)
            return
        keep, new = self._momentum, 1.0 - self._momentum
        both = np.isfinite(old_low) & np.isfinite(low)
        one = np.isfinite(low)
        with np.errstate(invalid="ignore"):
            low = np.where(both, keep * old_low + new * low, np.where(one, low, old_low))
            high = np.where(both, keep * old_high + new * high, np.where(one, high, old_high))
        self._ends = low, high

    def merge(self, other: Observer) -> Observer:
        """Take in all that another observer has seen.

        Parameters
        ----------
        other : Observer
            Made with the same arguments; it stays as it is.

        Returns
        -------
        Observer
            This one.

        Raises
        ------
        ValueError
            The other one differs, or the method is "moving_average", which has an order.
        """
        if not isinstance(other, Observer):
            raise TypeError(f"other must be an Observer, not {type(other).__name__}")
        for name, mine in self._arguments().items():
            theirs = other._arguments()[name]
            if mine != theirs:
                raise ValueError(f"other must have {name}={mine!r} as this one, not {theirs!r}")
        if self._method == "moving_average":
            raise ValueError("moving_average depends on the order of batches: it cannot be merged")
        if other._shape is None or (other._histogram is None and other._ends is None):
            return self
        if self._shape is not None and self._shape != other._shape:
            raise ValueError(
                f"other must have scales of shape {self._shape} as this one, not {other._shape}"
            )
        self._shape = other._shape
        if other._ends is not None:
            self._widen(*other._ends)
        if other._histogram is not None:
            if self._histogram is None:
                h = other._histogram
                self._histogram = Histogram(h.counts.copy(), h.exponent, h.low, h.high)
            else:
                self._histogram.merge(other._histogram)
        return self

    def range(self) -> tuple[Array, Array]:
        """The chosen range, float32 of the shape that a scale has; 0 and 0 without data.

        Returns
        -------
        (low, high)

        Raises
        ------
        ValueError
            No batch has told yet how many channels there are.
        """
        if self._shape is None:
            raise ValueError("no batch has been seen: the number of channels is not known yet")
        if self._histogram is not None:
            return self._clipped(self._histogram)
        if self._ends is None:
            return np.zeros(self._shape, np.float32), np.zeros(self._shape, np.float32)
        low, high = (np.where(np.isfinite(end), end, 0.0) for end in self._ends)
        return np.asarray(low, np.float32), np.asarray(high, np.float32)

    def _clipped(self, histogram: Histogram) -> tuple[Array, Array]:
        assert self._shape is not None
        clip = CLIPS[self._method]
        ends = np.zeros((2, len(histogram.exponent)), np.float32)
        for channel in range(len(histogram.exponent)):
            low, high = float(histogram.low[channel]), float(histogram.high[channel])
            if low > high:
                continue
            if low < high:
                low, high = clip(histogram, channel, self._grid, self._scheme, self._percentile)
            ends[:, channel] = np.clip((low, high), -_MOST, _MOST)
        return ends[0].reshape(self._shape), ends[1].reshape(self._shape)

    def params(self) -> QuantParams:
        """The parameters for what has been seen; scale 1 without data.

        Raises
        ------
        ValueError
            As `range`.
        """
        low, high = self.range()
        return choose_params(
            low, high, dtype=self._grid.name, scheme=self._scheme,
            narrow_range=self._grid.narrow, axis=self._axis, block_size=self._block_size,
        )  # fmt: skip

    def _arguments(self) -> dict[str, Any]:
        return {
            "method": self._method, "dtype": self._grid.name, "scheme": self._scheme,
            "narrow_range": self._grid.narrow, "axis": self._axis,
            "block_size": self._block_size, "nan_policy": self._nan_policy,
            "percentile": self._percentile, "bins": self._bins, "momentum": self._momentum,
        }  # fmt: skip

    def state(self) -> dict[str, Array]:
        """Everything, as plain arrays; `from_state` makes an equal observer of them."""
        state = {"format": np.array(_FORMAT)}
        for name, value in self._arguments().items():
            if value is not None:
                state[name] = np.array(value)
        if self._shape is not None:
            state["shape"] = np.array(self._shape, np.int64)
        if self._ends is not None:
            state["low"], state["high"] = (end.copy() for end in self._ends)
        if self._histogram is not None:
            h = self._histogram
            state["counts"], state["exponent"] = h.counts.copy(), h.exponent.copy()
            state["low"], state["high"] = h.low.copy(), h.high.copy()
        return state

    @classmethod
    def from_state(cls, state: dict[str, Array]) -> Observer:
        """The observer whose `state` this is.

        Raises
        ------
        ValueError
            This is not an observer's state.
        """
        try:
            if int(state["format"]) != _FORMAT:
                raise ValueError(f"format {state['format']} is not known")
            given = {name: _plain(state[name]) for name in _NAMES if name in state}
            observer = cls(**given)
            if "shape" in state:
                observer._shape = tuple(int(n) for n in state["shape"])
            observer._take(state)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ValueError(f"this is not the state of an observer: {error}") from error
        return observer

    def _take(self, state: dict[str, Array]) -> None:
        if "low" not in state:
            return
        if self._method not in CLIPS:
            ends = np.array(state["low"], np.float64), np.array(state["high"], np.float64)
            if {end.shape for end in ends} != {self._shape}:
                raise ValueError(f"low and high must have shape {self._shape}")
            self._ends = ends
            return
        if self._shape is None:
            raise ValueError("a histogram needs the shape of its scales")
        channels = int(np.prod(self._shape, dtype=np.int64))
        counts = np.array(state["counts"])
        exponent = np.array(state["exponent"], np.int32)
        low, high = (np.array(state[name], np.float32) for name in ("low", "high"))
        if counts.dtype != np.uint64 or counts.shape != (channels, 2 * half_of(self._bins) + 1):
            raise ValueError("counts must be uint64, a row for every channel")
        if not exponent.shape == low.shape == high.shape == (channels,):
            raise ValueError(f"exponent, low and high must have shape ({channels},)")
        if not ((exponent >= LEAST_EXPONENT) & (exponent <= 128)).all():
            raise ValueError("exponent must be from -126 to 128")
        histogram = Histogram(counts, exponent, low, high)
        if not histogram.is_sound():
            raise ValueError("low and high must be in the outermost bins that hold counts")
        self._histogram = histogram

    def __reduce__(self) -> tuple[Any, ...]:
        return Observer.from_state, (self.state(),)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state to a .npz file.

        Parameters
        ----------
        path : str or path
            Taken as it is.
        """
        state = self.state()
        for name in _TEXTS:
            state[name] = np.frombuffer(str(state[name]).encode(), np.uint8)
        with open(path, "wb") as file:
            np.savez(file, allow_pickle=False, **state)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Observer:
        """Read what `save` wrote; nothing in the file is executed.

        Raises
        ------
        ValueError
            The file is damaged or something else.
        OSError
            There is no such file.
        """
        from pyquant.checkpoint.npz import NpzFile

        Path(path).stat()  # where nothing is, OSError says so
        file = NpzFile(Path(path))
        try:
            state = {name: file.read(name) for name in file.specs}
        finally:
            file.close()
        for name in _TEXTS:
            if name in state:
                state[name] = np.array(state[name].tobytes().decode("ascii", "replace"))
        return cls.from_state(state)

    def __repr__(self) -> str:
        seen = "" if self._histogram is None and self._ends is None else ", with data"
        return f"Observer({self._method!r}, dtype={self._grid.name!r}{seen})"


_NAMES = (
    "method", "dtype", "scheme", "narrow_range", "axis", "block_size", "nan_policy", "percentile",
    "bins", "momentum",
)  # fmt: skip

_TEXTS = ("method", "dtype", "scheme", "nan_policy")


def _plain(value: Array) -> Any:
    plain = np.asarray(value).tolist()
    return tuple(plain) if isinstance(plain, list) else plain


def _two_sided(percentile: float | tuple[float, float]) -> tuple[float, float]:
    """(low, high) in percent: 99.99 is short for (0.01, 99.99)."""
    if isinstance(percentile, (tuple, list)):
        if len(percentile) != 2:
            raise ValueError(f"percentile={percentile!r} must be a number or a pair (low, high)")
        low, high = float(percentile[0]), float(percentile[1])
    else:
        high = float(percentile)
        low = 100.0 - high
    if not 0.0 <= low <= high <= 100.0:
        raise ValueError(
            f"percentile={percentile!r} must be a number from 50 to 100 or a pair (low, high) "
            f"with 0 <= low <= high <= 100"
        )
    return low, high
