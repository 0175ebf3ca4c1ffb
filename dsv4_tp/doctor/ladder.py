"""Verdicts, rungs, and the order in which they are climbed. Pure."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from dsv4_tp.doctor.evidence import Case

EVERYWHERE = ""  # in place of a host: the cluster as a whole


class State(StrEnum):
    """What was found."""

    OK = "ok"
    WARN = "warn"  # it runs, but worse than it could
    FAIL = "fail"  # it does not run
    SKIPPED = "skipped"  # not looked at, or does not apply


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one check says, of one host or of its way to another."""

    state: State
    evidence: str  # what was seen
    diagnosis: str = ""  # what it means
    remedy: str = ""  # the command to type
    peer: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A verdict at its place."""

    id: str  # of the rung
    host: str  # or EVERYWHERE
    peer: str
    state: State
    evidence: str
    diagnosis: str
    remedy: str


Check = Callable[[Case, str], Iterable[Verdict]]


@dataclass(frozen=True, slots=True)
class Rung:
    """One kind of check. `needs` are rungs whose failure on a host makes it pointless there."""

    id: str
    check: Check
    needs: tuple[str, ...] = ()
    whole: bool = False  # of all hosts at once: a need that failed on any of them counts
    mac: bool = False  # of Macs only


def climb(case: Case, rungs: Sequence[Rung]) -> tuple[Row, ...]:
    """The rows of all rungs, in order; what rests on something that failed is skipped."""
    rows: list[Row] = []
    red: set[tuple[str, str]] = set()  # (rung, host) that failed or rest on what has
    for rung in rungs:
        for host in (EVERYWHERE,) if rung.whole else case.hosts:
            verdicts = list(_judge(rung, case, host, red))
            rows += (_row(rung, host, verdict) for verdict in verdicts)
    return tuple(rows)


def skip(why: str) -> Verdict:
    """It was not looked at."""
    return Verdict(State.SKIPPED, why)


def others(case: Case, hosts: Iterable[str]) -> str:
    """The systems of those that are no Macs; empty if all are."""
    facts = (case.found[host].facts for host in hosts if host not in case.macs)
    return ", ".join(sorted({fact.system for fact in facts if fact}))


def _judge(rung: Rung, case: Case, host: str, red: set[tuple[str, str]]) -> Iterable[Verdict]:
    places = (EVERYWHERE, *case.hosts) if rung.whole else (EVERYWHERE, host)
    if cause := next((need for need in rung.needs for at in places if (need, at) in red), None):
        red.add((rung.id, host))
        return [skip(f"rests on {cause}")]
    if rung.mac and (strange := others(case, (host,) if host else case.hosts)):
        return [skip(strange)]
    verdicts = list(rung.check(case, host))
    if any(verdict.state is State.FAIL for verdict in verdicts):
        red.add((rung.id, host))
    return verdicts


def _row(rung: Rung, host: str, said: Verdict) -> Row:
    return Row(rung.id, host, said.peer, said.state, said.evidence, said.diagnosis, said.remedy)
