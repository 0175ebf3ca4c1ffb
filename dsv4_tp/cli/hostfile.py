"""`dsv4-tp hostfile`: MLX's hostfiles to cluster.yaml and back."""

import asyncio
from pathlib import Path

from dsv4_tp.cli.inputs import cluster, default_file
from dsv4_tp.cli.tables import note
from dsv4_tp.config import DEMO, ClusterConfig, model_path
from dsv4_tp.config.hostfile import (
    Translation,
    cluster_of_hostfile,
    hostfile_of_cluster,
    read_hostfile,
)
from dsv4_tp.doctor.examine import find_fabric


def import_from(*, source: Path, model: str) -> None:
    """Print cluster.yaml."""
    _print(cluster_of_hostfile(read_hostfile(source), model_path(model, Path.cwd())))


def export_to(*, hosts: str | None, file: Path | None, rdma: bool) -> None:
    """Print the hostfile."""
    model = None if hosts is None else DEMO
    config = cluster(hosts=hosts, file=default_file(file, hosts), model=model)
    _print(_with_devices(config) if rdma else hostfile_of_cluster(config))


def _with_devices(config: ClusterConfig) -> Translation:
    fabric = asyncio.run(find_fabric(config))
    rows = dict(zip(fabric.hosts, fabric.matrix, strict=True))
    return hostfile_of_cluster(config, backend=fabric.backend, rdma=rows)


def _print(translation: Translation) -> None:
    print(translation.text, end="")
    for line in translation.lost:
        note(f"not in it: {line}")
