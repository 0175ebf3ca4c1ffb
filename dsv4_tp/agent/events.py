"""What an agent's state machine hears and what it orders: frozen data, no behaviour."""

from collections.abc import Mapping
from dataclasses import dataclass

from dsv4_tp.agent.reclaim import Kept
from dsv4_tp.core import Loss, RankReport

_PREPARED_S = 5.0  # a rank that waits to be told to join does nothing but beat


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long a rank may show no progress."""

    join_s: float  # to prepare, and again to meet the other ranks
    load_s: float
    step_s: float  # in a prefill chunk or a decode step
    learned: bool = True  # less is allowed where less is normal

    def of(self, phase: str) -> float:
        """The deadline of a phase."""
        if phase in ("starting", "joining"):
            return self.join_s
        if phase == "prepared":
            return min(self.join_s, _PREPARED_S)
        return self.load_s if phase == "loading" else self.step_s


# Events.


@dataclass(frozen=True, slots=True)
class Greeted:
    """A coordinator opened a session."""

    now_s: float
    fence_s: float
    beat_s: float = 0.5


@dataclass(frozen=True, slots=True)
class Beaten:
    """The coordinator gave a sign of life."""

    now_s: float


@dataclass(frozen=True, slots=True)
class Started:
    """The coordinator wants these ranks of an epoch to run here."""

    now_s: float
    epoch: int
    ranks: tuple[int, ...]
    deadlines: Deadlines
    kept: Kept | None = None  # before they start; None: their memory is not asked back
    quarantine: str = ""  # what an earlier agent found that only a reboot ends; or empty


@dataclass(frozen=True, slots=True)
class Tasked:
    """All ranks were given a request."""

    now_s: float
    request_id: str
    chunk_tokens: int = 0  # the most that are fed at a time


@dataclass(frozen=True, slots=True)
class Finished:
    """A rank is done with a request."""

    rank: int
    request_id: str


@dataclass(frozen=True, slots=True)
class Drained:
    """The ranks were told to finish their work and leave."""


@dataclass(frozen=True, slots=True)
class Halted:
    """The epoch is to end now: the coordinator asked, or a rank cannot run as asked."""

    stopped: frozenset[int] = frozenset()  # ranks whose process is stopped by a signal
    explain: bool = False  # a rank has stalled: those that stand still are asked where they are


@dataclass(frozen=True, slots=True)
class Muted:
    """A rank ended its control stream but its process lives on."""

    rank: int


@dataclass(frozen=True, slots=True)
class Exited:
    """The process of a rank is gone."""

    report: RankReport  # its last one
    exit_code: int  # negative: the signal
    last_stderr: str


@dataclass(frozen=True, slots=True)
class Sampled:
    """A look at the clock and at the progress pages."""

    now_s: float
    reports: tuple[RankReport, ...]
    stopped: frozenset[int]  # ranks whose process is stopped by a signal


@dataclass(frozen=True, slots=True)
class Dumped:
    """Ranks that have stalled were asked for their stacks, and had the time to answer."""

    last_stderr: Mapping[int, str]  # by rank
    stopped: frozenset[int]  # ranks whose process is stopped by a signal


@dataclass(frozen=True, slots=True)
class Outlived:
    """The process of a rank is there though it was killed."""

    rank: int
    pid: int


@dataclass(frozen=True, slots=True)
class MemorySeen:
    """Memory was measured."""

    now_s: float
    kept_bytes: int


@dataclass(frozen=True, slots=True)
class Dismissed:
    """The agent itself is to end; `ordered` by a coordinator that starts nothing here any more."""

    reason: str
    ordered: bool = False


Event = (
    Greeted
    | Beaten
    | Started
    | Tasked
    | Finished
    | Drained
    | Halted
    | Muted
    | Exited
    | Sampled
    | Dumped
    | Outlived
    | MemorySeen
    | Dismissed
)

# Actions.


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start the process of a rank."""

    rank: int


@dataclass(frozen=True, slots=True)
class Dump:
    """Ask these ranks for their stacks; answered by Dumped within `ladder.DUMP_S`."""

    ranks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Kill:
    """End the process of a rank, by force if need be."""

    rank: int


@dataclass(frozen=True, slots=True)
class ReportLost:
    """Tell the coordinator that a rank is lost."""

    rank: int
    loss: Loss
    cause: str
    last_stderr: str = ""


@dataclass(frozen=True, slots=True)
class Measure:
    """Look whether memory came back; answered by MemorySeen."""


@dataclass(frozen=True, slots=True)
class ReportStopped:
    """Tell the coordinator that nothing of the epoch is left here, or that this host is spoilt."""

    returned_bytes: int = 0
    quarantine: str = ""  # why no epoch may start here; empty: one may


@dataclass(frozen=True, slots=True)
class Condemn:
    """Write down, for later agents, that this host needs a reboot."""

    reason: str
    pid: int = 0  # of a process whose end would do as well; 0: there is none


@dataclass(frozen=True, slots=True)
class Leave:
    """End the agent."""

    reason: str


Action = Spawn | Dump | Kill | ReportLost | Measure | ReportStopped | Condemn | Leave
