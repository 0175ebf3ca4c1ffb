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
from dsv4_tp.errors import OutrankedError, PreflightError
from dsv4_tp.rpc.channel import open_channel
from dsv4_tp.rpc.health import Health
from dsv4_tp.rpc.server import local_server
from dsv4_tp.rpc.status import calling
from dsv4_tp.v1 import agent_pb2 as pb
from dsv4_tp.v1.agent_pb2_grpc import AgentServiceStub, add_AgentServiceServicer_to_server
from dsv4_tp.v1.types_pb2 import Command, Drain, Event, FinishEvent, GenerateJob
from dsv4_tp.v1.worker_pb2 import Prepared, Ready, RunResponse, StartRank


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
        supervisor.address = f"127.0.0.1:{port}"
        async with open_channel(supervisor.address) as channel:
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


def test_a_later_coordinator_takes_over_and_an_older_one_is_refused(tmp_path):
    async def life():
        async with agent(tmp_path) as (stub, _):
            first = await greet(stub, generation=2)
            await hear(first, "beat")
            second = await greet(stub, generation=3)
            await hear(second, "beat")
            with pytest.raises(OutrankedError, match="a later coordinator"), calling("it"):
                await hear(first, "stopped")
            for generation in (1, 3):
                refusal = f"generation {generation} is not newer"
                with pytest.raises(OutrankedError, match=refusal), calling("it"):
                    await (await greet(stub, generation=generation)).read()
                with pytest.raises(OutrankedError, match=refusal), calling("it"):
                    await stub.Adopt(pb.AdoptRequest(generation=generation), timeout=10)
            await hear(second, "beat")

    asyncio.run(life())


def test_who_adopts_hears_how_all_stands_and_then_what_happens(tmp_path):
    async def life():
        async with agent(tmp_path) as (stub, supervisor):
            old = await greet(stub)
            await old.write(start(7, 0, 1))
            for number in range(1, 71):
                await old.write(asked(7, number))
            while supervisor._ledger._passed < 70:
                await hear(old, "beat")
            for rank in (0, 1):
                serves(supervisor, rank)
            finished(supervisor, 0, "r70")
            found = await stub.Adopt(pb.AdoptRequest(generation=2), timeout=10)
            finished(supervisor, 1, "r70")
            with pytest.raises(OutrankedError, match="a later coordinator"), calling("it"):
                await hear(old, "stopped")
            new = await greet(stub, generation=3)
            told = await asyncio.wait_for(new.read(), 10)
            while told.WhichOneof("kind") == "beat":
                told = await asyncio.wait_for(new.read(), 10)
            assert (told.event.rank, told.event.event.finish.request_id) == (1, "r70")
            await new.write(drain(7, 71))
            while supervisor._ledger._passed < 71:
                await hear(new, "beat")
            leaving = await stub.Adopt(pb.AdoptRequest(generation=4), timeout=10)
        return found, leaving

    found, leaving = asyncio.run(life())
    assert (found.epoch, found.commands) == (7, 70)
    assert [command.number for command in found.last] == [*range(7, 71)]
    assert sorted(found.owed) == sorted(f"r{number}" for number in range(1, 71))
    assert [each.report.rank for each in found.ranks] == [0, 1]
    assert {each.ready.weight_bytes for each in found.ranks} == {100}
    assert [dict(each.prepared.facts) for each in found.ranks] == [{"dtype": "float32"}] * 2
    assert (leaving.epoch, list(leaving.ranks)) == (7, [])


def asked(epoch, number):
    job = GenerateJob(id=f"r{number}", prompt=[1], max_tokens=4)
    command = Command(number=number, generate=job)
    return pb.SessionRequest(command=pb.EpochCommand(epoch=epoch, command=command))


def drain(epoch, number):
    command = Command(number=number, drain=Drain())
    return pb.SessionRequest(command=pb.EpochCommand(epoch=epoch, command=command))


def serves(supervisor, rank):
    """The rank says what one says on its way to work."""
    supervisor._said(rank, RunResponse(prepared=Prepared(facts={"dtype": "float32"})))
    supervisor._said(rank, RunResponse(ready=Ready(weight_bytes=100)))


def finished(supervisor, rank, name):
    event = Event(finish=FinishEvent(request_id=name))
    supervisor._said(rank, RunResponse(event=event))


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
