"""What is known of hosts and ranks, and of how they were lost; a part of `state`."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from dsv4_tp import core

FRESH_BEATS = 3  # an agent that has spoken so lately answers
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
    steady_s: float = 0.0  # since when it speaks without a pause
    running: bool = False  # a rank may live there
    lost_s: float | None = None  # since when there is no session
    cause: str = ""  # why there is none
    tries: int = 0  # to have an agent there again; the one to come is counted
    due_s: float | None = None  # when that one comes; None: it is under way, or not wanted
    links: tuple[core.Link, ...] = ()  # to other hosts, as it has said last

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
    rank: int | None = None  # None: it is not against one rank
    unfit: bool = False  # no rank of the epoch was started anywhere

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


def forgiven(hosts: Mapping[str, Host], slept_s: float, now_s: float) -> dict[str, Host]:
    """What agents said while this process slept is still on its way; nor is their pace known."""
    return {
        name: replace(host, seen_s=min(host.seen_s + slept_s, now_s), steady_s=now_s)
        for name, host in hosts.items()
    }


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


def answers(host: Host, now_s: float, beat_s: float) -> bool:
    """Whether its agent has spoken lately."""
    return host.spoke and now_s - host.seen_s <= FRESH_BEATS * beat_s


def seen(
    host: Host, now_s: float, links: tuple[core.Link, ...], *, busy: bool, beat_s: float
) -> Host:
    """Its agent speaks, and says whether ranks live there. For one that was lost, only it knows."""
    steady_s = host.steady_s if answers(host, now_s, beat_s) else now_s
    if host.lost:
        host = Host(now_s, running=busy, tries=host.tries)
    return replace(host, seen_s=now_s, spoke=True, steady_s=steady_s, links=links)


def gone(host: Host, cause: str, now_s: float, *, due_s: float) -> Host:
    """Its session has ended. Its ranks end by their guard or by the lease, whoever watches."""
    since_s = now_s if host.lost_s is None else host.lost_s
    return Host(host.seen_s, lost_s=since_s, cause=cause, tries=host.tries + 1, due_s=due_s)


def rank_name(ranks: Mapping[int, Rank], rank: int) -> str:
    """A rank as people are told of it."""
    return f"rank {rank} on {ranks[rank].host}"


def unprepared(ranks: Mapping[int, Rank], within_s: float) -> Fault:
    """Some ranks have not prepared in time, and nobody has said why."""
    late = (rank_name(ranks, number) for number, rank in ranks.items() if rank.facts is None)
    return Fault(core.Loss.STALLED, ", ".join(late), f"not prepared within {within_s:g} s")


def host_fault(ranks: Mapping[int, Rank], host: str, cause: str) -> Fault:
    """All ranks of a host are lost with it."""
    numbers = [str(number) for number, rank in ranks.items() if rank.host == host]
    which = "rank" if len(numbers) == 1 else "ranks"
    return Fault(core.Loss.HOST, f"{which} {', '.join(numbers)} on {host}", cause)
