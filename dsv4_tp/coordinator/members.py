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
    spoke: bool = False
    lost: bool = False
    running: bool = False  # a rank may live there


@dataclass(frozen=True, slots=True)
class Fault:
    """One piece of evidence of what went wrong."""

    loss: core.Loss
    message: str
    last_stderr: str = ""


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


def host_fault(ranks: Mapping[int, Rank], host: str, cause: str) -> Fault:
    """All ranks of a host are lost with it."""
    numbers = [str(number) for number, rank in ranks.items() if rank.host == host]
    which = "rank" if len(numbers) == 1 else "ranks"
    return Fault(core.Loss.HOST, f"{which} {', '.join(numbers)} on {host}: {cause}")


def last_words(fault: Fault) -> str:
    """The last line of stderr, which is where Python names an exception; of stacks, the place."""
    lines = fault.last_stderr.strip().splitlines()
    stacks = [at for at, line in enumerate(lines[:-1]) if line.endswith(_STACK)]
    place = stacks[-1] + 1 if stacks else -1  # the main thread's is the last
    return f" ({lines[place].strip()})" if lines else ""
