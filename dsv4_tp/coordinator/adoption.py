"""Whether ranks of a coordinator that is gone can be gone on with. No socket or clock in here.

Its agents have stopped listening to it, each after some line of the command log. Ranks apply only
what all of them have, so none is ahead of another; but lines that some were given cannot be taken
back, so all must get them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count

from dsv4_tp.coordinator.members import Rank
from dsv4_tp.core import Command

_SESSIONS = 1 << 32  # more than one coordinator can open


@dataclass(frozen=True, slots=True)
class Standing:
    """What an agent says of the ranks it has."""

    epoch: int
    ranks: Mapping[int, Rank]  # that serve, and are well
    commands: int  # so many were passed on to them
    last: tuple[Command, ...]  # the last of those
    owed: frozenset[str]  # requests that they have not finished


@dataclass(frozen=True, slots=True)
class Adoption:
    """All ranks of a cluster that serves, and what they lack."""

    turn: int  # so many coordinators had them before
    epoch: int
    ranks: Mapping[int, Rank]
    commands: int  # that are numbered in this epoch
    missing: Mapping[str, tuple[Command, ...]]  # by host
    owed: tuple[str, ...]  # requests that nobody waits for any more

    @property
    def count(self) -> str:
        """How many ranks, for people."""
        return "1 rank" if len(self.ranks) == 1 else f"{len(self.ranks)} ranks"


def first_generation(turn: int) -> int:
    """Higher than that of any session of the coordinators before."""
    return turn * _SESSIONS


def generations(turn: int) -> Iterator[int]:
    """Of the sessions of one coordinator, in their order."""
    return count(first_generation(turn) + 1)


def adopt(standings: Mapping[str, Standing], hosts: Mapping[int, str], turn: int) -> Adoption | str:
    """The adoption of all these ranks, or why it cannot be.

    `standings` are by host and name every host; `hosts` names each rank's.
    """
    epochs = {standing.epoch for standing in standings.values()}
    if len(epochs) > 1:
        at = (f"{host} at {standing.epoch}" for host, standing in standings.items())
        return f"its hosts are at different epochs: {', '.join(at)}"
    ranks = {number: standings[host].ranks.get(number) for number, host in hosts.items()}
    found = {number: rank for number, rank in ranks.items() if rank}
    if unfit := [str(number) for number in ranks if number not in found]:
        return f"not ready, or not well, or told to leave: rank {', '.join(unfit)}"
    commands = max(standing.commands for standing in standings.values())
    missing = _missing(standings, commands)
    if isinstance(missing, str):
        return missing
    owed = {name for standing in standings.values() for name in standing.owed}
    return Adoption(turn, epochs.pop(), found, commands, missing, tuple(sorted(owed)))


def _missing(
    standings: Mapping[str, Standing], commands: int
) -> dict[str, tuple[Command, ...]] | str:
    """What each host lacks of so many commands, of which some host has the last."""
    known = {line.number: line for standing in standings.values() for line in standing.last}
    found: dict[str, tuple[Command, ...]] = {}
    for host, standing in standings.items():
        lacking = range(standing.commands + 1, commands + 1)
        if lost := [number for number in lacking if number not in known]:
            return f"{host} lacks command {lost[0]}, which nobody has any more"
        if lacking:
            found[host] = tuple(known[number] for number in lacking)
    return found
