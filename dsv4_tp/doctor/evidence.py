"""What was seen of a cluster, before anybody judges it. Frozen, and free of opinions."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from dsv4_tp.config import ClusterConfig, Host
from dsv4_tp.macs.mac import Mac

REACHED = "ok"  # the outcome of a dial that arrived; others are the names of errno
STRANGER = "STRANGER"  # something answered, but not the one that listens for this


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is no interpreter to ask on a host."""

    by_ssh: bool  # ssh did not even arrive
    words: str  # the last that was said


@dataclass(frozen=True, slots=True)
class Facts:
    """What the interpreter of a host's ranks says of the host."""

    system: str  # Darwin or Linux
    release: str
    version: str  # of dsv4-tp
    mlx_version: str
    python_version: str
    device: str
    memory_bytes: int
    free_bytes: int
    gpu_limit_bytes: int  # that its GPU may hold; 0: no GPU, or it does not say
    disk_bytes: int  # free, where state and logs go
    model_problems: tuple[str, ...]
    model_digest: str  # which checkpoint; hex
    samples: Mapping[str, str]  # digests of some bytes of each file of weights
    address: str | None  # where ssh reached it
    launcher: str | None  # from where
    fast_synch: str
    ranks: tuple[int, ...]  # pids of ranks that run there now
    largest: str  # the program that holds the most memory
    largest_bytes: int
    quarantine: str = ""  # why no rank may start there; empty: one may


@dataclass(frozen=True, slots=True)
class Clock:
    """A host's clock against ours."""

    ahead_s: float
    unsure_s: float  # half the way there and back


@dataclass(frozen=True, slots=True)
class Ports:
    """What ranks would listen on."""

    problems: tuple[str, ...]  # with the pinned ones
    free: tuple[int, ...]  # for a trial, one for each rank of the host


@dataclass(frozen=True, slots=True)
class Dial:
    """One attempt to connect and be answered."""

    where: str  # IP:PORT
    outcome: str  # REACHED, STRANGER or the name of an errno
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Found:
    """All that was found out about one host."""

    refusal: Refusal | None = None
    facts: Facts | None = None
    clock: Clock | None = None
    said: Mapping[str, str] = field(default_factory=dict[str, str])  # by its tools, as they said it
    mac: Mac | None = None
    data_ip: str | None = None  # where its ranks would listen
    listening: str | None = None  # IP:PORT that it could listen on; None: it could not
    deaf: str = ""  # why not
    called: str | None = None  # IP:PORT where this machine calls it, if that is another address
    ports: Ports | None = None
    control: Dial | None = None  # from the machine that launches
    paths: Mapping[str, Dial] = field(default_factory=dict[str, Dial])  # to each other host


@dataclass(frozen=True, slots=True)
class RankTrial:
    """What one rank of the trial ring says."""

    rank: int
    problem: str  # empty: it met the others, and their sums had the same bits
    rounds: int = 0
    row_bytes: int = 0
    median_s: float = 0.0
    slowest_s: float = 0.0
    large_bytes: int = 0
    large_s: float = 0.0
    in_step_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Case:
    """A cluster, and what was found. `needs` is what the ranks of each host need, if known."""

    config: ClusterConfig
    found: Mapping[str, Found]
    needs: Mapping[str, int] = field(default_factory=dict[str, int])
    here: tuple[str, ...] = ()  # what speaks against the coordinator's port on this machine
    launched_on_mac: bool = False
    trial: tuple[RankTrial, ...] = ()  # empty: none was made

    @property
    def hosts(self) -> tuple[str, ...]:
        """Their names, in the order of the file."""
        return tuple(host.name for host in self.config.hosts)

    def host(self, name: str) -> Host:
        """The host of that name."""
        return next(host for host in self.config.hosts if host.name == name)

    @property
    def macs(self) -> Mapping[str, Mac]:
        """Those that are Macs and answered."""
        return {name: found.mac for name, found in self.found.items() if found.mac}

    @property
    def running(self) -> tuple[str, ...]:
        """Ranks that run on any of the hosts now, as `pid N on HOST`."""
        return tuple(
            f"pid {pid} on {name}"
            for name, found in self.found.items()
            for pid in (found.facts.ranks if found.facts else ())
        )
