"""The client that waits, against a real server."""

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Generator
from typing import Any

import pytest

from dsv4_tp.client import Ask, Client
from dsv4_tp.core import FinishReason
from dsv4_tp.errors import ConfigError, Dsv4Error, RequestError
from dsv4_tp.rpc.server import local_server
from dsv4_tp.v1 import cluster_pb2 as pb
from dsv4_tp.v1 import types_pb2
from dsv4_tp.v1.cluster_pb2_grpc import ClusterServiceServicer, add_ClusterServiceServicer_to_server

_DEADLINE_S = 10.0


class Endless(ClusterServiceServicer):
    """Repeats the prompt as often as it may, and knows when its client has left."""

    def __init__(self) -> None:
        self.left = threading.Event()
        self.silent = threading.Event()

    async def Generate(self, request: pb.GenerateRequest, context: Any) -> AsyncIterator[Any]:
        if not request.text:
            raise RequestError("the prompt is empty")
        try:
            for number in range(request.max_tokens):
                yield pb.GenerateResponse(tokens=[number], text=request.text)
                await self._pause(request.text)
            yield pb.GenerateResponse(finish=pb.Finish(reason=types_pb2.FINISH_REASON_LENGTH))
        except (asyncio.CancelledError, GeneratorExit):
            self.left.set()
            raise

    async def _pause(self, text: str) -> None:
        if text == "silence":
            self.silent.set()
            await asyncio.sleep(3600)
        await asyncio.sleep(0)


@pytest.fixture
def service() -> Endless:
    return Endless()


@pytest.fixture
def client(service: Endless) -> Generator[Client]:
    """A client of a server that runs in another thread."""
    loop, addresses = asyncio.new_event_loop(), asyncio.Queue()

    async def serve() -> None:
        server, port = local_server()
        add_ClusterServiceServicer_to_server(service, server)
        await server.start()
        addresses.put_nowait((f"127.0.0.1:{port}", server))

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(serve(), loop).result(_DEADLINE_S)
    address, server = addresses.get_nowait()
    with Client(address) as client:
        yield client
    asyncio.run_coroutine_threadsafe(server.stop(None), loop).result(_DEADLINE_S)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(_DEADLINE_S)
    loop.close()


def test_a_whole_text_and_its_pieces(client: Client):
    ask = Ask("ab", max_tokens=3)
    answer = client.generate(ask)
    assert (answer.text, answer.tokens) == ("ababab", (0, 1, 2))
    assert answer.reason is FinishReason.LENGTH
    pieces = list(client.stream(ask))
    assert [piece.text for piece in pieces] == ["ab", "ab", "ab", ""]
    assert pieces[-1].finish == answer.finish


def test_the_error_of_the_cluster_is_raised(client: Client):
    with pytest.raises(RequestError, match="the prompt is empty"):
        client.generate("")


def test_a_stream_that_is_left_is_cancelled(client: Client, service: Endless):
    stream = client.stream(Ask("a", max_tokens=10**6))
    assert next(stream).text == "a"
    stream.close()
    assert service.left.wait(_DEADLINE_S)


def test_it_works_beside_a_running_loop(client: Client):
    async def notebook() -> str:
        return client.generate(Ask("a", max_tokens=2)).text

    assert asyncio.run(notebook()) == "aa"


def test_a_closed_client_leaves_nothing(client: Client, service: Endless):
    stream = client.stream(Ask("a", max_tokens=10**6))
    next(stream)
    client.close()
    assert service.left.wait(_DEADLINE_S)
    with pytest.raises(Dsv4Error, match="closed"):
        client.generate("a")
    client.close()


def test_whoever_waits_for_a_closed_client_hears_of_it(client: Client, service: Endless):
    heard: queue.SimpleQueue[Dsv4Error] = queue.SimpleQueue()

    def wait() -> None:
        try:
            client.generate(Ask("silence", max_tokens=2))
        except Dsv4Error as error:
            heard.put(error)

    threading.Thread(target=wait, daemon=True).start()
    assert service.silent.wait(_DEADLINE_S)
    client.close()
    assert str(heard.get(timeout=_DEADLINE_S)) == "this client was closed"


def test_a_stream_may_end_in_the_thread_of_the_loop(client: Client, service: Endless):
    stream = client.stream(Ask("a", max_tokens=10**6))
    next(stream)
    # As the garbage collector may do, if its turn comes there.
    client._loop.call_soon_threadsafe(stream.close)
    assert service.left.wait(_DEADLINE_S)
    assert client.generate(Ask("a", max_tokens=2)).text == "aa"


def test_no_cluster_is_an_error_and_no_thread_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("DSV4TP_STATE_DIR", str(tmp_path))
    before = threading.active_count()
    with pytest.raises(ConfigError, match="no cluster is running"):
        Client()
    assert threading.active_count() == before
