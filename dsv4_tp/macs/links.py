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

from dsv4_tp.core import MOST_IN_MESH, Backend, Devices, Rdma, Row
from dsv4_tp.errors import PreflightError
from dsv4_tp.macs.mac import Mac
from dsv4_tp.macs.parse.rdma import PREFIX
from dsv4_tp.macs.parse.thunderbolt import TB5_GBPS


@dataclass(frozen=True, slots=True, order=True)
class End:
    """One end of a cable."""

    host: str
    interface: str  # such as en2

    @property
    def device(self) -> str:
        """The RDMA device of the port, if it has one."""
        return f"{PREFIX}{self.interface}"

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


@dataclass(frozen=True, slots=True)
class Fabric:
    """How ranks are to be joined. `matrix[i][j]` are rank i's devices towards rank j."""

    backend: Backend  # of JACCL's two
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
    joined = {cable.pair for cable in cables if not cable.flaws}
    order = tuple(hosts) if joined >= {*_pairs(hosts)} else _cycle(hosts, joined) or tuple(hosts)
    rdma = rdma_between(Backend.AUTO, order, cables)
    return Fabric(Backend.JACCL_RING if rdma.ring else Backend.JACCL, order, rdma.matrix)


def rdma_between(backend: Backend, hosts: Sequence[str], cables: Iterable[Cable]) -> Rdma:
    """How JACCL joins one rank on each of these hosts, in this order.

    AUTO is a mesh if every pair has a cable, else a ring.

    Raises:
        PreflightError: the cables do not make that up; names those that are missing or of no use.
    """
    cables = tuple(cables)
    pairs, edges = _pairs(hosts), _around(hosts)
    usable = {p: [c for c in cables if c.pair == p and not c.flaws] for p in pairs}
    mesh = len(hosts) <= MOST_IN_MESH and all(usable.values())
    if backend is Backend.JACCL and not mesh:
        raise PreflightError(_what_is_missing("mesh", hosts, pairs, cables))
    if backend is not Backend.JACCL_RING and mesh:
        return Rdma(False, _matrix(hosts, {pair: own[:1] for pair, own in usable.items()}))
    count = min(len(usable[edge]) for edge in edges)
    if not count:
        raise PreflightError(_what_is_missing("ring", hosts, edges, cables))
    return Rdma(True, _matrix(hosts, {edge: usable[edge][:count] for edge in edges}))


def check_devices(rdma: Rdma, hosts: Sequence[str], macs: Mapping[str, Mac]) -> None:
    """Are the devices of a matrix there, and active? A host that cannot say is believed.

    Raises:
        PreflightError: one is not; names the pair and the device.
    """
    for host, row in zip(hosts, rdma.matrix, strict=True):
        if host not in macs or macs[host].devices is None:
            continue
        for other, devices in zip(hosts, row, strict=True):
            names = (devices,) if isinstance(devices, str) else devices or ()
            flaws = [flaw for name in names for flaw in _flaws(host, name, macs[host])]
            if flaws:
                raise PreflightError(f"from {host} to {other}: {', '.join(flaws)}")


def _cable(ends: frozenset[End], speeds: Sequence[int], macs: Mapping[str, Mac]) -> Cable:
    first, second = sorted(ends)
    ends_of = ((end.host, end.device, macs[end.host]) for end in (first, second))
    flaws = [flaw for end in ends_of for flaw in _flaws(*end)]
    if len(speeds) == 1:
        flaws.append("only one of its ends sees the other")
    if 0 < min(speeds) < TB5_GBPS:
        flaws.append(f"the link is of {min(speeds)} Gb/s, RDMA needs Thunderbolt 5")
    return Cable((first, second), min(speeds) or None, tuple(flaws))


def _flaws(host: str, name: str, mac: Mac) -> Iterator[str]:
    device = (mac.devices or {}).get(name)
    if device is None:
        yield f"{host} has no {name}"
    elif not device.is_active:
        yield f"{name} on {host} is {device.state or 'in no state'}"
    elif not device.ipv4:
        yield f"{name} on {host} has no IPv4-mapped GID"


def _pairs(hosts: Sequence[str]) -> list[frozenset[str]]:
    return [frozenset(pair) for pair in combinations(hosts, 2)]


def _around(hosts: Sequence[str]) -> list[frozenset[str]]:
    """The pairs of neighbours, each once."""
    return [*dict.fromkeys(map(frozenset, zip(hosts, (*hosts[1:], hosts[0]), strict=True)))]


def _matrix(
    order: Sequence[str], chosen: Mapping[frozenset[str], Sequence[Cable]]
) -> tuple[Row, ...]:
    def cell(host: str, other: str) -> Devices:
        cables = chosen.get(frozenset((host, other)), ())
        names = tuple(cable.at(host).device for cable in cables)
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


def _what_is_missing(
    shape: str, hosts: Sequence[str], wanted: Iterable[frozenset[str]], cables: Iterable[Cable]
) -> str:
    cables = tuple(cables)
    lines: list[str] = []
    for pair in wanted:
        own = [cable for cable in cables if cable.pair == pair]
        if not own:
            lines.append(f"no cable between {' and '.join(sorted(pair))}")
        elif all(cable.flaws for cable in own):
            lines += (f"{' - '.join(map(str, c.ends))}: {', '.join(c.flaws)}" for c in own)
    if shape == "mesh" and len(hosts) > MOST_IN_MESH:
        lines.append(f"it joins at most {MOST_IN_MESH} hosts")
    if order := _cycle(hosts, {cable.pair for cable in cables if not cable.flaws}):
        lines.append(f"there is a ring in this order: {', '.join(order)}")
    return f"no {shape} of RDMA devices through {', '.join(hosts)}: {'; '.join(lines)}"
