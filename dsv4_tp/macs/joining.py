"""How JACCL joins the ranks of a cluster, by what their hosts' tools say. Pure."""

from collections.abc import Mapping, Sequence

from dsv4_tp.core import Backend, Rdma
from dsv4_tp.errors import PreflightError
from dsv4_tp.macs.links import check_devices, find_cables, rdma_between
from dsv4_tp.macs.mac import OF_CABLES, Mac


def rdma_of(
    backend: Backend, given: Rdma | None, hosts: Sequence[str], macs: Mapping[str, Mac]
) -> Rdma | None:
    """How JACCL joins the ranks; None: a ring over TCP does.

    Args:
        backend: what is asked for.
        given: what was written down; then its devices are looked at and nothing else.
        hosts: of the ranks, by name.
        macs: those of the hosts that are Macs.

    Raises:
        PreflightError: it cannot join these hosts; names them, and cables or devices.
    """
    if backend is Backend.RING or len(hosts) == 1:
        return None
    if given is not None:
        check_devices(given, hosts, macs)
        return given
    if strange := [name for name in hosts if name not in macs]:
        raise PreflightError(f"{strange[0]} is no Mac, so it has no RDMA over Thunderbolt")
    if len(macs) < len(hosts):
        raise PreflightError("two ranks are on one host, and a cable joins two hosts")
    for name, mac in macs.items():
        if unread := [mac.unread[tool] for tool in OF_CABLES if tool in mac.unread]:
            raise PreflightError(f"{name}: {unread[0]}")
    return rdma_between(backend, hosts, find_cables(macs))
