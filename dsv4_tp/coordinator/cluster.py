"""All the coordinator has to remember of a cluster, and what it answers when asked about it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from dsv4_tp import core
from dsv4_tp.config import Restart
from dsv4_tp.coordinator import requests
from dsv4_tp.coordinator.events import Action
from dsv4_tp.coordinator.links import silences, way
from dsv4_tp.coordinator.members import Fault, Host, Rank, fresh
from dsv4_tp.coordinator.requests import Requests
from dsv4_tp.coordinator.restart import Failure
from dsv4_tp.coordinator.stalls import culprit
from dsv4_tp.errors import Dsv4Error, InputError, NotReadyError, QuarantineError, RankFailure


class Phase(StrEnum):
    """Of the whole cluster."""

    STARTING = "starting"
    PREPARING = "preparing"
    JOINING = "joining"
    LOADING = "loading"
    READY = "ready"
    RECOVERING = "recovering"
    DRAINING = "draining"
    FAILED = "failed"
    STOPPED = "stopped"


ASKED = "asked"
CAUSES = (ASKED, *(loss.name.lower() for loss in core.Loss))  # of restarts


@dataclass(frozen=True, slots=True)
class ClusterState:
    """What `state` decides by."""

    beat_s: float
    prepare_s: float  # for all ranks of an epoch to be prepared
    fence_s: float  # an agent that hears nothing for so long has ended its ranks
    drain_s: float  # what running requests get when the cluster is dismissed
    restart: Restart
    hosts: Mapping[str, Host]
    ranks: Mapping[int, Rank]  # of this epoch
    ticked_s: float  # when the clock was last looked at
    here: frozenset[str]  # hosts on this machine
    requests: Requests
    phase: Phase = Phase.STARTING
    epoch: int = 0  # the one that runs, or ran last; 0: none yet
    told: bool = False  # it has told something of a request
    ready_s: float | None = None  # since when it serves
    faults: tuple[Fault, ...] = ()  # of it
    over: bool = False  # its ranks are being killed, or gone
    failures: tuple[Failure, ...] = ()  # of epochs, this one included
    cut_s: float | None = None  # since when open requests wait for ranks
    starts_s: float | None = None  # when the next epoch may start; None: not yet known
    ends_s: float | None = None  # when what is under way has taken too long
    notes: tuple[str, ...] = ()  # what ranks told of their loading
    refusal: str = ""  # why the ranks cannot run as asked
    reason: str = ""  # why there is no other epoch
    settled: bool = False

    @property
    def restarts(self) -> int:
        """Epochs after the first one."""
        return max(0, self.epoch - 1)


Step = tuple[ClusterState, tuple[Action, ...]]


def first_state(
    ranks: Mapping[int, str],
    requests: Requests,
    restart: Restart,
    *,
    beat_s: float,
    prepare_s: float,
    fence_s: float,
    drain_s: float,
    now_s: float,
    here: Iterable[str] = (),
) -> ClusterState:
    """A cluster before any agent has spoken or any request was asked.

    `ranks` names each rank's host; `here` are hosts on this machine.
    """
    return ClusterState(
        beat_s=beat_s,
        prepare_s=prepare_s,
        fence_s=fence_s,
        drain_s=drain_s,
        restart=restart,
        hosts={host: Host(now_s) for host in ranks.values()},
        ranks=fresh(ranks),
        ticked_s=now_s,
        here=frozenset(here),
        requests=requests,
        starts_s=now_s,
    )


def with_host(state: ClusterState, name: str, host: Host) -> ClusterState:
    """This is known of that host now."""
    return replace(state, hosts={**state.hosts, name: host})


def served(state: ClusterState, change: requests.Change) -> Step:
    """This has become of the requests."""
    changed, actions = change
    return replace(state, requests=changed), actions


def verdict(state: ClusterState) -> Fault | None:
    """The best evidence of what this epoch failed of; of equal ones the first.

    Of ranks that stalled it is against the one that the others waited for.
    """
    best = max(state.faults, key=lambda fault: fault.loss, default=None)
    if best is None or best.loss is not core.Loss.STALLED or best.rank is None:
        return best
    return culprit(state.faults, state.ranks)


def cause(state: ClusterState) -> str:
    """What another epoch follows this one for, in a word of CAUSES."""
    fault = verdict(state)
    return ASKED if fault is None else fault.loss.name.lower()


def newest(before: ClusterState, after: ClusterState) -> Failure | None:
    """The failure that this step wrote down, if any; it may have crossed out what was there."""
    changed = after.failures is not before.failures
    return after.failures[-1] if changed and after.failures else None


def failure(state: ClusterState) -> str:
    """Why the cluster has failed, or what its last epoch to fail has failed of; empty: nothing."""
    if told := state.refusal or state.reason:
        return told
    fault = verdict(state)
    last = [fault.message] if fault else [str(each) for each in state.failures[-1:]]
    return "; ".join((*last, *_missing(state)))


def refused(state: ClusterState) -> Dsv4Error | None:
    """Why no request is taken now, if none is."""
    match state.phase:
        case Phase.READY:
            return requests.busy(state.requests)
        case Phase.FAILED:
            return (QuarantineError if _is_spoilt(state) else RankFailure)(failure(state))
        case Phase.DRAINING | Phase.STOPPED:
            return NotReadyError(f"the cluster takes no requests: it is {state.phase}")
        case _:
            why = f" ({told})" if (told := failure(state)) else ""
            return NotReadyError(f"the cluster is {state.phase}{why}; try again in a while")


def error_of(state: ClusterState) -> Dsv4Error | None:
    """What a cluster that is over has failed of, if it has."""
    if state.phase is not Phase.FAILED:
        return None
    if state.refusal:
        return InputError(state.refusal)
    fault = verdict(state)
    why = state.reason or (f"{fault.message}{fault.last_words}" if fault else "")
    unsure = [name for name, host in state.hosts.items() if host.running]
    doubt = f"; {', '.join(unsure)} did not confirm that its ranks are gone" if unsure else ""
    if _is_spoilt(state):
        before = [each.message for each in state.faults if each is not fault]
        return QuarantineError("; before that, ".join([why, *before[:1]]))
    return RankFailure(f"{why}{doubt}")


def _is_spoilt(state: ClusterState) -> bool:
    """Whether a host has to be rebooted."""
    fault = verdict(state)
    return fault is not None and fault.loss is core.Loss.QUARANTINED


def _missing(state: ClusterState) -> list[str]:
    """What a recovering cluster waits for, host by host."""
    if state.phase is not Phase.RECOVERING or state.starts_s is None:
        return []
    unsure = "its ranks are not known to be gone"
    cut = dict.fromkeys(way(deaf, link) for deaf, link in silences(state.hosts))
    away = [
        f"waiting for {name}: {unsure if host.running else host.cause}"
        for name, host in state.hosts.items()
        if host.running or host.tries > 1  # after the first one, the cause is the verdict's
    ]
    return [*away, *(f"waiting for {each}" for each in cut)]
