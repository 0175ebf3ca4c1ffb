"""What an agent decides: events in, actions out. No process, socket, file or clock in here.

An epoch lives while every rank of this host lives and moves, and while the coordinator beats.
The first fault ends the epoch on this host at once; the verdict names the rank and the cause. A
rank that has stalled is asked for its stacks before, which is all the time it gets.
"""

from collections.abc import Mapping
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
from dsv4_tp.agent.verdicts import Watch, stalled
from dsv4_tp.core import RankReport


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
        case Greeted(now_s=now_s, fence_s=fence_s):
            return replace(state, fence_s=fence_s, lease_ends_s=now_s + fence_s)
        case Beaten(now_s=now_s):
            return replace(state, lease_ends_s=now_s + state.fence_s)
        case Tasked():
            given = {rank: _task(watch, event) for rank, watch in state.ranks.items()}
            return replace(state, ranks=given)
        case Finished(rank=rank, request_id=request_id):
            free = {r: _finish(w, request_id) for r, w in state.ranks.items() if r == rank}
            return replace(state, ranks={**state.ranks, **free})
        case Drained():
            return replace(state, draining=True)


def _task(watch: Watch, event: Tasked) -> Watch:
    # An idle rank's last change may be long ago; its time runs from here.
    since_s = event.now_s if watch.idle else watch.since_s
    return replace(watch, owed=watch.owed | {event.request_id}, since_s=since_s)


def _finish(watch: Watch, request_id: str) -> Watch:
    return replace(watch, owed=watch.owed - {request_id})


def _start(state: HostState, event: Started) -> Step:
    """A new epoch; one that is not newer, or comes while ranks live, is not started."""
    if state.ranks or state.gone or state.leaving or event.epoch <= state.epoch:
        return state, ()
    if state.quarantine:
        return replace(state, epoch=event.epoch), (ReportStopped(quarantine=state.quarantine),)
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
    reports = {report.rank: report for report in event.reports}
    ranks = {rank: _look(watch, reports, event.now_s) for rank, watch in state.ranks.items()}
    state = replace(state, ranks=ranks)
    if state.halting or state.accused:
        return state, ()
    late = [rank for rank in ranks if _is_late(state, rank, event.now_s)]
    if not late:
        return state, ()
    accused = tuple(_stalled(state, rank) for rank in late if rank not in event.stopped)
    if not accused:
        return halt(state, frozen=event.stopped)
    return replace(state, accused=accused), (Dump(tuple(lost.rank for lost in accused)),)


def _look(watch: Watch, reports: Mapping[int, RankReport], now_s: float) -> Watch:
    report = reports.get(watch.report.rank, watch.report)
    return watch if report == watch.report else replace(watch, report=report, since_s=now_s)


def _is_late(state: HostState, rank: int, now_s: float) -> bool:
    watch = state.ranks[rank]
    return not watch.idle and now_s - watch.since_s > state.deadlines.of(watch.report.phase)


def _stalled(state: HostState, rank: int) -> ReportLost:
    watch = state.ranks[rank]
    return stalled(watch, state.deadlines.of(watch.report.phase))
