"""A coordinator whose agents obey a later one: a real agent in this process, and no rank."""

import asyncio

import pytest

from dsv4_tp.agent.service import AgentService
from dsv4_tp.coordinator import link
from dsv4_tp.coordinator.coordinator import Coordinator
from dsv4_tp.coordinator.setup import AgentSetup
from dsv4_tp.errors import OutrankedError
from dsv4_tp.rpc.channel import open_channel
from dsv4_tp.v1 import agent_pb2 as pb
from tests.agent.test_session import agent
from tests.launcher.test_record import setup


def coordinator(folder, address, reaped):
    async def reap():
        reaped.append("all")

    async def start_agent(host):
        reaped.append(host)

    at = AgentSetup("localhost", address, "127.0.0.1", (0,), "/m")
    history = folder / "20261121T182616Z-lab"
    history.mkdir()
    given = setup(agents=(at,), history=history)
    serves = []
    return Coordinator(given, on_serve=serves.append, start_agent=start_agent, reap=reap)


async def spoken(old):
    while not old.state.hosts["localhost"].spoke:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def test_it_ends_at_once_and_leaves_agents_and_their_processes_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(link, "open_agent_channel", lambda address, *_: open_channel(address))
    reaped, asked = [], []
    monkeypatch.setattr(AgentService, "Shutdown", lambda *_: asked.append("shutdown"))

    async def life():
        async with agent(tmp_path) as (stub, supervisor):
            old = coordinator(tmp_path, supervisor.address, reaped)
            running = asyncio.create_task(old.run())
            await asyncio.wait_for(spoken(old), 10)
            await stub.Adopt(pb.AdoptRequest(generation=1 << 32), timeout=10)
            with pytest.raises(OutrankedError, match="another coordinator has taken"):
                await asyncio.wait_for(running, 10)
            await stub.Adopt(pb.AdoptRequest(generation=2 << 32), timeout=10)

    asyncio.run(life())
    assert (reaped, asked) == ([], [])
