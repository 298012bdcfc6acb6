"""Raw operators with ONNX's names: plain arrays in, plain arrays out.

Everything else in the package is built on these, and all validation is here.
"""

from pyquant.ops.bits import pack_bits, unpack_bits
from pyquant.ops.convolution import conv_integer, qlinear_conv
from pyquant.ops.dynamic import choose_params, dynamic_quantize, dynamic_quantize_linear
from pyquant.ops.fake import fake_quantize_grad_linear, fake_quantize_linear
from pyquant.ops.products import matmul_integer, qlinear_matmul
from pyquant.ops.quantizing import dequantize_linear, quantize_linear
from pyquant.ops.ranges import absmax, minmax
from pyquant.ops.requantizing import requantize

__all__ = [
    "absmax",
    "choose_params",
    "conv_integer",
    "dequantize_linear",
    "dynamic_quantize",
    "dynamic_quantize_linear",
    "fake_quantize_grad_linear",
    "fake_quantize_linear",
    "matmul_integer",
    "minmax",
    "pack_bits",
    "qlinear_conv",
    "qlinear_matmul",
    "quantize_linear",
    "requantize",
    "unpack_bits",
]
