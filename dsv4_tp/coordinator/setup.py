"""What a coordinator is given: a cluster that was planned and inspected, and its agents."""

from dataclasses import dataclass
from pathlib import Path

from dsv4_tp.config import LOOPBACK, Restart, Timeouts
from dsv4_tp.core import Backend, CacheRows, DType, Kernels, Part, Rdma
from dsv4_tp.modelspec import ModelSpec
from dsv4_tp.rpc.auth import Identity

CABLES_S = 95.0  # for the tools of a host to look at cables: three, of which each gets 30


@dataclass(frozen=True, slots=True)
class AgentSetup:
    """A running agent and the ranks it is to run."""

    host: str  # its name
    address: str  # HOST:PORT of its service
    data_ip: str  # where its ranks listen
    ranks: tuple[int, ...]
    model_path: str  # on that host, or `demo` for its own copy of the bundled model

    @property
    def is_local(self) -> bool:
        """Whether it runs on this machine, where nobody else can call it."""
        return self.address.startswith(f"{LOOPBACK}:")


@dataclass(frozen=True, slots=True)
class Setup:
    """Everything about a cluster that does not change while it lives."""

    name: str
    agents: tuple[AgentSetup, ...]
    identity: Identity  # of the coordinator, before its agents
    spec: ModelSpec
    model_path: Path  # here: tokenizer and defaults
    model_name: str  # as clients call it
    dtype: DType
    parts: tuple[Part, ...]  # by rank
    planned_bytes: tuple[int, ...]  # of weights, by rank
    data_port: int | None  # rank r listens on data_port + r; None: on a free port
    backend: Backend  # not AUTO any more
    rdma: Rdma | None  # for JACCL, if it was written down; None: found anew for each epoch
    prefill_chunk: int
    context: int  # most tokens of a sequence
    cache_rows: CacheRows
    kernels: Kernels
    batch: int  # most requests at a time
    mtp: int  # most tokens drafted ahead; 0: the MTP stage is not loaded
    queue: int  # most that wait
    time_limit_s: float | None  # of requests that name none
    prefix_bytes: int  # for snapshots of prompts, on each rank
    prefixes_on_disk: bool
    timeouts: Timeouts
    restart: Restart
    history: Path  # what happens is kept here; its name is that of the launch

    @property
    def prepare_s(self) -> float:
        """When ranks that are not prepared are given up; hosts may look at their cables before."""
        cables_s = 0.0 if self.backend is Backend.RING else CABLES_S
        return self.timeouts.prepare_s + cables_s

    @property
    def here(self) -> frozenset[str]:
        """The names of hosts that are this machine."""
        return frozenset(agent.host for agent in self.agents if agent.is_local)

    @property
    def hosts(self) -> dict[int, str]:
        """The name of each rank's host."""
        return {rank: agent.host for agent in self.agents for rank in agent.ranks}
