"""What the coordinator decides: events in, actions out. No socket, process or clock in here.

    starting -> preparing -> joining -> loading -> ready -> draining -> stopped
    from each of them: failed

An epoch is started when every agent has spoken, and its ranks meet when all are prepared. The first
fault fails the cluster: the epoch is ended on every host, and once all have confirmed, the best
evidence becomes the verdict.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from dsv4_tp import core
from dsv4_tp.coordinator import events, requests
from dsv4_tp.coordinator.events import Action, Event
from dsv4_tp.coordinator.members import (
    Fault,
    Host,
    Rank,
    disagreement,
    forgiven,
    host_fault,
    last_words,
)
from dsv4_tp.coordinator.requests import Requests
from dsv4_tp.errors import Dsv4Error, InputError, RankFailure

SETTLE_S = 8.0  # for agents to confirm that their ranks are gone
_LEASE_BEATS = 8  # an agent that is silent for so many beats is lost
_OWN_STALL_S = 1.0  # between two ticks: then it was us who slept


class Phase(StrEnum):
    """Of the whole cluster."""

    STARTING = "starting"
    PREPARING = "preparing"
    JOINING = "joining"
    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class ClusterState:
    """All the coordinator has to remember."""

    beat_s: float
    drain_s: float  # what running requests get when the cluster is dismissed
    hosts: Mapping[str, Host]
    ranks: Mapping[int, Rank]
    ticked_s: float  # when the clock was last looked at
    requests: Requests
    phase: Phase = Phase.STARTING
    faults: tuple[Fault, ...] = ()
    notes: tuple[str, ...] = ()  # what ranks told of their loading
    refusal: str = ""  # why the ranks cannot run as asked
    ends_s: float | None = None  # when draining or stopping takes too long
    stopping: bool = False  # the ranks are being killed
    settled: bool = False


Step = tuple[ClusterState, tuple[Action, ...]]


def first_state(
    ranks: Mapping[int, str], requests: Requests, *, beat_s: float, drain_s: float, now_s: float
) -> ClusterState:
    """A cluster before any agent has spoken or any request was asked.

    `ranks` names each rank's host.
    """
    return ClusterState(
        beat_s=beat_s,
        drain_s=drain_s,
        hosts={host: Host(now_s) for host in ranks.values()},
        ranks={rank: Rank(host, core.RankReport(rank, "starting")) for rank, host in ranks.items()},
        ticked_s=now_s,
        requests=requests,
    )


def step(state: ClusterState, event: Event, now_s: float) -> Step:
    """The state after an event, and what is to be done about it."""
    if state.settled:
        return state, ()
    match event:
        case events.HostBeat():
            result = _beat(state, event, now_s)
        case events.Prepared():
            result = _prepare(state, event, now_s)
        case events.Joined() | events.Loaded():
            result = _advance(state, event)
        case events.Said() | events.Asked() | events.Abandoned():
            result = _serve(state, event, now_s)
        case events.Dismissed():
            result = _dismiss(state, event, now_s)
        case events.Ticked():
            result = _tick(state, now_s)
        case _:
            result = _end(state, event, now_s)
    return result


def verdict(state: ClusterState) -> Fault | None:
    """The best evidence; of equal ones the first."""
    return max(state.faults, key=lambda fault: fault.loss, default=None)


def refused(state: ClusterState) -> Dsv4Error | None:
    """Why no request is taken now, if none is."""
    if fault := verdict(state):
        return RankFailure(fault.message)
    if state.phase is not Phase.READY:
        return Dsv4Error(f"the cluster takes no requests: it is {state.phase}")
    return requests.busy(state.requests)


def _beat(state: ClusterState, event: events.HostBeat, now_s: float) -> Step:
    host = replace(state.hosts[event.host], seen_s=now_s, spoke=True)
    ranks = dict(state.ranks)
    for report in event.reports:
        ranks[report.rank] = replace(ranks[report.rank], report=report)
    state = replace(state, hosts={**state.hosts, event.host: host}, ranks=ranks)
    if state.phase is Phase.STARTING and all(host.spoke for host in state.hosts.values()):
        hosts = {name: replace(host, running=True) for name, host in state.hosts.items()}
        return replace(state, phase=Phase.PREPARING, hosts=hosts), (events.StartEpoch(),)
    return state, ()


def _prepare(state: ClusterState, event: events.Prepared, now_s: float) -> Step:
    """No rank may join before all could: alone it would hang in `init`."""
    rank = replace(state.ranks[event.rank], facts=event.facts)
    state = replace(state, ranks={**state.ranks, event.rank: rank})
    waiting = any(rank.facts is None for rank in state.ranks.values())
    if state.phase is not Phase.PREPARING or waiting:
        return state, ()
    if refusal := disagreement(state.ranks):
        return _fail(replace(state, refusal=refusal), (), now_s)
    return replace(state, phase=Phase.JOINING), (events.JoinEpoch(),)


def _advance(state: ClusterState, event: events.Joined | events.Loaded) -> Step:
    old = state.ranks[event.rank]
    if isinstance(event, events.Joined):
        new = replace(old, joined=True)
    else:
        new = replace(old, weight_bytes=event.weight_bytes)
        fresh = (note for note in event.notes if note not in state.notes)
        state = replace(state, notes=(*state.notes, *fresh))
    state = replace(state, ranks={**state.ranks, event.rank: new})
    if state.phase is Phase.JOINING and all(rank.joined for rank in state.ranks.values()):
        state = replace(state, phase=Phase.LOADING)
    loaded = all(rank.weight_bytes is not None for rank in state.ranks.values())
    if state.phase is Phase.LOADING and loaded:
        return replace(state, phase=Phase.READY), (events.Serve(ready=True),)
    return state, ()


def _serve(
    state: ClusterState, event: events.Said | events.Asked | events.Abandoned, now_s: float
) -> Step:
    match event:
        case events.Said(rank=rank, event=said):
            # Every rank tells how a request ended; the first rank's word is enough.
            if rank:
                return state, ()
            return _served(state, requests.said(state.requests, said, now_s))
        case events.Asked():
            assert refused(state) is None, "requests are let in only while they are taken"
            return _served(state, requests.asked(state.requests, event, now_s))
        case events.Abandoned():
            if state.stopping:
                return state, ()
            return _served(state, requests.abandoned(state.requests, event))


def _served(state: ClusterState, change: requests.Change) -> Step:
    changed, actions = change
    return replace(state, requests=changed), actions


def _end(
    state: ClusterState,
    event: events.Refused | events.Lost | events.HostLost | events.HostStopped,
    now_s: float,
) -> Step:
    match event:
        case events.Refused(rank=rank, message=message):
            refusal = state.refusal or f"rank {rank} on {state.ranks[rank].host}: {message}"
            return _fail(replace(state, refusal=refusal), (), now_s)
        case events.Lost(rank=rank):
            who = f"rank {rank} on {state.ranks[rank].host}"
            fault = Fault(event.loss, f"{who}: {event.cause}", event.last_stderr)
            return _fail(state, (fault,), now_s)
        case events.HostLost(host=host):
            lost = host_fault(state.ranks, host, event.cause)
            return _fail(_gone(state, host, lost=True), (lost,), now_s)
        case events.HostStopped(host=host):
            return _settle_if_gone(_gone(state, host, lost=False), ())


def _fail(state: ClusterState, faults: Iterable[Fault], now_s: float) -> Step:
    """Note the evidence; at the first one, end the epoch everywhere."""
    state = replace(state, phase=Phase.FAILED, faults=(*state.faults, *faults))
    return _stop(state, now_s)


def _stop(state: ClusterState, now_s: float) -> Step:
    """Have every rank killed, unless that is under way."""
    if state.stopping:
        return _settle_if_gone(state, ())
    state = replace(state, stopping=True, ends_s=now_s + SETTLE_S)
    return _settle_if_gone(state, (events.Serve(ready=False), events.StopEpoch()))


def _dismiss(state: ClusterState, event: events.Dismissed, now_s: float) -> Step:
    """Let a ready cluster finish its work; end any other one at once."""
    if event.now or state.phase not in (Phase.READY, Phase.DRAINING):
        phase = Phase.FAILED if state.phase is Phase.FAILED else Phase.DRAINING
        return _stop(replace(state, phase=phase), now_s)
    if state.phase is Phase.DRAINING:
        return state, ()
    state = replace(state, phase=Phase.DRAINING, ends_s=now_s + state.drain_s)
    state, drain = _served(state, requests.broadcast(state.requests, core.Drain()))
    return state, (events.Serve(ready=False), *drain)


def _tick(state: ClusterState, now_s: float) -> Step:
    """Hold agents to their lease, requests to their time, and every end to its deadline."""
    slept_s = now_s - state.ticked_s
    state = replace(state, ticked_s=now_s)
    if slept_s > _OWN_STALL_S:
        state = replace(state, hosts=forgiven(state.hosts, slept_s))
    lease_s = _LEASE_BEATS * state.beat_s
    silent = [
        name
        for name, host in state.hosts.items()
        if not host.lost and now_s - host.seen_s > lease_s
    ]
    if silent:
        cause = f"no sign of its agent for {lease_s:g} s"
        faults = [host_fault(state.ranks, name, cause) for name in silent]
        return _fail(_gone(state, *silent, lost=True), faults, now_s)
    if state.ends_s is None or now_s < state.ends_s:
        late = requests.overdue(state.requests, now_s)
        return (state, ()) if state.stopping else _served(state, late)
    return _settle(state, ()) if state.stopping else _stop(state, now_s)


def _gone(state: ClusterState, *names: str, lost: bool) -> ClusterState:
    gone = {name: replace(state.hosts[name], running=False, lost=lost) for name in names}
    return replace(state, hosts={**state.hosts, **gone})


def _settle_if_gone(state: ClusterState, actions: tuple[Action, ...]) -> Step:
    """Settle when no rank is left anywhere."""
    ending = state.stopping or state.phase is Phase.DRAINING
    if ending and not any(host.running for host in state.hosts.values()):
        return _settle(state, actions)
    return state, actions


def _settle(state: ClusterState, actions: tuple[Action, ...]) -> Step:
    phase = state.phase if state.phase is Phase.FAILED else Phase.STOPPED
    state = replace(state, phase=phase, settled=True)
    return state, (*actions, events.Settle(_error(state)))


def _error(state: ClusterState) -> Dsv4Error | None:
    if state.refusal:
        return InputError(state.refusal)
    if fault := verdict(state):
        unsure = [name for name, host in state.hosts.items() if host.running]
        doubt = f"; {', '.join(unsure)} did not confirm that its ranks are gone" if unsure else ""
        return RankFailure(f"{fault.message}{last_words(fault)}{doubt}")
    return None
