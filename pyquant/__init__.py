"""pyquant: quantization of plain arrays at the speed of memory."""

from pyquant import ops
from pyquant import runtime as _runtime

_runtime.configure()

from pyquant.array import QuantizedArray, QuantParams, dequantize, quantize  # noqa: E402
from pyquant.calibration import calibrate, choose_params  # noqa: E402
from pyquant.convolution import PackedConvolution, conv2d, pack_convolution  # noqa: E402
from pyquant.files import load, save  # noqa: E402
from pyquant.metrics import QuantizationError, error  # noqa: E402
from pyquant.observers import Observer  # noqa: E402
from pyquant.packed_matrix import PackedMatrix  # noqa: E402
from pyquant.products import linear, matmul, pack  # noqa: E402
from pyquant.runtime import (  # noqa: E402
    get_include,
    get_lib,
    get_num_threads,
    runtime_info,
    set_num_threads,
    show_runtime,
    warmup,
)
from pyquant.training import fake_quantize, fake_quantize_grad  # noqa: E402

__all__ = [
    "Observer",
    "PackedConvolution",
    "PackedMatrix",
    "QuantParams",
    "QuantizationError",
    "QuantizedArray",
    "calibrate",
    "choose_params",
    "conv2d",
    "dequantize",
    "error",
    "fake_quantize",
    "fake_quantize_grad",
    "get_include",
    "get_lib",
    "get_num_threads",
    "linear",
    "load",
    "matmul",
    "ops",
    "pack",
    "pack_convolution",
    "quantize",
    "runtime_info",
    "save",
    "set_num_threads",
    "show_runtime",
    "warmup",
]
