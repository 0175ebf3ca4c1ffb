"""What agents hear of each other at the addresses of their ranks, and what follows from it.

A part of `state`. A way that is gone looks from its two ends like a rank that stands still, and
from here like nothing at all; a host that is gone looks from here like the way to it.
"""

from collections.abc import Collection, Iterator, Mapping

from dsv4_tp import core
from dsv4_tp.coordinator.members import FRESH_BEATS, Fault, Host, answers

Hosts = Mapping[str, Host]


def cuts(hosts: Hosts, now_s: float, *, beat_s: float) -> tuple[Fault, ...]:
    """Between which hosts nothing comes through, though both agents answer; each pair once.

    They have to do so steadily. What one says of another that stood still, and is back, may be old.
    """
    found = {
        frozenset((deaf, link.host)): _fault(deaf, link)
        for deaf, link in silences(hosts)
        if all(answers(hosts[end], now_s, beat_s) for end in (deaf, link.host))
        and _is_steady(hosts[deaf], hosts[link.host], beat_s)
    }
    return tuple(found.values())


def silences(hosts: Hosts) -> Iterator[tuple[str, core.Link]]:
    """Who said last that it hears nothing of whom: of one that pulses it, as a new one does not."""
    for deaf, host in hosts.items():
        for link in host.links:
            if link.silent and any(back.host == deaf for back in hosts[link.host].links):
                yield deaf, link


def may_meet(hosts: Hosts, now_s: float, *, beat_s: float) -> bool:
    """Whether every agent has spoken lately, and none hears nothing of another one."""
    there = all(answers(host, now_s, beat_s) for host in hosts.values())
    return there and not any(silences(hosts))


def way(deaf: str, link: core.Link) -> str:
    """What two hosts have between them, whichever of them is deaf."""
    return f"the link between {' and '.join(sorted((deaf, link.host)))}"


def remark(hosts: Hosts, name: str, now_s: float, *, beat_s: float, here: Collection[str]) -> str:
    """What the others know of a host that answers no more; empty: nothing.

    `here` are the hosts on this machine, which answer whatever becomes of the network.
    """
    last_s, fresh_s = hosts[name].seen_s, FRESH_BEATS * beat_s
    witnesses = [
        (other, host.seen_s - link.quiet_s)
        for other, host in hosts.items()
        if answers(host, now_s, beat_s)
        for link in host.links
        if link.host == name and link.quiet_s is not None
    ]
    for other, heard_s in witnesses:
        if heard_s > last_s + fresh_s:
            return f"; {name} lives, for {other} hears it: the way from here to it is down"
    away = [host.seen_s for other, host in hosts.items() if other not in here]
    if len(away) > 1 and max(away) < now_s - fresh_s and max(away) - min(away) < fresh_s:
        return "; all others fell silent with it: this machine is cut off from them"
    deaf = [other for other, heard_s in witnesses if heard_s < now_s - fresh_s]
    return f"; {deaf[0]} does not hear it either" if deaf else ""


def unwatched(hosts: Hosts) -> Iterator[tuple[str, str]]:
    """Who has heard nothing of whom, ever."""
    for name, host in hosts.items():
        yield from ((name, link.host) for link in host.links if link.quiet_s is None)


def _fault(deaf: str, link: core.Link) -> Fault:
    still_s = f"{link.quiet_s or 0.0:.0f} s"
    cause = f"nothing from {link.host} has reached {deaf} for {still_s}, though both agents answer"
    return Fault(core.Loss.LINK, way(deaf, link), cause)


def _is_steady(deaf: Host, other: Host, beat_s: float) -> bool:
    """Whether both have spoken since, and none had just come back when the first one did last."""
    spoke_s = min(deaf.seen_s, other.seen_s)
    return spoke_s - max(deaf.steady_s, other.steady_s) >= FRESH_BEATS * beat_s
