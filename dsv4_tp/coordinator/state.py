"""What the coordinator decides: events in, actions out. No socket, process or clock in here.

    starting -> preparing -> joining -> loading -> ready -> draining -> stopped
                   ^             |         |         |
                   +------- recovering <---+---------+          from each of them: failed

An epoch starts when every agent has spoken, and its ranks meet when all are prepared. Its first
fault ends it on every host; when all have confirmed, the best evidence is its verdict, and
`restart` says whether another epoch may follow it, and when. Requests wait for that meanwhile.
A coordinator that comes after one that is gone may find ranks that serve, and be ready at once.
What another epoch would not heal fails the cluster: ranks that refuse what they are asked to run,
and what is lost when all is to end anyway.
"""

from collections.abc import Mapping
from dataclasses import replace

from dsv4_tp import core
from dsv4_tp.coordinator import epochs, events, requests
from dsv4_tp.coordinator.adoption import Adoption
from dsv4_tp.coordinator.cluster import ClusterState, Phase, Step, refused, served, with_host
from dsv4_tp.coordinator.events import Event
from dsv4_tp.coordinator.members import Fault, Host, disagreement, forgiven, rank_name, seen
from dsv4_tp.errors import OutrankedError

_LEASE_BEATS = 8  # an agent that is silent for so many beats is lost
_OWN_STALL_S = 1.0  # between two ticks: then it was us who slept


def step(state: ClusterState, event: Event, now_s: float) -> Step:
    """The state after an event, and what is to be done about it."""
    if state.settled:
        return state, ()
    match event:
        case events.Heard():
            result = _hear(state, event, now_s)
        case events.HostLost() | events.Outranked() | events.Unfit():
            result = _miss(state, event, now_s)
        case events.Asked():
            assert refused(state) is None, "requests are let in only while they are taken"
            result = served(state, requests.asked(state.requests, event, now_s))
        case events.Abandoned():
            result = served(state, requests.abandoned(state.requests, event, now_s))
        case events.Adopted() | events.Dismissed() | events.Renewed():
            result = _steer(state, event, now_s)
        case events.Ticked():
            result = _tick(state, now_s)
    return result


def _miss(state: ClusterState, event: events.Lapse, now_s: float) -> Step:
    """A host is not to be had."""
    match event:
        case events.HostLost(host=host, cause=cause):
            return epochs.lose(state, {host: cause}, now_s)
        case events.Outranked(host=host, cause=cause):
            return _give_up(state, f"{host}: {cause}")
        case events.Unfit(host=host, cause=cause):
            return epochs.fail(state, now_s, Fault(core.Loss.HOST, host, cause, unfit=True))


def _give_up(state: ClusterState, cause: str) -> Step:
    """The cluster is another's: nothing more is ordered, and nobody is fought for."""
    reason = f"another coordinator has taken this cluster over ({cause}); it is left alone"
    state = replace(state, phase=Phase.FAILED, reason=reason, settled=True)
    return state, (events.Serve(ready=False), events.Settle(OutrankedError(reason)))


def _steer(
    state: ClusterState, event: events.Adopted | events.Dismissed | events.Renewed, now_s: float
) -> Step:
    """What is asked of the cluster as a whole."""
    match event:
        case events.Adopted(adoption=adoption):
            return _adopt(state, adoption, now_s)
        case events.Dismissed():
            return _dismiss(state, event, now_s)
        case events.Renewed():
            return epochs.renew(state, now_s)


def _hear(state: ClusterState, event: events.Heard, now_s: float) -> Step:
    """An agent speaks. Words of another epoch than this one only show that it lives."""
    current = event.epoch == state.epoch
    match event.word:
        case events.HostBeat() as beat:
            state = _beat(state, event.host, beat, now_s, current=current)
            state, ended = epochs.mind_links(state, now_s)
            state, started = epochs.start_if_fit(state, now_s)
            return state, (*ended, *started)
        case _ if not current:
            return state, ()
        case events.Prepared() | events.Joined() | events.Loaded() | events.Said() as word:
            return (state, ()) if state.over else _go_on(state, word, now_s)
        case events.HostStopped(quarantine=quarantine):
            return epochs.leave(state, event.host, quarantine, now_s)
        case events.Refused(rank=rank, message=message):
            refusal = state.refusal or f"{rank_name(state.ranks, rank)}: {message}"
            return epochs.fail(replace(state, refusal=refusal), now_s)
        case events.Lost(rank=rank, loss=loss) as lost:
            who = rank_name(state.ranks, rank)
            return epochs.fail(state, now_s, Fault(loss, who, lost.cause, lost.last_stderr, rank))


def _beat(
    state: ClusterState,
    name: str,
    beat: events.HostBeat,
    now_s: float,
    *,
    current: bool,
) -> ClusterState:
    ranks = dict(state.ranks)
    # Those of an epoch that has failed stay as they were: that tells who was behind.
    for report in beat.reports if current and not state.over else ():
        ranks[report.rank] = replace(ranks[report.rank], report=report)
    links = beat.links if current else ()  # it may not have been told yet whom to hear
    host = seen(state.hosts[name], now_s, links, busy=bool(beat.reports), beat_s=state.beat_s)
    return with_host(replace(state, ranks=ranks), name, host)


