"""A Dask cluster on this machine, for tests."""

import distributed


def two_processes() -> distributed.LocalCluster:
    """Two workers of one thread each, and nothing that another machine could reach."""
    return distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1",
        dashboard_address="127.0.0.1:0", memory_limit=0,
    )  # fmt: skip
