"""`python -m bench elementwise`, or overhead, gemm, linear, conv, calibration, gpu …"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.report import Report


def _numbers(text: str) -> list[int]:
    return [int(float(part)) for part in text.split(",")]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("elementwise", "beside other libraries and the machine's limits, judged by the targets"),
        ("overhead", "the elementwise calls on 10 elements alone"),
        ("gemm", "integer matrix products, beside other libraries and the machine's peak"),
        ("linear", "linear layers, dynamic and static, beside other libraries"),
    ):
        sub = commands.add_parser(name, help=text)
        sub.add_argument("--json", type=Path, metavar="FILE", help="write every sample's summary")
        sub.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the speeds")
        sub.add_argument("--quick", action="store_true", help="few cases, a minute or two")
        sub.add_argument(
            "--only", action="append", default=[], metavar="PATTERN",
            help="cases whose name holds PATTERN (* and ? as in the shell); may be repeated",
        )  # fmt: skip
        sub.add_argument("--threads", type=_numbers, metavar="1,2")
        if name in ("elementwise", "overhead"):
            sub.add_argument("--sizes", type=_numbers, metavar="1e5,1e7")
        sub.add_argument(
            "--peers", type=lambda text: [p for p in text.split(",") if p], metavar="torch,numba",
            help="these peers only; empty: none but the limits",
        )  # fmt: skip
        sub.add_argument(
            "--check", action="store_true", help="exit with status 1 where a target is missed"
        )
    sub = commands.add_parser("calibration", help="observers beside other libraries' calibrators")
    sub.add_argument("--batches", type=int, default=100)
    sub.add_argument("--size", type=lambda text: int(float(text)), default=1_000_000)
    sub.add_argument("--rounds", type=int, default=3)
    sub.add_argument("--threads", type=int, help="for pyquant and PyTorch (default: all)")
    sub.add_argument("--no-peers", action="store_true", help="pyquant alone")
    sub.add_argument("--json", type=Path, metavar="FILE", help="write the table")
    sub = commands.add_parser("conv", help="layers of networks, beside ONNX Runtime and torch")
    sub.add_argument("--threads", type=_numbers, default=[1, 2], metavar="1,2")
    sub.add_argument(
        "--only", action="append", default=[], metavar="PART",
        help="layers whose name holds PART, as '3x3' or 'depthwise'; may be repeated",
    )  # fmt: skip
    sub.add_argument("--images", type=int, default=1)
    sub.add_argument("--quick", action="store_true", help="fewer rounds")
    sub.add_argument("--no-peers", action="store_true", help="pyquant alone")
    sub.add_argument("--json", type=Path, metavar="FILE", help="write the table")
    sub = commands.add_parser("checkpoint", help="a 2 GB file through the command line")
    sub.add_argument("--gigabytes", type=float, default=2.0)
    sub.add_argument("--rounds", type=int, default=5)
    sub.add_argument("--folder", type=Path, help="where the files go (default: temporary files)")
    sub = commands.add_parser(
        "gpu-gemm", help="integer products on a GPU, beside cuBLASLt and torch"
    )
    sub.add_argument("--rounds", type=int, default=20)
    sub.add_argument("--quick", action="store_true", help="two shapes")
    sub.add_argument("--json", type=Path, metavar="FILE", help="write the table")
    sub = commands.add_parser("gpu-conv", help="layers of networks on a GPU, beside torch")
    sub.add_argument("--images", type=int, default=32)
    sub.add_argument("--rounds", type=int, default=20)
    sub.add_argument("--quick", action="store_true", help="two layers")
    sub.add_argument("--json", type=Path, metavar="FILE", help="write the table")
    sub = commands.add_parser("import", help="import time beyond NumPy")
    sub.add_argument("--rounds", type=int, default=20)
    sub = commands.add_parser("gpu", help="elementwise on a GPU, beside CuPy and torch")
    sub.add_argument("--elements", type=lambda text: int(float(text)), default=1 << 28)
    sub.add_argument("--rounds", type=int, default=30)
    sub.add_argument("--only", action="append", default=[], metavar="PART", help="of a case's name")
    sub.add_argument("--json", type=Path, metavar="FILE", help="write the table")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one benchmark; 1 where a target is missed (the suites with --check: only with it)."""
    given = _parser().parse_args(arguments)
    if given.command == "import":
        from bench import import_time

        return 0 if import_time.run(given.rounds) else 1
    if given.command == "calibration":
        from bench import calibration

        met = calibration.run(
            given.batches, given.size, given.rounds, given.threads, given.json, not given.no_peers
        )
        return 0 if met else 1
    if given.command in ("gpu", "gpu-gemm", "gpu-conv"):
        try:
            if given.command == "gpu":
                from bench import gpu

                met = gpu.run(given.elements, given.rounds, given.json, given.only)
            elif given.command == "gpu-conv":
                from bench import gpu_conv

                met = gpu_conv.run(given.images, given.rounds, given.json, given.quick)
            else:
                from bench import gpu_gemm

                met = gpu_gemm.run(given.rounds, given.json, given.quick)
        except RuntimeError as error:
            print(error, file=sys.stderr)
            return 2
        return 0 if met else 1
    if given.command == "conv":
        from bench import conv

        met = conv.run(
            given.threads, given.only, given.images, given.quick, given.json, not given.no_peers
        )
        return 0 if met else 1
    if given.command == "checkpoint":
        from bench import checkpoint

        return 0 if checkpoint.run(given.gigabytes, given.rounds, given.folder) else 1

    report, draw = _measured(given)
    report.print()
    if given.json is not None:
        report.write_json(given.json)
    if given.plot is not None:
        draw(report, given.plot)
    missed = any(not verdict.met for verdict in report.verdicts())
    return 1 if given.check and missed else 0


def _measured(given: argparse.Namespace) -> tuple[Report, Callable[[Any, Path], None]]:
    """Run the suite asked for; its report, and what draws it."""
    if given.command in ("gemm", "linear"):
        from bench.products import plot as products_plot
        from bench.products import suite

        chosen = {"only": given.only, "threads": given.threads, "peers": given.peers}
        return suite.run(given.command, **chosen, quick=given.quick), products_plot.draw
    from bench import elementwise, plot

    report = elementwise.run(
        only=["*quantize n=10"] if given.command == "overhead" else given.only,
        sizes=given.sizes,
        threads=given.threads,
        peers=given.peers,
        quick=given.quick,
    )
    return report, plot.draw


if __name__ == "__main__":
    sys.exit(main())