def _prepare(state: ClusterState, number: int, facts: Mapping[str, str], now_s: float) -> Step:
    """No rank may join before all could: alone it would hang in `init`."""
    rank = replace(state.ranks[number], facts=facts)
    state = replace(state, ranks={**state.ranks, number: rank})
    waiting = any(rank.facts is None for rank in state.ranks.values())
    if state.phase is not Phase.PREPARING or waiting:
        return state, ()
    if refusal := disagreement(state.ranks):
        return epochs.fail(replace(state, refusal=refusal), now_s)
    return replace(state, phase=Phase.JOINING, ends_s=None), (events.JoinEpoch(state.epoch),)


def _go_on(
    state: ClusterState,
    word: events.Prepared | events.Joined | events.Loaded | events.Said,
    now_s: float,
) -> Step:
    match word:
        case events.Prepared(rank=rank, facts=facts):
            return _prepare(state, rank, facts, now_s)
        case events.Joined(rank=rank):
            return _advance(state, rank, now_s, joined=True)
        case events.Loaded(rank=rank, weight_bytes=weight_bytes, notes=notes):
            new = (note for note in notes if note not in state.notes)
            state = replace(state, notes=(*state.notes, *new))
            return _advance(state, rank, now_s, weight_bytes=weight_bytes)
        case events.Said(rank=rank, event=said):
            # Every rank tells how a request ended; the first rank's word is enough.
            if rank:
                return state, ()
            fruit = isinstance(said, core.TokenEvent | core.ScoreEvent)
            state = replace(state, told=state.told or fruit)
            return served(state, requests.said(state.requests, said, now_s))


def _advance(state: ClusterState, number: int, now_s: float, **news: int) -> Step:
    """A rank is further than it was; when all are ready, requests find their places."""
    rank = replace(state.ranks[number], **news)
    state = replace(state, ranks={**state.ranks, number: rank})
    ranks = state.ranks.values()
    if state.phase is Phase.JOINING and all(rank.joined for rank in ranks):
        state = replace(state, phase=Phase.LOADING)
    loaded = all(rank.weight_bytes is not None for rank in ranks)
    if state.phase is not Phase.LOADING or not loaded:
        return state, ()
    state = replace(state, phase=Phase.READY, ready_s=now_s, cut_s=None)
    state, again = served(state, requests.resume(state.requests, state.epoch))
    return state, (events.Serve(ready=True), *again)


def _adopt(state: ClusterState, adoption: Adoption, now_s: float) -> Step:
    """Go on with ranks that serve, as their last coordinator would have; its clients are gone."""
    adopted = replace(
        state,
        phase=Phase.READY,
        epoch=adoption.epoch,
        hosts={name: Host(now_s, running=True) for name in state.hosts},
        ranks=adoption.ranks,
        starts_s=None,
        ready_s=now_s,
    )
    change = requests.adopted(state.requests, adoption.epoch, adoption.commands, adoption.owed)
    adopted, cancels = served(adopted, change)
    go_on = events.GoOn(adoption.epoch, adoption.missing)
    return adopted, (go_on, events.Serve(ready=True), *cancels)


def _dismiss(state: ClusterState, event: events.Dismissed, now_s: float) -> Step:
    """Let a ready cluster finish its work; end any other one at once."""
    if event.now or state.phase not in (Phase.READY, Phase.DRAINING):
        phase = Phase.FAILED if state.phase is Phase.FAILED else Phase.DRAINING
        return epochs.stop(replace(state, phase=phase), now_s)
    if state.phase is Phase.DRAINING:
        return state, ()
    state = replace(state, phase=Phase.DRAINING, ends_s=now_s + (event.drain_s or state.drain_s))
    state, drain = served(state, requests.drain(state.requests))
    return state, (events.Serve(ready=False), *drain)


def _tick(state: ClusterState, now_s: float) -> Step:
    """Hold agents to their lease, requests to their time, and every end to its deadline."""
    slept_s = now_s - state.ticked_s
    state = replace(state, ticked_s=now_s)
    if slept_s > _OWN_STALL_S:
        state = replace(state, hosts=forgiven(state.hosts, slept_s, now_s))
    lease_s = _LEASE_BEATS * state.beat_s
    silent = [
        name
        for name, host in state.hosts.items()
        if not host.lost and now_s - host.seen_s > lease_s
    ]
    if silent:
        return epochs.lose(
            state, dict.fromkeys(silent, f"no sign of its agent for {lease_s:g} s"), now_s
        )
    if state.ends_s is not None and now_s >= state.ends_s:
        return epochs.overdue(state, now_s)
    state, late = served(state, requests.overdue(state.requests, now_s))
    state, failed = epochs.let_go(state, now_s)
    state, wanted = epochs.recover(state, now_s)
    return state, (*late, *failed, *wanted)
