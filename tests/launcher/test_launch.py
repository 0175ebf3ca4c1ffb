"""What a launch makes of the record of one that was killed, before any agent is asked."""

import asyncio
from pathlib import Path

import pytest

from dsv4_tp.config import ClusterConfig, Host, ModelConfig, Rank
from dsv4_tp.core import Backend
from dsv4_tp.errors import OutrankedError
from dsv4_tp.launcher.agents import Agent
from dsv4_tp.launcher.authority import authority_of
from dsv4_tp.launcher.launch import _Launch
from dsv4_tp.launcher.record import read_record
from dsv4_tp.layouts import native_catalog
from dsv4_tp.rpc.registry import record_file
from dsv4_tp.v1.agent_pb2 import InspectResponse
from tests.specs import FLASH

HOSTS = [Host(name, name, "127.0.0.1", "python3", None, None) for name in ("mac-a", "mac-b")]
NAME = "20261121T182616Z-lab"
FIT = 85_000_000_000  # free on each, but not for all of the model's context


@pytest.fixture
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("DSV4TP_STATE_DIR", str(tmp_path))
    return tmp_path


def launch(tell, **words):
    config = ClusterConfig((*HOSTS,), tuple(map(Rank, HOSTS)), ModelConfig("/m"), **words)
    return _Launch(config, FLASH, native_catalog(FLASH, mtp=False), tell)


def killed(state, **words):
    """A launch that left word of its agents, of which none lives; its staff, and its lines."""
    lines = []
    address = "127.0.0.1:1"  # where nobody listens
    authority = authority_of(state, "lab")
    agents = [Agent(h, address, "127.0.0.1", None, authority.coordinator(), None) for h in HOSTS]
    facts = {host.name: facts_of(FIT) for host in HOSTS}
    first = launch(lines.append, **words)
    staff, _ = first._settle(agents, authority, facts, Path("launches") / NAME, lines.append)
    first._record(record_file(state, "lab"), staff, 0)
    return staff, lines


def facts_of(available_bytes):
    return InspectResponse(device="metal", available_bytes=available_bytes)


def as_recorded(state, tell, **words):
    """What the next launch finds of it: its staff, or why not."""
    record, authority = read_record(record_file(state, "lab")), authority_of(state, "lab")
    agents = [known.agent(authority.coordinator()) for known in record.agents]
    return launch(print, **words)._as_recorded(record, agents, authority, tell)


def test_a_record_that_cannot_be_had_today_refuses_nobody(state):
    killed(state)
    lines = []
    second = launch(lines.append, backend=Backend.JACCL)
    assert asyncio.run(second._take_over("lab", wanted=True)) is None
    (line,) = lines
    assert line.startswith("the last launch was killed; nothing is taken over: ")
    assert "RDMA" in line
    assert not record_file(state, "lab").exists()


def test_an_agent_that_was_replaced_changes_nothing_of_what_ranks_were_started_with(state):
    staff, _ = killed(state)
    staff.crew.facts = {**staff.crew.facts, "mac-b": facts_of(FIT - 1_000_000_000)}
    staff.crew.tell(staff.crew._tell)
    found = as_recorded(state, print)
    assert found.setup.context == staff.setup.context < FLASH.max_position_embeddings


def test_what_follows_from_a_record_is_said_only_if_it_is_gone_on_with(state):
    _, said = killed(state, backend=Backend.AUTO)
    assert [line.split(":")[0] for line in said] == ["backend", "context"]
    heard = []
    as_recorded(state, heard.append, backend=Backend.AUTO)
    assert heard == said
    lines = []
    second = launch(lines.append, backend=Backend.AUTO)
    assert asyncio.run(second._take_over("lab", wanted=True)) is None
    assert len(lines) == 1


def test_the_record_of_a_cluster_that_another_has_taken_over_stays(state):
    staff, _ = killed(state)
    with pytest.raises(OutrankedError):
        asyncio.run(lead(staff, OutrankedError("a later one")))
    assert read_record(record_file(state, "lab"))
    asyncio.run(lead(staff))
    assert not record_file(state, "lab").exists()


async def lead(staff, error=None):
    """The whole life of a launch, which ends with this error."""
    async with launch(print)._staff(staff, "lab", NAME):
        if error:
            raise error
