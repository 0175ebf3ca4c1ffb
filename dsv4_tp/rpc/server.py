"""Servers whose own services end with our errors, and want a token if there is one.

Owns the interceptor and the way a port is bound; it knows no service. Health is open to all.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import grpc

from dsv4_tp.errors import Dsv4Error, PreflightError
from dsv4_tp.rpc.auth import Context, authenticate
from dsv4_tp.rpc.channel import SERVER_OPTIONS
from dsv4_tp.rpc.status import abort

_OWN_SERVICES = "/dsv4_tp."

# A handler is generic in messages that only its service knows, and only for type checkers.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Continuation: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]"


class _Guard(grpc.aio.ServerInterceptor):
    """Checks the token before each call of our own services and maps what it raises."""

    def __init__(self, token: str | None) -> None:
        self._token = token

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

    async def _check(self, context: Context) -> None:
        if self._token is not None:
            await authenticate(context, self._token)

    def _unary(self, inner: Callable[..., Any]) -> Callable[..., Any]:
        async def call(request: Any, context: Context) -> Any:
            try:
                await self._check(context)
                return await inner(request, context)
            except Dsv4Error as error:
                await abort(context, error)

        return call

    def _stream(self, inner: Callable[..., Any]) -> Callable[..., Any]:
        async def call(request: Any, context: Context) -> AsyncIterator[Any]:
            try:
                await self._check(context)
                async for response in inner(request, context):
                    yield response
            except Dsv4Error as error:
                await abort(context, error)

        return call


def make_server(*, token: str | None) -> grpc.aio.Server:
    """A server; the caller adds services, binds and starts it. None: no token is asked for."""
    return grpc.aio.server(interceptors=(_Guard(token),), options=SERVER_OPTIONS)


def bind(server: grpc.aio.Server, host: str, port: int) -> int:
    """Bind the server; the port it got, also when `port` is 0. PreflightError if it is in use."""
    try:
        return server.add_insecure_port(f"{host}:{port}")
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
