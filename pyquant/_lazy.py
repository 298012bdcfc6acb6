"""Parameters and quantized arrays whose numbers are Dask arrays: known in shape, not in value.

Both are Dask collections: ``dask.compute`` and ``dask.persist`` take them, alone or among others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import dask.array as da
import numpy as np
from dask.base import DaskMethodsMixin, tokenize
from dask.highlevelgraph import HighLevelGraph

from pyquant._arguments import Array, params_shape
from pyquant._grid import Grid, grid_of
from pyquant.array import QuantizedArray, QuantParams


def record_dtype(grid: Grid) -> np.dtype[Any]:
    """Scale and zero point side by side, so that one task makes both."""
    return np.dtype([("scale", np.float32), ("zero_point", grid.storage)])


def record_of(params: QuantParams) -> Array:
    """Scale and zero point of known parameters as one array."""
    record = np.empty(params.scale.shape, record_dtype(params._grid))
    record["scale"], record["zero_point"] = params.scale, params.zero_point
    return record


class _Collection(DaskMethodsMixin):  # type: ignore[misc]
    """What the two classes below have in common as Dask collections."""

    __slots__ = ()
    __dask_optimize__ = staticmethod(da.Array.__dask_optimize__)
    __dask_scheduler__ = staticmethod(da.Array.__dask_scheduler__)

    def __deepcopy__(self, memo: Any) -> Any:
        return self  # graphs are immutable

    def __eq__(self, other: object) -> bool:
        raise TypeError(f"a {type(self).__name__} has no values to compare yet: .compute() it")

    __hash__ = None  # type: ignore[assignment]


class LazyQuantParams(_Collection, QuantParams):
    """`QuantParams` still to be computed: grid, axis and block size are known.

    ``scale`` and ``zero_point`` are Dask arrays; `compute` gives `QuantParams`.

    Examples
    --------
    >>> import dask.array as da, numpy as np, pyquant as pq
    >>> x = da.from_array(np.float32([-1.0, 0.5, 3.0, 2.0]), chunks=2)
    >>> params = pq.calibrate(x)
    >>> params
    LazyQuantParams(scale=<lazy>, dtype='int8', narrow_range=True)
    >>> params.compute()
    QuantParams(scale=0.0236220472, zero_point=0, dtype='int8', narrow_range=True)
    """

    __slots__ = ("_record",)

    def __init__(self, record: Any, grid: Grid, axis: int | None, block_size: int | None) -> None:
        self._record = record
        self._scale, self._zero_point = record["scale"], record["zero_point"]
        self._centred = None
        self._grid, self._axis, self._block_size = grid, axis, block_size

    def __dask_graph__(self) -> Any:
        return self._record.__dask_graph__()

    def __dask_keys__(self) -> Any:
        return self._record.__dask_keys__()

    def __dask_layers__(self) -> Any:
        return self._record.__dask_layers__()

    def __dask_tokenize__(self) -> Any:
        return type(self).__name__, self._record.name, *self._described()

    def __dask_postcompute__(self) -> tuple[Callable[..., QuantParams], tuple[Any, ...]]:
        finish, arguments = self._record.__dask_postcompute__()
        return _params, (finish, arguments, *self._described())

    def __dask_postpersist__(self) -> tuple[Callable[..., LazyQuantParams], tuple[Any, ...]]:
        rebuild, arguments = self._record.__dask_postpersist__()
        return _persisted_params, (rebuild, arguments, *self._described())

    def _described(self) -> tuple[Any, ...]:
        return self._grid, self._axis, self._block_size

    def __reduce__(self) -> tuple[Any, ...]:
        named = (self.dtype, self.narrow_range, self._axis, self._block_size)
        return _restored_params, (self._record, *named)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self._record.shape))
        parts = [f"scale=<lazy{' ' if shape else ''}{shape}>", f"dtype={self.dtype!r}"]
        parts += ["narrow_range=True"] if self.narrow_range else []
        parts += [f"axis={self.axis}"] if self.axis is not None else []
        parts += [f"block_size={self.block_size}"] if self.block_size is not None else []
        return f"LazyQuantParams({', '.join(parts)})"


def _params(
    results: Any, finish: Callable[..., Any], arguments: tuple[Any, ...], grid: Grid,
    axis: int | None, block_size: int | None,
) -> QuantParams:  # fmt: skip
    record = np.asarray(finish(results, *arguments))
    return QuantParams(
        record["scale"], record["zero_point"], grid.name, grid.narrow, axis, block_size
    )


def _persisted_params(
    graph: Mapping[Any, Any], rebuild: Callable[..., Any], arguments: tuple[Any, ...],
    *described: Any, rename: Mapping[str, str] | None = None,
) -> LazyQuantParams:  # fmt: skip
    return LazyQuantParams(rebuild(graph, *arguments, rename=rename), *described)


def _restored_params(
    record: Any, dtype: str, narrow: bool, axis: int | None, block_size: int | None
) -> LazyQuantParams:
    return LazyQuantParams(record, grid_of(dtype, narrow), axis, block_size)


class LazyQuantizedArray(_Collection, QuantizedArray):
    """A `QuantizedArray` whose ``data`` is a Dask array; ``params`` may be lazy too.

    ``shape``, ``dtype``, ``axis`` and ``block_size`` are known; `dequantize` gives a Dask array
    and `compute` the `QuantizedArray`.

    Examples
    --------
    >>> import dask.array as da, numpy as np, pyquant as pq
    >>> x = da.from_array(np.float32([[-1.0, 0.5], [3.0, 2.0]]), chunks=1)
    >>> q = pq.quantize(x, axis=0)
    >>> q
    LazyQuantizedArray(shape=(2, 2), dtype='int8', chunks=(1, 1), axis=0)
    >>> q.compute().data
    array([[-127,   64],
           [ 127,   85]], dtype=int8)
    """

    __slots__ = ()

    data: Any
    """The integers, as a Dask array."""

    def __init__(
        self,
        data: Any,
        params: QuantParams,
        *,
        shape: tuple[int, ...] | None = None,
        packed: bool = False,
    ) -> None:
        if packed:
            raise ValueError("packed must be False for Dask arrays: the stream has no chunks")
        if data.dtype != params.storage:
            raise ValueError(f"data must be {params.storage} for {params.dtype}, not {data.dtype}")
        if shape is not None and tuple(shape) != data.shape:
            raise ValueError(f"shape must be that of data {data.shape}, not {shape}")
        expected = params_shape(data.shape, params.axis, params.block_size)
        if params.scale.shape != expected:
            raise ValueError(
                f"scale must have shape {expected} for shape {data.shape}, not {params.scale.shape}"
            )
        self.data, self.params, self.shape, self.packed = data, params, data.shape, False

    @property
    def nbytes(self) -> int:
        """Bytes of the integers, scales and, unless known to be zero, zero points."""
        params = self.params
        zeros = params.zero_point
        if isinstance(params, LazyQuantParams) or zeros.any():
            return int(self.data.nbytes + params.scale.nbytes + zeros.nbytes)
        return int(self.data.nbytes + params.scale.nbytes)

    def pack(self) -> NoReturn:
        """Not for Dask arrays."""
        raise ValueError("a bit stream has no chunks: .compute().pack()")

    def copy(self) -> LazyQuantizedArray:
        """Another name for the same graph, which is immutable."""
        return LazyQuantizedArray(self.data, self.params)

    __copy__ = copy

    def _lazy_parts(self) -> list[Any]:
        """The integers, and the parameters where they are lazy.

        Dask wants keys that nothing else in the graph depends on, as the integers do on the
        parameters: hence one more step behind each.
        """
        params = self.params
        if not isinstance(params, LazyQuantParams):
            return [self.data]
        data, record = (
            da.map_blocks(_itself, array, dtype=array.dtype, meta=array._meta)
            for array in (self.data, params._record)
        )
        return [data, LazyQuantParams(record, *params._described())]

    def __dask_graph__(self) -> Any:
        graphs = [part.__dask_graph__() for part in self._lazy_parts()]
        return graphs[0] if len(graphs) == 1 else HighLevelGraph.merge(*graphs)

    def __dask_keys__(self) -> list[Any]:
        return [part.__dask_keys__() for part in self._lazy_parts()]

    def __dask_layers__(self) -> tuple[str, ...]:
        return tuple(name for part in self._lazy_parts() for name in part.__dask_layers__())

    def __dask_tokenize__(self) -> Any:
        return type(self).__name__, self.data.name, tokenize(self.params)

    def __dask_postcompute__(self) -> tuple[Callable[..., QuantizedArray], tuple[Any, ...]]:
        parts = [part.__dask_postcompute__() for part in self._lazy_parts()]
        return _array, (parts, self._known_params())

    def __dask_postpersist__(self) -> tuple[Callable[..., LazyQuantizedArray], tuple[Any, ...]]:
        parts = [part.__dask_postpersist__() for part in self._lazy_parts()]
        return _persisted_array, (parts, self._known_params())

    def _known_params(self) -> QuantParams | None:
        return None if isinstance(self.params, LazyQuantParams) else self.params

    def __reduce__(self) -> tuple[Any, ...]:
        return LazyQuantizedArray, (self.data, self.params)

    def __repr__(self) -> str:
        parts = [f"shape={self.shape}", f"dtype={self.dtype!r}", f"chunks={self.data.chunksize}"]
        parts += [f"axis={self.axis}"] if self.axis is not None else []
        parts += [f"block_size={self.block_size}"] if self.block_size is not None else []
        return f"LazyQuantizedArray({', '.join(parts)})"


def _itself(chunk: Array) -> Array:
    return chunk


_Finishers = list[tuple[Callable[..., Any], tuple[Any, ...]]]


def _array(results: Any, parts: _Finishers, params: QuantParams | None) -> QuantizedArray:
    made = [
        finish(result, *arguments)
        for result, (finish, arguments) in zip(results, parts, strict=True)
    ]
    return QuantizedArray(made[0], made[1] if params is None else params)


def _persisted_array(
    graph: Mapping[Any, Any],
    parts: _Finishers,
    params: QuantParams | None,
    *,
    rename: Mapping[str, str] | None = None,
) -> LazyQuantizedArray:
    made = [rebuild(graph, *arguments, rename=rename) for rebuild, arguments in parts]
    return LazyQuantizedArray(made[0], made[1] if params is None else params)
