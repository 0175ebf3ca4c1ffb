"""Client: the calls of a running cluster, for programs that wait for them."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterator
from types import TracebackType
from typing import Any, TypeVar

from dsv4_tp.client.client import AsyncClient
from dsv4_tp.client.types import Answer, Ask, ClusterStatus, Piece
from dsv4_tp.errors import Dsv4Error

_T = TypeVar("_T")


class Client:
    """A connection to a running cluster. To be used in `with`, or closed by `close`.

    Several threads may use it. Every call raises the Dsv4Error that the cluster raised, or one that
    names its address. Beside a running event loop, as in a notebook, it works too: it has a loop of
    its own, in a thread of its own.
    """

    def __init__(self, address: str | None = None, *, name: str | None = None) -> None:
        """To the cluster at `address`, HOST:PORT, or to one that was launched on this machine.

        That is the one called `name`, or the only one. Raises ConfigError if there is none.
        """
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        try:
            self._client = self._wait(_connected(address, name))
        except BaseException:
            self._end()
            raise

    @property
    def address(self) -> str:
        """HOST:PORT of the cluster."""
        return self._client.address

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def generate(self, ask: Ask | str) -> Answer:
        """A whole text."""
        return self._wait(self._client.generate(ask))

    def stream(self, ask: Ask | str) -> Iterator[Piece]:
        """The text as it comes; closing this before its end cancels the request."""
        pieces = self._client.stream(ask)
        try:
            while piece := self._wait(_next(pieces)):
                yield piece
        finally:
            if not self._loop.is_closed():
                self._wait(_close(pieces))

    def status(self) -> ClusterStatus:
        """What the cluster is doing."""
        return self._wait(self._client.status())

    def down(self) -> None:
        """Stop the cluster; returns when all its ranks and agents are gone."""
        self._wait(self._client.down())

    def close(self) -> None:
        """End the connection; what is still running on it is cancelled."""
        if not self._loop.is_closed():
            self._wait(self._loop.shutdown_asyncgens())
            self._wait(self._client.close())
            self._end()

    def _wait(self, work: Coroutine[Any, Any, _T]) -> _T:
        if self._loop.is_closed():
            work.close()
            raise Dsv4Error("this client was closed")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:  # such as Ctrl-C while it waits
            future.cancel()
            raise

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _connected(address: str | None, name: str | None) -> AsyncClient:
    """Made where its loop runs."""
    return AsyncClient(address, name=name)


async def _next(pieces: AsyncGenerator[Piece]) -> Piece | None:
    return await anext(pieces, None)


async def _close(pieces: AsyncGenerator[Piece]) -> None:
    await pieces.aclose()
