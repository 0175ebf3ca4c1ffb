"""Which running cluster the options mean."""

from dsv4_tp.client import find_cluster
from dsv4_tp.config.environment import state_dir
from dsv4_tp.errors import ConfigError


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
