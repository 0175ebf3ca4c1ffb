"""What the coordinator decides: events in, actions out. No socket, process or clock in here.

    starting -> joining -> loading -> ready -> draining -> stopped; from each of them: failed

An epoch is started when every agent has spoken. The first fault fails the cluster: the epoch is
ended on every host, and once all have confirmed, the best evidence becomes the verdict.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from dsv4_tp import core
from dsv4_tp.coordinator import events
from dsv4_tp.coordinator.events import Action, Event
from dsv4_tp.errors import Dsv4Error, InputError, RankFailure

SETTLE_S = 8.0  # for agents to confirm that their ranks are gone
_LEASE_BEATS = 8  # an agent that is silent for so many beats is lost
_OWN_STALL_S = 1.0  # between two ticks: then it was us who slept


class Phase(StrEnum):
    """Of the whole cluster."""

    STARTING = "starting"
    JOINING = "joining"
    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Rank:
    """A rank as it is known here."""

    host: str
    report: core.RankReport
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


@dataclass(frozen=True, slots=True)
class ClusterState:
    """All the coordinator has to remember."""

    beat_s: float
    drain_s: float  # what running requests get when the cluster is dismissed
    hosts: Mapping[str, Host]
    ranks: Mapping[int, Rank]
    ticked_s: float  # when the clock was last looked at
    phase: Phase = Phase.STARTING
    commands: int = 0  # so many are numbered
    requests: frozenset[str] = frozenset()  # asked and not finished
    faults: tuple[Fault, ...] = ()
    notes: tuple[str, ...] = ()  # what ranks told of their loading
    refusal: str = ""  # why the ranks cannot run as asked
    ends_s: float | None = None  # when draining or stopping takes too long
    stopping: bool = False  # the ranks are being killed
    settled: bool = False


Step = tuple[ClusterState, tuple[Action, ...]]


def first_state(
    ranks: Mapping[int, str], *, beat_s: float, drain_s: float, now_s: float
) -> ClusterState:
    """A cluster before any agent has spoken; `ranks` names each rank's host."""
    return ClusterState(
        beat_s=beat_s,
        drain_s=drain_s,
        hosts={host: Host(now_s) for host in ranks.values()},
        ranks={rank: Rank(host, core.RankReport(rank, "starting")) for rank, host in ranks.items()},
        ticked_s=now_s,
    )


def step(state: ClusterState, event: Event, now_s: float) -> Step:
    """The state after an event, and what is to be done about it."""
    if state.settled:
        return state, ()
    match event:
        case events.HostBeat():
            result = _beat(state, event, now_s)
        case events.Joined() | events.Loaded():
            result = _advance(state, event)
        case events.Said() | events.Asked() | events.Abandoned():
            result = _serve(state, event)
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


def _beat(state: ClusterState, event: events.HostBeat, now_s: float) -> Step:
    host = replace(state.hosts[event.host], seen_s=now_s, spoke=True)
    ranks = dict(state.ranks)
    for report in event.reports:
        ranks[report.rank] = replace(ranks[report.rank], report=report)
    state = replace(state, hosts={**state.hosts, event.host: host}, ranks=ranks)
    # No rank may start before every host is there: it would wait in `init` for one that is not.
    if state.phase is Phase.STARTING and all(host.spoke for host in state.hosts.values()):
        hosts = {name: replace(host, running=True) for name, host in state.hosts.items()}
        return replace(state, phase=Phase.JOINING, hosts=hosts), (events.StartEpoch(),)
    return state, ()


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


def _serve(state: ClusterState, event: events.Said | events.Asked | events.Abandoned) -> Step:
    match event:
        case events.Said(rank=rank, event=said):
            # Every rank tells how a request ended; the first rank's word is enough.
            return _said(state, said) if rank == 0 else (state, ())
        case events.Asked(request=request):
            assert state.phase is Phase.READY, "requests are let in only while ready"
            state = replace(state, requests=state.requests | {request.id})
            return _broadcast(state, core.Submit(request))
        case events.Abandoned(request_id=request_id):
            open_still = request_id in state.requests and not state.stopping
            return _broadcast(state, core.Cancel(request_id)) if open_still else (state, ())


def _said(state: ClusterState, said: core.Event) -> Step:
    if isinstance(said, core.FinishEvent):
        state = replace(state, requests=state.requests - {said.request_id})
    return state, (events.Deliver(said),)


def _broadcast(state: ClusterState, action: core.Submit | core.Cancel | core.Drain) -> Step:
    number = state.commands + 1
    return replace(state, commands=number), (events.Broadcast(core.Command(number, action)),)


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
            lost = _host_fault(state, host, event.cause)
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
    state, drain = _broadcast(state, core.Drain())
    return state, (events.Serve(ready=False), *drain)


def _tick(state: ClusterState, now_s: float) -> Step:
    """Hold agents to their lease, and every end to its deadline."""
    slept_s = now_s - state.ticked_s
    state = replace(state, ticked_s=now_s)
    if slept_s > _OWN_STALL_S:
        state = _forgive(state, slept_s)
    lease_s = _LEASE_BEATS * state.beat_s
    silent = [
        name
        for name, host in state.hosts.items()
        if not host.lost and now_s - host.seen_s > lease_s
    ]
    if silent:
        cause = f"no sign of its agent for {lease_s:g} s"
        faults = [_host_fault(state, name, cause) for name in silent]
        return _fail(_gone(state, *silent, lost=True), faults, now_s)
    if state.ends_s is None or now_s < state.ends_s:
        return state, ()
    return _settle(state, ()) if state.stopping else _stop(state, now_s)


def _forgive(state: ClusterState, slept_s: float) -> ClusterState:
    """What agents said while this process slept is still on its way."""
    hosts = {
        name: replace(host, seen_s=host.seen_s + slept_s) for name, host in state.hosts.items()
    }
    return replace(state, hosts=hosts)


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
        return RankFailure(f"{fault.message}{_last_words(fault)}{doubt}")
    return None


def _last_words(fault: Fault) -> str:
    """The last line of stderr, which is where Python names an exception."""
    lines = fault.last_stderr.strip().splitlines()
    return f" ({lines[-1].strip()})" if lines else ""


def _host_fault(state: ClusterState, host: str, cause: str) -> Fault:
    ranks = [str(number) for number, rank in state.ranks.items() if rank.host == host]
    which = "rank" if len(ranks) == 1 else "ranks"
    return Fault(core.Loss.HOST, f"{which} {', '.join(ranks)} on {host}: {cause}")
