"""What an agent decides: events in, actions out. No process, socket, file or clock in here.

An epoch lives while every rank of this host lives and moves, and while the coordinator beats.
The first fault ends the epoch on this host at once; the verdict names the rank and the cause. A
rank that has stalled is asked for its stacks before, which is all the time it gets.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from dsv4_tp.agent.events import (
    Action,
    Beaten,
    Deadlines,
    Dismissed,
    Drained,
    Dump,
    Dumped,
    Event,
    Exited,
    Finished,
    Greeted,
    Halted,
    Kill,
    Leave,
    Muted,
    Outlived,
    ReportLost,
    ReportStopped,
    Sampled,
    Spawn,
    Started,
    Tasked,
)
from dsv4_tp.agent.verdicts import Watch, exited, muted, stalled, stopped
from dsv4_tp.core import RankReport

_NO_DEADLINES = Deadlines(join_s=0.0, load_s=0.0, step_s=0.0)


@dataclass(frozen=True, slots=True)
class HostState:
    """All an agent has to remember."""

    lease_ends_s: float  # without a beat until then, everything here ends
    fence_s: float
    epoch: int = 0  # 0: none yet
    deadlines: Deadlines = _NO_DEADLINES  # of the epoch
    ranks: Mapping[int, Watch] = field(default_factory=dict[int, Watch])  # the living ones
    draining: bool = False
    accused: tuple[ReportLost, ...] = ()  # of living ranks that have stalled: stacks are awaited
    halting: bool = False  # the ranks are being killed
    leaving: str = ""  # why the agent ends once its ranks are gone


Step = tuple[HostState, tuple[Action, ...]]


def step(state: HostState, event: Event) -> Step:
    """The state after an event, and what is to be done about it."""
    match event:
        case Greeted() | Beaten() | Tasked() | Finished() | Drained():
            return _note(state, event), ()
        case Started():
            return _start(state, event)
        case Halted():
            return _halt(state, frozen=event.stopped)
        case Sampled():
            return _sample(state, event)
        case Dumped():
            return _explain(state, event)
        case Muted() | Exited() | Outlived() | Dismissed():
            return _end(state, event)


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
            watch = state.ranks[rank]
            rest = replace(watch, owed=watch.owed - {request_id})
            return replace(state, ranks={**state.ranks, rank: rest})
        case Drained():
            return replace(state, draining=True)


def _end(state: HostState, event: Muted | Exited | Outlived | Dismissed) -> Step:
    match event:
        case Muted(rank=rank):
            return _mute(state, rank)
        case Exited():
            return _exit(state, event)
        case Outlived():
            return _write_off(state, event)
        case Dismissed(reason=reason):
            return _leave(state, reason)


def _task(watch: Watch, event: Tasked) -> Watch:
    # An idle rank's last change may be long ago; its time runs from here.
    since_s = event.now_s if watch.idle else watch.since_s
    return replace(watch, owed=watch.owed | {event.request_id}, since_s=since_s)


def _start(state: HostState, event: Started) -> Step:
    """A new epoch; one that is not newer, or comes while ranks live, is not started."""
    if state.ranks or state.leaving or event.epoch <= state.epoch:
        return state, ()
    fresh = {rank: Watch(RankReport(rank, "starting"), event.now_s) for rank in event.ranks}
    started = replace(
        state,
        epoch=event.epoch,
        deadlines=event.deadlines,
        ranks=fresh,
        draining=False,
        accused=(),
        halting=False,
    )
    return started, tuple(Spawn(rank) for rank in event.ranks)


def _halt(state: HostState, *, frozen: frozenset[int] = frozenset()) -> Step:
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
    after, kills = _halt(state)
    return after, (muted(state.ranks[rank]), *kills)


def _exit(state: HostState, event: Exited) -> Step:
    """A rank is gone: expected if it was told to leave, else the end of the epoch here."""
    rank = event.report.rank
    if rank not in state.ranks:
        return state, ()  # it was written off
    after = _without(state, rank)
    if state.halting or (state.draining and event.exit_code == 0):
        return after, _farewell(after)
    accused = [lost for lost in state.accused if lost.rank == rank]
    lost = accused[0] if accused else exited(replace(state.ranks[rank], report=event.report), event)
    after, kills = _halt(after)
    return after, (replace(lost, last_stderr=event.last_stderr), *kills, *_farewell(after))


def _write_off(state: HostState, event: Outlived) -> Step:
    """A rank that no signal ends will not be waited for."""
    if event.rank not in state.ranks:
        return state, ()
    after = _without(state, event.rank)
    return after, _farewell(after)


def _without(state: HostState, rank: int) -> HostState:
    left = {other: watch for other, watch in state.ranks.items() if other != rank}
    accused = tuple(lost for lost in state.accused if lost.rank != rank)
    return replace(state, ranks=left, accused=accused)


def _farewell(state: HostState) -> tuple[Action, ...]:
    """What is said when the last rank is gone."""
    if state.ranks:
        return ()
    return (ReportStopped(), Leave(state.leaving)) if state.leaving else (ReportStopped(),)


def _sample(state: HostState, event: Sampled) -> Step:
    """Renew what moved; end the epoch if the lease is over or a rank has stalled."""
    if event.now_s > state.lease_ends_s:
        return _leave(state, f"no sign of the coordinator for {state.fence_s:g} s")
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
        return _halt(state, frozen=event.stopped)
    return replace(state, accused=accused), (Dump(tuple(lost.rank for lost in accused)),)


def _explain(state: HostState, event: Dumped) -> Step:
    """The stacks of ranks that have stalled are there, as far as they came: now all ranks end."""
    accused = [replace(a, last_stderr=event.last_stderr.get(a.rank, "")) for a in state.accused]
    state = replace(state, accused=tuple(accused))
    guilty = event.stopped - {lost.rank for lost in accused}
    return _halt(state, frozen=guilty) if accused else (state, ())


def _look(watch: Watch, reports: Mapping[int, RankReport], now_s: float) -> Watch:
    report = reports.get(watch.report.rank, watch.report)
    return watch if report == watch.report else replace(watch, report=report, since_s=now_s)


def _is_late(state: HostState, rank: int, now_s: float) -> bool:
    watch = state.ranks[rank]
    return not watch.idle and now_s - watch.since_s > state.deadlines.of(watch.report.phase)


def _stalled(state: HostState, rank: int) -> ReportLost:
    watch = state.ranks[rank]
    return stalled(watch, state.deadlines.of(watch.report.phase))


def _leave(state: HostState, reason: str) -> Step:
    """End the agent, after its ranks."""
    if state.leaving:
        return state, ()
    after = replace(state, leaving=reason)
    return _halt(after) if state.ranks else (after, (Leave(reason),))
