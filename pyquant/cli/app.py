"""The commands and their options; the work is in the module of each command."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

import pyquant as pq
from pyquant.cli import comparison, dequantizing, inspection, quantizing, reporting
from pyquant.cli.cluster import Cluster
from pyquant.cli.recipe import recipes

app = typer.Typer(
    help="Quantize checkpoints: .safetensors, .npz, .npy or a folder of safetensors shards.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

In = Annotated[Path, typer.Argument(metavar="IN", show_default=False)]
Out = Annotated[Path, typer.Argument(metavar="OUT", show_default=False)]
File = Annotated[Path, typer.Argument(metavar="FILE", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it exists.")]


class Scheme(str, Enum):
    """The ways to choose scale and zero point."""

    symmetric = "symmetric"
    affine = "affine"


@app.command()
def quantize(
    source: In,
    out: Out,
    dtype: Annotated[str, typer.Option(help="Grid: int2 ... int16, uint2 ... uint16.")] = "int8",
    scheme: Annotated[Scheme, typer.Option(help="How the range is used.")] = Scheme.symmetric,
    axis: Annotated[
        int | None, typer.Option(help="One scale per index of this axis. Default: per tensor.")
    ] = None,
    block_size: Annotated[
        int | None,
        typer.Option(min=1, help="One scale per so many elements along the axis (default -1)."),
    ] = None,
    calibration: Annotated[str, typer.Option(help="How the range is chosen.")] = "minmax",
    include: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB",
            help="Only tensors of these names; also 1-D ones, which are otherwise kept.",
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Keep tensors of these names.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Measure and write the errors.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Divide a folder of shards among N processes."),
    ] = None,
    dask: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Divide it among the workers of a Dask scheduler."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Quantize the float tensors of IN into OUT.

    With --workers or --dask a run that was interrupted goes on when it is repeated.
    """
    if workers is not None and dask is not None:
        raise typer.BadParameter("--workers and --dask exclude each other")
    settings = quantizing.Settings(
        dtype=dtype,
        scheme=scheme.value,
        axis=-1 if axis is None and block_size is not None else axis,
        block_size=block_size,
        calibration=calibration,
        include=tuple(include or ()),
        exclude=tuple(exclude or ()),
    )
    try:
        grid = settings.grid()
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    divided = None if workers is None and dask is None else Cluster(dask, workers)
    quantizing.run(source, out, settings, grid, report, overwrite, divided)


@app.command()
def dequantize(source: In, out: Out, overwrite: Overwrite = False) -> None:
    """Turn the quantized tensors of IN back into the types they had."""
    dequantizing.run(source, out, overwrite)


@app.command()
def inspect(file: File, as_json: Json = False) -> None:
    """List the tensors of FILE."""
    inspection.run(file, as_json)


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(metavar="A", show_default=False)],
    b: Annotated[Path, typer.Argument(metavar="B", show_default=False)],
    as_json: Json = False,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw the errors.")] = None,
) -> None:
    """Show how far the tensors of B are from those of A, worst first."""
    comparison.run(a, b, as_json, plot)


@app.command()
def report(
    source: In,
    dtype: Annotated[
        list[str] | None, typer.Option(help="Grid; more than once. [default: int8, int4]")
    ] = None,
    granularity: Annotated[
        list[str] | None,
        typer.Option(help="tensor, channel or block; more than once. [default: all]"),
    ] = None,
    calibration: Annotated[
        list[str] | None,
        typer.Option(
            help="How the range is chosen; more than once. "
            "[default: minmax, and mse but for blocks]"
        ),
    ] = None,
    scheme: Annotated[Scheme, typer.Option(help="How the range is used.")] = Scheme.symmetric,
    axis: Annotated[int, typer.Option(help="Of the channels.")] = 0,
    block_axis: Annotated[int, typer.Option(help="Along which blocks run.")] = -1,
    block_size: Annotated[int, typer.Option(min=1, help="Elements of a block.")] = 64,
    include: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Only tensors of these names; also 1-D ones."),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Not tensors of these names.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many tensors to print, worst first.")] = 20,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write everything as JSON.")
    ] = None,
    html_file: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page with histograms.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace these files.")] = False,
) -> None:
    """Show what recipes would do to the float tensors of IN, worst first."""
    try:
        combined = recipes(
            dtype or ["int8", "int4"],
            granularity or ["tensor", "channel", "block"],
            calibration,
            scheme=scheme.value,
            axis=axis,
            block_axis=block_axis,
            block_size=block_size,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    reporting.run(
        source, combined, tuple(include or ()), tuple(exclude or ()), top, json_file, html_file,
        overwrite,
    )  # fmt: skip


@app.command()
def info() -> None:
    """Show the CPU features and the variant chosen for every operation."""
    pq.show_runtime()
