"""How an epoch ends, and how the next one begins; a part of `state`.

fault -> every rank is killed -> all have confirmed -> judged -> every host is there -> start
"""

from collections.abc import Mapping
from dataclasses import replace

from dsv4_tp import core
from dsv4_tp.config import RestartPolicy
from dsv4_tp.coordinator import events, links, requests
from dsv4_tp.coordinator.cluster import (
    ClusterState,
    Phase,
    Step,
    error_of,
    failure,
    served,
    verdict,
    with_host,
)
from dsv4_tp.coordinator.events import Action
from dsv4_tp.coordinator.members import Fault, Host, fresh, gone, host_fault, unprepared
from dsv4_tp.coordinator.restart import Failure, Stop, Wait, judge, pause_s, with_failure
from dsv4_tp.errors import RankFailure

_BY_REQUESTS = core.Loss.STALLED, core.Loss.EXITED, core.Loss.KILLED  # what one may do to a rank
LADDER_S = 7.0  # for an agent whose lease is over to end its ranks
_REASON_S = 3.0  # for the best evidence to come in, before clients are told
SETTLE_S = 65.0  # for agents to confirm that their ranks are gone and their memory is back


def start_if_fit(state: ClusterState, now_s: float) -> Step:
    """Start the next epoch, if it is time for one and every host is there."""
    if state.starts_s is None or now_s < state.starts_s:
        return state, ()
    if not all(host.fit for host in state.hosts.values()):
        return state, ()
    if not links.may_meet(state.hosts, now_s, beat_s=state.beat_s):
        return state, ()
    started = replace(
        state,
        phase=Phase.PREPARING,
        epoch=state.epoch + 1,
        told=False,
        ready_s=None,
        faults=(),
        over=False,
        starts_s=None,
        ends_s=now_s + state.prepare_s,
        hosts={
            name: Host(host.seen_s, spoke=True, running=True, steady_s=host.steady_s)
            for name, host in state.hosts.items()
        },
        ranks=fresh({number: rank.host for number, rank in state.ranks.items()}),
    )
    return started, (events.StartEpoch(started.epoch),)


def lose(state: ClusterState, causes: Mapping[str, str], now_s: float) -> Step:
    """There is no session with these hosts any more, or again none."""
    told = {name: f"{cause}{_remark(state, name, now_s)}" for name, cause in causes.items()}
    for name, cause in told.items():
        host = state.hosts[name]
        after_s = pause_s(state.restart, host.tries) if host.tries else 0.0
        state = with_host(state, name, gone(host, cause, now_s, due_s=now_s + after_s))
    if state.phase is Phase.RECOVERING and state.starts_s is not None:
        return state, ()  # no epoch is touched by that
    faults = (host_fault(state.ranks, name, cause) for name, cause in told.items())
    return fail(state, now_s, *faults)


def mind_links(state: ClusterState, now_s: float) -> Step:
    """Where nothing comes through between two hosts, the epoch ends, or has ended of that."""
    # Of one that was to end there is nothing to explain: its ranks are being killed.
    wanted = state.over and (state.phase is Phase.DRAINING or not state.faults)
    if not state.epoch or state.starts_s is not None or wanted:
        return state, ()
    known = {fault.who for fault in state.faults}
    found = links.cuts(state.hosts, now_s, beat_s=state.beat_s)
    new = [fault for fault in found if fault.who not in known]
    return fail(state, now_s, *new) if new else (state, ())


def leave(state: ClusterState, name: str, quarantine: str, now_s: float) -> Step:
    """No rank is left on a host; in `quarantine`, if that is not empty, no other may follow."""
    state = with_host(state, name, replace(state.hosts[name], running=False))
    if quarantine:
        return fail(state, now_s, Fault(core.Loss.QUARANTINED, name, quarantine))
    return settle_if_gone(state, (), now_s)


def fail(state: ClusterState, now_s: float, *faults: Fault) -> Step:
    """Note the evidence; at the first one, end the epoch everywhere."""
    spoilt = any(fault.loss is core.Loss.QUARANTINED for fault in faults)
    hopeless = state.refusal or spoilt or state.restart.policy is RestartPolicy.NEVER
    if hopeless or state.phase in (Phase.DRAINING, Phase.FAILED):
        phase = Phase.FAILED
    else:
        phase = Phase.RECOVERING
    return stop(replace(state, phase=phase, faults=(*state.faults, *faults)), now_s)


def renew(state: ClusterState, now_s: float) -> Step:
    """Another epoch, for nothing but the asking; one that is to come anyway comes at once."""
    if state.phase is Phase.RECOVERING and state.starts_s is not None:
        return start_if_fit(replace(state, starts_s=now_s), now_s)
    if state.over or state.phase in (Phase.STARTING, Phase.DRAINING):
        return state, ()
    return stop(replace(state, phase=Phase.RECOVERING), now_s)


