"""Who takes part: one module for each library, with `contenders(data, threads)`.

Importing a module raises ImportError where the library is missing.
"""

from __future__ import annotations

PEERS: dict[str, str] = {
    "torch": "bench.products.contenders.torch_cpu",
    "ONNX Runtime": "bench.products.contenders.onnx_runtime",
    "MKL": "bench.products.contenders.mkl",
    "NumKong": "bench.products.contenders.numkong_packed",
    "NumPy": "bench.products.contenders.numpy_float",
}
ONE_THREAD_ONLY = frozenset({"NumKong"})
