"""An answer on its way: as events or as a whole, and given up when its client leaves."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, TypeVar

from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from dsv4_tp.errors import Dsv4Error
from dsv4_tp.serving.answers import Answers, Json, Wire
from dsv4_tp.serving.choices import Pieces

BEAT_S = 10.0  # so long nothing is said, then a comment; proxies give up after 30 and more

_T = TypeVar("_T")
_EVENTS = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-store")]


class _Reply(Response, ABC):
    """One that is worked for while it is sent, as long as its client is there."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; what is raised before the first byte becomes an answer of its own."""
        work = asyncio.ensure_future(self._work(scope, receive, send))
        leaving = asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait({work, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _end(leaving)
            if not work.done():
                await _end(work)
        if not work.cancelled():
            work.result()

    @abstractmethod
    async def _work(self, scope: Scope, receive: Receive, send: Send) -> None: ...


class Whole(_Reply):
    """An object that is answered when it is there."""

    def __init__(self, answers: Answers, pieces: Pieces) -> None:
        super().__init__()
        self._answers = answers
        self._pieces = pieces

    async def _work(self, scope: Scope, receive: Receive, send: Send) -> None:
        await JSONResponse(await self._answers.whole(self._pieces))(scope, receive, send)


class Events(_Reply):
    """Server-sent events: objects as they come, signs of life while none does, then the ending.

    A failure on the way is told by an object, and there is no ending: clients take a stream that
    just stops for a whole one.
    """

    def __init__(
        self, wire: Wire, objects: AsyncGenerator[Json], *, beat_s: float = BEAT_S
    ) -> None:
        super().__init__()
        self._wire = wire
        self._objects = objects
        self._beat_s = beat_s

    async def _work(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(beating(self._objects, self._beat_s)) as coming:
            # What is refused is refused now, and then has a status of its own.
            first = await anext(coming)
            await send({"type": "http.response.start", "status": 200, "headers": _EVENTS})
            await _send(send, self._event(first))
            try:
                async for each in coming:
                    await _send(send, self._event(each))
                await _send(send, self._wire.ending)
            except Dsv4Error as error:
                await _send(send, self._event(self._wire.failure(error)))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _event(self, one: dict[str, Any] | None) -> bytes:
        return self._wire.silence() if one is None else self._wire.event(one)


async def beating(objects: AsyncGenerator[_T], beat_s: float) -> AsyncGenerator[_T | None]:
    """The objects, and None whenever none has come for so long."""
    coming: asyncio.Future[_T | None] | None = None
    try:
        while True:
            coming = coming or asyncio.ensure_future(_next(objects))
            await asyncio.wait({coming}, timeout=beat_s)
            if not coming.done():
                yield None
                continue
            one, coming = coming.result(), None
            if one is None:
                return
            yield one
    finally:
        if coming is not None:
            await _end(coming)
        await objects.aclose()


async def _next(objects: AsyncIterator[_T]) -> _T | None:
    return await anext(objects, None)


async def _left(receive: Receive) -> None:
    """Returns when the client is gone; the request itself was read before."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _end(task: "asyncio.Future[Any]") -> None:
    """Cancel it, and wait until it is over; what it then raises is nobody's any more."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()


async def _send(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})