def stop(state: ClusterState, now_s: float) -> Step:
    """Have every rank killed, unless that is under way."""
    ends_s = now_s + SETTLE_S
    if state.over:
        if state.phase is not Phase.RECOVERING:  # then nothing more is waited for
            state = replace(state, starts_s=None, ends_s=min(ends_s, state.ends_s or ends_s))
        return settle_if_gone(state, (), now_s)
    state = replace(
        state,
        over=True,
        cut_s=now_s if state.cut_s is None else state.cut_s,
        starts_s=None,
        ends_s=ends_s,
    )
    state, ended = served(state, requests.pause(state.requests, now_s))
    stalled = any(fault.loss is core.Loss.STALLED for fault in state.faults)
    orders = events.Serve(ready=False), events.StopEpoch(state.epoch, explain=stalled)
    return settle_if_gone(state, (*orders, *ended), now_s)


def settle_if_gone(state: ClusterState, actions: tuple[Action, ...], now_s: float) -> Step:
    """Settle when no rank is left anywhere."""
    ending = state.over or state.phase is Phase.DRAINING
    if ending and not any(host.running for host in state.hosts.values()):
        return _settle(state, actions, now_s)
    return state, actions


def overdue(state: ClusterState, now_s: float) -> Step:
    """What is under way has taken too long: a start, work, the end of ranks, hosts' return."""
    if state.phase is Phase.PREPARING:
        return fail(state, now_s, unprepared(state.ranks, state.prepare_s))
    if not state.over:
        return stop(state, now_s)
    if state.phase is Phase.RECOVERING and state.starts_s is not None:
        reason = f"{failure(state)}; given up after {state.restart.window_s:g} s"
        state = replace(state, phase=Phase.FAILED, reason=reason)
    return _settle(state, (), now_s)


def let_go(state: ClusterState, now_s: float) -> Step:
    """Requests wait only so long for ranks to go on with them, and hardly where none will come."""
    hopeless = state.phase is Phase.FAILED
    patience_s = _REASON_S if hopeless else state.restart.replay_s
    if state.cut_s is None or now_s - state.cut_s < patience_s:
        return state, ()
    late = "" if hopeless else f"; the ranks were not back within {patience_s:g} s"
    return served(state, requests.give_up(state.requests, RankFailure(failure(state) + late)))


def recover(state: ClusterState, now_s: float) -> Step:
    """Have agents where there are none, then start the next epoch."""
    if state.phase is not Phase.RECOVERING:
        return state, ()
    wanted: list[Action] = []
    for name, host in state.hosts.items():
        if host.lost_s is not None and host.due_s is not None and now_s >= host.due_s:
            state = with_host(state, name, replace(host, due_s=None))
            fenced = now_s - host.lost_s >= state.fence_s + LADDER_S
            wanted.append(events.Reach(name, state.epoch, fenced=fenced))
    state, started = start_if_fit(state, now_s)
    return state, (*wanted, *started)


def _remark(state: ClusterState, name: str, now_s: float) -> str:
    return links.remark(state.hosts, name, now_s, beat_s=state.beat_s, here=state.here)


def _settle(state: ClusterState, actions: tuple[Action, ...], now_s: float) -> Step:
    """The epoch has ended as well as it could: so has the cluster, unless it heals."""
    if state.phase is Phase.RECOVERING:
        return _judge(state, actions, now_s) if state.starts_s is None else (state, actions)
    phase = state.phase if state.phase is Phase.FAILED else Phase.STOPPED
    state = replace(state, phase=phase, settled=True)
    return state, (*actions, events.Settle(error_of(state)))


def _suspect(state: ClusterState, fault: Fault) -> tuple[Step, bool]:
    """Of ranks that served, the cause may be what they served; whether that is being mended."""
    if state.ready_s is None or fault.loss not in _BY_REQUESTS:
        return (state, ()), False
    state, ended = served(state, requests.suspect(state.requests, fault.message))
    return (state, ended), bool(ended) or requests.is_suspicious(state.requests)


def _judge(state: ClusterState, actions: tuple[Action, ...], now_s: float) -> Step:
    """Whether another epoch may follow, and when."""
    policy, fault = state.restart, verdict(state)
    steady = state.ready_s is not None and now_s - state.ready_s >= policy.window_s
    if fault is None:  # another one was asked for, which counts as no failure
        failures = () if state.told or steady else state.failures
        ends_s = now_s + policy.window_s
        return replace(state, failures=failures, starts_s=now_s, ends_s=ends_s), actions
    (state, ended), mended = _suspect(state, fault)
    actions = *actions, *ended
    fruitful = state.told or steady or mended
    cause = f"{fault.cause}{fault.last_words}"
    failed = Failure(now_s, fault.who, cause, fruitful, int(fault.unfit))
    state = replace(state, failures=with_failure(policy, state.failures, failed))
    match judge(policy, state.failures, now_s):
        case Wait(seconds=seconds):
            starts_s = now_s + seconds
            return replace(state, starts_s=starts_s, ends_s=starts_s + policy.window_s), actions
        case Stop(reason=reason):
            return _settle(replace(state, phase=Phase.FAILED, reason=reason), actions, now_s)
