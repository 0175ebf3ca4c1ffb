"""Agents of a launch that is gone, of which some answer oddly or not at all."""

import asyncio
import socket

import pytest

from dsv4_tp.config import Host
from dsv4_tp.errors import OutrankedError
from dsv4_tp.launcher import takeover
from dsv4_tp.launcher.agents import Agent
from dsv4_tp.launcher.authority import new_authority
from dsv4_tp.launcher.takeover import Others
from dsv4_tp.v1.agent_pb2 import AdoptResponse, RankStanding
from dsv4_tp.v1.types_pb2 import Command, RankReport

MAC = Host("mac-b", "mac-b", "127.0.0.1", "python3", None, None)
LATER = (
    AdoptResponse(last=[Command(number=1)]),
    AdoptResponse(ranks=[RankStanding(report=RankReport(phase=99))]),
)


def others(address="127.0.0.1:1"):
    agent = Agent(MAC, address, "127.0.0.1", None, new_authority("lab").coordinator(), None)
    return Others([agent], turn=1, fence_s=30.0)


@pytest.fixture
def ended(monkeypatch):
    """The hosts whose agents were told to end."""
    told = []

    async def end(agent):
        told.append(agent.host.name)

    monkeypatch.setattr(Agent, "end", end)
    return told


@pytest.mark.parametrize("answer", [*LATER, OutrankedError("generation 1 is not newer")])
def test_agents_that_cannot_be_understood_are_ended(monkeypatch, ended, answer):
    async def ask(*_):
        return answer

    monkeypatch.setattr(takeover, "_ask", ask)
    why = asyncio.run(others().take_over({0: "mac-b"}, print))
    assert "does not know" in why or "is not newer" in why
    assert asyncio.run(others().end("other settings", print)) == "other settings"
    assert ended == ["mac-b", "mac-b"]


def test_ranks_of_an_agent_out_of_reach_are_waited_for(monkeypatch, ended):
    monkeypatch.setattr(takeover, "_ANSWER_S", 0.05)
    lines = []
    with socket.create_server(("127.0.0.1", 0)) as deaf:

        def tell(line):
            lines.append(line)
            deaf.close()

        address = f"127.0.0.1:{deaf.getsockname()[1]}"
        asyncio.run(asyncio.wait_for(others(address).end("other settings", tell), 30))
    (line,) = lines
    assert "agent on mac-b does not answer; waiting for up to 37 s" in line
    assert ended == []


def test_an_agent_whose_port_is_closed_is_not_waited_for(ended):
    lines = []
    why = asyncio.run(others().take_over({0: "mac-b"}, lines.append))
    assert why.startswith("mac-b: ")
    assert (lines, ended) == ([], [])
