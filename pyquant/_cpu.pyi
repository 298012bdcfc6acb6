from typing import Any

import numpy as np
import numpy.typing as npt

from pyquant._geometry import Geometry
from pyquant._grid import Grid
from pyquant._operands import Operand, Result
from pyquant.array import QuantParams

_Array = npt.NDArray[Any]
_Layout = tuple[int, int, int, int]

F32: int
F16: int
BF16: int
F64: int
I8: int
U8: int
I16: int
U16: int
I32: int
OK: int
ERROR_SCALE: int
ERROR_ZERO_POINT: int
ERROR_NONFINITE: int
ERROR_RANGE: int
ERROR_CODE: int
ERROR_MEMORY: int
SYMMETRIC: int
AFFINE: int
FLOAT: int
FIXED_DOUBLE: int
FIXED_SINGLE: int

def empty(shape: tuple[int, ...], dtype: np.dtype[Any] | str | type) -> _Array: ...
def keep_at_most(bytes: int) -> None: ...
def quantize(
    x: _Array,
    x_type: int,
    scale: _Array,
    zero_point: _Array | None,
    q: _Array,
    q_type: int,
    layout: _Layout,
    qmin: int,
    qmax: int,
) -> int: ...
def dequantize(
    q: _Array,
    q_type: int,
    scale: _Array,
    zero_point: _Array | None,
    x: _Array,
    x_type: int,
    layout: _Layout,
) -> int: ...
def fake_quantize(
    x: _Array,
    x_type: int,
    scale: _Array,
    zero_point: _Array | None,
    y: _Array,
    layout: _Layout,
    qmin: int,
    qmax: int,
) -> int: ...
def fake_quantize_grad(
    grad: _Array,
    x: _Array,
    x_type: int,
    scale: _Array,
    zero_point: _Array | None,
    dx: _Array,
    dscale: _Array,
    dzero_point: _Array,
    layout: _Layout,
    qmin: int,
    qmax: int,
) -> int: ...
def minmax(
    x: _Array, x_type: int, layout: _Layout, omit: bool, low: _Array, high: _Array
) -> int: ...
def absmax(x: _Array, x_type: int, layout: _Layout, omit: bool, high: _Array) -> int: ...
def histogram(
    x: _Array,
    x_type: int,
    layout: _Layout,
    omit: bool,
    half: int,
    counts: _Array,
    exponent: _Array,
    low: _Array,
    high: _Array,
) -> int: ...
def histogram_error(
    low: _Array, high: _Array, density: _Array, scale: float, lowest: int, highest: int
) -> float: ...
def histogram_divergence(
    counts: _Array, half: int, codes: int, first: int, divergence: _Array
) -> int: ...
def find_nonfinite(x: _Array, x_type: int) -> int: ...
def choose_params(
    alpha: _Array,
    beta: _Array,
    scheme: int,
    qmin: int,
    qmax: int,
    scale: _Array,
    zero_point: _Array,
) -> int: ...
def dynamic_quantize(
    x: _Array,
    x_type: int,
    q: _Array,
    q_type: int,
    layout: _Layout,
    scheme: int,
    qmin: int,
    qmax: int,
    scale: _Array,
    zero_point: _Array,
) -> int: ...
def requantize(
    acc: _Array,
    multiplier: _Array,
    zero_point: _Array | None,
    q: _Array,
    q_type: int,
    layout: _Layout,
    qmin: int,
    qmax: int,
    mode: int,
) -> int: ...

class PackedCodes:
    k: int
    n: int
    block: int
    code: int
    nbytes: int
    isa: str
    current: bool
    def again(self) -> PackedCodes: ...
    def unpack(self) -> _Array: ...

def pack_matrix(b: _Array, code: int, block: int) -> PackedCodes: ...
def matmul(a: Operand, b: Operand, y: Result, block: int) -> int: ...
class PackedFilters:
    nbytes: int
    isa: str

def pack_convolution(geometry: Geometry, w: _Array, code: int) -> PackedFilters: ...
def convolve(
    geometry: Geometry, channels_last: bool, x: Operand, w: Operand, y: Result
) -> int: ...
def pack_bits(q: _Array, bits: int, is_signed: bool, packed: _Array) -> int: ...
def unpack_bits(packed: _Array, bits: int, is_signed: bool, q: _Array) -> int: ...
def packed_size(n: int, bits: int) -> int: ...
def know_grid(grid: Grid) -> None: ...
def know_bfloat16(number: int) -> None: ...
def quantize_plain(
    x: object,
    scale: object,
    zero_point: object,
    dtype: object,
    narrow_range: object,
    axis: object,
    block_size: object,
    out: object,
) -> _Array | None: ...
def dequantize_plain(
    q: object,
    scale: object,
    zero_point: object,
    axis: object,
    block_size: object,
    dtype: object,
    out: object,
) -> _Array | None: ...
def fake_quantize_plain(
    x: object,
    scale: object,
    zero_point: object,
    dtype: object,
    narrow_range: object,
    axis: object,
    block_size: object,
    out: object,
) -> _Array | None: ...
def matmul_integer_plain(
    a: object, b: object, a_zero_point: object, b_zero_point: object, out: object
) -> _Array | None: ...
def linear_plain(
    x: object,
    quantized: bool,
    x_params: QuantParams | None,
    weight: Operand,
    bias: object,
    out_params: QuantParams | None,
    relu: bool,
) -> _Array | None: ...
def dynamic_quantize_plain(
    x: object, grid: Grid, scheme: int, axis: object, block_size: object, out: object
) -> tuple[_Array, _Array, _Array] | None: ...
def range_plain(x: object, axis: object, block_size: object, absolute: bool) -> Any: ...
def set_num_threads(n: int) -> int: ...
def get_num_threads() -> int: ...
def set_isa(name: str) -> int: ...
def isa_names() -> list[str]: ...
def isa_usable(name: str) -> bool: ...
def isa_compiled(name: str) -> bool: ...
def operations() -> dict[str, tuple[str, tuple[str, ...]]]: ...
def openmp_threads() -> int: ...
