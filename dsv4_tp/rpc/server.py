"""Servers whose own services end with our errors: in plain text on this machine, or an agent's.

Owns the interceptor and the way a port is bound; it knows no service.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import grpc

from dsv4_tp.config import LOOPBACK
from dsv4_tp.errors import Dsv4Error, PreflightError
from dsv4_tp.rpc.auth import Context, Identity, admit_coordinator, server_credentials
from dsv4_tp.rpc.channel import SERVER_OPTIONS
from dsv4_tp.rpc.status import abort

_OWN_SERVICES = "/dsv4_tp."

# A handler is generic in messages that only its service knows, and only for type checkers.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Continuation: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]"
Admit: TypeAlias = "Callable[[Context], Awaitable[None]]"


class _Guard(grpc.aio.ServerInterceptor):
    """Sees who calls before each call of our own services, and maps what it raises."""

    def __init__(self, admit: Admit) -> None:
        self._admit = admit

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> "Handler | None":
        """The handler itself, or one of ours around it."""
        handler = await continuation(handler_call_details)
        # An unknown method has no handler; gRPC answers it.
        if not handler or not handler_call_details.method.startswith(_OWN_SERVICES):
            return handler
        make, inner = _kind(handler)
        outer = self._stream(inner) if handler.response_streaming else self._unary(inner)
        return make(outer, handler.request_deserializer, handler.response_serializer)

    def _unary(self, inner: Callable[..., Any]) -> Callable[..., Any]:
        async def call(request: Any, context: Context) -> Any:
            try:
                await self._admit(context)
                return await inner(request, context)
            except Dsv4Error as error:
                await abort(context, error)

        return call

    def _stream(self, inner: Callable[..., Any]) -> Callable[..., Any]:
        async def call(request: Any, context: Context) -> AsyncIterator[Any]:
            try:
                await self._admit(context)
                async for response in inner(request, context):
                    yield response
            except Dsv4Error as error:
                await abort(context, error)

        return call


def local_server(port: int = 0) -> tuple[grpc.aio.Server, int]:
    """A server in plain text for clients on this machine only, and its port.

    The caller adds services and starts it.

    Raises:
        PreflightError: the port is in use.
    """
    server = _server(_anybody)
    return server, _bound(LOOPBACK, port, server.add_insecure_port)


def agent_server(identity: Identity, host: str, port: int) -> tuple[grpc.aio.Server, int]:
    """A server for the coordinator of the same cluster only, and its port.

    Whoever shows no certificate of the cluster does not get as far as a call. The caller adds
    services and starts it.

    Raises:
        PreflightError: the port is in use, or the address not ours.
    """
    server = _server(admit_coordinator)
    credentials = server_credentials(identity)
    return server, _bound(host, port, lambda place: server.add_secure_port(place, credentials))


def _server(admit: Admit) -> grpc.aio.Server:
    return grpc.aio.server(interceptors=(_Guard(admit),), options=SERVER_OPTIONS)


async def _anybody(_: Context) -> None:
    """Who can reach the loopback address may call."""


def _bound(host: str, port: int, add: Callable[[str], int]) -> int:
    """The port it got, also when `port` is 0."""
    try:
        return add(f"{host}:{port}")
    except RuntimeError as error:
        message = f"cannot listen on {host}:{port}: the port is in use or the address not ours"
        raise PreflightError(message) from error


def _kind(handler: Handler) -> tuple[Callable[..., Handler], Callable[..., Any]]:
    """How to make a handler of the same kind, and what this one calls."""
    kinds = (
        (grpc.unary_unary_rpc_method_handler, handler.unary_unary),
        (grpc.unary_stream_rpc_method_handler, handler.unary_stream),
        (grpc.stream_unary_rpc_method_handler, handler.stream_unary),
        (grpc.stream_stream_rpc_method_handler, handler.stream_stream),
    )
    return next((make, inner) for make, inner in kinds if inner is not None)
