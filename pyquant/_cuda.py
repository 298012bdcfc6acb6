"""The operations on CuPy arrays, with the names and signatures of `_cpu`.

Arrays come in C-contiguous and of the types that pyquant.ops has checked. Nothing waits for the
GPU or reads from it.
"""

from pyquant._cpu import (
    AFFINE,
    BF16,
    ERROR_SCALE,
    ERROR_ZERO_POINT,
    F16,
    F32,
    F64,
    FIXED_DOUBLE,
    FIXED_SINGLE,
    FLOAT,
    I8,
    I16,
    OK,
    SYMMETRIC,
    U8,
    U16,
)
from pyquant._cuda_convolution import PackedFilters, convolve, pack_convolution
from pyquant._cuda_dynamic import dynamic_quantize
from pyquant._cuda_elementwise import (
    dequantize,
    empty,
    fake_quantize,
    pack_bits,
    quantize,
    requantize,
    unpack_bits,
)
from pyquant._cuda_gradient import fake_quantize_grad
from pyquant._cuda_histogram import histogram
from pyquant._cuda_matmul import matmul
from pyquant._cuda_reduce import absmax, choose_params, minmax
from pyquant._cuda_rows import PackedCodes, pack_matrix

__all__ = [
    "AFFINE",
    "BF16",
    "ERROR_SCALE",
    "ERROR_ZERO_POINT",
    "F16",
    "F32",
    "F64",
    "FIXED_DOUBLE",
    "FIXED_SINGLE",
    "FLOAT",
    "I8",
    "I16",
    "OK",
    "SYMMETRIC",
    "U8",
    "U16",
    "PackedCodes",
    "PackedFilters",
    "absmax",
    "choose_params",
    "convolve",
    "dequantize",
    "dynamic_quantize",
    "empty",
    "fake_quantize",
    "fake_quantize_grad",
    "histogram",
    "matmul",
    "minmax",
    "pack_bits",
    "pack_convolution",
    "pack_matrix",
    "quantize",
    "requantize",
    "unpack_bits",
]
