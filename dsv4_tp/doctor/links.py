"""Which Thunderbolt port is cabled to which, and the device matrix that follows. Pure.

JACCL wants to know, on every rank, through which of its RDMA devices it reaches each other rank.
Both ends of a pair must name the same cable: with two cables between two Macs, ends that are
chosen for each direction by itself may lie on different ones, and such ranks wait for ever.
So cables are found first, one is chosen for each pair, and both rows are written from it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from dsv4_tp.doctor.mac import Mac
from dsv4_tp.doctor.parse.rdma import PREFIX
from dsv4_tp.doctor.parse.thunderbolt import TB5_GBPS
from dsv4_tp.errors import PreflightError

MOST_IN_MESH = 8  # ranks, of JACCL


@dataclass(frozen=True, slots=True, order=True)
class End:
    """One end of a cable."""

    host: str
    interface: str  # such as en2

    def __str__(self) -> str:
        return f"{self.interface} on {self.host}"


@dataclass(frozen=True, slots=True)
class Cable:
    """One cable between two hosts. `flaws` say why RDMA cannot use it; none: it can."""

    ends: tuple[End, End]  # in order
    gbps: int | None
    flaws: tuple[str, ...] = ()

    @property
    def pair(self) -> frozenset[str]:
        """The hosts it joins."""
        return frozenset(end.host for end in self.ends)

    def at(self, host: str) -> End:
        """Its end at this host."""
        return next(end for end in self.ends if end.host == host)


Row = tuple[str | tuple[str, ...] | None, ...]  # by rank: a device, several cables', none


@dataclass(frozen=True, slots=True)
class Fabric:
    """How ranks are to be joined. `matrix[i][j]` are rank i's devices towards rank j."""

    backend: Literal["jaccl", "jaccl-ring"]
    hosts: tuple[str, ...]  # in the order of the ranks
    matrix: tuple[Row, ...]


def find_cables(macs: Mapping[str, Mac]) -> tuple[Cable, ...]:
    """The cables between these hosts, the fastest of a pair first.

    Raises:
        PreflightError: two ports have one domain, so that nobody can tell where a cable ends.
    """
    ports = [
        (End(host, interface), port)
        for host, mac in macs.items()
        for port in mac.ports or ()
        if (interface := mac.interface_of(port))
    ]
    by_domain = {port.domain: end for end, port in ports}
    for domain, count in Counter(port.domain for _, port in ports).items():
        if count > 1:
            owners = ", ".join(str(end) for end, port in ports if port.domain == domain)
            advice = "start one of these Macs again"
            raise PreflightError(f"{owners}: one Thunderbolt domain, {domain}; {advice}")
    seen: dict[frozenset[End], list[int]] = {}
    for end, port in ports:
        for other in (by_domain[domain] for domain in port.peers if domain in by_domain):
            if other.host != end.host:
                seen.setdefault(frozenset((end, other)), []).append(port.gbps or 0)
    found = (_cable(ends, speeds, macs) for ends, speeds in seen.items())
    return tuple(sorted(found, key=lambda cable: (-(cable.gbps or 0), cable.ends)))


def choose_fabric(hosts: Sequence[str], cables: Iterable[Cable]) -> Fabric:
    """A mesh if every pair has a cable, else a ring. Ranks of a ring may be in another order.

    Raises:
        PreflightError: neither; names the cables that are missing or of no use, and why.
    """
    cables = tuple(cables)
    usable = [cable for cable in cables if not cable.flaws]
    of_pair = {pair: [c for c in usable if c.pair == pair] for pair in _pairs(hosts)}
    if len(hosts) <= MOST_IN_MESH and all(of_pair.values()):
        chosen = {pair: own[:1] for pair, own in of_pair.items()}
        return Fabric("jaccl", tuple(hosts), _matrix(hosts, chosen))
    order = _cycle(hosts, {pair for pair, own in of_pair.items() if own})
    if order is None:
        raise PreflightError(_what_is_missing(hosts, cables))
    edges = [frozenset(edge) for edge in zip(order, (*order[1:], order[0]), strict=True)]
    count = min(len(of_pair[edge]) for edge in edges)
    return Fabric("jaccl-ring", order, _matrix(order, {e: of_pair[e][:count] for e in edges}))


def _cable(ends: frozenset[End], speeds: Sequence[int], macs: Mapping[str, Mac]) -> Cable:
    first, second = sorted(ends)
    flaws = [flaw for end in (first, second) for flaw in _flaws(end, macs[end.host])]
    if len(speeds) == 1:
        flaws.append("only one of its ends sees the other")
    if 0 < min(speeds) < TB5_GBPS:
        flaws.append(f"the link is of {min(speeds)} Gb/s, RDMA needs Thunderbolt 5")
    return Cable((first, second), min(speeds) or None, tuple(flaws))


def _flaws(end: End, mac: Mac) -> Iterator[str]:
    device = (mac.devices or {}).get(f"{PREFIX}{end.interface}")
    if device is None:
        yield f"{end.host} has no {PREFIX}{end.interface}"
    elif not device.is_active:
        yield f"{device.name} on {end.host} is {device.state or 'in no state'}"
    elif not device.ipv4:
        yield f"{device.name} on {end.host} has no IPv4-mapped GID"


def _pairs(hosts: Sequence[str]) -> list[frozenset[str]]:
    return [frozenset(pair) for pair in combinations(hosts, 2)]


def _matrix(
    order: Sequence[str], chosen: Mapping[frozenset[str], Sequence[Cable]]
) -> tuple[Row, ...]:
    def cell(host: str, other: str) -> str | tuple[str, ...] | None:
        cables = chosen.get(frozenset((host, other)), ())
        names = tuple(f"{PREFIX}{cable.at(host).interface}" for cable in cables)
        return names if len(names) > 1 else next(iter(names), None)

    return tuple(tuple(cell(host, other) for other in order) for host in order)


def _cycle(hosts: Sequence[str], joined: set[frozenset[str]]) -> tuple[str, ...] | None:
    """An order in which each host is joined to the next, and the last to the first."""

    def grow(path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        if len(path) == len(hosts):
            if frozenset((path[-1], path[0])) in joined:
                yield path
            return
        for host in hosts:
            if host not in path and frozenset((path[-1], host)) in joined:
                yield from grow((*path, host))

    return next(grow((hosts[0],)), None) if len(hosts) > 2 else None


def _what_is_missing(hosts: Sequence[str], cables: Sequence[Cable]) -> str:
    """For a ring in the order given, which takes the fewest cables."""
    around = zip(hosts, (*hosts[1:], hosts[0]), strict=True)
    wanted = dict.fromkeys(frozenset(edge) for edge in around)
    lines: list[str] = []
    for pair in wanted:
        own = [cable for cable in cables if cable.pair == pair]
        if not own:
            lines.append(f"no cable between {' and '.join(sorted(pair))}")
        elif all(cable.flaws for cable in own):
            lines += (f"{' - '.join(map(str, c.ends))}: {', '.join(c.flaws)}" for c in own)
    return f"no ring of RDMA devices through {', '.join(hosts)}: {'; '.join(lines)}"
