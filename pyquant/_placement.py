"""What decides where a layer is computed."""

from __future__ import annotations

from typing import Any

from pyquant.array import QuantizedArray


def arrays_of(
    operands: tuple[Any, ...], bias: Any, packed: type
) -> tuple[list[Any], tuple[Any, ...]]:
    """The arrays, and the parameters that may be elsewhere; what is packed decides nothing."""
    arrays: list[Any] = []
    given = [bias]
    for x in operands:
        if isinstance(x, QuantizedArray):
            arrays.append(x.data)
            given += [x.scale, x.zero_point]
        elif not isinstance(x, packed):
            arrays.append(x)
    return arrays, tuple(given)
