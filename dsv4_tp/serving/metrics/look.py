"""All that metrics are made of, at one moment."""

from collections.abc import Mapping
from dataclasses import dataclass

from dsv4_tp.coordinator.cluster import ClusterState
from dsv4_tp.coordinator.totals import Totals


@dataclass(frozen=True, slots=True)
class Look:
    """A cluster, and what it has answered."""

    state: ClusterState
    ready: bool  # as health says
    now_s: float  # by the clock of `state`
    idle_s: Mapping[int, float]  # since a rank's counters last moved
    restarts: Mapping[str, int]  # by cause
    answers: Mapping[int, int]  # over HTTP, by status
    model: str
    version: str

    @property
    def totals(self) -> Totals:
        """What was done since the launch."""
        return self.state.requests.totals

    @property
    def waiting(self) -> int:
        """Requests in line."""
        return max(0, len(self.state.requests.open) - self.totals.running)
