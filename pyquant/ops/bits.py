"""Codes narrower than a byte as a bit stream."""

from __future__ import annotations

from typing import NoReturn

import numpy as np
import numpy.typing as npt

from pyquant import _cpu
from pyquant._arguments import Array, delivered, integer_input, output, refuse
from pyquant._arrays import empty, on_device
from pyquant._backend import backend_of
from pyquant._tensors import takes_tensors


def _check_bits(bits: int) -> int:
    if isinstance(bits, bool) or not isinstance(bits, (int, np.integer)) or not 1 <= bits <= 16:
        raise ValueError(f"bits={bits!r} must be an integer from 1 to 16")
    return int(bits)


@takes_tensors()
def pack_bits(q: npt.ArrayLike, bits: int) -> Array:
    """Codes to a bit stream: the first element in the lowest bits, two's complement.

    Parameters
    ----------
    q : array of integers
        Taken in C order; each must fit `bits` bits, signed or not.
    bits : int
        1 to 16.

    Returns
    -------
    1-D uint8 array of ``ceil(q.size * bits / 8)`` bytes; unused high bits are 0

    Raises
    ------
    ValueError
        A code does not fit, or `bits` is out of range.

    Notes
    -----
    Codes on a GPU are not checked, which would wait for it: of one that does not fit, the lowest
    `bits` bits are taken. For 4 and 2 bits this is how ONNX stores INT4, UINT4, INT2 and UINT2
    tensors.

    Examples
    --------
    >>> import numpy as np
    >>> from pyquant import ops
    >>> ops.pack_bits(np.int8([1, -1, 7]), 4)
    array([241,   7], dtype=uint8)
    """
    backend = backend_of(q)
    bits = _check_bits(bits)
    array = integer_input(q)
    signed = array.dtype.kind == "i"
    width = np.dtype(f"{'' if signed else 'u'}int{8 if bits <= 8 else 16}")
    codes = array
    if array.dtype != width:
        codes = array.astype(width)
        if not on_device(array) and not np.array_equal(codes, array):
            _refuse_codes(array, bits, signed)
    packed = empty((_cpu.packed_size(codes.size, bits),), np.uint8, codes)
    status = backend.pack_bits(codes, bits, signed, packed)
    if status == _cpu.ERROR_CODE:
        _refuse_codes(array, bits, signed)
    if status:
        refuse(status)
    return packed


def _refuse_codes(codes: Array, bits: int, signed: bool) -> NoReturn:
    low, high = -(1 << (bits - 1)) if signed else 0, (1 << bits) - 1
    bad = codes[(codes < low) | (codes > high)].flat[0]
    raise ValueError(f"q holds {bad}, which does not fit {bits} bits")


@takes_tensors()
def unpack_bits(
    packed: npt.ArrayLike,
    bits: int,
    shape: int | tuple[int, ...] | None = None,
    *,
    signed: bool = True,
    out: Array | None = None,
) -> Array:
    """The codes of a bit stream; the inverse of `pack_bits`.

    Parameters
    ----------
    packed : uint8 array
    bits : int
        1 to 16.
    shape : int or tuple, optional
        Of the result. Without it, as many codes as are whole in `packed`.
    signed : bool
        Is the highest bit of a code its sign?
    out : array, optional

    Returns
    -------
    array of int8 or uint8, above 8 bits int16 or uint16

    Raises
    ------
    TypeError
        `packed` is not uint8.
    ValueError
        `packed` has not ``ceil(size * bits / 8)`` bytes, or `bits` is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from pyquant import ops
    >>> ops.unpack_bits(np.uint8([241, 7]), 4, 3)
    array([ 1, -1,  7], dtype=int8)
    """
    backend = backend_of(packed, out)
    bits = _check_bits(bits)
    array = integer_input(packed, "packed")
    if array.dtype != np.uint8:
        raise TypeError(f"packed must be an array of uint8, not {array.dtype}")
    if shape is None:
        shape = (array.size * 8 // bits,)
    elif isinstance(shape, (int, np.integer)):
        shape = (int(shape),)
    count = 1
    for n in shape:
        if n < 0:
            raise ValueError(f"shape={shape} must not be negative")
        count *= int(n)
    needed = (count * bits + 7) // 8
    if array.size != needed:
        raise ValueError(
            f"packed must have {needed} bytes for {count} codes of {bits} bits, not {array.size}"
        )
    dtype = np.dtype(f"{'' if signed else 'u'}int{8 if bits <= 8 else 16}")
    result = output(out, tuple(shape), dtype, array)
    status = backend.unpack_bits(array, bits, bool(signed), result)
    if status:
        refuse(status)
    return delivered(result, out)
