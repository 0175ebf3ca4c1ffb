"""Rungs of what joins the ranks: cables, bridge, RDMA, and last a ring of real interpreters."""

from collections.abc import Iterator, Sequence

from dsv4_tp.config.rdma import given_rdma
from dsv4_tp.core import Backend, Rdma, Row
from dsv4_tp.doctor.checks.host import unread
from dsv4_tp.doctor.evidence import Case, RankTrial
from dsv4_tp.doctor.ladder import State, Verdict, others, skip
from dsv4_tp.errors import PreflightError
from dsv4_tp.macs.joining import rdma_of
from dsv4_tp.macs.links import Cable, choose_fabric, find_cables
from dsv4_tp.macs.mac import Mac
from dsv4_tp.macs.parse.rdma import PREFIX
from dsv4_tp.macs.parse.thunderbolt import TB5_GBPS

NOT_TRIED = "not tried yet"
_BRIDGE = "bridge0"
_JACCL = (Backend.JACCL, Backend.JACCL_RING)
_RING_DOES = "the ring over TCP does without"


def thunderbolt(case: Case, name: str) -> Iterator[Verdict]:
    """Each cable to another host: how fast is it?"""
    mac = _mac(case, name)
    if mac.ports is None or mac.hardware is None:
        yield unread(mac.unread.get("system_profiler") or mac.unread["networksetup"])
        return
    if len(case.hosts) == 1:
        yield skip("the only host")
        return
    try:
        cables = [cable for cable in find_cables(case.macs) if name in cable.pair]
    except PreflightError as error:
        yield Verdict(State.WARN, str(error), "cables cannot be told apart", "sudo shutdown -r now")
        return
    if not cables:
        diagnosis = "the ranks speak over Ethernet or Wi-Fi, which is many times slower"
        seen = "no cable to another host of this cluster"
        yield Verdict(State.WARN, seen, diagnosis, "system_profiler SPThunderboltDataType")
    for cable in cables:
        yield _cable(mac, cable, name)


def bridge(case: Case, name: str) -> Iterator[Verdict]:
    """Does Thunderbolt Bridge hold the ports that RDMA would use?"""
    mac = _mac(case, name)
    if mac.interfaces is None:
        yield unread(mac.unread["ifconfig"])
        return
    found = mac.interfaces.get(_BRIDGE)
    if found is None or not found.up:
        yield Verdict(State.OK, f"{_BRIDGE} is down" if found else f"no {_BRIDGE}")
    elif not found.members:
        yield Verdict(State.OK, f"{_BRIDGE} is up, without members")
    else:
        carries = case.found[name].data_ip in found.ipv4
        seen = f"{_BRIDGE} is up with {', '.join(found.members)}"
        seen += f", and carries the ring at {case.found[name].data_ip}" if carries else ""
        diagnosis = (
            f"packets go round if cables form a ring, and RDMA may not connect; {_RING_DOES}"
        )
        remedy = "sudo launch/prepare-host.sh --bridge-off --apply"
        yield Verdict(State.WARN, seen, diagnosis, remedy)


def rdma(case: Case, name: str) -> Iterator[Verdict]:
    """Could JACCL use this Mac's cables? Nothing that the ring needs."""
    mac = _mac(case, name)
    idle = [port for port in mac.ports or () if not port.gbps]
    if idle and all(port.generation == 4 for port in idle):
        yield skip(f"Thunderbolt 4, which has no RDMA; {_RING_DOES}")
    elif mac.rdma_enabled is None:
        yield unread(mac.unread["rdma_ctl"])
    elif not mac.rdma_enabled:
        diagnosis = f"RDMA over Thunderbolt is off; {_RING_DOES}"
        remedy = "in macOS Recovery, at the Mac itself: rdma_ctl enable"
        yield Verdict(State.WARN, "rdma_ctl status: disabled", diagnosis, remedy)
    elif not mac.device_names:
        diagnosis = f"RDMA is on, yet macOS lists no device; {_RING_DOES}"
        yield Verdict(State.WARN, "ibv_devices: none", diagnosis, "sudo shutdown -r now")
    else:
        yield from _devices(mac, name, case)


def links(case: Case, _: str) -> Iterator[Verdict]:
    """Which cables would JACCL take? The same one at both ends of each pair."""
    if case.config.backend in _JACCL and len(case.config.ranks) > 1:
        yield _asked_for(case)
        return
    if strange := others(case, case.hosts):
        yield skip(strange)
        return
    if len(case.hosts) == 1:
        yield skip("the only host")
        return
    try:
        fabric = choose_fabric(case.hosts, find_cables(case.macs))
    except PreflightError as error:
        diagnosis = f"no mesh and no ring for JACCL; {_RING_DOES}"
        yield Verdict(State.WARN, str(error), diagnosis, "system_profiler SPThunderboltDataType")
        return
    yield Verdict(State.OK, _shown(fabric.backend, fabric.hosts, fabric.matrix))


def rdma_asked(case: Case) -> Rdma | None:
    """How JACCL would join the ranks; None: a ring over TCP would.

    Raises:
        PreflightError: it is asked for and cannot.
    """
    config = case.config
    names = [rank.host.name for rank in config.ranks]
    try:
        return rdma_of(config.backend, given_rdma(config), names, case.macs)
    except PreflightError:
        if config.backend in _JACCL:
            raise
        return None


