"""What no client should send, and some do: an error object each, and the server goes on.

By bytes over real sockets; the texts are a stand-in's.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import pytest

from dsv4_tp.asks import Ask, Piece
from dsv4_tp.coordinator.coordinator import Coordinator
from dsv4_tp.coordinator.texts import Texts
from dsv4_tp.errors import ContextError
from dsv4_tp.serving.app import App
from dsv4_tp.serving.connection import Patience
from dsv4_tp.serving.door import listen
from dsv4_tp.serving.server import serving
from tests.serving.test_app import ABC, END, StandIn

_SOON_S = 30.0
LITTLE_S = 0.3
LITTLE = Patience(request_s=LITTLE_S, unread_s=LITTLE_S)
HI = {"role": "user", "content": "hi"}
CHAT, COMPLETE = "/v1/chat/completions", "/v1/completions"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Counted(StandIn):
    """Counts the texts that are open, and the pieces that were taken."""

    now = taken = 0

    async def stream(self, ask: Ask, *, request_id: str = "") -> AsyncGenerator[Piece]:
        self.now += 1
        try:
            async for piece in super().stream(ask, request_id=request_id):
                self.taken += 1
                yield piece
        finally:
            self.now -= 1


@asynccontextmanager
async def served(it: StandIn, **options: Any) -> AsyncGenerator[int]:
    """The port of a server; `patience` and `body_s` if they are to be less."""
    patience = options.pop("patience", Patience())
    app = App(cast(Coordinator, it), cast(Texts, it), **options)
    with listen("127.0.0.1", 0) as door:
        async with serving(app.asgi(), door, patience):
            yield door.getsockname()[1]


@asynccontextmanager
async def connected(port: int) -> AsyncGenerator[Streams]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def within(act: Coroutine[Any, Any, None]) -> None:
    async def run() -> None:
        async with asyncio.timeout(_SOON_S):
            await act

    asyncio.run(run())


def request(
    body: bytes | dict[str, Any] = b"",
    path: str = CHAT,
    method: str = "POST",
    **headers: str | None,
) -> bytes:
    """The bytes of a request; a header that is None is left out."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    usual = {
        "host": "127.0.0.1",
        "content-type": "application/json",
        "content-length": str(len(data)),
    }
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{name}: {value}" for name, value in (usual | named).items() if value is not None]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode() + data


def chat(**fields: Any) -> bytes:
    return request({"messages": [HI]} | fields)


def complete(words: str) -> bytes:
    return request(f'{{"prompt": "x", {words}}}'.encode(), COMPLETE)


def tool(parameters: str) -> bytes:
    function = f'{{"type": "function", "function": {{"name": "f", "parameters": {parameters}}}}}'
    return request(
        f'{{"messages": [], "tools": [{function}]}}'.replace("[]", json.dumps([HI])).encode()
    )


def messages(one: str, count: int) -> bytes:
    return request(f'{{"messages": [{",".join([one] * count)}]}}'.encode())


NINES = "9" * 5000
DEEP = '{"not":' * 150 + "{}" + "}" * 150
EMPTY = '{"role":"user","content":""}'
WIDE = json.dumps({"properties": {f"a{number}": {"type": "integer"} for number in range(9000)}})
OWN_HEADERS = {f"x_{number}": "y" for number in range(20000)}
SCHEMA = "tools[0].function.parameters"
Told = tuple[int, str | None, str | None]  # status, param, code
NOT_JSON: Told = (400, None, None)
NOT_HTTP: Told = (400, None, None)

