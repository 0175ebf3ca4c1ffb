"""`system_profiler SPThunderboltDataType -json`: a Mac's ports, and who is at their other ends."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

_ROOT = "SPThunderboltDataType"
_DOMAIN = "domain_uuid_key"
_PORT = "receptacle_1_tag"
TB5_GBPS = 80  # Thunderbolt 4 ends at 40


@dataclass(frozen=True, slots=True)
class Port:
    """One Thunderbolt port of a Mac."""

    receptacle: str  # its number, which networksetup has as "Thunderbolt 1"
    domain: str  # UUID of the domain that begins here
    peers: tuple[str, ...]  # those at the other ends of its cable; several behind a hub
    gbps: int | None  # of the link; None: no cable
    most_gbps: int | None  # what it could do; told only while no cable is in it

    @property
    def generation(self) -> int | None:
        """Thunderbolt 4 or 5 as far as its speed tells; None if that may be due to the cable."""
        best = max(self.gbps or 0, self.most_gbps or 0)
        if best >= TB5_GBPS:
            return 5
        return 4 if self.most_gbps else None


def parse_thunderbolt(text: str) -> tuple[Port, ...]:
    """The ports, by their number.

    Raises:
        ValueError: it is not what this command prints.
    """
    data = json.loads(text)
    if not isinstance(data, dict) or _ROOT not in data:
        raise ValueError(f"no {_ROOT} in it")
    buses = cast("list[dict[str, Any]]", data[_ROOT])
    found = (_port(bus) for bus in buses if _DOMAIN in bus and _PORT in bus)
    return tuple(sorted(found, key=lambda port: port.receptacle))


def _port(bus: Mapping[str, Any]) -> Port:
    tag = cast("dict[str, str]", bus[_PORT])
    speed = tag.get("current_speed_key", "")
    number = _gbps(speed)
    idle = speed.startswith("Up to")
    return Port(
        receptacle=str(tag.get("receptacle_id_key", "")),
        domain=str(bus[_DOMAIN]),
        peers=tuple(_domains(bus)),
        gbps=None if idle else number,
        most_gbps=number if idle else None,
    )


def _domains(node: Mapping[str, Any]) -> Iterator[str]:
    """Of all Macs below it: directly at the cable, or behind hubs, which have no domain."""
    for item in cast("list[dict[str, Any]]", node.get("_items", [])):
        if _DOMAIN in item:
            yield str(item[_DOMAIN])
        yield from _domains(item)


def _gbps(speed: str) -> int | None:
    found = re.search(r"(\d+) Gb/s", speed)
    return int(found[1]) if found else None
