"""AsyncClient: the calls of a running cluster."""

from collections.abc import AsyncGenerator, AsyncIterator
from types import TracebackType

from dsv4_tp.asks import Answer, Ask, Piece, ask_of, whole
from dsv4_tp.client.convert import score_from_proto, score_to_proto, status_from_proto
from dsv4_tp.client.find import find_cluster
from dsv4_tp.client.types import ClusterStatus
from dsv4_tp.config.environment import state_dir
from dsv4_tp.core import ScoreEvent, ScoreRequest
from dsv4_tp.rpc.channel import open_channel
from dsv4_tp.rpc.convert_asks import ask_to_proto, piece_from_proto
from dsv4_tp.rpc.status import calling
from dsv4_tp.v1 import cluster_pb2 as pb
from dsv4_tp.v1.cluster_pb2_grpc import ClusterServiceStub

_STATUS_S = 5.0
_DOWN_S = 185.0  # texts that run are finished, ranks end, and their memory is waited for
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
        self._peer = f"the cluster at {address}"
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
        with calling(self._peer):
            call = self._stub.Generate(ask_to_proto(ask_of(ask)), timeout=_STREAM_S)
            try:
                async for message in call:
                    yield piece_from_proto(message)
            finally:
                call.cancel()  # which a call that has ended ignores

    async def score(self, request: ScoreRequest) -> AsyncIterator[ScoreEvent]:
        """The score of equally long rows in pieces; `nll` comes with the last one."""
        with calling(self._peer):
            call = self._stub.Score(score_to_proto(request), timeout=_STREAM_S)
            try:
                async for message in call:
                    yield score_from_proto(message)
            finally:
                call.cancel()

    async def status(self) -> ClusterStatus:
        """What the cluster is doing."""
        with calling(self._peer):
            return status_from_proto(await self._stub.Status(pb.StatusRequest(), timeout=_STATUS_S))

    async def down(self) -> None:
        """Stop the cluster; returns when all its ranks and agents are gone."""
        with calling(self._peer):
            await self._stub.Down(pb.DownRequest(), timeout=_DOWN_S)
