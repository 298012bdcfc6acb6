"""Convolutions, int8 in and int8 out, beside ONNX Runtime's and torch's.

ResNet-50's layers, and the depthwise ones of MobileNet. Weights are constant and prepared by
everybody, with a scale for each output; there is a bias, and the result is requantized.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import pyquant as pq
from bench.machine import cpus, describe
from bench.timing import FRESH, Contender, Pace, Spread, measure, ratio

TIMES = 1.5  # as fast as ONNX Runtime's QLinearConv, on every layer of ResNet-50
ONNX_SPINS = 0.06  # seconds; its idle threads keep a CPU busy for so long


@dataclass(frozen=True)
class Layer:
    """A square convolution: channels, rows, outputs, kernel, stride, groups."""

    channels: int
    size: int
    outputs: int
    kernel: int
    stride: int = 1
    groups: int = 1

    @property
    def name(self) -> str:
        kind = "depthwise " if self.groups > 1 else ""
        return (
            f"{kind}{self.channels}->{self.outputs} {self.kernel}x{self.kernel}"
            f"/{self.stride} @{self.size}"
        )

    @property
    def padding(self) -> int:
        return self.kernel // 2

    @property
    def result(self) -> int:
        return (self.size + 2 * self.padding - self.kernel) // self.stride + 1

    @property
    def operations(self) -> float:
        products = self.channels // self.groups * self.kernel**2
        return 2.0 * self.result**2 * self.outputs * products


RESNET = [
    Layer(3, 224, 64, 7, 2),
    Layer(64, 56, 64, 1), Layer(64, 56, 64, 3), Layer(64, 56, 256, 1), Layer(256, 56, 64, 1),
    Layer(256, 56, 128, 1), Layer(128, 56, 128, 3, 2), Layer(128, 28, 512, 1),
    Layer(256, 56, 512, 1, 2), Layer(512, 28, 128, 1), Layer(128, 28, 128, 3),
    Layer(512, 28, 256, 1), Layer(256, 28, 256, 3, 2), Layer(256, 14, 1024, 1),
    Layer(512, 28, 1024, 1, 2), Layer(1024, 14, 256, 1), Layer(256, 14, 256, 3),
    Layer(1024, 14, 512, 1), Layer(512, 14, 512, 3, 2), Layer(512, 7, 2048, 1),
    Layer(1024, 14, 2048, 1, 2), Layer(2048, 7, 512, 1), Layer(512, 7, 512, 3),
]  # fmt: skip
MOBILENET = [
    Layer(c, size, c, 3, stride, c)
    for c, size, stride in [
        (32, 112, 1), (64, 112, 2), (128, 56, 1), (128, 56, 2), (256, 28, 1), (256, 28, 2),
        (512, 14, 1), (512, 14, 2), (1024, 7, 1),
    ]
]  # fmt: skip


class Data:
    """The operands of a layer: codes, scales and bias."""

    def __init__(self, layer: Layer, images: int) -> None:
        rng = np.random.default_rng(7)
        self.layer, self.images = layer, images
        shape = (images, layer.channels, layer.size, layer.size)
        kernel = (layer.outputs, layer.channels // layer.groups, layer.kernel, layer.kernel)
        self.x = rng.integers(0, 256, shape, dtype=np.uint8)
        self.w = rng.integers(-127, 128, kernel, dtype=np.int8)
        self.bias = rng.integers(-5000, 5000, layer.outputs, dtype=np.int32)
        self.x_scale, self.x_zero = np.float32(0.02), np.uint8(113)
        self.w_scale = rng.uniform(0.005, 0.01, layer.outputs).astype(np.float32)
        spread = 70 * 70 * np.sqrt(self.w[0].size)  # so that little is clipped
        self.y_scale = np.float32(self.x_scale * 0.0075 * spread / 50)
        self.y_zero = np.uint8(128)

    def expected(self) -> np.ndarray:
        """By the operator on plain arrays, which the tests compare with the definition."""
        return pq.ops.qlinear_conv(
            self.x, self.x_scale, self.x_zero, self.w, self.w_scale, np.int8(0), self.y_scale,
            self.y_zero, self.bias, strides=[self.layer.stride] * 2,
            pads=[self.layer.padding] * 4, group=self.layer.groups,
        )  # fmt: skip


def _pyquant(data: Data, layout: str) -> Contender:
    layer = data.layer
    x = data.x if layout == "NCHW" else np.ascontiguousarray(data.x.transpose(0, 2, 3, 1))
    weight = pq.QuantizedArray(data.w, pq.QuantParams(data.w_scale, 0, "int8", axis=0))
    names = {
        "pq": pq,
        "x": pq.QuantizedArray(x, pq.QuantParams(data.x_scale, data.x_zero, "uint8")),
        "weight": pq.pack_convolution(weight, groups=layer.groups),
        "bias": data.bias,
        "out": pq.QuantParams(data.y_scale, data.y_zero, "uint8"),
    }
    statement = (
        f"pq.conv2d(x, weight, bias, stride={layer.stride}, padding={layer.padding}, "
        f"out_params=out, layout={layout!r})"
    )

    def array(result: Any) -> np.ndarray:
        return result.data if layout == "NCHW" else result.data.transpose(0, 3, 1, 2)

    return Contender(
        f"pyquant {layout}", FRESH, statement, names, pq.get_num_threads(), array=array
    )


def _onnxruntime(data: Data, threads: int) -> Contender:
    from onnx import TensorProto, helper, numpy_helper

    from bench.contenders.onnx_runtime import session_of

    layer = data.layer
    constants = {
        "x_scale": data.x_scale, "x_zero": data.x_zero, "w": data.w, "w_scale": data.w_scale,
        "w_zero": np.zeros(layer.outputs, np.int8), "y_scale": data.y_scale,
        "y_zero": data.y_zero, "bias": data.bias,
    }  # fmt: skip
    node = helper.make_node(
        "QLinearConv", ["x", *constants], ["y"], strides=[layer.stride] * 2,
        pads=[layer.padding] * 4, group=layer.groups, kernel_shape=[layer.kernel] * 2,
    )  # fmt: skip
    graph = helper.make_graph(
        [node], "layer",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, data.x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, [None] * 4)],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()],
    )  # fmt: skip
    session = session_of(graph, threads)
    binding = session.io_binding()
    binding.bind_cpu_input("x", data.x)
    binding.bind_output("y")
    return Contender(
        "onnxruntime", FRESH, "session.run_with_iobinding(binding)",
        {"session": session, "binding": binding}, threads, spins=ONNX_SPINS,
        array=lambda _: binding.copy_outputs_to_cpu()[0],
    )  # fmt: skip


def _torch(data: Data, threads: int) -> Contender:
    import torch

    torch.set_num_threads(threads)
    layer = data.layer
    x = torch._make_per_tensor_quantized_tensor(
        torch.from_numpy(data.x), float(data.x_scale), int(data.x_zero)
    ).contiguous(memory_format=torch.channels_last)
    scales = torch.from_numpy(data.w_scale.astype(np.float64))
    zeros = torch.zeros(layer.outputs, dtype=torch.int64)
    w = torch._make_per_channel_quantized_tensor(torch.from_numpy(data.w), scales, zeros, 0)
    bias = torch.from_numpy((data.bias * (data.x_scale * data.w_scale)).astype(np.float32))
    pair = [layer.stride] * 2, [layer.padding] * 2, [1, 1]
    packed = torch.ops.quantized.conv2d_prepack(w, bias, *pair, layer.groups)
    names = {"conv": torch.ops.quantized.conv2d, "x": x, "packed": packed}
    statement = f"conv(x, packed, {float(data.y_scale)!r}, {int(data.y_zero)})"
    return Contender(
        "torch channels_last", FRESH, statement, names, threads,
        array=lambda y: y.int_repr().contiguous().numpy(),
    )  # fmt: skip


def _right(contender: Contender, data: Data) -> str | None:
    """What is wrong with a contender's result: more than one step."""
    result = contender.array(eval(contender.statement, dict(contender.names)))  # type: ignore[misc]
    off = np.abs(result.astype(np.int16) - data.expected()).max()
    return None if off <= 1 else f"results differ by {off}"


