"""Which running cluster the options mean."""

from pathlib import Path

from dsv4_tp.client import find_cluster, is_running
from dsv4_tp.config.environment import state_dir
from dsv4_tp.errors import ConfigError
from dsv4_tp.history import launch_folder, launches_of


def address_of(name: str | None, address: str | None) -> str:
    """HOST:PORT by `address` itself, or by the state file of `name`, or of the only cluster.

    Raises:
        ConfigError: no such cluster, several, or both options.
    """
    if address is None:
        return find_cluster(state_dir(), name)
    if name is not None:
        raise ConfigError("--name and --address both say which cluster; give one of them")
    host, _, port = address.rpartition(":")
    if not (host and port.isascii() and port.isdecimal()):
        raise ConfigError(f"--address {address!r}: expected HOST:PORT")
    return address


def address_or_history(name: str | None, address: str | None) -> str | Path:
    """Where a cluster answers, as `address_of`; for one that is down, its last launch's folder.

    Raises:
        ConfigError: neither is there, or it is not clear which is meant.
    """
    if address is None and not is_running(state_dir(), name):
        past = launches_of(state_dir(), name)
        if past:
            return launch_folder(state_dir(), past[-1])
    return address_of(name, address)
