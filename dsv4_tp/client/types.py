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
    endpoint: str = ""  # base URL of OpenAI's API; empty: there is none
