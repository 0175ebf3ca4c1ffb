"""`ifconfig` and `networksetup -listallhardwareports`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

_HEAD = re.compile(r"(?P<name>[\w.]+): flags=\w+<(?P<flags>[\w,]*)>")


@dataclass(frozen=True, slots=True)
class Interface:
    """One network interface."""

    name: str
    up: bool
    active: bool = False  # a cable with somebody at the other end
    ipv4: tuple[str, ...] = ()
    members: tuple[str, ...] = ()  # of a bridge


def parse_ifconfig(text: str) -> Mapping[str, Interface]:
    """The interfaces by name.

    Raises:
        ValueError: there are none.
    """
    found: dict[str, Interface] = {}
    last: Interface | None = None
    for line in text.splitlines():
        if head := _HEAD.match(line):
            last = Interface(head["name"], up="UP" in head["flags"].split(","))
        elif last is not None:
            last = _with(last, line.split())
        if last is not None:
            found[last.name] = last
    if not found:
        raise ValueError("no interface in it")
    return found


def parse_hardware_ports(text: str) -> Mapping[str, str]:
    """The interface of each hardware port, such as {"Thunderbolt 1": "en2"}.

    Raises:
        ValueError: there are none.
    """
    pairs = re.findall(r"^Hardware Port: (.+)\nDevice: (\S+)", text, flags=re.MULTILINE)
    if not pairs:
        raise ValueError("no hardware port in it")
    return dict(pairs)


def _with(known: Interface, words: list[str]) -> Interface:
    """What one more line says of the interface."""
    match words:
        case ["inet", address, *_]:
            return replace(known, ipv4=(*known.ipv4, address))
        case ["member:", name, *_]:
            return replace(known, members=(*known.members, name))
        case ["status:", status, *_]:
            return replace(known, active=status == "active")
        case _:
            return known
