"""What an agent remembers; what becomes of it is decided in `state` and `ending`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from dsv4_tp.agent.events import Action, Deadlines, ReportLost
from dsv4_tp.agent.reclaim import Kept
from dsv4_tp.agent.watch import Watch
from dsv4_tp.core import RankReport

_NO_DEADLINES = Deadlines(join_s=0.0, load_s=0.0, step_s=0.0)


@dataclass(frozen=True, slots=True)
class HostState:
    """An agent, its epoch and its ranks."""

    lease_ends_s: float  # without a beat until then, everything here ends
    fence_s: float
    beat_s: float = 0.5  # between two looks at the ranks
    looked_s: float | None = None  # the last of them
    epoch: int = 0  # 0: none yet
    deadlines: Deadlines = _NO_DEADLINES  # of the epoch
    ranks: Mapping[int, Watch] = field(default_factory=dict[int, Watch])  # the living ones
    draining: bool = False
    accused: tuple[ReportLost, ...] = ()  # of living ranks that have stalled: stacks are awaited
    halting: bool = False  # the ranks are being killed
    kept: Kept | None = None  # before the epoch's ranks started
    gone: tuple[RankReport, ...] = ()  # the last words of ranks whose memory is not back yet
    gone_s: float | None = None  # when it was first asked for, after the last of them
    quarantine: str = ""  # why nothing may start here any more
    leaving: str = ""  # why the agent ends once its ranks are gone
    ordered: bool = False  # to leave, by the coordinator

    @property
    def well(self) -> frozenset[int]:
        """The ranks that progress, or are rightly idle, as far as is known."""
        if self.halting:
            return frozenset()
        return frozenset(self.ranks) - {lost.rank for lost in self.accused}

    @property
    def met_s(self) -> float:
        """When a rank here showed last that it met the others, so that the ways work."""
        return max((watch.met_s for watch in self.ranks.values()), default=-math.inf)

    @property
    def reclaiming(self) -> bool:
        """Whether the memory of an epoch is awaited."""
        return bool(self.gone) and not self.ranks


Step = tuple[HostState, tuple[Action, ...]]
