"""Convolutions on a GPU, uint8 in and uint8 out, beside torch's in float16 through cuDNN.

ResNet-50's layers and the depthwise ones of MobileNet, with the data of bench/conv.py. torch has no
int8 convolution on CUDA; half precision with channels last is what its users have.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyquant as pq
from bench.conv import MOBILENET, RESNET, Data
from bench.gpu_timing import Timer, torch_timer
from bench.machine import describe
from bench.timing import Spread

COPIES = 4  # of the operands, which are taken in turns


def _pyquant(cp: Any, data: Data, layout: str) -> Callable[[], float]:
    x = data.x if layout == "NCHW" else data.x.transpose(0, 2, 3, 1)
    params = pq.QuantParams(data.x_scale, data.x_zero, "uint8")
    images = [pq.QuantizedArray(cp.array(x, order="C"), params) for _ in range(COPIES)]
    w = pq.QuantizedArray(cp.asarray(data.w), pq.QuantParams(data.w_scale, 0, "int8", axis=0))
    weight, bias = pq.pack_convolution(w, groups=data.layer.groups), cp.asarray(data.bias)
    out = pq.QuantParams(data.y_scale, data.y_zero, "uint8")

    def use(i: int) -> Any:
        return pq.conv2d(
            images[i], weight, bias, stride=data.layer.stride, padding=data.layer.padding,
            out_params=out, layout=layout,
        )  # fmt: skip

    y = use(0).data.get()
    if ((y if layout == "NCHW" else y.transpose(0, 3, 1, 2)) != data.expected()).any():
        raise RuntimeError(f"{data.layer.name} in {layout} is wrong")
    return Timer(cp, use, COPIES)


def _torch(torch: Any, data: Data) -> Callable[[], float]:
    layer = data.layer
    torch.backends.cudnn.benchmark = True  # the fastest algorithm that cuDNN has
    last = {"device": "cuda", "memory_format": torch.channels_last, "dtype": torch.float16}
    images = [torch.from_numpy(data.x).to(**last) for _ in range(COPIES)]
    w, bias = torch.from_numpy(data.w).to(**last), torch.from_numpy(data.bias).to("cuda").half()

    def use(i: int) -> Any:
        return torch.nn.functional.conv2d(
            images[i], w, bias, layer.stride, layer.padding, 1, layer.groups
        )

    timer: Callable[[], float] = torch_timer(torch, use, COPIES)
    return timer


def run(images: int, rounds: int, path: Path | None, quick: bool) -> bool:
    """Print the table, one line a layer; there is no target."""
    from pyquant import _cuda_loader

    _cuda_loader.require()
    import cupy as cp

    try:
        import torch
    except ImportError:
        torch = None
    rows = []
    print(f"{images} images, us a call, medians of {rounds}; TOPS of NHWC")
    print(f"{'layer':<28}{'NCHW':>9}{'NHWC':>9}{'TOPS':>8}{'torch float16':>15}{'x':>6}")
    layers = [*RESNET, *MOBILENET]
    for layer in layers[:2] if quick else layers:
        data = Data(layer, images)
        timers = {layout: _pyquant(cp, data, layout) for layout in ("NCHW", "NHWC")}
        if torch is not None and torch.cuda.is_available():
            timers["torch"] = _torch(torch, data)
        seconds: dict[str, list[float]] = {name: [] for name in timers}
        for _, (name, timer) in itertools.product(range(rounds), timers.items()):
            seconds[name].append(timer())
        found = {name: Spread.of(samples) for name, samples in seconds.items()}
        us = {name: spread.median * 1e6 for name, spread in found.items()}
        tops = images * layer.operations / found["NHWC"].median / 1e12
        line = f"{layer.name:<28}{us['NCHW']:>9.1f}{us['NHWC']:>9.1f}{tops:>8.1f}"
        if "torch" in us:
            line += f"{us['torch']:>15.1f}{us['torch'] / us['NHWC']:>6.2f}"
        print(line)
        rows.append({"layer": layer.name, "seconds": {n: vars(s) for n, s in found.items()}})
        cp.get_default_memory_pool().free_all_blocks()
    if path is not None:
        found_all = {"machine": describe(), "images": images, "rounds": rounds, "rows": rows}
        path.write_text(json.dumps(found_all, indent=1) + "\n")
    return True
