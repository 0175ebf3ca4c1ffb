"""How an epoch ends, and how the next one begins; a part of `state`.

fault -> every rank is killed -> all have confirmed -> judged -> every host is there -> start
"""

from collections.abc import Mapping
from dataclasses import replace

from dsv4_tp import core
from dsv4_tp.config import RestartPolicy
from dsv4_tp.coordinator import events, requests
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
from dsv4_tp.coordinator.members import Fault, Host, fresh, gone, host_fault
from dsv4_tp.coordinator.restart import IN_VAIN, Failure, Stop, Wait, judge, pause_s
from dsv4_tp.errors import RankFailure

SETTLE_S = 65.0  # for agents to confirm that their ranks are gone and their memory is back


def start_if_fit(state: ClusterState, now_s: float) -> Step:
    """Start the next epoch, if it is time for one and every host is there."""
    if state.starts_s is None or now_s < state.starts_s:
        return state, ()
    if not all(host.fit for host in state.hosts.values()):
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
        ends_s=None,
        hosts={
            name: Host(host.seen_s, spoke=True, running=True) for name, host in state.hosts.items()
        },
        ranks=fresh({number: rank.host for number, rank in state.ranks.items()}),
    )
    return started, (events.StartEpoch(started.epoch),)


def lose(state: ClusterState, causes: Mapping[str, str], now_s: float) -> Step:
    """There is no session with these hosts any more, or again none."""
    for name, cause in causes.items():
        host = state.hosts[name]
        after_s = pause_s(state.restart, host.tries) if host.tries else 0.0
        state = with_host(state, name, gone(host, cause, now_s, due_s=now_s + after_s))
    if state.phase is Phase.RECOVERING and state.starts_s is not None:
        return state, ()  # no epoch is touched by that
    faults = (host_fault(state.ranks, name, cause) for name, cause in causes.items())
    return fail(state, now_s, *faults)


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
    orders = events.Serve(ready=False), events.StopEpoch(state.epoch)
    return settle_if_gone(state, (*orders, *ended), now_s)


def settle_if_gone(state: ClusterState, actions: tuple[Action, ...], now_s: float) -> Step:
    """Settle when no rank is left anywhere."""
    ending = state.over or state.phase is Phase.DRAINING
    if ending and not any(host.running for host in state.hosts.values()):
        return _settle(state, actions, now_s)
    return state, actions


def overdue(state: ClusterState, now_s: float) -> Step:
    """What is under way has taken too long: work, the end of ranks, the return of hosts."""
    if not state.over:
        return stop(state, now_s)
    if state.phase is Phase.RECOVERING and state.starts_s is not None:
        reason = f"{failure(state)}; given up after {state.restart.window_s:g} s"
        state = replace(state, phase=Phase.FAILED, reason=reason)
    return _settle(state, (), now_s)


def let_go(state: ClusterState, now_s: float) -> Step:
    """Requests wait only so long for ranks to go on with them."""
    if state.cut_s is None or now_s - state.cut_s < state.restart.replay_s:
        return state, ()
    late = f"the ranks were not back within {state.restart.replay_s:g} s"
    error = RankFailure(f"{failure(state)}; {late}")
    return served(state, requests.give_up(state.requests, error))


def recover(state: ClusterState, now_s: float) -> Step:
    """Have agents where there are none, then start the next epoch."""
    if state.phase is not Phase.RECOVERING:
        return state, ()
    wanted: list[Action] = []
    for name, host in state.hosts.items():
        if host.lost_s is not None and host.due_s is not None and now_s >= host.due_s:
            state = with_host(state, name, replace(host, due_s=None))
            fenced = now_s - host.lost_s >= state.fence_s
            wanted.append(events.Reach(name, state.epoch, fenced=fenced))
    state, started = start_if_fit(state, now_s)
    return state, (*wanted, *started)


def _settle(state: ClusterState, actions: tuple[Action, ...], now_s: float) -> Step:
    """The epoch has ended as well as it could: so has the cluster, unless it heals."""
    if state.phase is Phase.RECOVERING:
        return _judge(state, actions, now_s) if state.starts_s is None else (state, actions)
    phase = state.phase if state.phase is Phase.FAILED else Phase.STOPPED
    state = replace(state, phase=phase, settled=True)
    return state, (*actions, events.Settle(error_of(state)))


def _judge(state: ClusterState, actions: tuple[Action, ...], now_s: float) -> Step:
    """Whether another epoch may follow, and when."""
    policy, fault = state.restart, verdict(state)
    if fault is None:  # it was asked for, and counts for nothing
        return replace(state, starts_s=now_s, ends_s=now_s + policy.window_s), actions
    steady = state.ready_s is not None and now_s - state.ready_s >= policy.window_s
    cause = f"{fault.cause}{fault.last_words}"
    failed = Failure(now_s, fault.who, cause, fruitful=state.told or steady)
    failures = (*state.failures, failed)[-max(IN_VAIN, policy.most) :]
    state = replace(state, failures=failures)
    match judge(policy, failures):
        case Wait(seconds=seconds):
            starts_s = now_s + seconds
            return replace(state, starts_s=starts_s, ends_s=starts_s + policy.window_s), actions
        case Stop(reason=reason):
            return _settle(replace(state, phase=Phase.FAILED, reason=reason), actions, now_s)
