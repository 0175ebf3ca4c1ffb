"""`rdma_ctl status`, `ibv_devices` and `ibv_devinfo -v`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import AddressValueError, IPv6Address

PREFIX = "rdma_"  # of a device, before the name of its interface

_GID = re.compile(r"\s*GID\[\s*\d+\]:\s*([0-9a-fA-F:.]+)")
_STATE = re.compile(r"\s*state:\s*(PORT_\w+)")


@dataclass(frozen=True, slots=True)
class Device:
    """One RDMA device; on a Mac one Thunderbolt port."""

    name: str
    state: str = ""  # PORT_ACTIVE, PORT_DOWN, ...
    ipv4: tuple[str, ...] = ()  # of its IPv4-mapped GIDs

    @property
    def is_active(self) -> bool:
        """Whether somebody with RDMA is at the other end of the cable."""
        return self.state == "PORT_ACTIVE"


def parse_rdma_ctl(text: str) -> bool:
    """Whether RDMA over Thunderbolt is enabled.

    Raises:
        ValueError: it says neither.
    """
    word = text.strip().lower()
    if word not in ("enabled", "disabled"):
        raise ValueError(f"{word[:40]!r} is neither enabled nor disabled")
    return word == "enabled"


def parse_ibv_devices(text: str) -> tuple[str, ...]:
    """The names of the devices; none is a legal answer."""
    words = (line.split() for line in text.splitlines())
    return tuple(first for first, *_ in filter(None, words) if first.startswith(PREFIX))


def parse_ibv_devinfo(text: str) -> Mapping[str, Device]:
    """The devices by name; none is a legal answer."""
    found: dict[str, Device] = {}
    last: Device | None = None
    for line in text.splitlines():
        if line.startswith("hca_id:"):
            last = Device(line.removeprefix("hca_id:").strip())
        elif last is not None:
            last = _with(last, line)
        if last is not None:
            found[last.name] = last
    return found


def _with(known: Device, line: str) -> Device:
    """What one more line says of the device."""
    if state := _STATE.match(line):
        return replace(known, state=state[1])
    if gid := _GID.match(line):
        address = _mapped(gid[1])
        return replace(known, ipv4=(*known.ipv4, address)) if address else known
    return known


def _mapped(gid: str) -> str | None:
    """The IPv4 address that is mapped into a GID."""
    try:
        mapped = IPv6Address(gid).ipv4_mapped
    except AddressValueError:
        return None
    return str(mapped) if mapped else None
