"""The state of a cluster as a client hears it, frozen; the texts are those of `asks`."""

from collections.abc import Mapping
from dataclasses import dataclass

from dsv4_tp.core import RankReport, Work


@dataclass(frozen=True, slots=True)
class RankStatus:
    """One rank: what it does and what it holds."""

    report: RankReport
    planned_bytes: int  # weights, by the plan
    weight_bytes: int  # weights, as loaded; 0: not yet
    idle_s: float  # since its counters last moved


@dataclass(frozen=True, slots=True)
class HostStatus:
    """One host and its ranks."""

    name: str
    beat_age_s: float  # since its agent last spoke
    ranks: tuple[RankStatus, ...]


@dataclass(frozen=True, slots=True)
class Totals:
    """What a cluster has done since its launch, and how many requests are there now."""

    running: int
    waiting: int
    ended: Mapping[str, int]  # requests by their finish reason, or `refused`, or `lost`
    prefill: Work
    decode: Work
    # From its arrival to its first token, half and 95 of 100 of the last requests; None: none yet.
    first_token_p50_s: float | None = None
    first_token_p95_s: float | None = None


@dataclass(frozen=True, slots=True)
class LogPart:
    """Some bytes of a log, or why there are no more of a host's."""

    host: str
    epoch: int = 0
    rank: int | None = None  # None: the agent
    offset: int = 0  # in the whole log
    data: bytes = b""  # may end within a line
    missed: int = 0  # bytes right before these that are no longer kept
    error: str = ""


@dataclass(frozen=True, slots=True)
class HostDown:
    """What a host has back from a cluster that has ended."""

    name: str
    ranks: int
    held_bytes: int  # by its ranks, before
    confirmed: bool  # its agent has seen that they are gone


@dataclass(frozen=True, slots=True)
class Downfall:
    """How a cluster has ended."""

    unfinished: int  # requests that were open when their time was over
    failure: str  # why it had failed by then, if it had
    hosts: tuple[HostDown, ...]


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """A whole cluster."""

    name: str
    phase: str  # starting, joining, loading, ready, recovering, draining, failed
    epoch: int
    model_path: str
    dtype: str
    version: str
    failure: str  # what it failed of; while it runs, what the last epoch to fail did
    restarts: int  # epochs after the first one
    hosts: tuple[HostStatus, ...]
    totals: Totals
    launch: str  # what its history is kept under
    endpoint: str = ""  # base URL of OpenAI's API; empty: there is none
