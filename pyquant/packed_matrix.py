"""A matrix prepared once for many products."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from pyquant import _cpu
from pyquant._arguments import Array
from pyquant._operands import Operand

if TYPE_CHECKING:
    from pyquant.array import QuantizedArray, QuantParams


class PackedMatrix:
    """The codes of a (K, N) matrix in the layout that this processor multiplies. `pack` makes them.

    Stands for the right operand of `matmul`, `linear`, `ops.matmul_integer` and
    `ops.qlinear_matmul`. Immutable; pickles as its codes, which the process that reads them packs
    for itself.

    Examples
    --------
    >>> import numpy as np, pyquant as pq
    >>> w = np.random.default_rng(0).standard_normal((64, 32), dtype=np.float32)
    >>> packed = pq.pack(pq.quantize(w, axis=0), transposed=True)
    >>> packed.shape, packed.dtype, packed.scale.shape
    ((32, 64), 'int8', (64,))
    """

    __slots__ = ("_backend", "_operand", "_params", "shape")

    _backend: ModuleType
    _operand: Operand
    _params: QuantParams | None
    shape: tuple[int, int]
    """(K, N)."""

    def __init__(self) -> None:
        raise TypeError("a PackedMatrix is made by pyquant.pack")

    @classmethod
    def _of(
        cls,
        backend: ModuleType,
        operand: Operand,
        shape: tuple[int, int],
        params: QuantParams | None,
    ) -> PackedMatrix:
        """From an operand that holds a backend's packed codes."""
        packed: PackedMatrix = object.__new__(cls)
        packed._backend, packed._operand = backend, operand
        packed.shape, packed._params = shape, params
        return packed

    def _operand_for(self, backend: ModuleType, name: str) -> Operand:
        """What a product is told about it; packed anew where the cap on variants has changed."""
        if self._backend is not backend:
            raise TypeError(
                f"{name} must be packed where the other operand is: pack an array from there"
            )
        operand = self._operand
        if not operand.array.current:
            operand = self._operand = operand._replace(array=operand.array.again())
        return operand

    @property
    def params(self) -> QuantParams | None:
        """Of the (K, N) matrix; None for plain integers."""
        return self._params

    @property
    def scale(self) -> Array:
        """Real units per integer step, float32; 1 for plain integers."""
        return np.ones((), np.float32) if self._params is None else self._params.scale

    @property
    def zero_point(self) -> Array:
        """The integers that stand for 0.0."""
        return np.zeros((), np.int8) if self._params is None else self._params.zero_point

    @property
    def block_size(self) -> int | None:
        """How many elements along K share a scale."""
        return None if self._params is None else self._params.block_size

    @property
    def dtype(self) -> str:
        """The grid's name."""
        if self._params is not None:
            return self._params.dtype
        return "int8" if self._operand.code == _cpu.I8 else "uint8"

    @property
    def ndim(self) -> int:
        """Two."""
        return 2

    @property
    def nbytes(self) -> int:
        """Bytes of the packed codes, what fills them up included, and of scales and zero points."""
        parts = (self._operand.scale, self._operand.zero_point)
        return int(self._operand.array.nbytes + sum(p.nbytes for p in parts if p is not None))

    @property
    def isa(self) -> str:
        """The variant whose layout it has, one of those that `show_runtime` lists."""
        return str(self._operand_for(self._backend, "").array.isa)

    def unpack(self) -> QuantizedArray | Array:
        """The (K, N) matrix again: a QuantizedArray, or an array if it was made from one."""
        from pyquant.array import QuantizedArray

        codes = self._operand.array.unpack()
        return codes if self._params is None else QuantizedArray(codes, self._params)

    def __copy__(self) -> PackedMatrix:
        return self

    def __deepcopy__(self, memo: Any) -> PackedMatrix:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        from pyquant.products import pack

        return pack, (self.unpack(),)

    def __repr__(self) -> str:
        k, n = self.shape
        blocks = "" if self.block_size is None else f", block_size={self.block_size}"
        return (
            f"PackedMatrix(shape=({k}, {n}), dtype={self.dtype!r}{blocks}, isa={self.isa!r}, "
            f"nbytes={self.nbytes})"
        )