def ring(case: Case, _: str) -> Iterator[Verdict]:
    """Did all ranks' interpreters meet, by what would join them, and add up to the same bits?"""
    if len(case.config.ranks) == 1:
        yield skip("a single rank")
        return
    if case.running:
        yield skip(f"a cluster runs: {', '.join(case.running)}")
        return
    if not case.trial:
        yield skip(NOT_TRIED)
        return
    lost = [trial for trial in case.trial if trial.problem]
    if lost:
        seen = "; ".join(f"rank {trial.rank}: {trial.problem}" for trial in lost)
        diagnosis = "the ranks do not work together, though the ways between their hosts are open"
        yield Verdict(State.FAIL, seen, diagnosis, "dsv4-tp launch -f cluster.yaml --prompt Hello")
    else:
        by = "JACCL" if rdma_asked(case) else "TCP"
        yield Verdict(State.OK, f"by {by}: {_measured(case.trial)}")


def _asked_for(case: Case) -> Verdict:
    """Without it the cluster does not start."""
    backend = case.config.backend
    try:
        found = rdma_asked(case)
    except PreflightError as error:
        diagnosis = f"`backend: {backend}` cannot join the ranks; `backend: ring` does without"
        remedy = "system_profiler SPThunderboltDataType"
        return Verdict(State.FAIL, str(error), diagnosis, remedy)
    assert found is not None, "it was asked for"
    names = [rank.host.name for rank in case.config.ranks]
    return Verdict(State.OK, _shown(backend, names, found.matrix))


def _mac(case: Case, name: str) -> Mac:
    mac = case.found[name].mac
    assert mac is not None, "this rung is for Macs"
    return mac


def _cable(mac: Mac, cable: Cable, name: str) -> Verdict:
    own = cable.at(name)
    (other,) = (end for end in cable.ends if end.host != name)
    seen = f"{own.interface} to {other}: {cable.gbps or 'unknown'} Gb/s"
    if cable.gbps and cable.gbps < TB5_GBPS:
        best = max((port.generation or 0 for port in mac.ports or ()), default=0)
        diagnosis = (
            "slower than Thunderbolt 5: the cable, or the other Mac"
            if best >= 5
            else "Thunderbolt 4; RDMA needs 5"
        )
        remedy = "system_profiler SPThunderboltDataType"
        return Verdict(State.WARN, seen, diagnosis, remedy, other.host)
    return Verdict(State.OK, seen, peer=other.host)


def _devices(mac: Mac, name: str, case: Case) -> Iterator[Verdict]:
    """Every device with a cable to another host is active and has an address."""
    if mac.devices is None:
        yield unread(mac.unread["ibv_devinfo"])
        return
    cabled = [cable.at(name).interface for cable in _cables(case, name)]
    if not cabled:
        yield Verdict(State.OK, f"enabled; {', '.join(mac.device_names or ())}; no cable in use")
    for interface in cabled:
        device = mac.devices.get(f"{PREFIX}{interface}")
        if device is None:
            diagnosis = f"the port has no RDMA device; {_RING_DOES}"
            remedy = "sudo shutdown -r now"
            yield Verdict(State.WARN, f"no {PREFIX}{interface}", diagnosis, remedy)
        elif not device.is_active:
            seen = f"{device.name}: {device.state}"
            diagnosis = "a cable is in, but the other end does not speak RDMA: is it on there?"
            yield Verdict(State.WARN, seen, diagnosis, "on the other Mac: rdma_ctl status")
        elif not device.ipv4:
            seen = f"{device.name}: {device.state}, no IPv4-mapped GID"
            diagnosis = "the port has no IPv4 address; JACCL would fail with errno 22"
            own = f"169.254.10.{case.hosts.index(name) + 1}"
            remedy = f"sudo ifconfig {interface} inet {own} netmask 255.255.0.0 alias"
            yield Verdict(State.WARN, seen, f"{diagnosis}; {_RING_DOES}", remedy)
        else:
            yield Verdict(State.OK, f"{device.name}: {device.state}, {', '.join(device.ipv4)}")


def _cables(case: Case, name: str) -> list[Cable]:
    """Those of this host; none if they cannot be told apart, which the cables' own rung says."""
    try:
        return [cable for cable in find_cables(case.macs) if name in cable.pair]
    except PreflightError:
        return []


def _shown(backend: Backend, hosts: Sequence[str], matrix: Sequence[Row]) -> str:
    rows = zip(hosts, matrix, strict=True)
    return f"{backend}: " + "; ".join(f"{host} {_cells(row)}" for host, row in rows)


def _cells(row: Row) -> str:
    shown = ("-" if c is None else c if isinstance(c, str) else "+".join(c) for c in row)
    return f"[{' '.join(shown)}]"


def _measured(trials: tuple[RankTrial, ...]) -> str:
    """The slowest rank's figures, since a sum ends when the last one has it."""
    worst = max(trials, key=lambda trial: trial.median_s)
    rate = worst.large_bytes / max(trial.large_s for trial in trials)
    in_step_s = max(trial.in_step_s for trial in trials)
    return (
        f"{len(trials)} ranks, equal bits; {worst.rounds} sums of {worst.row_bytes:,} bytes: "
        f"median {worst.median_s * 1e6:.0f} µs, slowest {worst.slowest_s / worst.median_s:.1f} "
        f"times that, {in_step_s * 1e6:.0f} µs each within a step; "
        f"{worst.large_bytes / 1e6:.0f} MB at {rate / 1e9:.2f} GB/s"
    )
