"""ClusterConfig: what a user asks for, checked and frozen. Intent only, nothing observed."""

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address

from dsv4_tp import demo
from dsv4_tp.core import AttentionSplit, Backend, CacheRows, DType, ExpertSplit, Kernels, Row
from dsv4_tp.errors import ConfigError

MAX_RANKS = 16
PREFILL_CHUNK = 512
LONG_CHUNK = 2 * PREFILL_CHUNK  # which ranks do in two halves: sums of one travel meanwhile
BATCH = 8
MOST_BATCH = 64
MOST_DRAFTS = 4  # tokens ahead; caches can be rewound by more
QUEUE = 64
_SPARE_S = 15.0
LOCALHOST = "localhost"
LOOPBACK = "127.0.0.1"
DEMO = demo.NAME  # as a model's path: the bundled model, on every host its own


@dataclass(frozen=True, slots=True)
class Host:
    """One machine. Paths are as this machine sees them."""

    name: str  # in logs and tables
    ssh: str  # ssh destination; LOCALHOST: this machine, no ssh
    address: str | None  # IPv4 it is reached at; None: found at launch
    python: str  # interpreter that has dsv4_tp
    workdir: str | None  # None: where ssh arrives, or the current directory
    model_path: str | None  # None: the path in `model`
    fabric: str | None = None  # IPv4 where its ranks meet the others; None: at its address

    @property
    def data_ip(self) -> str | None:
        """Where its ranks meet the others; None: found at launch."""
        return self.fabric or self.address

    @property
    def is_local(self) -> bool:
        """Whether it is the machine that launches."""
        return self.ssh == LOCALHOST


@dataclass(frozen=True, slots=True)
class Rank:
    """One process: where it runs and how large its share of the model is."""

    host: Host
    weight: int = 1  # shares are in proportion
    rdma: Row = ()  # its devices towards each rank; empty: found at launch, if they are needed


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Which checkpoint, and the dtype of its activations."""

    path: str  # directory, or DEMO
    dtype: DType | None = None  # None: by backend, float32 on CPU, else the checkpoint's


@dataclass(frozen=True, slots=True)
class Ports:
    """Pinned TCP ports; None: free ones are taken."""

    control: int | None = None  # the coordinator's
    data: int | None = None  # rank r listens on data + r


class MetricsAlias(StrEnum):
    """Whose names metrics have beside our own."""

    VLLM = "vllm"


@dataclass(frozen=True, slots=True)
class Http:
    """Where OpenAI's API is, and for whom."""

    bind: str = LOOPBACK
    port: int | None = None  # 0: a free one; None: 8000, or a free one if that is in use
    api_keys_file: str | None = None  # clients show a key of it; None: whoever gets here is served
    origins: tuple[str, ...] = ()  # of pages in browsers that may call it
    metrics_alias: MetricsAlias | None = None

    @property
    def is_open(self) -> bool:
        """Whether other machines reach it."""
        return not IPv4Address(self.bind).is_loopback


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long each wait may last, in seconds."""

    start_s: float = 60.0  # for an agent to serve: ssh, and a Python that may be cold
    fence_s: float = 10.0  # an agent without its coordinator stops its ranks
    beat_s: float = 0.5  # between two beats of a lease
    join_s: float = 45.0  # a rank preparing; and then all of them meeting each other
    load_s: float = 60.0  # loading without any progress
    step_s: float = 30.0  # one prefill chunk or decode step

    @property
    def prepare_s(self) -> float:
        """When the coordinator gives up ranks that are not prepared, as a last resort.

        Their agents have looked for each one's process by then, and for what it does, for
        `join_s` each; and hosts were asked about their ports before.
        """
        return 2 * self.join_s + _SPARE_S

    @property
    def alarm_s(self) -> float:
        """When a rank that still looks for the others ends itself, as a last resort.

        Its agent looks after `join_s`, and finds the one that they all wait for; a rank that a
        signal has killed by then would be taken for that.
        """
        return 2 * self.join_s


class RestartPolicy(StrEnum):
    """What follows when an epoch has failed."""

    ON_FAILURE = "on-failure"  # another one
    NEVER = "never"  # the end of the cluster


@dataclass(frozen=True, slots=True)
class Restart:
    """How a cluster heals itself, and when it gives up."""

    policy: RestartPolicy = RestartPolicy.ON_FAILURE
    backoff_s: tuple[float, float] = (1.0, 30.0)  # the first wait, doubled up to the second
    most: int = 5  # failures within `window_s`; the last of them is the end
    window_s: float = 600.0  # and for so long a host may be away
    replay_s: float = 120.0  # requests that were cut off wait for so long to go on


@dataclass(frozen=True, slots=True)
class PrefixCache:
    """What is kept of prompts, for those that begin alike."""

    nbytes: int | None = None  # the most on each rank; 0: nothing; None: the planner's choice
    on_disk: bool = False  # as well, for the next launch


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """One cluster. `ranks[r].host` is one of `hosts`, which are all different machines."""

    hosts: tuple[Host, ...]
    ranks: tuple[Rank, ...]
    model: ModelConfig
    name: str | None = None  # None: a free one is taken
    backend: Backend = Backend.RING
    experts: ExpertSplit = ExpertSplit.WIDTH
    attention: AttentionSplit = AttentionSplit.SPLIT
    ports: Ports = Ports()
    http: Http = Http()
    timeouts: Timeouts = Timeouts()
    prefill_chunk: int | None = None  # most tokens fed at a time; None: as memory allows
    context: int | None = None  # most tokens of a sequence; None: the model's, or what fits
    cache_rows: CacheRows = CacheRows.EXACT
    kernels: Kernels = Kernels.PLAIN
    batch: int = BATCH  # most requests at a time
    mtp: int = 0  # most tokens drafted ahead by the MTP stage; 0: it is not loaded
    queue: int = QUEUE  # most that wait; more are refused
    time_limit_s: float | None = None  # of requests that name none; None: as long as it takes
    prefix_cache: PrefixCache = PrefixCache()
    restart: Restart = Restart()

    @property
    def weights(self) -> tuple[int, ...]:
        """The ranks' weights, by rank."""
        return tuple(rank.weight for rank in self.ranks)

    def ranks_on(self, host: Host) -> tuple[int, ...]:
        """The numbers of the ranks that run on `host`."""
        return tuple(number for number, rank in enumerate(self.ranks) if rank.host == host)

    def model_path_on(self, host: Host) -> str:
        """Where `host` has the checkpoint: a directory there, or DEMO."""
        return host.model_path or self.model.path


def check_ranks(ranks: tuple[Rank, ...], where: str) -> tuple[Host, ...]:
    """The different hosts of `ranks`, in order of first mention.

    Raises:
        ConfigError: no ranks, too many, or a host listed twice that is not this machine;
            `where` says who listed them.
    """
    if not 1 <= len(ranks) <= MAX_RANKS:
        raise ConfigError(f"{where}: {len(ranks)} ranks; a cluster has 1 to {MAX_RANKS}")
    hosts: dict[str, Host] = {}
    for rank in ranks:
        host = hosts.setdefault(rank.host.ssh, rank.host)
        if host is not rank.host and not host.is_local:
            raise ConfigError(f"{where}: {host.ssh} is listed twice; only localhost may be")
        if host != rank.host:
            raise ConfigError(f"{where}: localhost is described in two ways; one agent serves it")
    names = [host.name for host in hosts.values()]
    if len(set(names)) < len(names):
        raise ConfigError(f"{where}: two hosts have one name; names are {', '.join(names)}")
    return tuple(hosts.values())
