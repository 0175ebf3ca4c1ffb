"""Uvicorn on a socket, in a loop that somebody else runs and whose signals are theirs."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.types import ASGIApp

from dsv4_tp.serving.connection import Config, Patience


@asynccontextmanager
async def serving(
    app: ASGIApp,
    sock: socket.socket,
    patience: Patience = Patience(),  # noqa: B008
) -> AsyncGenerator[None]:
    """The app answers within the block; at its end, answers on their way have a second."""
    server = _Server(Config(app, patience))
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