def _contenders(data: Data, threads: int, peers: bool) -> Iterator[Contender]:
    yield _pyquant(data, "NCHW")
    yield _pyquant(data, "NHWC")
    for make in (_onnxruntime, _torch) if peers else ():
        try:
            yield make(data, threads)
        except Exception as error:  # a peer that is missing or can not do this
            print(f"{data.layer.name}: {make.__name__[1:]} left out: {error}")


def run(
    threads: list[int], only: list[str], images: int, quick: bool, path: Path | None, peers: bool
) -> bool:
    """Measure in turns, print a table, write JSON; is the target met?"""
    pace = Pace(sample=0.01, rounds=7 if quick else 15, budget=1.5 if quick else 6.0)
    layers = [(layer, True) for layer in RESNET] + [(layer, False) for layer in MOBILENET]
    layers = [
        (one, judged) for one, judged in layers if not only or any(o in one.name for o in only)
    ]
    rows: list[dict[str, Any]] = []
    met = True
    for count in [t for t in threads if t <= cpus()]:
        pq.set_num_threads(count)
        print(f"\n{count} thread{'s' * (count > 1)}, {images} image{'s' * (images > 1)}, us a call")
        print(
            f"{'layer':<28}{'NCHW':>9}{'NHWC':>9}{'TOPS':>7}{'ORT':>9}{'x':>6}{'torch':>9}{'x':>6}"
        )
        for layer, judged in layers:
            data = Data(layer, images)
            found = []
            for contender in _contenders(data, count, peers):
                problem = _right(contender, data)
                if problem is None:
                    found.append(contender)
                else:
                    print(f"{layer.name}: {contender.name}: {problem}")
            seconds = {k.split("|")[0]: s for k, s in measure(found, pace).items()}
            row, good = _row(layer, count, images, seconds, judged)
            rows.append(row)
            met &= good
    if peers:
        print(f"\ntarget: NCHW >= {TIMES} x ONNX Runtime on every layer of ResNet-50")
    if path is not None:
        path.write_text(
            json.dumps({"machine": describe(), "rows": rows}, indent=1, default=str) + "\n"
        )
    return met


