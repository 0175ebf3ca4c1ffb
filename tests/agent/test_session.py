"""The agent's lease, over the wire, with an agent in this process and no rank."""

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from dsv4_tp.agent import supervisor as supervisor_module
from dsv4_tp.agent.guard import Guard
from dsv4_tp.agent.records import Records
from dsv4_tp.agent.service import AgentService
from dsv4_tp.agent.supervisor import Supervisor
from dsv4_tp.errors import PreflightError
from dsv4_tp.rpc.channel import open_channel
from dsv4_tp.rpc.health import Health
from dsv4_tp.rpc.server import local_server
from dsv4_tp.rpc.status import calling
from dsv4_tp.v1 import agent_pb2 as pb
from dsv4_tp.v1.agent_pb2_grpc import AgentServiceStub, add_AgentServiceServicer_to_server
from dsv4_tp.v1.worker_pb2 import StartRank


@asynccontextmanager
async def agent(folder, worker_argv=(sys.executable, "-c", "import time; time.sleep(600)")):
    """An agent's stub and its supervisor; its ranks never say a word."""
    guard = Guard(folder / "agent")
    (folder / "agent").mkdir()
    server, port = local_server()
    records = Records(folder / "agent")
    supervisor = Supervisor(
        worker_argv=worker_argv,
        folder=folder / "agent",
        guard=guard,
        health=Health(server, "dsv4_tp.v1.AgentService"),
        records=records,
    )
    add_AgentServiceServicer_to_server(AgentService(supervisor, records), server)
    await server.start()
    running = asyncio.create_task(supervisor.run())
    try:
        async with open_channel(f"127.0.0.1:{port}") as channel:
            supervisor.channel = channel
            yield AgentServiceStub(channel), supervisor
    finally:
        supervisor.dismiss("the test is over")
        await running
        await server.stop(None)
        guard.close()


async def greet(stub, *, generation=1, fence_s=10.0):
    session = stub.Session()
    hello = pb.Hello(generation=generation, fence_s=fence_s, beat_s=0.1)
    await session.write(pb.SessionRequest(hello=hello))
    return session


def start(epoch, *ranks):
    deadlines = pb.Deadlines(join_s=60, load_s=60, step_s=60)
    epoch = pb.StartEpoch(
        epoch=epoch, ranks=[StartRank(rank=r) for r in ranks], deadlines=deadlines
    )
    return pb.SessionRequest(start_epoch=epoch)


async def hear(session, kind):
    """The next message of this kind."""
    while True:
        response = await asyncio.wait_for(session.read(), 10)
        assert response is not grpc.aio.EOF
        if response.WhichOneof("kind") == kind:
            return response


def test_one_coordinator_at_a_time_and_never_an_older_one(tmp_path):
    async def life():
        async with agent(tmp_path) as (stub, _):
            first = await greet(stub, generation=2)
            await hear(first, "beat")
            with pytest.raises(PreflightError, match="another coordinator"), calling("it"):
                await (await greet(stub, generation=3)).read()
            first.cancel()
            await asyncio.sleep(0.3)
            with pytest.raises(PreflightError, match="generation 2 is not newer"), calling("it"):
                await (await greet(stub, generation=2)).read()
            await hear(await greet(stub, generation=3), "beat")

    asyncio.run(life())


def test_beats_tell_of_the_ranks_and_a_stop_is_confirmed(tmp_path):
    async def life():
        async with agent(tmp_path) as (stub, _):
            session = await greet(stub)
            await session.write(start(5, 0, 1))
            beat = await hear(session, "beat")
            while not beat.beat.ranks:
                beat = await hear(session, "beat")
            assert [rank.rank for rank in beat.beat.ranks] == [0, 1]
            await session.write(pb.SessionRequest(stop_epoch=pb.StopEpoch(epoch=4)))
            await session.write(pb.SessionRequest(stop_epoch=pb.StopEpoch(epoch=5)))
            assert (await hear(session, "stopped")).epoch == 5

    asyncio.run(life())


def test_the_health_of_a_rank_can_be_watched(tmp_path):
    async def life():
        async with agent(tmp_path) as (stub, supervisor):
            request = health_pb2.HealthCheckRequest(service="dsv4_tp.rank.1")
            watch = health_pb2_grpc.HealthStub(supervisor.channel).Watch(request)
            said = [await asyncio.wait_for(watch.read(), 10)]
            session = await greet(stub)
            await session.write(start(1, 1))
            said.append(await asyncio.wait_for(watch.read(), 10))
            beat = await hear(session, "beat")
            while not beat.beat.ranks or not supervisor._ranks[1]._process:
                beat = await hear(session, "beat")
            os.kill(supervisor._ranks[1]._process.pid, signal.SIGKILL)
            said.append(await asyncio.wait_for(watch.read(), 10))
            assert (await hear(session, "exited")).exited.rank == 1
        return [each.status for each in said]

    status = health_pb2.HealthCheckResponse
    expected = [status.SERVICE_UNKNOWN, status.SERVING, status.NOT_SERVING]
    assert asyncio.run(life()) == expected


def test_a_stale_epoch_ends_the_session(tmp_path):
    async def life():
        async with agent(tmp_path) as (stub, _):
            session = await greet(stub)
            await session.write(start(5))
            await session.write(start(5))
            with calling("it"):
                await hear(session, "stopped")

    with pytest.raises(PreflightError, match="epoch 5 cannot follow 5 here"):
        asyncio.run(life())


def test_the_agent_ends_when_its_coordinator_is_gone(tmp_path):
    async def life():
        async with agent(tmp_path) as (stub, supervisor):
            session = await greet(stub, fence_s=0.5)
            await session.write(start(1, 0))
            await hear(session, "beat")
            session.cancel()
            assert await asyncio.wait_for(supervisor.left.wait(), 20)

    asyncio.run(life())


def test_a_shutdown_is_answered_when_the_ranks_are_gone(tmp_path):
    async def life():
        async with agent(tmp_path) as (stub, supervisor):
            session = await greet(stub)
            await session.write(start(1, 0, 1))
            await hear(session, "beat")
            await stub.Shutdown(pb.ShutdownRequest(), timeout=10)
            assert supervisor.left.is_set()

    asyncio.run(life())


def test_an_agent_without_a_coordinator_lives_as_long_as_it_is_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor_module, "FIRST_SESSION_S", 2.0)

    async def life():
        async with agent(tmp_path) as (stub, supervisor):
            for _ in range(10):
                await stub.Inspect(pb.InspectRequest(), timeout=10)
                await asyncio.sleep(0.4)
            assert not supervisor.left.is_set()
            assert await asyncio.wait_for(supervisor.left.wait(), 20)

    asyncio.run(life())
