"""Calls over a real server, and errors that come back as they were raised."""

import asyncio
from contextlib import asynccontextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from dsv4_tp import errors
from dsv4_tp.rpc.channel import open_channel
from dsv4_tp.rpc.health import Health
from dsv4_tp.rpc.server import local_server
from dsv4_tp.rpc.status import calling, status_of
from dsv4_tp.v1 import agent_pb2
from dsv4_tp.v1.agent_pb2_grpc import (
    AgentServiceServicer,
    AgentServiceStub,
    add_AgentServiceServicer_to_server,
)

ERRORS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.Dsv4Error)
]


class Failing(AgentServiceServicer):
    """Raises `error` from every call, the streaming one after its first answer."""

    def __init__(self, error):
        self.error = error

    async def Inspect(self, request, context):
        raise self.error

    async def Session(self, request_iterator, context):
        yield agent_pb2.SessionResponse(epoch=7)
        raise self.error

    async def Shutdown(self, request, context):
        return agent_pb2.ShutdownResponse()


@asynccontextmanager
async def served(servicer):
    server, port = local_server()
    add_AgentServiceServicer_to_server(servicer, server)
    await server.start()
    async with open_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(None)


def test_every_error_comes_back_as_it_was_raised():
    async def inspect(error):
        async with served(Failing(error)) as channel:
            with calling("the agent"):
                await AgentServiceStub(channel).Inspect(agent_pb2.InspectRequest(), timeout=5)

    for kind in ERRORS:
        with pytest.raises(errors.Dsv4Error) as caught:
            asyncio.run(inspect(kind("what and where")))
        assert type(caught.value) is kind
        assert str(caught.value) == "what and where"


def test_a_stream_ends_with_its_error():
    async def listen():
        async with served(Failing(errors.RankFailure("rank 1"))) as channel:
            call = AgentServiceStub(channel).Session(iter(()), timeout=5)
            with calling("the agent"):
                heard.append((await call.read()).epoch)
                await call.read()

    heard = []
    with pytest.raises(errors.RankFailure, match="rank 1"):
        asyncio.run(listen())
    assert heard == [7]


def test_health_has_changed_when_it_is_set_and_watchers_hear_of_it():
    async def watch():
        server, port = local_server()
        health = Health(server, "dsv4_tp.v1.AgentService")
        asked, heard = health_pb2.HealthCheckRequest(), []
        await server.start()
        async with open_channel(f"127.0.0.1:{port}") as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            watching = stub.Watch(asked, timeout=5)
            for serving in (True, False):
                heard.append((await watching.read()).status)
                health.set(serving=serving)
                heard.append((await stub.Check(asked, timeout=5)).status)
            other = health_pb2.HealthCheckRequest(service="x")
            heard.append((await stub.Watch(other, timeout=5).read()).status)
        await server.stop(None)
        return heard

    said = health_pb2.HealthCheckResponse
    expected = [said.NOT_SERVING, said.SERVING, said.SERVING, said.NOT_SERVING]
    assert asyncio.run(watch()) == [*expected, said.SERVICE_UNKNOWN]


def test_who_comes_too_early_hears_when_to_come_again():
    async def call():
        async with served(Failing(errors.NotReadyError("it is loading"))) as channel:
            await AgentServiceStub(channel).Inspect(agent_pb2.InspectRequest(), timeout=5)

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        asyncio.run(call())
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert int(dict(caught.value.trailing_metadata())["retry-after"]) > 0


def test_a_peer_that_is_not_there_is_named():
    async def call():
        async with open_channel("127.0.0.1:1") as channel:
            with calling("the agent on mac-b"):
                await AgentServiceStub(channel).Shutdown(agent_pb2.ShutdownRequest(), timeout=5)

    with pytest.raises(errors.Dsv4Error, match="the agent on mac-b: "):
        asyncio.run(call())


def test_an_answer_that_does_not_come_is_a_missed_deadline():
    class Silent(Failing):
        async def Shutdown(self, request, context):
            await asyncio.sleep(60)

    async def call():
        async with served(Silent(None)) as channel:
            with calling("mac-b"):
                await AgentServiceStub(channel).Shutdown(agent_pb2.ShutdownRequest(), timeout=0.2)

    with pytest.raises(errors.DeadlineError, match="mac-b did not answer in time"):
        asyncio.run(call())


def test_a_port_in_use_is_refused():
    async def bind_twice():
        _, port = local_server()
        local_server(port)

    with pytest.raises(errors.PreflightError, match=r"cannot listen on 127\.0\.0\.1"):
        asyncio.run(bind_twice())


def test_status_codes_say_whose_fault_it_is():
    assert status_of(errors.RequestError()) is grpc.StatusCode.INVALID_ARGUMENT
    assert status_of(errors.PreflightError()) is grpc.StatusCode.FAILED_PRECONDITION
    assert status_of(errors.RankFailure()) is grpc.StatusCode.UNAVAILABLE
    assert status_of(errors.NotReadyError()) is grpc.StatusCode.UNAVAILABLE
