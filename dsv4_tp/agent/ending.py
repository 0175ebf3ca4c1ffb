"""How ranks, epochs and agents end: a part of `state`, as pure as that.

The epoch is over when its memory is back too. A host where it does not come back, or where a
process outlives SIGKILL, is in quarantine: nothing starts there any more, also by later agents.
"""

from dataclasses import replace

from dsv4_tp.agent.events import (
    Condemn,
    Dismissed,
    Dump,
    Dumped,
    Exited,
    Halted,
    Kill,
    Leave,
    Measure,
    MemorySeen,
    Muted,
    Outlived,
    ReportLost,
    ReportStopped,
)
from dsv4_tp.agent.host import HostState, Step
from dsv4_tp.agent.reclaim import MEMORY_S, balance
from dsv4_tp.agent.verdicts import exited, muted, stalled, stopped
from dsv4_tp.core import RankReport

_STILL_S = 1.0  # without progress: longer than between two looks

Ending = Halted | Dumped | Muted | Exited | Outlived | MemorySeen | Dismissed


def end(state: HostState, event: Ending) -> Step:
    """What an event that ends something leads to."""
    match event:
        case Halted():
            return _obey(state, event)
        case Dumped():
            return _explain(state, event)
        case Muted(rank=rank):
            return _mute(state, rank)
        case Exited() | Outlived():
            return _lose(state, event)
        case MemorySeen():
            return _reclaim(state, event)
        case Dismissed(reason=reason, ordered=ordered):
            return leave(state, reason, ordered=ordered)


def _obey(state: HostState, event: Halted) -> Step:
    """The epoch is to end; where another rank has stalled, ours that stand still are asked first.

    Any of them may be the one that the others wait for, though its own time is not over yet.
    """
    if not event.explain or state.halting:
        return halt(state, frozen=event.stopped)
    accused = state.accused or _still(state, event.stopped)
    if not accused:
        return halt(state, frozen=event.stopped)
    asked = () if state.accused else (Dump(tuple(lost.rank for lost in accused)),)
    return replace(state, accused=accused), asked


def _still(state: HostState, frozen: frozenset[int]) -> tuple[ReportLost, ...]:
    """What speaks against the ranks that should move, and have not lately."""
    now_s = state.looked_s or 0.0
    found = (
        (watch, round(now_s - watch.since_s, 1))
        for rank, watch in state.ranks.items()
        if rank not in frozen and not watch.idle
    )
    return tuple(stalled(watch, still_s) for watch, still_s in found if still_s >= _STILL_S)


def _explain(state: HostState, event: Dumped) -> Step:
    """The stacks of ranks that have stalled are there, as far as they came: now all ranks end."""
    accused = [replace(a, last_stderr=event.last_stderr.get(a.rank, "")) for a in state.accused]
    state = replace(state, accused=tuple(accused))
    guilty = event.stopped - {lost.rank for lost in accused}
    return halt(state, frozen=guilty) if accused else (state, ())


def halt(state: HostState, *, frozen: frozenset[int] = frozenset()) -> Step:
    """Kill what lives. A rank found stopped explains why the others stalled, so it is named."""
    if state.halting or not state.ranks:
        return state, ()
    found = [stopped(state.ranks[rank]) for rank in sorted(frozen & state.ranks.keys())]
    kills = (Kill(rank) for rank in state.ranks)
    return replace(state, accused=(), halting=True), (*state.accused, *found, *kills)


def _mute(state: HostState, rank: int) -> Step:
    """A rank that takes no commands any more; expected of one that leaves."""
    if rank not in state.ranks or state.halting or state.draining:
        return state, ()
    after, kills = halt(state)
    return after, (muted(state.ranks[rank]), *kills)


def _lose(state: HostState, event: Exited | Outlived) -> Step:
    rank = event.rank if isinstance(event, Outlived) else event.report.rank
    if rank not in state.ranks:
        return state, ()  # it was written off
    return _exit(state, event) if isinstance(event, Exited) else _write_off(state, event)


def _exit(state: HostState, event: Exited) -> Step:
    """A rank is gone: expected if it was told to leave, else the end of the epoch here."""
    rank = event.report.rank
    after = _without(state, event.report)
    left = state.draining and event.exit_code == 0 and event.report.phase == "leaving"
    if state.halting or left:
        return _farewell(after)
    accused = [lost for lost in state.accused if lost.rank == rank]
    lost = accused[0] if accused else exited(replace(state.ranks[rank], report=event.report), event)
    after, kills = halt(after)
    after, last = _farewell(after)
    return after, (replace(lost, last_stderr=event.last_stderr), *kills, *last)


def _write_off(state: HostState, event: Outlived) -> Step:
    """A rank that no signal ends will not be waited for."""
    reason = f"pid {event.pid} of rank {event.rank} outlived SIGKILL; reboot it"
    after = _without(state, state.ranks[event.rank].report)
    after, last = _farewell(replace(after, quarantine=state.quarantine or reason))
    return after, (Condemn(reason, event.pid), *last)


def _without(state: HostState, last: RankReport) -> HostState:
    left = {rank: watch for rank, watch in state.ranks.items() if rank != last.rank}
    accused = tuple(lost for lost in state.accused if lost.rank != last.rank)
    return replace(state, ranks=left, accused=accused, gone=(*state.gone, last))


def _farewell(state: HostState) -> Step:
    """What is done when the last rank is gone."""
    if state.ranks:
        return state, ()
    if state.quarantine or state.kept is None:
        return _stopped(state)
    return state, (Measure(),)


def _reclaim(state: HostState, event: MemorySeen) -> Step:
    """The epoch is over when its memory is back, or when that has taken too long."""
    if not state.reclaiming or state.kept is None:
        return state, ()
    found = balance(state.kept, event.kept_bytes, state.gone)
    since_s = event.now_s if state.gone_s is None else state.gone_s
    if found.is_even:
        return _stopped(state, returned_bytes=found.returned_bytes)
    if event.now_s - since_s < MEMORY_S:
        return replace(state, gone_s=since_s), ()
    spoilt = replace(state, quarantine=found.verdict)
    after, last = _stopped(spoilt, returned_bytes=found.returned_bytes)
    return after, (Condemn(found.verdict), *last)


def _stopped(state: HostState, *, returned_bytes: int = 0) -> Step:
    """Nothing of the epoch is left that could be ended.

    An agent that leaves unasked does not offer its host: the next epoch would start under its feet.
    """
    told = (ReportStopped(returned_bytes, state.quarantine),)
    after = replace(state, gone=(), gone_s=None)
    if not state.leaving:
        return after, told
    return after, (*(told if state.ordered else ()), Leave(state.leaving))


def leave(state: HostState, reason: str, *, ordered: bool = False) -> Step:
    """End the agent, after its ranks."""
    if state.leaving:
        return state, ()
    after = replace(state, leaving=reason, ordered=ordered)
    if state.ranks or state.gone:
        return halt(after)
    return after, (Leave(reason),)
