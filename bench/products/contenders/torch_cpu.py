"""torch on the CPU: oneDNN's s8 s8 product, and its quantized layers on each of its engines.

`torch._int_mm` takes plain tensors: oneDNN packs the weights in every call. The layers' weights are
packed before. A static layer gives a quantized tensor; its integers are not copied out.
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import numpy as np
import torch

from bench.cases import aligned
from bench.contenders import offers
from bench.products.cases import DYNAMIC, INT32, SHIFT, X_STEP, Data
from bench.timing import Contender

warnings.filterwarnings("ignore", module="torch")


def _engines() -> list[str]:
    """qnnpack, which is for Arm, is left out on other processors."""
    arm = torch.backends.cpu.get_cpu_capability() in ("NEON", "SVE256", "SVE128")
    return [e for e in torch.backends.quantized.supported_engines if (e == "qnnpack") == arm]


def _integers(result: Any) -> np.ndarray:
    """int8; most engines give uint8 with the zero point 128."""
    codes = np.asarray(result.int_repr())
    return codes if codes.dtype == np.int8 else (codes ^ SHIFT).view(np.int8)


def contenders(data: Data, threads: int) -> list[Contender]:
    torch.set_num_threads(threads)
    case = data.case
    if case.op == INT32:
        names = {"int_mm": torch._int_mm, "a": torch.from_numpy(data.a)}
        out = aligned((case.m, case.n), np.int32)
        names |= {"y": torch.from_numpy(out), "out": out}
        offer = partial(offers, threads=threads)
        found = []
        for name, b in (("oneDNN", data.b), ("oneDNN transposed", data.b_transposed.T)):
            own = names | {"b": torch.from_numpy(b)}
            found += offer(name, own, fresh="int_mm(a, b)", out="int_mm(a, b, out=y)")
        return found
    return [one for engine in _engines() for one in _layer(engine, data, threads)]


def _layer(engine: str, data: Data, threads: int) -> list[Contender]:
    torch.backends.quantized.engine = engine
    dynamic = data.case.op == DYNAMIC
    family = torch.ao.nn.quantized.dynamic if dynamic else torch.ao.nn.quantized
    layer = family.Linear(data.case.k, data.case.n, bias_=False)
    codes = torch.from_numpy(data.b_transposed)
    weight = torch._make_per_tensor_quantized_tensor(codes, float(data.b_scale), 0)
    layer.set_weight_bias(weight, None)
    name = f"torch {engine}"
    if dynamic:
        names: dict[str, Any] = {"layer": layer, "x": torch.from_numpy(data.x)}
        return offers(name, names, threads, fresh="layer(x)")
    layer.scale, layer.zero_point = float(data.y_step), SHIFT
    x = torch._make_per_tensor_quantized_tensor(
        torch.from_numpy(data.a_unsigned), float(X_STEP), SHIFT
    )
    return offers(name, {"layer": layer, "x": x}, threads, fresh="layer(x)", array=_integers)
