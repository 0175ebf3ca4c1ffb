"""Uvicorn on a socket, in a loop that somebody else runs and whose signals are theirs."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.types import ASGIApp

_IDLE_S = 75  # for a connection that may be used again; longer than clients keep theirs
_GRACE_S = 1  # for last words when the cluster ends


@asynccontextmanager
async def serving(app: ASGIApp, sock: socket.socket) -> AsyncGenerator[None]:
    """The app answers within the block; at its end, answers on their way have a second."""
    server = _Server(
        uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=_IDLE_S,
            timeout_graceful_shutdown=_GRACE_S,
        )
    )
    running = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        yield
    finally:
        server.should_exit = True
        await running


class _Server(uvicorn.Server):
    """Leaves the process's signals alone."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Signals end the launch, and that ends us."""
        yield
