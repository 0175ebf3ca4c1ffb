"""What a coordinator is given: a cluster that was planned and inspected, and its agents."""

from dataclasses import dataclass
from pathlib import Path

from dsv4_tp.config import Restart, Timeouts
from dsv4_tp.core import CacheRows, DType, Part
from dsv4_tp.modelspec import ModelSpec
from dsv4_tp.rpc.auth import Identity


@dataclass(frozen=True, slots=True)
class AgentSetup:
    """A running agent and the ranks it is to run."""

    host: str  # its name
    address: str  # HOST:PORT of its service
    data_ip: str  # where its ranks listen
    ranks: tuple[int, ...]
    model_path: str  # on that host, or `demo` for its own copy of the bundled model


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
    prefill_chunk: int
    context: int  # most tokens of a sequence
    cache_rows: CacheRows
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
    def hosts(self) -> dict[int, str]:
        """The name of each rank's host."""
        return {rank: agent.host for agent in self.agents for rank in agent.ranks}
