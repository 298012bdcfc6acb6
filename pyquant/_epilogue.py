"""What becomes of the int32 sums of a layer: bias, clip, and floats or codes."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from pyquant import _cpu, ops
from pyquant._arguments import Array, int32_input
from pyquant._arrays import as_array, contiguous, module_of, on_device
from pyquant._grid import float_code, float_dtype
from pyquant._operands import Operand, Result
from pyquant.array import QuantizedArray, QuantParams
from pyquant.ops.requantizing import requantize_mode

_FLOAT32 = np.dtype(np.float32)
_INT32 = np.dtype(np.int32)


class Epilogue(NamedTuple):
    """The arguments that all layers share, checked."""

    dtype: np.dtype[Any]
    """Of the result: int32 or a float type, when there are no `params`."""
    params: QuantParams | None
    low: float
    high: float
    mode: int

    def floats(self, array: Array, bias: Array | None) -> Result:
        """For an array of floats, float32 on the CPU."""
        code = float_code(array.dtype)
        assert code is not None
        return Result(array, code, bias, self.low, self.high, mode=self.mode)

    def sums(self, array: Array, bias: Array | None) -> Result:
        """For an int32 array."""
        return Result(array, _cpu.I32, bias)

    def codes(self, array: Array, bias: Array | None) -> Result:
        """For an array of the storage type of `params`."""
        params = self.params
        assert params is not None
        zero_point = int(params.zero_point)
        low, high = self.ends()
        return Result(
            array, params._grid.code, bias, scale=float(params.scale), zero_point=zero_point,
            qmin=min(low, zero_point), qmax=max(high, zero_point), mode=self.mode,
        )  # fmt: skip

    def ends(self) -> tuple[int, int]:
        """The codes between which the clip leaves results."""
        params = self.params
        assert params is not None
        if self.low == -math.inf and self.high == math.inf:
            return params.qmin, params.qmax
        low, high = quantized(np.array([self.low, self.high], np.float32), params).data
        return int(low), int(high)

    def finished(self, array: Array) -> Array | QuantizedArray:
        """The result from the array that the product wrote."""
        if self.params is not None:
            low, high = self.ends()
            if not low <= self.params.zero_point <= high:  # no kernel's grid is without it
                array = array.clip(low, high)
            return QuantizedArray._of(array, self.params)
        if array.dtype == self.dtype:
            return array
        with np.errstate(over="ignore"):
            return array.astype(self.dtype)


def epilogue(
    out_params: QuantParams | None,
    out_dtype: Any,
    relu: bool,
    clip: tuple[float, float] | None,
    mode: str,
    rounding: str,
) -> Epilogue:
    """Check the arguments that say what a layer gives."""
    code = requantize_mode(mode, rounding)
    low, high = _clip(relu, clip)
    if out_params is None:
        dtype = _INT32 if _is_int32(out_dtype) else _float(out_dtype)
        if dtype == _INT32 and (low > -math.inf or high < math.inf):
            raise ValueError("relu and clip are for real results, and out_dtype is 'int32'")
        return Epilogue(dtype, None, low, high, code)
    if not isinstance(out_params, QuantParams):
        raise TypeError(f"out_params must be QuantParams or None, not {type(out_params).__name__}")
    if out_params.axis is not None:
        raise ValueError(f"out_params must be per tensor, not with axis={out_params.axis}")
    if not (isinstance(out_dtype, str) and out_dtype == "float32"):
        raise ValueError(f"out_dtype={out_dtype!r} must be left alone where out_params is given")
    return Epilogue(out_params.storage, out_params, low, high, code)


def _is_int32(dtype: Any) -> bool:
    try:
        return bool(np.dtype(dtype) == _INT32)
    except TypeError:
        return False


def _float(dtype: Any) -> np.dtype[Any]:
    if isinstance(dtype, str) and dtype == "float32":
        return _FLOAT32
    try:
        return float_dtype(dtype, "out_dtype")
    except ValueError as error:
        if "ml_dtypes" in str(error):
            raise
        raise ValueError(
            "out_dtype must be 'float32', 'float16', 'bfloat16', 'float64' or 'int32', "
            f"not {dtype!r}"
        ) from None


def _clip(relu: bool, clip: tuple[float, float] | None) -> tuple[float, float]:
    low, high = -math.inf, math.inf
    if clip is not None:
        try:
            low, high = (float(np.float32(end)) for end in clip)
        except (TypeError, ValueError):
            raise TypeError(f"clip must be a pair (low, high) or None, not {clip!r}") from None
        if not low <= high:
            raise ValueError(f"clip={clip!r} must be a pair (low, high) with low <= high")
    return (max(low, 0.0), max(high, 0.0)) if relu else (low, high)


def real_bias(bias: Any, n: int) -> Array | None:
    """A bias that is added to real numbers: float32 of shape (n,)."""
    if bias is None:
        return None
    array = as_array(bias)
    if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
        raise TypeError(
            f"bias must be floats for a float result, not {array.dtype}; "
            f"int32 codes go with out_params or out_dtype='int32'"
        )
    _check_shape(array, n)
    with np.errstate(over="ignore"):
        return contiguous(array, _FLOAT32).reshape(n)


def is_real(bias: Any) -> bool:
    """Is it a bias of real numbers, and not of codes?"""
    return bias is not None and as_array(bias).dtype.kind not in "iu"


def code_bias(bias: Any, n: int, a: Operand, b: Operand) -> Array | None:
    """A bias that is added to int32 sums: int32 codes as they are, floats at scale a * b."""
    if bias is None:
        return None
    array = as_array(bias)
    _check_shape(array, n)
    if array.dtype.kind in "iu":
        return int32_input(bias, "bias").reshape(n)
    if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
        raise TypeError(f"bias must be floats or int32, not {array.dtype}")
    if array.dtype != np.float64:
        array = array.astype(np.float32)
    one = np.ones((), np.float32)
    array, a_scale, b_scale = _together(
        array, one if a.scale is None else a.scale, one if b.scale is None else b.scale
    )
    with np.errstate(all="ignore"):
        codes: Array = np.rint(array.reshape(n) / (a_scale * b_scale))
        fits = (codes >= -(2.0**31)) & (codes < 2.0**31)
    if not on_device(fits) and not fits.all():
        bad = array.reshape(n)[~fits][0]
        raise ValueError(f"bias={bad} must fit int32 at scale a_scale * b_scale, and does not")
    in_int32: Array = codes.astype(np.int32)
    return in_int32


def _together(*arrays: Array) -> tuple[Array, ...]:
    """All on the device if one is, for CuPy does not compute with NumPy's arrays."""
    there: Any = next((x for x in arrays if on_device(x)), None)
    if there is None:
        return arrays
    with there.device:
        return tuple(x if on_device(x) else module_of(there).asarray(x) for x in arrays)


def _check_shape(bias: Array, n: int) -> None:
    if bias.shape != (n,) and not (n == 1 and bias.shape == ()):
        raise ValueError(f"bias must have shape ({n},), not {bias.shape}")


def quantized(y: Array, params: QuantParams) -> QuantizedArray:
    """y with per-tensor parameters."""
    return QuantizedArray._of(
        ops.quantize_linear(
            y, params.scale, params.zero_point, dtype=params.dtype,
            narrow_range=params.narrow_range,
        ),
        params,
    )  # fmt: skip
