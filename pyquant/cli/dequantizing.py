"""``pyquant dequantize``: quantized tensors back to the float types they had."""

from __future__ import annotations

from pathlib import Path

import pyquant as pq
from pyquant.checkpoint.rewrite import Tensors, refuse_target, rewrite
from pyquant.checkpoint.source import Part, opened
from pyquant.checkpoint.tensors import Layout, TensorSpec, shape_text
from pyquant.cli.console import Steps, bytes_text, steps


def run(source_path: Path, out: Path, overwrite: bool) -> None:
    """Dequantize the checkpoint `source_path` into `out`."""
    with opened(source_path) as source:
        refuse_target(source, out, overwrite)
        if not any(part.records for part in source.parts):
            raise ValueError(f"{source_path} has no quantized tensors")
        before = sum(spec.nbytes for spec in source.stored().values())
        layouts = [_layout(part) for part in source.parts]
        with steps(before) as done:
            after = rewrite(source, out, layouts, lambda part: _tensors(part, done))
    print(f"{out}: {bytes_text(before)} -> {bytes_text(after)}")


def _layout(part: Part) -> Layout:
    return Layout(tuple(_spec(part, name) for name in part.names), part.file.metadata, None)


def _spec(part: Part, name: str) -> TensorSpec:
    if name not in part.records:
        return part.file.specs[name]
    record = part.records[name]
    return TensorSpec(name, record.source_dtype, record.shape)


def _tensors(part: Part, done: Steps) -> Tensors:
    for name in part.names:
        value = part.read(name)
        if isinstance(value, pq.QuantizedArray):
            value = value.dequantize(part.records[name].source_dtype)
        yield name, value
        nbytes = sum(spec.nbytes for spec in part.specs(name))
        line = f"{name}  {_spec(part, name).dtype} {shape_text(value.shape)}"
        done(name, line, nbytes)
