"""torch on the CPU: its quantized tensors, and plain or compiled operations where it has none.

torch has no out= for any of these. Reading the integers of a quantized tensor (`int_repr`) would
copy them and is left out of the time, in torch's favour.
"""

from __future__ import annotations

import shutil
import warnings
from functools import cache
from typing import Any

import numpy as np
import torch

from bench.cases import SCALE, ZERO_POINT, Case, Data
from bench.contenders import offers
from bench.timing import Contender

warnings.filterwarnings("ignore", module="torch")


def _integers(result: Any) -> np.ndarray:
    return np.asarray((result[0] if isinstance(result, tuple) else result).int_repr())


def _group_integers(result: Any) -> np.ndarray:
    return np.asarray(result[0])


def _dynamic(x: torch.Tensor) -> torch.Tensor:
    return torch.quantize_per_tensor_dynamic(x, torch.quint8, False)


def _dynamic_groups(groups: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    s = groups.abs().amax(dim=1, keepdim=True) / 127.0
    return torch.round(groups / s).to(torch.int8), s


@cache
def _compiled_groups() -> Any:
    return torch.compile(_dynamic_groups, dynamic=True)


def contenders(case: Case, data: Data, threads: int) -> list[Contender]:
    torch.set_num_threads(threads)
    op, name = case.op, "torch"
    names: dict[str, Any] = {"torch": torch, "s": SCALE, "z": ZERO_POINT, "qint8": torch.qint8}
    if op == "quantize":
        names |= {"quantize": torch.quantize_per_tensor, "x": torch.from_numpy(data.x)}
        return offers(name, names, threads, fresh="quantize(x, s, z, qint8)", array=_integers)
    if op in ("per channel", "per block"):
        # A block along the last axis is a channel of the array with one row a block.
        x = torch.from_numpy(data.x if case.block is None else data.x.reshape(-1, case.block))
        names |= {"quantize": torch.quantize_per_channel, "x": x}
        names["s"] = torch.from_numpy(data.scales.reshape(-1))
        names["z"] = torch.from_numpy(data.zero_points.reshape(-1).astype(np.int64))
        names["axis"] = 0 if case.block is not None else (case.axis or 0) % x.ndim
        fresh = "quantize(x, s, z, axis, qint8)"
        shape = case.shape
        return offers(
            name, names, threads, fresh=fresh, array=lambda r: _integers(r).reshape(shape)
        )
    if op == "dynamic":
        names |= {"dynamic": _dynamic, "x": torch.from_numpy(data.x)}
        return offers(name, names, threads, fresh="dynamic(x)", array=_integers)
    if op in ("dynamic per block", "dynamic per row"):
        size = case.block or case.shape[-1]
        names |= {"dynamic": _dynamic_groups, "x": torch.from_numpy(data.x.reshape(-1, size))}
        found = offers(name, names, threads, fresh="dynamic(x)", array=_group_integers)
        if data.patient and shutil.which("g++"):
            names = names | {"dynamic": _compiled_groups()}
            fresh = "dynamic(x)"
            found += offers("torch.compile", names, threads, fresh=fresh, array=_group_integers)
        return found
    if op == "dequantize":
        q = torch._make_per_tensor_quantized_tensor(torch.from_numpy(data.q), SCALE, ZERO_POINT)
        return offers(name, {"q": q}, threads, fresh="q.dequantize()")
    if op == "fake quantize":
        names |= {"fake": torch.fake_quantize_per_tensor_affine, "x": torch.from_numpy(data.x)}
        return offers(name, names, threads, fresh="fake(x, s, z, -128, 127)")
    if op == "min/max":
        names = {"aminmax": torch.aminmax, "x": torch.from_numpy(data.x), "out": None}
        return offers(name, names, threads, out="aminmax(x)")
    if op == "abs-max":
        names = {"norm": torch.linalg.vector_norm, "x": torch.from_numpy(data.x), "out": None}
        return offers(name, names | {"inf": float("inf")}, threads, out="norm(x, inf)")
    return []
