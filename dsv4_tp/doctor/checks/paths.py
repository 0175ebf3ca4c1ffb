"""Rungs between hosts: can ranks listen, and does every host get through to every other?"""

import errno
from collections.abc import Iterator

from dsv4_tp.doctor.evidence import REACHED, STRANGER, Case, Dial
from dsv4_tp.doctor.ladder import State, Verdict, skip

_NO_ROUTE = {errno.errorcode[number] for number in (errno.EHOSTUNREACH, errno.ENETUNREACH)}
_DROPPED = errno.errorcode[errno.ETIMEDOUT]
_REFUSED = errno.errorcode[errno.ECONNREFUSED]
_LOCAL_NETWORK = "x-apple.systempreferences:com.apple.preference.security?Privacy_LocalNetwork"
_FIREWALL = "/usr/libexec/ApplicationFirewall/socketfilterfw"


def address(case: Case, name: str) -> Iterator[Verdict]:
    """Can this host's ranks listen where the others will look for them?"""
    found = case.found[name]
    if found.listening is not None:
        yield Verdict(State.OK, f"it listens at {found.data_ip}")
        return
    diagnosis = f"no interface of {name} has {found.data_ip}, or it may not listen there"
    remedy = "ifconfig | grep 'inet '" if found.mac else "ip -4 -brief address"
    yield Verdict(State.FAIL, f"{found.data_ip}: {found.deaf}", diagnosis, remedy)


def ports(case: Case, name: str) -> Iterator[Verdict]:
    """Are the pinned ports free?"""
    found, pinned = case.found[name].ports, case.config.ports.data
    assert found is not None
    if pinned is None:
        yield Verdict(State.OK, "free ones are taken")
    elif found.problems and case.running:
        yield skip("the cluster that runs has them")
    elif found.problems:
        own = ",".join(str(pinned + rank) for rank in case.config.ranks_on(case.host(name)))
        diagnosis = "another program has a port of the ranks, maybe an earlier launch"
        remedy = f"lsof -nP -iTCP:{own} -sTCP:LISTEN"
        yield Verdict(State.FAIL, "; ".join(found.problems), diagnosis, remedy)
    else:
        yield Verdict(State.OK, f"{pinned} and on")


def control(case: Case, name: str) -> Iterator[Verdict]:
    """Does the machine that launches get through to the host?"""
    found = case.found[name].control
    assert found is not None
    yield _verdict(case, found, "", name)


def data(case: Case, name: str) -> Iterator[Verdict]:
    """Does this host get through to each other one, from its ranks' own interpreter?"""
    for other, found in case.found[name].paths.items():
        yield _verdict(case, found, name, other)


def _verdict(case: Case, found: Dial, source: str, target: str) -> Verdict:
    """Of a way from one host, or from this machine, to another."""
    peer = target if source else ""
    if found.outcome == REACHED:
        return Verdict(State.OK, f"{found.where} in {found.seconds * 1e3:.1f} ms", peer=peer)
    seen = f"{found.where}: {found.outcome} after {found.seconds:.1f} s"
    diagnosis, remedy = _explained(case, found, source, target)
    return Verdict(State.FAIL, seen, diagnosis, remedy, peer)


def _explained(case: Case, found: Dial, source: str, target: str) -> tuple[str, str]:
    """What an outcome means, and what to type."""
    ip = found.where.rpartition(":")[0]
    if found.outcome == _DROPPED:
        return _dropped(case, target)
    if found.outcome in _NO_ROUTE:
        from_mac = source in case.macs if source else case.launched_on_mac
        if from_mac:
            return _kept_local(source or "this machine", ip)
        return "there is no way to that address", f"ip -4 route get {ip}"
    if found.outcome == _REFUSED:
        diagnosis = f"{target} listens, yet {ip} refuses: another machine has that address, or a"
        return f"{diagnosis} firewall answers for it", f"arp -n {ip}"
    if found.outcome == STRANGER:
        return f"another program than ours answers at {found.where}", f"arp -n {ip}"
    return f"the way to {target} is broken", f"ping -c 3 {ip}"


def _dropped(case: Case, target: str) -> tuple[str, str]:
    diagnosis = f"packets vanish: a firewall on {target}, a VPN or a cut link on the way"
    if target in case.macs:
        return diagnosis, f"on {target}: sudo {_FIREWALL} --unblockapp {case.host(target).python}"
    return diagnosis, f"on {target}: sudo nft list ruleset; ip -4 route"


def _kept_local(source: str, ip: str) -> tuple[str, str]:
    diagnosis = (
        f"macOS keeps this Python from the local network, if `nc -z {ip} 22` gets there: "
        "allow the program that started it, then start that anew"
    )
    return diagnosis, f"on {source}: open '{_LOCAL_NETWORK}'"
