"""grpc.health.v1 of one server.

Not the library's own servicer: there a change waits for whoever watches and does not read, and
until then `Check` tells what was. Ours has changed when `set` returns, so whatever a client is told
afterwards comes later.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from dsv4_tp.rpc.auth import Context

_Answer = health_pb2.HealthCheckResponse


class Health(health_pb2_grpc.HealthServicer):
    """Says of the server itself (""), of one named service and of ranks whether they serve."""

    def __init__(self, server: grpc.aio.Server, service: str) -> None:
        self._own = ("", service)
        self._serving = dict.fromkeys(self._own, False)
        self._changed = asyncio.Event()
        cast(Any, health_pb2_grpc).add_HealthServicer_to_server(self, server)

    def set(self, *, serving: bool) -> None:
        """Change what is said of the server."""
        self._change(dict.fromkeys(self._own, serving))

    def set_rank(self, rank: int, *, serving: bool) -> None:
        """Change what is said of a rank, `dsv4_tp.rank.N`; one never spoken of is unknown."""
        self._change({f"dsv4_tp.rank.{rank}": serving})

    async def Check(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> health_pb2.HealthCheckResponse:
        """What holds now."""
        if request.service not in self._serving:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no service {request.service}")
        return _Answer(status=self._status(request.service))

    async def Watch(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """What holds now, and every change."""
        told = None
        while True:
            changed, status = self._changed, self._status(request.service)
            if status != told:
                yield _Answer(status=status)
            told = status
            await changed.wait()

    def _change(self, serving: dict[str, bool]) -> None:
        self._serving |= serving
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _status(self, service: str) -> health_pb2.HealthCheckResponse.ServingStatus:
        if service not in self._serving:
            return _Answer.SERVICE_UNKNOWN
        return _Answer.SERVING if self._serving[service] else _Answer.NOT_SERVING
