"""``pyquant quantize``: which tensors, the layout of the result, and the work."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import pyquant as pq
from pyquant.checkpoint.record import (
    Record,
    fitting_params_shape,
    parts_of,
    records_text,
    refuse_collisions,
)
from pyquant.checkpoint.replacing import replacing
from pyquant.checkpoint.rewrite import (
    Tensors,
    read_ahead,
    refuse_existing,
    refuse_target,
    rewrite,
)
from pyquant.checkpoint.source import Part, opened
from pyquant.checkpoint.tensors import Array, Layout, TensorSpec, shape_text
from pyquant.cli import cluster
from pyquant.cli.cluster import Cluster
from pyquant.cli.console import Steps, bytes_text, finite, json_text, ratio_text, steps
from pyquant.cli.selection import refuse_idle_globs, wanted


@dataclass(frozen=True)
class Settings:
    """What the command line asks for."""

    dtype: str
    scheme: str
    axis: int | None
    block_size: int | None
    calibration: str
    include: tuple[str, ...]
    exclude: tuple[str, ...]

    def grid(self) -> pq.QuantParams:
        """Return params of this grid, or raise what the library says of the settings."""
        return self.quantize(np.ones((1,), np.float32), per_tensor=True).params

    def quantize(
        self, x: Array, *, per_tensor: bool = False, packed: bool = False
    ) -> pq.QuantizedArray:
        return pq.quantize(
            x,
            dtype=self.dtype,
            scheme=self.scheme,
            axis=None if per_tensor else self.axis,
            block_size=None if per_tensor else self.block_size,
            calibration=self.calibration,
            packed=packed,
        )

    def record(self, spec: TensorSpec, grid: pq.QuantParams) -> Record:
        """Return how a tensor will be stored; sub-byte grids are packed."""
        try:
            fitting_params_shape(spec.shape, self.axis, self.block_size)
        except ValueError as error:
            raise ValueError(
                f"tensor {spec.name!r}: {error}; --exclude keeps a tensor as it is"
            ) from None
        return Record(
            dtype=grid.dtype,
            narrow_range=grid.narrow_range,
            axis=self.axis,
            block_size=self.block_size,
            shape=spec.shape,
            packed=grid.bits < 8,
            source_dtype=spec.dtype,
        )


def run(
    source_path: Path,
    out: Path,
    settings: Settings,
    grid: pq.QuantParams,
    report: Path | None,
    overwrite: bool,
    workers: Cluster | None = None,
) -> None:
    """Quantize the checkpoint `source_path` into `out`."""
    with opened(source_path) as source:
        refuse_target(source, out, overwrite)
        if report:
            refuse_existing(report, overwrite)
        work = Work(settings, measure=report is not None)
        refuse_idle_globs(source, settings.include)
        layouts = [work.layout(part, grid) for part in source.parts]
        stored = source.stored()
        refuse_collisions(work.records, stored)
        before = sum(spec.nbytes for spec in stored.values())
        with steps(before) as work.done:
            if workers is None:
                after = rewrite(source, out, layouts, work.tensors)
            else:
                after = cluster.rewrite(workers, source, out, settings, work)
        if report:
            summary = {"in": str(source_path), "out": str(out), "bytes_in": before}
            summary |= {"bytes_out": after, "settings": asdict(settings)}
            with replacing(report) as temporary:
                temporary.write_text(json_text({**summary, "tensors": work.measured}) + "\n")
    print(
        f"{out}: {work.quantized} of {work.quantized + work.kept} tensors quantized, "
        f"{bytes_text(before)} -> {bytes_text(after)}, {ratio_text(before, after)}"
    )


class Work:
    """The quantization of one checkpoint, part by part, and what was measured of it."""

    def __init__(self, settings: Settings, measure: bool) -> None:
        self.records: dict[str, Record] = {}
        self.done: Steps = lambda name, line, nbytes: None
        self.measured: list[dict[str, Any]] = []
        self.quantized = self.kept = 0
        self._settings = settings
        self.measure = measure

    def layout(self, part: Part, grid: pq.QuantParams) -> Layout:
        """Decide everything about the new file that does not depend on the data."""
        records = {
            name: self._settings.record(part.file.specs[name], grid)
            for name in part.names
            if name not in part.records and self._wants(part.file.specs[name])
        }
        self.records |= records
        specs = [
            made
            for spec in part.file.specs.values()
            for made in (records[spec.name].specs(spec.name) if spec.name in records else [spec])
        ]
        text = records_text({**part.records, **records})
        return Layout(tuple(specs), part.file.metadata, text)

    def _wants(self, spec: TensorSpec) -> bool:
        return wanted(spec, self._settings.include, self._settings.exclude)

    def tensors(self, part: Part) -> Tensors:
        """Yield what is to be stored; tensors that were quantized before stay as they are."""
        names = set(part.names)
        for name, array in read_ahead(part.file, list(part.file.specs)):
            if name in self.records:
                yield from self._quantized(name, array)
                self.quantized += 1
                continue
            yield name, array
            self.kept += name in names
            self.done(name, f"{name}  kept  {part.file.specs[name]}", array.nbytes)

    def _quantized(self, name: str, array: Array) -> Tensors:
        record = self.records[name]
        try:
            q = self._settings.quantize(array, packed=record.packed)
        except ValueError as error:
            raise ValueError(f"tensor {name!r}: {error}") from error
        yield from parts_of(name, q)
        line = (
            f"{name}  {record.source_dtype} {shape_text(record.shape)} -> {record.dtype}  "
            f"{bytes_text(array.nbytes)} -> {bytes_text(q.nbytes)}"
        )
        if self.measure:
            line += "  " + self._note_error(name, array, q)
        self.done(name, line, array.nbytes)

    def _note_error(self, name: str, array: Array, q: pq.QuantizedArray) -> str:
        error = pq.error(array, q)
        figures = {
            key: finite(getattr(error, key)) for key in ("mse", "sqnr_db", "max_abs", "clipped")
        }
        record = asdict(self.records[name])
        sizes = {"bytes_in": array.nbytes, "bytes_out": q.nbytes}
        self.measured.append({"name": name, **record, **sizes, **figures})
        return f"SQNR {error.sqnr_db:.1f} dB"
