"""Which running cluster a user means."""

from pathlib import Path

from dsv4_tp.errors import ConfigError
from dsv4_tp.rpc.registry import running


def find_cluster(folder: Path, name: str | None) -> str:
    """HOST:PORT of the cluster called `name`, or of the only one; `folder` is the state directory.

    Raises:
        ConfigError: there is none, or there are several and none is named.
    """
    clusters = {entry.name: entry.address for entry in running(folder)}
    names = ", ".join(clusters)
    if name is None and len(clusters) > 1:
        raise ConfigError(f"several clusters are running ({names}); choose one with --name")
    if not clusters:
        raise ConfigError("no cluster is running on this machine; start one: dsv4-tp launch")
    if name is not None and name not in clusters:
        raise ConfigError(f"no cluster called {name} is running on this machine; running: {names}")
    return clusters[name or names]


def is_running(folder: Path, name: str | None) -> bool:
    """Whether the cluster called `name` runs on this machine, or any if none is named."""
    return any(name in (None, entry.name) for entry in running(folder))