BAD: dict[str, tuple[bytes, Told]] = {
    "empty": (request(), NOT_JSON),
    "malformed": (request(b"{"), NOT_JSON),
    "no object": (request(b"[]"), NOT_JSON),
    "no utf-8": (request(b'{"messages": [{"role": "user", "content": "\xff"}]}'), NOT_JSON),
    "utf-16": (request(b'{"messages": []}'.decode().encode("utf-16")), NOT_JSON),
    "half a character": (chat(messages=[HI | {"content": "\ud800"}]), NOT_JSON),
    "deep lists": (request(b"[" * 100_000), NOT_JSON),
    "deep objects": (request(b'{"a":' * 100_000), NOT_JSON),
    "huge number": (complete(f'"max_tokens": {NINES}'), NOT_JSON),
    "huge unknown number": (complete(f'"suffix": {NINES}'), NOT_JSON),
    "no number": (complete('"temperature": NaN'), (400, "temperature", "invalid_value")),
    "infinite": (complete('"temperature": 1e999'), (400, "temperature", "invalid_value")),
    "large seed": (complete('"seed": 99999999999999999999'), (400, "seed", "invalid_value")),
    "wrong type": (complete('"seed": "7"'), (400, "seed", "invalid_type")),
    "many biases": (
        complete(f'"logit_bias": {json.dumps({f"{n}x": 1 for n in range(20_000)})}'),
        (400, "logit_bias", "invalid_value"),
    ),
    "wrong tokens": (
        request(b'{"prompt": [%s]}' % b",".join([b"-1"] * 500_000), COMPLETE),
        (400, "prompt[0]", "invalid_value"),
    ),
    "many tokens": (
        request(b'{"prompt": [%s]}' % b",".join([b"1"] * (2**20 + 1)), COMPLETE),
        (400, "prompt", "array_above_max_length"),
    ),
    "many stops": (chat(stop=["a"] * 17), (400, "stop", "array_above_max_length")),
    "no messages": (request({}), (400, "messages", "missing_required_parameter")),
    "unknown role": (
        chat(messages=[HI, HI | {"role": "robot"}]),
        (400, "messages[1].role", "invalid_value"),
    ),
    "no schema": (tool('{"type": 5}'), (400, f"{SCHEMA}.type", None)),
    "deep schema": (tool(DEEP), (400, SCHEMA, None)),
    "wide schema": (tool(WIDE), (400, SCHEMA, None)),
    "schema with no number": (tool('{"minimum": NaN}'), (400, SCHEMA, None)),
    "many tools": (
        chat(tools=[{"type": "function", "function": {"name": f"f{n}"}} for n in range(129)]),
        (400, "tools", "array_above_max_length"),
    ),
    "unsupported": (chat(store=True), (400, "store", "unsupported_parameter")),
    "unknown field": (chat(topk=1), (400, "topk", "unknown_parameter")),
    "long field": (chat(**{"a" * 100_000: 1}), (400, None, "unknown_parameter")),
    "long value": (chat(functions="a" * 100_000), (400, "functions", "unsupported_parameter")),
    "another model": (chat(model="y" * 100_000), (404, "model", "model_not_found")),
    "100,000 messages": (messages(EMPTY, 100_000), (400, "messages", "array_above_max_length")),
    "a million messages": (messages(EMPTY, 1_000_000), (413, None, "request_too_large")),
    "wrong messages": (messages("5", 500_000), (400, "messages[0]", "invalid_type")),
    "announced as too large": (
        request(content_length=str(16 * 2**20 + 1)),
        (413, None, "request_too_large"),
    ),
    "text": (request(content_type="text/plain"), (415, None, "unsupported_content_type")),
    "form": (
        request(content_type="application/x-www-form-urlencoded"),
        (415, None, "unsupported_content_type"),
    ),
    "packed": (request(content_encoding="gzip"), (415, None, "unsupported_content_type")),
    "wrong method": (request(method="GET"), (405, None, "method_not_supported")),
    "unknown method": (request(method="BREW"), (405, None, "method_not_supported")),
    "health by POST": (request(path="/health"), (405, None, "method_not_supported")),
    "unknown path": (request(path="/v1/embeddings"), (404, None, "unknown_url")),
    "path with a slash": (request(path=CHAT + "/"), (404, None, "unknown_url")),
    "strange path": (request(path="/%ff%00", method="GET"), (404, None, "unknown_url")),
    "another host": (request(host="elsewhere.example"), (400, None, "host_not_allowed")),
    "broken host": (request(host="[::1"), (400, None, "host_not_allowed")),
    "no host": (request(host=None), NOT_HTTP),
    "no http": (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", NOT_HTTP),
    "no length": (request(content_length="x"), NOT_HTTP),
    "two lengths": (request(content_length="1, 2"), NOT_HTTP),
    "broken chunks": (
        request(b"zz\r\n", content_length=None, transfer_encoding="chunked"),
        NOT_HTTP,
    ),
    "flood of headers": (request(**OWN_HEADERS), NOT_HTTP),
    "endless header": (request(x_a="y" * 2**20), NOT_HTTP),
    "endless path": (request(path="/" + "a" * 2**20), NOT_HTTP),
}
TAKEN: dict[str, bytes] = {
    "a field twice": request(b'{"prompt": "x", "prompt": "y"}', COMPLETE),  # the last one counts
    "json of a kind": chat().replace(b"application/json", b"application/json; charset=utf-8"),
    "no kind": chat().replace(b"content-type: application/json\r\n", b""),
    "deep records": request(
        b'{"prompt": "x", "metadata": %s1%s}' % (b"[" * 100, b"]" * 100), COMPLETE
    ),
}


async def answer_to(port: int, data: bytes) -> tuple[int, dict[str, str], bytes]:
    """Its status, headers and body."""
    async with connected(port) as (reader, writer):
        writer.write(data)
        with suppress(ConnectionError):  # it may be refused before all of it is sent
            await writer.drain()
        return await heard(reader)


async def heard(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """Of one answer: status, headers, body."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
    headers = dict(line.lower().split(": ", 1) for line in lines)
    body = await reader.readexactly(int(headers["content-length"]))
    return int(first.split()[1]), headers, body


async def all_is_well(port: int, it: Counted) -> None:
    """Another request is served, and no place is taken."""
    status, _, body = await answer_to(port, request({"prompt": "x"}, COMPLETE))
    assert (status, json.loads(body)["choices"][0]["text"]) == (200, "abc")
    assert it.now == 0


@pytest.mark.parametrize(("data", "told"), BAD.values(), ids=BAD)
def test_what_is_bad_has_an_error_object(data: bytes, told: Told, capfd: pytest.CaptureFixture):
    async def act() -> None:
        it = Counted(*ABC)
        async with served(it) as port:
            status, headers, body = await answer_to(port, data)
            error = json.loads(body)["error"]
            assert (status, error["param"], error["code"]) == told
            assert (headers["content-type"], error["type"]) == (
                "application/json",
                "invalid_request_error",
            )
            assert 10 < len(error["message"]) < 1100
            assert not it.asked
            await all_is_well(port, it)

    within(act())
    assert "http-fault" not in capfd.readouterr().err


@pytest.mark.parametrize("data", TAKEN.values(), ids=TAKEN)
def test_what_is_odd_is_served(data: bytes):
    async def act() -> None:
        it = Counted(*ABC)
        async with served(it) as port:
            assert (await answer_to(port, data))[0] == 200
            await all_is_well(port, it)
            if b'"y"' in data:
                assert it.asked[0].prompt == "y"

    within(act())


def test_what_is_too_long_is_told_with_its_numbers():
    words = "the messages have 5000 tokens and the context is 4096; shorten it"

    async def act() -> None:
        async with served(StandIn(ContextError(words))) as port:
            status, _, body = await answer_to(port, chat())
            error = json.loads(body)["error"]
            assert (status, error["message"], error["param"]) == (400, words, "messages")
            assert error["code"] == "context_length_exceeded"

    within(act())


Begin = Callable[[asyncio.StreamWriter], Awaitable[None]]


async def silent(_writer: asyncio.StreamWriter) -> None:
    """Says nothing at all."""


async def half_a_head(writer: asyncio.StreamWriter) -> None:
    writer.write(chat()[:40])


async def half_a_body(writer: asyncio.StreamWriter) -> None:
    writer.write(chat()[:-5])


async def drop_by_drop(writer: asyncio.StreamWriter) -> None:
    writer.write(chat()[:-20])
    with suppress(ConnectionError):
        while not writer.is_closing():
            writer.write(b" ")
            await asyncio.sleep(LITTLE_S / 20)


@pytest.mark.parametrize("begin", [half_a_head, half_a_body, drop_by_drop])
def test_who_does_not_finish_is_told_so(begin: Begin):
    async def act() -> None:
        it = Counted(*ABC)
        long = drop_by_drop is begin and request({"prompt": "x"}, content_length="1000000")
        async with (
            served(it, patience=LITTLE, body_s=LITTLE_S) as port,
            connected(port) as (reader, writer),
        ):
            if long:
                writer.write(long)
            beginning = asyncio.create_task(cast(Any, begin)(writer))
            status, _, body = await heard(reader)
            with suppress(ConnectionError):  # it may have sent more meanwhile
                assert await reader.read() == b""
            beginning.cancel()
            error = json.loads(body)["error"]
            assert (status, error["code"]) == (408, "request_timeout")
            await all_is_well(port, it)

    within(act())


def test_who_says_nothing_is_let_go():
    async def act() -> None:
        it = Counted(*ABC)
        async with (
            served(it, patience=LITTLE) as port,
            connected(port) as (reader, _),
        ):
            assert await reader.read() == b""
            await all_is_well(port, it)

    within(act())


def test_who_waits_between_requests_is_not():
    async def act() -> None:
        it = Counted(*ABC)
        data = request({"prompt": "x"}, COMPLETE)
        async with (
            served(it, patience=LITTLE, body_s=LITTLE_S) as port,
            connected(port) as (reader, writer),
        ):
            for _ in range(2):
                writer.write(data)
                assert (await heard(reader))[0] == 200
                await asyncio.sleep(3 * LITTLE_S)
            assert len(it.asked) == 2

    within(act())


@pytest.mark.parametrize("data", [chat()[:-5], chat()[:40]], ids=["body", "head"])
def test_who_leaves_in_the_middle_is_no_fault(data: bytes, capfd: pytest.CaptureFixture):
    async def act() -> None:
        it = Counted(*ABC)
        async with served(it) as port:
            async with connected(port) as (_, writer):
                writer.write(data)
                await asyncio.sleep(LITTLE_S)
            await all_is_well(port, it)

    within(act())
    assert "http-fault" not in capfd.readouterr().err


@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "whole"])
def test_who_closes_its_side_has_left(streamed: bool):
    async def act() -> None:
        it = Counted(60.0)
        async with served(it) as port, connected(port) as (reader, writer):
            writer.write(chat(stream=streamed))
            await it.opened.wait()
            writer.write_eof()
            assert await it.closed.wait()
            assert await reader.read() == b""
            assert it.now == 0

    within(act())


LARGE, FEW, MANY = "a" * 2**18, 100, 400  # more than the kernel's buffers hold, all together


def test_who_does_not_read_its_stream_is_left():
    async def act() -> None:
        it = Counted(*[Piece((1,), LARGE, None)] * MANY, 60.0, END)
        async with (
            served(it, patience=LITTLE) as port,
            connected(port) as (reader, writer),
        ):
            reader._transport.pause_reading()  # pyright: ignore[reportAttributeAccessIssue]
            writer.write(request({"prompt": "x", "stream": True}, COMPLETE))
            assert await it.closed.wait()
            assert 0 < it.taken < MANY / 2  # nothing is hoarded for it
            assert it.now == 0

    within(act())


def test_who_does_not_read_its_text_is_left():
    async def act() -> None:
        it = Counted(*[Piece((1,), LARGE, None)] * FEW, END)
        async with (
            served(it, patience=LITTLE) as port,
            connected(port) as (reader, writer),
        ):
            reader._transport.pause_reading()  # pyright: ignore[reportAttributeAccessIssue]
            writer.write(request({"prompt": "x"}, COMPLETE))
            await it.closed.wait()
            await asyncio.sleep(8 * LITTLE_S)
            reader._transport.resume_reading()  # pyright: ignore[reportAttributeAccessIssue]
            with suppress(ConnectionError):
                assert len(await reader.read()) < FEW * len(LARGE)

    within(act())


def test_who_reads_slowly_is_not():
    async def act() -> None:
        it = Counted(*[Piece((1,), LARGE, None)] * FEW, END)
        async with (
            served(it, patience=Patience(unread_s=1.0)) as port,
            connected(port) as (reader, writer),
        ):
            writer.write(request({"prompt": "x"}, COMPLETE))
            got = 0
            while got < FEW * len(LARGE):
                part = await reader.read(2**20)
                assert part, "it was left"
                got += len(part)
                await asyncio.sleep(LITTLE_S / 5)

    within(act())
