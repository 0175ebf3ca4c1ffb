"""AsyncClient: the calls of a running cluster."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractContextManager, aclosing
from types import TracebackType
from typing import Any, TypeVar

import grpc

from dsv4_tp.asks import Answer, Ask, Piece, ask_of, whole
from dsv4_tp.client.convert import (
    downfall_from_proto,
    log_from_proto,
    score_from_proto,
    score_to_proto,
    status_from_proto,
)
from dsv4_tp.client.find import find_cluster
from dsv4_tp.client.types import ClusterStatus, Downfall, LogPart
from dsv4_tp.config.environment import state_dir
from dsv4_tp.core import ScoreEvent, ScoreRequest
from dsv4_tp.history import Entry
from dsv4_tp.rpc.channel import open_channel
from dsv4_tp.rpc.convert_asks import ask_to_proto, piece_from_proto
from dsv4_tp.rpc.convert_history import entry_from_proto
from dsv4_tp.rpc.status import calling
from dsv4_tp.v1 import cluster_pb2 as pb
from dsv4_tp.v1 import types_pb2
from dsv4_tp.v1.cluster_pb2_grpc import ClusterServiceStub

_M = TypeVar("_M")

_STATUS_S = 5.0
_DRAIN_S = 45.0  # that a cluster gives by itself
_DOWN_S = 140.0  # after that: ranks end, and their memory is waited for
_RESTART_S = 3600.0  # in which weights are loaded again; a stall ends it much earlier
_LOGS_S = 60.0  # of all that is kept; a host that says nothing is given up much earlier
# A stall ends a stream much earlier: the cluster judges its ranks, keepalive judges the link.
_STREAM_S = 24 * 3600.0


class AsyncClient:
    """A connection to a running cluster. To be used in `async with`.

    Every call raises the Dsv4Error that the cluster raised, or one that names its address.
    """

    def __init__(self, address: str | None = None, *, name: str | None = None) -> None:
        """To the cluster at `address`, HOST:PORT, or to one that was launched on this machine.

        That is the one called `name`, or the only one. Raises ConfigError if there is none.
        """
        address = address or find_cluster(state_dir(), name)
        self.address = address
        self._channel = open_channel(address)
        self._stub = ClusterServiceStub(self._channel)

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection; what is still running on it is cancelled."""
        await self._channel.close()

    async def generate(self, ask: Ask | str) -> Answer:
        """A whole text; cancelling this cancels the request."""
        return whole([piece async for piece in self.stream(ask)])

    async def stream(self, ask: Ask | str) -> AsyncGenerator[Piece]:
        """The text as it comes; closing this, or the client, before its end cancels the request."""
        with self._calling():
            call = self._stub.Generate(ask_to_proto(ask_of(ask)), timeout=_STREAM_S)
            try:
                async for message in call:
                    yield piece_from_proto(message)
            finally:
                call.cancel()  # which a call that has ended ignores

    async def score(self, request: ScoreRequest) -> AsyncIterator[ScoreEvent]:
        """The score of equally long rows in pieces; `nll` comes with the last one."""
        with self._calling():
            call = self._stub.Score(score_to_proto(request), timeout=_STREAM_S)
            try:
                async for message in call:
                    yield score_from_proto(message)
            finally:
                call.cancel()

    async def status(self) -> ClusterStatus:
        """What the cluster is doing."""
        with self._calling():
            return status_from_proto(await self._stub.Status(pb.StatusRequest(), timeout=_STATUS_S))

    async def events(
        self, since_seq: int = 0, *, follow: bool = False
    ) -> AsyncGenerator[tuple[int, Entry]]:
        """What happened after that number, each with how many right before it are lost.

        `follow`: and what happens, until the cluster has ended.
        """
        request = pb.EventsRequest(since_seq=since_seq, follow=follow)
        call = self._stub.Events(request, timeout=_STREAM_S if follow else _STATUS_S)
        async with aclosing(self._told(call)) as messages:
            async for message in messages:
                for place, event in enumerate(message.events):
                    yield (0 if place else message.missed), entry_from_proto(event)

    async def logs(
        self,
        *,
        rank: int | None = None,
        epoch: int | None = None,
        host: str = "",
        most_bytes: int = 0,
        follow: bool = False,
    ) -> AsyncGenerator[LogPart]:
        """What agents and ranks wrote, of all of them or of those named, in pieces.

        `most_bytes`: only so many of each log, the last ones; 0: all that is kept. `follow`: and
        what they write, until the cluster has ended.
        """
        choice = types_pb2.LogChoice(rank=rank, epoch=epoch, follow=follow, most_bytes=most_bytes)
        request = pb.LogsRequest(choice=choice, host=host)
        call = self._stub.Logs(request, timeout=_STREAM_S if follow else _LOGS_S)
        async with aclosing(self._told(call)) as messages:
            async for message in messages:
                yield log_from_proto(message)

    async def down(self, *, now: bool = False, drain_s: float | None = None) -> Downfall:
        """Stop the cluster; returns when all its ranks and agents are gone.

        What runs is finished first, within `drain_s` (None: as long as the cluster gives it), or,
        with `now`, is not.
        """
        request = pb.DownRequest(now=now, drain_s=drain_s)
        with self._calling():
            done = await self._stub.Down(request, timeout=_DOWN_S + (drain_s or _DRAIN_S))
        return downfall_from_proto(done)

    async def restart(self) -> int:
        """Have another epoch, in which open requests go on; its number, when it serves."""
        with self._calling():
            return (await self._stub.Restart(pb.RestartRequest(), timeout=_RESTART_S)).epoch

    def _calling(self) -> AbstractContextManager[None]:
        peer, why = f"the coordinator at {self.address}", "`dsv4-tp events` tells what came before"
        return calling(peer, gone=f"{peer} is gone or out of reach; {why}")

    async def _told(self, call: "grpc.aio.UnaryStreamCall[Any, _M]") -> AsyncGenerator[_M]:
        """The messages of a stream, which is cancelled when nobody wants more of them."""
        with self._calling():
            try:
                async for message in call:
                    yield message
            finally:
                call.cancel()
