"""The logs of all hosts in one stream.

Nothing is kept here: what a slow client has not taken stays in the files of the hosts. A host that
is lost is named, and does not keep the others waiting.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import aclosing

from dsv4_tp.errors import DeadlineError, Dsv4Error
from dsv4_tp.v1 import cluster_pb2 as pb
from dsv4_tp.v1.types_pb2 import LogChoice, LogPiece, LogPlace

_WAITING = 8  # pieces on their way
_SILENT_S = 4.0  # for a host that is to tell what it has
_AGAIN_S = 1.0  # before a host that is followed and was lost is asked once more

# What a host has of what is chosen; raises Dsv4Error.
Tail = Callable[[str, LogChoice], AsyncGenerator[LogPiece]]


async def relay(
    hosts: Iterable[str], tail: Tail, choice: LogChoice, over: asyncio.Event
) -> AsyncIterator[pb.LogsResponse]:
    """What the hosts have, as it comes from each; followed, it goes on until `over`."""
    queue: asyncio.Queue[pb.LogsResponse] = asyncio.Queue(_WAITING)
    pumps = asyncio.gather(*(_Pump(host, tail, choice, over).run(queue) for host in hosts))
    try:
        while not (pumps.done() and queue.empty()):
            getting = asyncio.create_task(queue.get())
            await asyncio.wait({getting, pumps}, return_when=asyncio.FIRST_COMPLETED)
            if getting.done():
                yield getting.result()
            else:
                getting.cancel()
        pumps.result()
    finally:
        pumps.cancel()


class _Pump:
    """One host's part of the stream."""

    def __init__(self, host: str, tail: Tail, choice: LogChoice, over: asyncio.Event) -> None:
        self._host = host
        self._tail = tail
        self._choice = LogChoice()
        self._choice.CopyFrom(choice)
        self._over = over
        self._failed = ""

    async def run(self, queue: asyncio.Queue[pb.LogsResponse]) -> None:
        """Everything there is, or will be."""
        while True:
            try:
                await self._once(queue)
            except Dsv4Error as error:
                if str(error) != self._failed:
                    self._failed = str(error)
                    await queue.put(pb.LogsResponse(host=self._host, error=self._failed))
            if self._over.is_set() or not self._choice.follow:
                return
            await asyncio.sleep(_AGAIN_S)

    async def _once(self, queue: asyncio.Queue[pb.LogsResponse]) -> None:
        async with aclosing(self._tail(self._host, self._choice)) as pieces:
            async for piece in self._in_time(pieces):
                self._remember(piece.place, len(piece.data))
                await queue.put(pb.LogsResponse(host=self._host, piece=piece))

    async def _in_time(self, pieces: AsyncGenerator[LogPiece]) -> AsyncIterator[LogPiece]:
        within_s = None if self._choice.follow else _SILENT_S
        while True:
            try:
                yield await asyncio.wait_for(anext(pieces), within_s)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise DeadlineError(f"it told nothing for {_SILENT_S:g} s") from None

    def _remember(self, place: LogPlace, count: int) -> None:
        """An agent that is asked again goes on behind this."""
        for known in self._choice.after:
            if (known.epoch, known.HasField("rank"), known.rank) == (
                place.epoch,
                place.HasField("rank"),
                place.rank,
            ):
                known.offset = place.offset + count
                return
        self._choice.after.add(epoch=place.epoch, offset=place.offset + count)
        if place.HasField("rank"):
            self._choice.after[-1].rank = place.rank
