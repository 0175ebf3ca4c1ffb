"""The client against a real server that says what it is told to."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar

import pytest

from dsv4_tp.client import Ask, AsyncClient, ClusterStatus, Finish, Logprob, Piece, Stats, Totals
from dsv4_tp.core import FinishReason, RankReport, ScoreEvent, ScoreRequest, Work
from dsv4_tp.errors import BusyError, Dsv4Error, RankFailure, RequestError
from dsv4_tp.rpc.server import local_server
from dsv4_tp.v1 import cluster_pb2 as pb
from dsv4_tp.v1 import types_pb2
from dsv4_tp.v1.cluster_pb2_grpc import ClusterServiceServicer, add_ClusterServiceServicer_to_server

T = TypeVar("T")
GONE = "the coordinator at {} is gone or out of reach; `dsv4-tp events` tells what came before"
# A coordinator that is killed in the midst of an answer.
KILLED = """
import asyncio, os, signal
from dsv4_tp.rpc.server import local_server
from dsv4_tp.v1 import cluster_pb2 as pb
from dsv4_tp.v1.cluster_pb2_grpc import ClusterServiceServicer, add_ClusterServiceServicer_to_server
class Service(ClusterServiceServicer):
    async def Generate(self, request, context):
        yield pb.GenerateResponse(text="half")
        await asyncio.sleep(0.2)
        os.kill(os.getpid(), signal.SIGKILL)
