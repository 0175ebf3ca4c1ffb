"""Who is let in: by the name this machine is called, by the page that calls, by an API key.

All of it is decided by a request's head, before anything of its body is read.
"""

from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from dsv4_tp.config import LOCALHOST, Http
from dsv4_tp.serving.failures import refuse_host, refuse_key, refuse_origin
from dsv4_tp.serving.keys import Keys

HEALTH = ("/health", "/health/live", "/health/ready")  # for whoever asks


def entrance(
    http: Http, keys: Keys | None, *, open_to_all: Collection[str] = HEALTH
) -> list[Middleware]:
    """What stands before all paths, the first to be passed first; no key for `open_to_all`."""
    # A page of another site, whose name leads here, could else read texts through the browser of
    # its visitor. It has no key; and who comes through a proxy calls us by the proxy's name.
    hosts = None if keys else (LOCALHOST, http.bind)
    return [
        Middleware(HostCheck, hosts),
        Middleware(OriginCheck, http.origins),
        Middleware(
            CORSMiddleware,
            allow_origins=http.origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["x-request-id", "request-id", "retry-after"],
            allow_private_network=True,
        ),
        Middleware(KeyCheck, keys, open_to_all),
    ]


def is_known(scope: Scope) -> bool:
    """Whether the client has shown a key, or needs none."""
    return scope["known"]


class HostCheck:
    """Lets those in who call us by a name of ours."""

    def __init__(self, app: ASGIApp, hosts: Collection[str] | None) -> None:
        """`hosts` are our names; None: any is."""
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass it on, or answer 400."""
        host = Headers(scope=scope).get("host", "")
        if self._hosts is None or host.split(":")[0] in self._hosts:
            await self._app(scope, receive, send)
        else:
            await refuse_host(scope, host)(scope, receive, send)


class OriginCheck:
    """Keeps out pages of other sites, unless they are named.

    Browsers let them ask, and only keep the answer from them: they could have the ranks work.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass it on, or answer 403."""
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        here = "http://" + headers.get("host", ""), "https://" + headers.get("host", "")
        if origin is None or origin in (*here, *self._origins):
            await self._app(scope, receive, send)
        else:
            await refuse_origin(scope, origin)(scope, receive, send)


class KeyCheck:
    """Lets those in who show a key; without keys everybody, and to what is open, too."""

    def __init__(self, app: ASGIApp, keys: Keys | None, open_to_all: Collection[str]) -> None:
        self._app = app
        self._keys = keys
        self._open = frozenset(open_to_all)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass it on, or answer 401."""
        scope["known"] = self._keys is None or _has_key(Headers(scope=scope), self._keys)
        if scope["known"] or scope["path"] in self._open:
            await self._app(scope, receive, send)
        else:
            await refuse_key(scope)(scope, receive, send)


def _has_key(headers: Headers, keys: Keys) -> bool:
    """As OpenAI's clients send it, or as Anthropic's do."""
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    said = [headers.get("x-api-key", ""), bearer.strip() if scheme.lower() == "bearer" else ""]
    return any(keys.know(key) for key in said if key)
