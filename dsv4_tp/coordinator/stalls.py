"""Whom ranks that stand still have waited for; a part of `state`.

Ranks take each step together, so they all begin and end to wait for each other equally often, and
one that has come by there less often than another is the one that is waited for. Between beginning
and ending a rank may still build what it is to compute: one that does not get further with that is
waited for too. Where that does not tell them apart, nobody is blamed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from dsv4_tp import core
from dsv4_tp.coordinator.members import Fault, Rank, rank_name
from dsv4_tp.rpc.progress import DOING


def culprit(stalls: Sequence[Fault], ranks: Mapping[int, Rank]) -> Fault:
    """The evidence against the rank that the others waited for; `stalls` is what agents have said.

    `ranks` are as they were when the first of them stalled.
    """
    least = min(rank.report.waits for rank in ranks.values())
    behind = [number for number, rank in ranks.items() if rank.report.waits == least]
    left = len(behind) < len(ranks)
    if not left and _between(least):
        behind = [number for number, rank in ranks.items() if not _between(rank.report.calls)]
    ahead = [number for number in ranks if number not in behind]
    if not behind or not ahead:
        return _mutual(stalls[0], ranks) if _between(least) and len(ranks) > 1 else stalls[0]
    told = [fault for fault in stalls if fault.rank in behind]
    fault = told[0] if told else _unsaid(behind[0], ranks)
    other = rank_name(ranks, ahead[0])
    inside = left and _between(least)
    why = f"in an exchange that {other} has left" if inside else f"{other} waited for it"
    return replace(fault, cause=f"{fault.cause}; {why}")


def _between(count: int) -> bool:
    """Whether a rank that began and ended something so often, together, has yet to end it."""
    return count % 2 == 1


def _mutual(first: Fault, ranks: Mapping[int, Rank]) -> Fault:
    """All of them are at the same place, each waiting for the others."""
    *names, last = (f"{number} on {rank.host}" for number, rank in ranks.items())
    who = f"ranks {', '.join(names)} and {last}"
    return replace(first, who=who, cause=f"{first.cause}; they waited for each other", rank=None)


def _unsaid(number: int, ranks: Mapping[int, Rank]) -> Fault:
    """A rank that its agent has not held to a deadline yet."""
    cause = f"no progress while {DOING[ranks[number].report.phase]}"
    return Fault(core.Loss.STALLED, rank_name(ranks, number), cause, rank=number)
