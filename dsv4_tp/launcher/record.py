"""What a coordinator leaves behind for the next one of its name, should it be killed.

One file for its user only, there from the moment its agents are fit until they are ended. It holds
no secret: agents believe nobody without the cluster's authority, which lies beside it.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import psutil
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError

from dsv4_tp import __version__
from dsv4_tp.config import Host
from dsv4_tp.coordinator.setup import Setup
from dsv4_tp.errors import PreflightError
from dsv4_tp.history import name_of
from dsv4_tp.launcher.agents import Agent, Orphan
from dsv4_tp.launcher.preflight import Facts
from dsv4_tp.log import log
from dsv4_tp.rpc.auth import Identity
from dsv4_tp.v1.agent_pb2 import InspectResponse

_FORMAT = 2
_NOT_OURS = OSError, ValueError, TypeError, KeyError, AttributeError, ParseError, PreflightError
# Of a setup, what ranks that run do not depend on.
_FREE = {"name", "model_name", "agents", "identity", "queue", "time_limit_s", "restart", "history"}


@dataclass(frozen=True, slots=True)
class Known:
    """An agent as another process can find it."""

    host: Host
    address: str  # HOST:PORT of its service
    data_ip: str | None
    launcher_ip: str | None
    process: Orphan | None  # None: not on this machine

    @classmethod
    def of(cls, agent: Agent) -> "Known":
        """This agent."""
        place = agent.host, agent.address, agent.data_ip, agent.launcher_ip
        return cls(*place, _orphan(agent))

    def agent(self, identity: Identity) -> Agent:
        """The agent, for whom it believes."""
        place = self.host, self.address, self.data_ip, self.launcher_ip
        return Agent(*place, identity, self.process)


@dataclass(frozen=True, slots=True)
class Record:
    """One launch."""

    launch: str  # the name of its history
    turn: int  # so many coordinators had its agents before the one that wrote this
    digest: str  # of all that its ranks were started with
    agents: tuple[Known, ...]  # one for each host, in their order
    fence_s: float  # one of them that hears nothing for so long ends its ranks
    facts: Facts  # of these hosts, before there were ranks: what the launch has planned with


def digest_of(setup: Setup, hosts: Iterable[Host], checkpoint: str) -> str:
    """One word for all that ranks are started with; `checkpoint`: the fingerprint of its files."""
    kept = {field.name for field in fields(setup)} - _FREE
    words = {name: getattr(setup, name) for name in sorted(kept)}
    told = f"{__version__} {checkpoint} {tuple(hosts)} {setup.hosts} {words}"
    return hashlib.sha256(told.encode()).hexdigest()


def write_record(file: Path, record: Record) -> None:
    """Write it, whole from the moment it is there. Where that fails, there is none."""
    words = {
        "format": _FORMAT,
        "launch": record.launch,
        "turn": record.turn,
        "digest": record.digest,
        "fence_s": record.fence_s,
        "agents": [asdict(known) for known in record.agents],
        "facts": {name: MessageToDict(fact) for name, fact in record.facts.items()},
    }
    try:
        handle, draft = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-")
        with os.fdopen(handle, "w") as stream:
            json.dump(words, stream)
        Path(draft).replace(file)
    except OSError as error:
        log("launch-not-recorded", file=file, error=error)
        file.unlink(missing_ok=True)


def read_record(file: Path) -> Record | None:
    """What lies there; None if there is nothing, or nothing that this version understands."""
    try:
        return _record(json.loads(file.read_text()))
    except FileNotFoundError:
        return None
    except _NOT_OURS as error:
        log("launch-record-unreadable", file=file, error=repr(error))
        return None


def _record(words: Mapping[str, Any]) -> Record:
    if words["format"] != _FORMAT:
        raise ValueError(f"format {words['format']}, not {_FORMAT}")
    name_of(words["launch"])
    agents = tuple(_known(**known) for known in words["agents"])
    if {*words["facts"]} != {known.host.name for known in agents}:
        raise ValueError(f"facts of {', '.join(words['facts'])}, which are not its hosts")
    return Record(
        launch=words["launch"],
        turn=int(words["turn"]),
        digest=str(words["digest"]),
        agents=agents,
        fence_s=float(words["fence_s"]),
        facts={name: ParseDict(fact, InspectResponse()) for name, fact in words["facts"].items()},
    )


def _orphan(agent: Agent) -> Orphan | None:
    """What the process of an agent is to others, if it is on this machine."""
    process = agent.process
    if process is None or isinstance(process, Orphan):
        return process
    try:
        return Orphan(process.pid, psutil.Process(process.pid).create_time())
    except psutil.NoSuchProcess:
        return None


def _known(host: Mapping[str, Any], process: Mapping[str, Any] | None, **words: Any) -> Known:
    return Known(host=Host(**host), process=Orphan(**process) if process else None, **words)
