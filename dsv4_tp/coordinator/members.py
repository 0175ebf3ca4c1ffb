"""What is known of hosts and ranks, and of how they were lost; a part of `state`."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from dsv4_tp import core

_STACK = "(most recent call first):"  # the end of a line before the frames of a thread


@dataclass(frozen=True, slots=True)
class Rank:
    """A rank as it is known here."""

    host: str
    report: core.RankReport
    facts: Mapping[str, str] | None = None  # None: not prepared yet
    joined: bool = False
    weight_bytes: int | None = None  # None: not loaded yet


@dataclass(frozen=True, slots=True)
class Host:
    """An agent as it is known here."""

    seen_s: float  # when it last spoke
    spoke: bool = False  # in its present session
    running: bool = False  # a rank may live there
    lost_s: float | None = None  # since when there is no session
    cause: str = ""  # why there is none
    tries: int = 0  # to have an agent there again; the one to come is counted
    due_s: float | None = None  # when that one comes; None: it is under way, or not wanted

    @property
    def lost(self) -> bool:
        """Whether an agent is wanted there."""
        return self.lost_s is not None

    @property
    def fit(self) -> bool:
        """Whether an epoch may start there."""
        return self.spoke and not self.running


@dataclass(frozen=True, slots=True)
class Fault:
    """One piece of evidence of what went wrong."""

    loss: core.Loss
    who: str  # "rank 1 on mac-b"
    cause: str
    last_stderr: str = ""

    @property
    def message(self) -> str:
        """All of it in a line."""
        return f"{self.who}: {self.cause}"

    @property
    def last_words(self) -> str:
        """The last line of stderr, where Python names an exception; of stacks, the place."""
        lines = self.last_stderr.strip().splitlines()
        stacks = [at for at, line in enumerate(lines[:-1]) if line.endswith(_STACK)]
        place = stacks[-1] + 1 if stacks else -1  # the main thread's is the last
        return f" ({lines[place].strip()})" if lines else ""


def fresh(ranks: Mapping[int, str]) -> dict[int, Rank]:
    """The ranks of an epoch that is about to start; `ranks` names each one's host."""
    return {rank: Rank(host, core.RankReport(rank, "starting")) for rank, host in ranks.items()}


def forgiven(hosts: Mapping[str, Host], slept_s: float) -> dict[str, Host]:
    """What agents said while this process slept is still on its way."""
    return {name: replace(host, seen_s=host.seen_s + slept_s) for name, host in hosts.items()}


def disagreement(ranks: Mapping[int, Rank]) -> str:
    """What prepared ranks hold otherwise than rank 0, the first such fact; empty if nothing."""
    first = ranks[0].facts or {}
    for number, rank in ranks.items():
        held = rank.facts or {}
        for name in sorted(first.keys() | held.keys()):
            if held.get(name) != first.get(name):
                return (
                    f"the ranks do not agree on the {name}: rank {number} on {rank.host} has "
                    f"{held.get(name)}, rank 0 on {ranks[0].host} {first.get(name)}"
                )
    return ""


def seen(host: Host, now_s: float, *, busy: bool) -> Host:
    """Its agent speaks, and says whether ranks live there. For one that was lost, only it knows."""
    if host.lost:
        return Host(now_s, spoke=True, running=busy, tries=host.tries)
    return replace(host, seen_s=now_s, spoke=True)


def gone(host: Host, cause: str, now_s: float, *, due_s: float) -> Host:
    """Its session has ended. Its ranks end by their guard or by the lease, whoever watches."""
    since_s = now_s if host.lost_s is None else host.lost_s
    return Host(host.seen_s, lost_s=since_s, cause=cause, tries=host.tries + 1, due_s=due_s)


def rank_name(ranks: Mapping[int, Rank], rank: int) -> str:
    """A rank as people are told of it."""
    return f"rank {rank} on {ranks[rank].host}"


def host_fault(ranks: Mapping[int, Rank], host: str, cause: str) -> Fault:
    """All ranks of a host are lost with it."""
    numbers = [str(number) for number, rank in ranks.items() if rank.host == host]
    which = "rank" if len(numbers) == 1 else "ranks"
    return Fault(core.Loss.HOST, f"{which} {', '.join(numbers)} on {host}", cause)
