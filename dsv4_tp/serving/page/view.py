"""All that is shown of a cluster at one moment; fields are named as in `status --json`."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from dsv4_tp import __version__
from dsv4_tp.coordinator.cluster import ClusterState, failure
from dsv4_tp.coordinator.coordinator import Coordinator
from dsv4_tp.coordinator.requests import Requests
from dsv4_tp.coordinator.setup import AgentSetup, Setup
from dsv4_tp.core import Link, RankReport, Work


@dataclass(frozen=True, slots=True)
class Seen:
    """What the witness knows beside the state."""

    now_s: float  # by the clock of the state
    idle_s: Mapping[int, float]  # since a rank's counters last moved
    first_token_s: tuple[float, ...]  # half and 95 of 100 of the last requests; (): none yet


@dataclass(frozen=True, slots=True)
class RankView:
    """One rank: what it does and what it holds."""

    report: RankReport
    planned_bytes: int  # weights, by the plan
    weight_bytes: int  # weights, as loaded; 0: not yet
    idle_s: float


@dataclass(frozen=True, slots=True)
class HostView:
    """One host, what it hears of others, and its ranks."""

    name: str
    up: bool  # its agent speaks
    cause: str  # why it does not
    beat_age_s: float  # since it spoke last
    links: tuple[Link, ...]
    ranks: tuple[RankView, ...]


@dataclass(frozen=True, slots=True)
class TotalsView:
    """What was done since the launch, and how many requests are there now."""

    running: int
    running_limit: int
    waiting: int
    waiting_limit: int
    ended: Mapping[str, int]  # by their finish reason, or `refused`, or `lost`
    generated: int  # tokens, as clients have them
    prefill: Work
    decode: Work
    first_token_p50_s: float | None
    first_token_p95_s: float | None


@dataclass(frozen=True, slots=True)
class ClusterView:
    """A whole cluster."""

    name: str
    launch: str
    model: str  # as clients call it
    version: str
    phase: str
    epoch: int
    restarts: int  # epochs after the first one
    failure: str  # what it failed of; while it runs, what the last epoch to fail did
    context: int  # most tokens of a sequence
    now_s: float  # for differences; the clock begins anywhere
    hosts: tuple[HostView, ...]
    totals: TotalsView


def look(coordinator: Coordinator) -> ClusterView:
    """The cluster now."""
    state, witness, now_s = coordinator.state, coordinator.witness, time.monotonic()
    seen = Seen(
        now_s,
        {number: witness.idle_s(number, now_s) for number in state.ranks},
        witness.first_token_s(0.5, 0.95),
    )
    return view(coordinator.setup, state, seen)


def view(setup: Setup, state: ClusterState, seen: Seen) -> ClusterView:
    """What is shown of it."""
    return ClusterView(
        name=setup.name,
        launch=setup.history.name,
        model=setup.model_name,
        version=__version__,
        phase=state.phase.value,
        epoch=state.epoch,
        restarts=state.restarts,
        failure=failure(state),
        context=setup.context,
        now_s=seen.now_s,
        hosts=tuple(_host(setup, state, seen, agent) for agent in setup.agents),
        totals=_totals(state.requests, seen),
    )


def _host(setup: Setup, state: ClusterState, seen: Seen, agent: AgentSetup) -> HostView:
    host = state.hosts[agent.host]
    ranks = (
        RankView(
            state.ranks[number].report,
            setup.planned_bytes[number],
            state.ranks[number].weight_bytes or 0,
            seen.idle_s[number],
        )
        for number in agent.ranks
    )
    return HostView(
        name=agent.host,
        up=host.spoke and not host.lost,
        cause=host.cause,
        beat_age_s=seen.now_s - host.seen_s,
        links=host.links,
        ranks=tuple(ranks),
    )


def _totals(requests: Requests, seen: Seen) -> TotalsView:
    totals = requests.totals
    half_s, most_s = seen.first_token_s or (None, None)
    return TotalsView(
        running=totals.running,
        running_limit=requests.batch,
        waiting=max(0, len(requests.open) - totals.running),
        waiting_limit=requests.queue,
        ended=totals.ended,
        generated=totals.generated,
        prefill=totals.work["prefill"],
        decode=totals.work["decode"],
        first_token_p50_s=half_s,
        first_token_p95_s=most_s,
    )