def _row(
    layer: Layer, threads: int, images: int, seconds: dict[str, list[float]], judged: bool
) -> tuple[dict[str, Any], bool]:
    """One line of the table, printed; and whether its target is met."""
    spreads = {name: Spread.of([1e6 * s for s in spent]) for name, spent in seconds.items()}
    row: dict[str, Any] = {"layer": layer.name, "threads": threads, "images": images}
    row |= {f"{name} us": vars(spread) for name, spread in spreads.items()}
    first, last = (spreads[f"pyquant {layout}"].median for layout in ("NCHW", "NHWC"))
    line = f"{layer.name:<28}{first:>9.1f}{last:>9.1f}"
    line += f"{layer.operations * images / min(first, last) / 1e6:>7.3f}"
    good = True
    for peer, own in (("onnxruntime", "pyquant NCHW"), ("torch channels_last", "pyquant NHWC")):
        if peer not in seconds:
            line += f"{'-':>9}{'':>6}"
            continue
        faster = ratio(seconds[peer], seconds[own]).median
        row[f"times {peer}"] = faster
        line += f"{spreads[peer].median:>9.1f}{faster:>6.2f}"
        if judged and peer == "onnxruntime":
            good = faster >= TIMES
            line += "" if good else " MISS"
    print(line)
    return row, good
