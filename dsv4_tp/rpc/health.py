"""grpc.health.v1 of one server."""

from typing import Any, Protocol, cast

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc


class _Servicer(Protocol):
    """The part we use of the library's servicer, which carries no types."""

    async def set(self, service: str, status: int) -> None: ...


class Health:
    """Says of the server itself ("") and of one named service whether they serve."""

    def __init__(self, server: grpc.aio.Server, service: str) -> None:
        library = cast(Any, health)
        self._servicer = cast(_Servicer, library.aio.HealthServicer())
        self._service = service
        cast(Any, health_pb2_grpc).add_HealthServicer_to_server(self._servicer, server)

    async def set(self, *, serving: bool) -> None:
        """Change what is said."""
        response = health_pb2.HealthCheckResponse
        status = response.SERVING if serving else response.NOT_SERVING
        for name in ("", self._service):
            await self._servicer.set(name, status)
