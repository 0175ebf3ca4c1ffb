"""The secret of one launch: made by the launcher, sent with every call, checked by servers.

It travels by stdin and metadata, never in a command line or a log.
"""

import hmac
import secrets
from typing import Any

import grpc

_KEY = "authorization"

Context = grpc.aio.ServicerContext[Any, Any]
Metadata = tuple[tuple[str, str], ...]


def new_token() -> str:
    """A fresh secret."""
    return secrets.token_hex(32)


def bearer(token: str) -> Metadata:
    """The metadata a call to a server with this token needs."""
    return ((_KEY, f"Bearer {token}"),)


async def authenticate(context: Context, token: str) -> None:
    """End the call with UNAUTHENTICATED unless it carries `token`."""
    given = dict(context.invocation_metadata() or ()).get(_KEY, "")
    expected = bearer(token)[0][1]
    if not hmac.compare_digest(str(given).encode(), expected.encode()):
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the token of another launch, or none")
