"""What the coordinator's state machine hears and what it orders: frozen data, no behaviour."""

from collections.abc import Mapping
from dataclasses import dataclass

from dsv4_tp import core
from dsv4_tp.coordinator.adoption import Adoption
from dsv4_tp.errors import Dsv4Error

# Events.


@dataclass(frozen=True, slots=True)
class HostBeat:
    """An agent lives, and its ranks are so far; those not named have no process."""

    reports: tuple[core.RankReport, ...]
    links: tuple[core.Link, ...] = ()  # to other hosts


@dataclass(frozen=True, slots=True)
class Prepared:
    """A rank could run, and waits to meet the others."""

    rank: int
    facts: Mapping[str, str]  # what all ranks must hold alike, by name


@dataclass(frozen=True, slots=True)
class Joined:
    """A rank has met all others."""

    rank: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """A rank waits for work."""

    rank: int
    weight_bytes: int  # what its weights take
    notes: tuple[str, ...] = ()  # for people, such as what was left out


@dataclass(frozen=True, slots=True)
class Said:
    """A rank tells of a request, or of a step."""

    rank: int
    event: core.Event


@dataclass(frozen=True, slots=True)
class Refused:
    """A rank cannot run as asked."""

    rank: int
    message: str


@dataclass(frozen=True, slots=True)
class Lost:
    """A rank is gone, or as good as gone."""

    rank: int
    loss: core.Loss
    cause: str
    last_stderr: str


@dataclass(frozen=True, slots=True)
class HostStopped:
    """No process of the epoch is left on this host."""

    quarantine: str = ""  # why no other epoch can start there; empty: one can


Word = HostBeat | Prepared | Joined | Loaded | Said | Refused | Lost | HostStopped


@dataclass(frozen=True, slots=True)
class Heard:
    """What an agent says, and of which epoch."""

    host: str
    epoch: int
    word: Word


@dataclass(frozen=True, slots=True)
class HostLost:
    """The session with an agent ended before it was to, or there is none to be had."""

    host: str
    cause: str


@dataclass(frozen=True, slots=True)
class Outranked:
    """An agent obeys a later coordinator."""

    host: str
    cause: str


@dataclass(frozen=True, slots=True)
class Unfit:
    """The epoch cannot start on a host; no rank was started anywhere."""

    host: str
    cause: str


@dataclass(frozen=True, slots=True)
class Adopted:
    """The ranks of a coordinator that is gone are ours, before anything else has happened."""

    adoption: Adoption


@dataclass(frozen=True, slots=True)
class Asked:
    """A client wants this request served."""

    request: core.Request | core.ScoreRequest
    time_limit_s: float | None = None  # from now on; None: what the cluster says


@dataclass(frozen=True, slots=True)
class Abandoned:
    """The client of a request went away, or has all it wanted."""

    request_id: str
    reason: core.FinishReason = core.FinishReason.CANCELLED  # with which it is to end


@dataclass(frozen=True, slots=True)
class Dismissed:
    """The cluster is to end: when its work is done, or, if `now`, at once."""

    now: bool
    drain_s: float | None = None  # for its work; None: as long as the cluster gives it


@dataclass(frozen=True, slots=True)
class Renewed:
    """Another epoch is wanted, though nothing is wrong with this one."""


@dataclass(frozen=True, slots=True)
class Ticked:
    """Some time has passed."""


Lapse = HostLost | Outranked | Unfit  # of a host
Event = Heard | Lapse | Adopted | Asked | Abandoned | Dismissed | Renewed | Ticked

# Actions.


@dataclass(frozen=True, slots=True)
class StartEpoch:
    """Every agent is to start its ranks."""

    epoch: int


@dataclass(frozen=True, slots=True)
class JoinEpoch:
    """Every rank is prepared: they are to meet."""

    epoch: int


@dataclass(frozen=True, slots=True)
class StopEpoch:
    """Every agent is to kill its ranks."""

    epoch: int
    explain: bool = False  # and to ask those that stand still where they are, for one has stalled


@dataclass(frozen=True, slots=True)
class Reach:
    """An agent is wanted again on a host whose session was lost, without ranks of this epoch."""

    host: str
    epoch: int
    fenced: bool  # the one that was lost has ended its ranks by now, whatever became of it


@dataclass(frozen=True, slots=True)
class GoOn:
    """An epoch that runs is ours; some hosts lack the last lines of its log."""

    epoch: int
    missing: Mapping[str, tuple[core.Command, ...]]  # by host


@dataclass(frozen=True, slots=True)
class Broadcast:
    """A line of an epoch's command log, for every rank."""

    epoch: int
    command: core.Command


@dataclass(frozen=True, slots=True)
class Deliver:
    """What a rank told, for the client of its request."""

    event: core.Told


@dataclass(frozen=True, slots=True)
class Fail:
    """A request is over for its client, without an end of its own."""

    request_id: str
    error: Dsv4Error


@dataclass(frozen=True, slots=True)
class Serve:
    """The cluster takes requests from now on, or no more."""

    ready: bool


@dataclass(frozen=True, slots=True)
class Settle:
    """It is over; `error` is what the cluster failed of, if it did."""

    error: Dsv4Error | None


Order = StartEpoch | JoinEpoch | StopEpoch | Reach | GoOn | Broadcast  # for agents
Action = Order | Deliver | Fail | Serve | Settle