async def main():
    server, port = local_server()
    add_ClusterServiceServicer_to_server(Service(), server)
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()
asyncio.run(main())
"""
STATS = pb.Stats(
    prompt_tokens=3,
    generated_tokens=2,
    prefill_s=0.5,
    decode_s=0.25,
    tokens_per_s=4.0,
    collectives_per_token=9.0,
    wire_bytes_per_token=1024.0,
)


class Scripted(ClusterServiceServicer):
    """Answers with what a test gives it, and keeps what it was asked."""

    def __init__(self, *answers: Any) -> None:
        self.answers = answers
        self.asked: Any = None

    async def Generate(self, request: pb.GenerateRequest, context: Any) -> AsyncIterator[Any]:
        self.asked = request
        for answer in self.answers:
            if isinstance(answer, Exception):
                raise answer
            yield answer

    Score = Generate

    async def Status(self, request: pb.StatusRequest, context: Any) -> Any:
        return self.answers[0]

    async def Down(self, request: pb.DownRequest, context: Any) -> Any:
        raise self.answers[0]


def with_client(service: Scripted, work: Callable[[AsyncClient], Awaitable[T]]) -> T:
    async def run() -> T:
        server, port = local_server()
        add_ClusterServiceServicer_to_server(service, server)
        await server.start()
        try:
            async with AsyncClient(f"127.0.0.1:{port}") as client:
                return await work(client)
        finally:
            await server.stop(None)

    return asyncio.run(run())


def generate(service: Scripted, ask: Ask) -> list[Piece]:
    async def work(client: AsyncClient) -> list[Piece]:
        return [piece async for piece in client.stream(ask)]

    return with_client(service, work)


def test_a_text_comes_in_pieces_and_ends_with_what_it_cost():
    finish = pb.Finish(reason=types_pb2.FINISH_REASON_STOP, stats=STATS)
    service = Scripted(
        pb.GenerateResponse(tokens=[7, 8], text="é"),
        pb.GenerateResponse(
            tokens=[9],
            logprobs=[
                pb.TokenLogprob(logprob=-0.5, top=[types_pb2.Alternative(token=4, logprob=-0.25)])
            ],
        ),
        pb.GenerateResponse(finish=finish),
    )
    stats = Stats(3, 2, 0.5, 0.25, 4.0, 9.0, 1024.0)
    assert generate(service, Ask("x")) == [
        Piece((7, 8), "é", None),
        Piece((9,), "", None, (Logprob(-0.5, ((4, -0.25),)),)),
        Piece((), "", Finish(FinishReason.STOP, stats)),
    ]


def test_what_is_not_asked_for_is_left_to_the_cluster():
    service = Scripted()
    generate(service, Ask("x"))
    assert service.asked == pb.GenerateRequest(text="x")
    settings = {"max_tokens": 1, "temperature": 0.0, "top_p": 0.5, "top_k": 0, "seed": 0}
    settings |= {"min_p": 0.1, "repetition_penalty": 1.1, "presence_penalty": 0.0}
    settings |= {"frequency_penalty": -1.0, "logit_bias": {5: 2.0}, "logprobs": 0}
    settings |= {"stop": ["a", "b"], "stop_ids": [4], "time_limit_s": 0.5}
    generate(service, Ask("x", chat=True, **settings))
    assert service.asked == pb.GenerateRequest(user="x", **settings)
    assert service.asked.HasField("temperature")
    assert service.asked.HasField("logprobs")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt", 7),
        ("prompt", "\ud800"),
        ("seed", 1.5),
        ("seed", "7"),
        ("seed", True),
        ("seed", 2**64),
        ("top_k", -1),
        ("temperature", "hot"),
        ("logit_bias", {"a": 1.0}),
        ("stop", [7]),
        ("stop_ids", [-1]),
    ],
)
def test_a_value_of_another_kind_is_refused_by_its_field(field: str, value: object):
    with pytest.raises(RequestError, match=f"^{field} is "):
        generate(Scripted(), replace(Ask("x"), **{field: value}))


def test_one_stop_string_may_stand_alone():
    service = Scripted()
    generate(service, Ask("x", stop="END"))
    assert service.asked == pb.GenerateRequest(text="x", stop=["END"])


@pytest.mark.parametrize(
    "error", [RequestError("no"), BusyError("1"), RankFailure("rank 1 on b: killed")]
)
def test_the_cluster_s_error_comes_back_as_it_was_raised(error: Dsv4Error):
    with pytest.raises(type(error), match=str(error)):
        generate(Scripted(pb.GenerateResponse(tokens=[1]), error), Ask("x"))
    with pytest.raises(type(error), match=str(error)):
        with_client(Scripted(error), lambda client: client.down())


def test_a_score_comes_in_pieces():
    service = Scripted(
        pb.ScoreResponse(start=0, count=2, logits=b"abcd"),
        pb.ScoreResponse(start=2, count=1, nll=[0.5]),
    )
    request = ScoreRequest("x", ((1, 2, 3),), chunk=2, want_logits=True)

    async def work(client: AsyncClient) -> list[ScoreEvent]:
        return [event async for event in client.score(request)]

    first, last = with_client(service, work)
    assert (first.start, first.count, first.logits, first.last) == (0, 2, b"abcd", False)
    assert (last.start, last.nll, last.last) == (2, (0.5,), True)
    assert [list(row.ids) for row in service.asked.rows] == [[1, 2, 3]]
    assert (service.asked.chunk, service.asked.want_logits) == (2, True)


def test_the_status_is_all_of_it():
    report = types_pb2.RankReport(rank=1, phase=types_pb2.PHASE_DECODE, decode_steps=5, pid=9)
    rank = pb.RankStatus(report=report, planned_bytes=10, weight_bytes=11, idle_s=0.25)
    message = pb.StatusResponse(
        name="lab",
        phase="ready",
        epoch=1,
        model_path="/m",
        dtype="float32",
        hosts=[pb.HostStatus(name="a", ranks=[rank], beat_age_s=0.5)],
        version="0.1",
        failure="none",
        totals=pb.Totals(
            running=2,
            waiting=1,
            ended={"stop": 3},
            prefill=types_pb2.Work(steps=1, rows=2, tokens=3),
            decode=types_pb2.Work(collectives=4, wire_bytes=5, time_s=0.5),
            first_token_p50_s=0.25,
        ),
        launch="20260101T000000Z-lab",
    )
    found: ClusterStatus = with_client(Scripted(message), lambda client: client.status())
    assert (found.name, found.phase, found.epoch, found.dtype) == ("lab", "ready", 1, "float32")
    assert (found.model_path, found.version, found.failure) == ("/m", "0.1", "none")
    assert found.totals == Totals(
        running=2,
        waiting=1,
        ended={"stop": 3},
        prefill=Work(1, 2, 3),
        decode=Work(collectives=4, wire_bytes=5, time_s=0.5),
        first_token_p50_s=0.25,
        first_token_p95_s=None,
    )
    assert found.launch == "20260101T000000Z-lab"
    (host,) = found.hosts
    assert (host.name, host.beat_age_s) == ("a", 0.5)
    assert host.ranks[0].report == RankReport(rank=1, phase="decode", decode_steps=5, pid=9)
    rank = host.ranks[0]
    assert (rank.planned_bytes, rank.weight_bytes, rank.idle_s) == (10, 11, 0.25)


def test_nobody_there_is_an_error_that_names_the_address():
    async def run() -> None:
        async with AsyncClient("127.0.0.1:1") as client:
            await client.status()

    with pytest.raises(Dsv4Error) as caught:
        asyncio.run(run())
    assert str(caught.value) == GONE.format("127.0.0.1:1")


def test_a_coordinator_that_is_killed_is_told_as_that():
    async def run(address: str) -> None:
        async with AsyncClient(address) as client:
            pieces = client.stream("x")
            assert (await anext(pieces)).text == "half"
            await anext(pieces)

    with subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        address = f"127.0.0.1:{int(server.stdout.readline())}"
        with pytest.raises(Dsv4Error) as caught:
            asyncio.run(run(address))
    assert (str(caught.value), caught.value.exit_code) == (GONE.format(address), 1)
