"""What an agent decides: events in, actions out. No process, socket, file or clock in here.

An epoch lives while every rank of this host lives and moves, and while the coordinator beats.
The first fault ends the epoch on this host at once; the verdict names the rank and the cause. A
rank that has stalled is asked for its stacks before, which is all the time it gets.
"""

from dataclasses import replace

from dsv4_tp.agent.ending import end, halt, leave
from dsv4_tp.agent.events import (
    Beaten,
    Drained,
    Dump,
    Event,
    Finished,
    Greeted,
    Measure,
    ReportLost,
    ReportStopped,
    Sampled,
    Spawn,
    Started,
    Tasked,
)
from dsv4_tp.agent.host import HostState, Step
from dsv4_tp.agent.verdicts import stalled
from dsv4_tp.agent.watch import Watch, allowed_s, with_report, with_task, without_task
from dsv4_tp.core import RankReport

_OWN_STALL_S = 0.5  # of a look that was late


def step(state: HostState, event: Event) -> Step:
    """The state after an event, and what is to be done about it."""
    match event:
        case Greeted() | Beaten() | Tasked() | Finished() | Drained():
            return _note(state, event), ()
        case Started():
            return _start(state, event)
        case Sampled():
            return _sample(state, event)
        case _:
            return end(state, event)


def _note(state: HostState, event: Greeted | Beaten | Tasked | Finished | Drained) -> HostState:
    """What is only remembered."""
    match event:
        case Greeted(now_s=now_s, fence_s=fence_s, beat_s=beat_s):
            ends_s = now_s + fence_s
            return replace(state, fence_s=fence_s, lease_ends_s=ends_s, beat_s=beat_s)
        case Beaten(now_s=now_s):
            return replace(state, lease_ends_s=now_s + state.fence_s)
        case Tasked(now_s=now_s, request_id=name, chunk_tokens=tokens):
            ranks = state.ranks.items()
            given = {rank: with_task(watch, name, tokens, now_s) for rank, watch in ranks}
            return replace(state, ranks=given)
        case Finished(rank=rank, request_id=request_id):
            free = {r: without_task(w, request_id) for r, w in state.ranks.items() if r == rank}
            return replace(state, ranks={**state.ranks, **free})
        case Drained():
            return replace(state, draining=True)


def _start(state: HostState, event: Started) -> Step:
    """A new epoch; one that is not newer, or comes while ranks live, is not started."""
    if state.ranks or state.gone or state.leaving or event.epoch <= state.epoch:
        return state, ()
    if spoilt := state.quarantine or event.quarantine:
        return replace(state, epoch=event.epoch), (ReportStopped(quarantine=spoilt),)
    fresh = {rank: Watch(RankReport(rank, "starting"), event.now_s) for rank in event.ranks}
    started = replace(
        state,
        epoch=event.epoch,
        deadlines=event.deadlines,
        ranks=fresh,
        draining=False,
        kept=event.kept,
        accused=(),
        halting=False,
    )
    return started, tuple(Spawn(rank) for rank in event.ranks)


def _sample(state: HostState, event: Sampled) -> Step:
    """Renew what moved; end the epoch if the lease is over or a rank has stalled."""
    if event.now_s > state.lease_ends_s and not state.leaving:
        return leave(state, f"no sign of the coordinator for {state.fence_s:g} s")
    if state.reclaiming:
        return state, (Measure(),)
    state = _look(_forgiven(state, event.now_s), event)
    if state.halting or state.accused:
        return state, ()
    late = [rank for rank in state.ranks if _is_late(state, rank, event.now_s)]
    if not late:
        return state, ()
    accused = tuple(_stalled(state, rank) for rank in late if rank not in event.stopped)
    if not accused:
        return halt(state, frozen=event.stopped)
    return replace(state, accused=accused), (Dump(tuple(lost.rank for lost in accused)),)


def _forgiven(state: HostState, now_s: float) -> HostState:
    """If we have slept, ranks may have too: time that nobody looked at is not held against them."""
    slept_s = 0.0 if state.looked_s is None else now_s - state.looked_s - state.beat_s
    state = replace(state, looked_s=now_s)
    if slept_s < _OWN_STALL_S:
        return state
    ranks = state.ranks.items()
    later = {rank: replace(watch, since_s=watch.since_s + slept_s) for rank, watch in ranks}
    return replace(state, ranks=later)


def _look(state: HostState, event: Sampled) -> HostState:
    reports = {report.rank: report for report in event.reports}
    ranks = {
        rank: with_report(watch, reports.get(rank, watch.report), event.now_s)
        for rank, watch in state.ranks.items()
    }
    return replace(state, ranks=ranks)


def _is_late(state: HostState, rank: int, now_s: float) -> bool:
    watch = state.ranks[rank]
    return not watch.idle and now_s - watch.since_s > allowed_s(watch, state.deadlines)


def _stalled(state: HostState, rank: int) -> ReportLost:
    watch = state.ranks[rank]
    return stalled(watch, allowed_s(watch, state.deadlines))
