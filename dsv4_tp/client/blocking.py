"""Client: the calls of a running cluster, for programs that wait for them."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from types import TracebackType
from typing import Any, TypeVar

from dsv4_tp.asks import Answer, Ask, Piece
from dsv4_tp.client.client import AsyncClient
from dsv4_tp.client.types import ClusterStatus, Downfall
from dsv4_tp.errors import Dsv4Error

_T = TypeVar("_T")
_CLOSED = "this client was closed"


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
        # What is begun within it is begun before the leaving, which then cancels it, or not at all.
        # The garbage collector may end a stream while its own thread is inside.
        self._lock = threading.RLock()
        self._left: Future[None] | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        try:
            self._client = self._wait(_connected(address, name))
        except BaseException:
            self._stop()
            self._thread.join()
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
            self._drop(pieces)

    def status(self) -> ClusterStatus:
        """What the cluster is doing."""
        return self._wait(self._client.status())

    def down(self, *, now: bool = False, drain_s: float | None = None) -> Downfall:
        """Stop the cluster, as `AsyncClient.down` does."""
        return self._wait(self._client.down(now=now, drain_s=drain_s))

    def close(self) -> None:
        """End the connection; what is still running on it is cancelled.

        Whoever waits for it, in another thread, gets a Dsv4Error.
        """
        with self._lock:
            if self._left is None:
                self._left = asyncio.run_coroutine_threadsafe(self._leave(), self._loop)
                self._left.add_done_callback(lambda _: self._stop())
        self._left.result()
        self._thread.join()

    def _wait(self, work: Coroutine[Any, Any, _T]) -> _T:
        with self._lock:
            if self._left:
                work.close()
                raise Dsv4Error(_CLOSED)
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except CancelledError:
            raise Dsv4Error(_CLOSED) from None
        except BaseException:  # such as Ctrl-C while it waits
            future.cancel()
            raise

    def _drop(self, pieces: AsyncGenerator[Piece]) -> None:
        # Nobody waits for it: the garbage collector may call this in any thread, the loop's too.
        with self._lock:
            if self._left is None:
                asyncio.run_coroutine_threadsafe(_close(pieces), self._loop)

    async def _leave(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for other in others:
            other.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._loop.shutdown_asyncgens()
        await self._client.close()

    def _run(self) -> None:
        self._loop.run_forever()
        self._loop.close()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)


async def _connected(address: str | None, name: str | None) -> AsyncClient:
    """Made where its loop runs."""
    return AsyncClient(address, name=name)


async def _next(pieces: AsyncGenerator[Piece]) -> Piece | None:
    return await anext(pieces, None)


async def _close(pieces: AsyncGenerator[Piece]) -> None:
    await pieces.aclose()
