"""``pyquant quantize --workers`` and ``--dask``: a folder of shards by the workers of a cluster.

A worker makes whole shards, with the code of a run without one, so the bytes are the same. One
that dies is replaced and its shard begun again; what is finished when the command ends before its
time serves the next run.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyquant as pq
from pyquant.checkpoint.resumable import Shard, Unfinished
from pyquant.checkpoint.rewrite import write_index, write_part
from pyquant.checkpoint.source import Checkpoint, opened

if TYPE_CHECKING:
    from pyquant.cli.quantizing import Settings, Work

_PATIENCE = "30s"


class Cluster(NamedTuple):
    """Where the workers are: at an address, or as many processes of this machine."""

    address: str | None
    workers: int | None


def rewrite(cluster: Cluster, source: Checkpoint, out: Path, settings: Settings, work: Work) -> int:
    """Write the folder `out` as `rewrite.rewrite` does; return the bytes of its tensors."""
    if not source.is_folder:
        raise ValueError(f"{source.path} is one file: --dask and --workers divide a folder")
    described = {**asdict(settings), "measure": work.measure, "pyquant": _version()}
    unfinished = Unfinished(out, [part.file.path for part in source.parts], described)
    unfinished.open()
    try:
        results = _results(cluster, unfinished, settings, work)
        return _published(unfinished, results, source, work)
    except ValueError:  # the data were refused, and will be again
        unfinished.discard()
        raise
    except BaseException as stop:
        finished = unfinished.close()
        if finished and not isinstance(stop, Exception):
            print(
                f"{finished} of {len(unfinished.shards)} shards are finished: the same command "
                f"goes on with the rest",
                file=sys.stderr,
            )
        raise


def _published(
    unfinished: Unfinished, results: dict[str, dict[str, Any]], source: Checkpoint, work: Work
) -> int:
    where: dict[str, str] = {}
    total = 0
    for shard in unfinished.shards:
        result = results[shard.name]
        work.quantized += result["quantized"]
        work.kept += result["kept"]
        work.measured += result["measured"]
        where |= dict.fromkeys(result["written"], shard.name)
        total += sum(result["written"].values())
    index = source.index_file
    unfinished.publish(
        lambda folder: write_index(folder / index.name, index, where, total) if index else None
    )
    return total


def _results(
    cluster: Cluster, unfinished: Unfinished, settings: Settings, work: Work
) -> dict[str, dict[str, Any]]:
    results = {}
    for shard in unfinished.shards:
        result = shard.finished()
        if result is not None:
            results[shard.name] = result
            nbytes = sum(nbytes for _, _, nbytes in result["steps"])
            work.done(shard.name, f"{shard.name}  finished by an earlier run", nbytes)
    missing = [shard for shard in unfinished.shards if shard.name not in results]
    if missing:
        with _client(cluster, len(missing)) as client:
            for shard, result in _made(client, missing, settings, work.measure):
                results[shard.name] = result
                for step in result["steps"]:
                    work.done(*step)
    return results


def _made(
    client: Any, shards: list[Shard], settings: Settings, measure: bool
) -> Iterator[tuple[Shard, dict[str, Any]]]:
    """Yield the shards with what their workers tell, as they are finished."""
    from distributed import KilledWorker, as_completed

    futures = {
        client.submit(make_shard, shard, settings, measure, pure=False): shard for shard in shards
    }
    try:
        for future in as_completed(futures):
            shard = futures[future]
            try:
                yield shard, future.result()
            except KilledWorker:
                raise OSError(
                    f"{shard.name}: every worker that began it died, for want of memory perhaps; "
                    f"the same command goes on with what is left"
                ) from None
    finally:
        client.cancel(list(futures), force=True)


def make_shard(shard: Shard, settings: Settings, measure: bool) -> dict[str, Any]:
    """Make one shard and its marker; this runs on a worker."""
    from pyquant.cli.quantizing import Work

    if not (shard.source.is_file() and shard.path.parent.is_dir()):
        raise OSError(
            f"a worker does not see {shard.source} and {shard.path.parent}: "
            f"all machines need the files under the same names"
        )
    work = Work(settings, measure)
    done: list[tuple[str, str, int]] = []
    work.done = lambda name, line, nbytes: done.append((name, line, nbytes))
    with opened(shard.source) as source, shard.making() as temporary:
        (part,) = source.parts
        written = write_part(temporary, work.layout(part, settings.grid()), work.tensors(part))
    result = {
        "written": written,
        "quantized": work.quantized,
        "kept": work.kept,
        "measured": work.measured,
        "steps": done,
    }
    shard.finish(result)
    return result


@contextmanager
def _client(cluster: Cluster, shards: int) -> Iterator[Any]:
    try:
        import distributed
    except ImportError:
        raise ImportError("--dask and --workers need dask: pip install 'pyquant[dask]'") from None
    if cluster.address is not None:
        with distributed.Client(cluster.address, timeout=_PATIENCE) as client:
            try:
                client.wait_for_workers(1, timeout=_PATIENCE)
            except TimeoutError:
                raise OSError(f"the cluster at {cluster.address} has no workers") from None
            yield client
        return
    workers = min(cluster.workers or 1, shards)
    with (
        distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",  # any free port
            memory_limit=0,  # a worker holds a tensor or two, whatever share of memory that is
            env={"PYQUANT_NUM_THREADS": str(max(1, pq.get_num_threads() // workers))},
            silence_logs=logging.CRITICAL,
        ) as local,
        distributed.Client(local) as client,
    ):
        client.register_plugin(_out_of_the_terminal(distributed.WorkerPlugin))
        yield client


def _out_of_the_terminal(plugin: Any) -> Any:
    """A plugin that leaves Ctrl-C to the command: its workers would die of it with a traceback."""

    class OutOfTheTerminal(plugin):  # type: ignore[misc]
        def setup(self, worker: Any) -> None:
            if hasattr(os, "setpgrp"):
                os.setpgrp()

    return OutOfTheTerminal()


def _version() -> str:
    try:
        return version("pyquant")
    except PackageNotFoundError:  # run from a source tree
        return ""
