"""Our errors as HTTP tells them: a status, and the error object of the API. One table.

The same errors have codes of gRPC in `rpc.status`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from dsv4_tp import errors
from dsv4_tp.errors import Dsv4Error
from dsv4_tp.serving.records import record_of

RETRY_S = 5  # for a cluster to come back; OpenAI's clients wait so long, twice by default
_SOON_S = 1  # for a place in line


@dataclass(frozen=True, slots=True)
class _Kind:
    """How an error is told."""

    status: int
    type: str
    retry_s: int | None = None  # when it may be gone; None: the same again will fail again
    code: str | None = None


BAD = "invalid_request_error"
_OURS = "server_error"
_AWAY = "service_unavailable"
_KINDS: tuple[tuple[type[Dsv4Error], _Kind], ...] = (
    (errors.ContextError, _Kind(400, BAD, code="context_length_exceeded")),
    (errors.RequestError, _Kind(400, BAD)),
    (errors.BusyError, _Kind(429, "rate_limit_error", _SOON_S, "rate_limit_exceeded")),
    (errors.NotReadyError, _Kind(503, _OURS, RETRY_S, _AWAY)),
    (errors.HarmfulRequestError, _Kind(500, _OURS)),
    (errors.RankFailure, _Kind(503, _OURS, RETRY_S, _AWAY)),
    (errors.OutrankedError, _Kind(503, _OURS, RETRY_S, _AWAY)),
    (errors.DeadlineError, _Kind(504, "timeout_error")),
    (errors.InputError, _Kind(400, BAD)),  # such as words for a checkpoint without a tokenizer
    (Dsv4Error, _Kind(500, _OURS)),
)
# Of what has no error of ours: paths, methods, bodies.
_CODES = {
    404: "unknown_url",
    405: "method_not_supported",
    408: "request_timeout",
    413: "request_too_large",
    415: "unsupported_content_type",
}
_MOST_SHOWN = 1000  # characters; some messages quote what the client has said
_MOST_PATH = 100


# Anthropic's API, by our statuses; what its clients know as overloaded has a status of its own.
_MESSAGES = ["", "v1", "messages"]
_NO_THREADS = "thread_unsupported_request"
_UNREADY, _OVERLOADED = 503, 529
_TYPES_OF_MESSAGES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    _UNREADY: "overloaded_error",
    504: "timeout_error",
}


class UnkeptError(errors.RequestError):
    """The server is to keep a conversation, and keeps none; clients go on by sending all of it."""


class UnknownModelError(errors.RequestError):
    """Another model is asked for than the one that is here."""


class FieldError(errors.RequestError):
    """A field is wrong, unknown or cannot be served."""

    def __init__(self, message: str, code: str | None) -> None:
        """`code` is OpenAI's word for it, if there is one."""
        super().__init__(message)
        self.code = code


def error_object(
    message: str, kind: str, *, param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    """What OpenAI's API says of an error."""
    shown = message if len(message) <= _MOST_SHOWN else f"{message[:_MOST_SHOWN]}..."
    return {"error": {"message": shown, "type": kind, "param": param, "code": code}}


def told(error: Dsv4Error) -> dict[str, Any]:
    """The error object, which is also what a stream ends with if it fails on the way."""
    if isinstance(error, UnknownModelError):
        return error_object(str(error), BAD, param="model", code="model_not_found")
    if isinstance(error, UnkeptError):
        return error_object(str(error), BAD, param="thread", code=_NO_THREADS)
    kind = _kind(error)
    param = _field(str(error)) if isinstance(error, errors.RequestError) else None
    code = error.code if isinstance(error, FieldError) else kind.code
    return error_object(str(error), kind.type, param=param, code=code)


def message_told(error: Dsv4Error, request: str) -> dict[str, Any]:
    """The same in the words of Anthropic's API; `request` is what the client calls it."""
    return _of_messages(_status(error), told(error), request)


async def refuse(request: Request, error: Exception) -> JSONResponse:
    """The whole answer to a request that failed before any of its answer was sent."""
    assert isinstance(error, Dsv4Error)
    kind = _kind(error)
    headers = {} if kind.retry_s is None else {"retry-after": str(kind.retry_s)}
    if kind.status >= 500 and kind.retry_s is None:
        headers["x-should-retry"] = "false"  # OpenAI's clients would, and it would cost as much
    return _answer(request.scope, _status(error), told(error), headers)


async def refuse_path(request: Request, error: Exception) -> JSONResponse:
    """There is no such path or method, or the body cannot be read."""
    assert isinstance(error, HTTPException)
    status = error.status_code
    asked = f"{request.method} {request.url.path[:_MOST_PATH]}"
    words = {
        404: f"there is no {asked}; /openapi.json tells what there is",
        405: f"there is no {asked}, but with {(error.headers or {}).get('Allow', 'others')}",
    }
    body = error_object(words.get(status, error.detail), BAD, code=_CODES.get(status))
    return _answer(request.scope, status, body, error.headers)


async def let_go(_request: Request, _error: Exception) -> Response:
    """The client has left before its request was here."""
    return _Silence()


class _Silence(Response):
    """Nobody would hear it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Say nothing."""


def refuse_host(scope: Scope, host: str) -> JSONResponse:
    """The client takes us for somebody else."""
    message = f"{host[:_MOST_PATH]!r} is no name of this server; call it as the launch says"
    return _answer(scope, 400, error_object(message, BAD, code="host_not_allowed"))


def refuse_key(scope: Scope) -> JSONResponse:
    """The client has shown no key that is known here."""
    message = "no API key, or none that is known here; send it as Authorization: Bearer KEY"
    body = error_object(message, BAD, code="invalid_api_key")
    return _answer(scope, 401, body, {"www-authenticate": "Bearer"})


def refuse_origin(scope: Scope, origin: str) -> JSONResponse:
    """A page asks that may not."""
    message = (
        f"pages of {origin} may not call this; http.origins in cluster.yaml names those that may"
    )
    return _answer(scope, 403, error_object(message, BAD, code="origin_not_allowed"))


async def fail(request: Request, _error: Exception) -> JSONResponse:
    """A mistake of ours; our log says where."""
    body = error_object("a fault in the server; its log says where", _OURS)
    return _answer(request.scope, 500, body)


def _answer(
    scope: Scope, status: int, body: dict[str, Any], headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """In the words of the API whose path it is."""
    if scope["path"].split("/")[:3] != _MESSAGES:
        return JSONResponse(body, status, headers)
    said = _of_messages(status, body, record_of(Request(scope)).request)
    return JSONResponse(said, _OVERLOADED if status == _UNREADY else status, headers)


def _of_messages(status: int, body: dict[str, Any], request: str) -> dict[str, Any]:
    kind = _TYPES_OF_MESSAGES.get(status, BAD if status < 500 else "api_error")
    error = {"type": kind, "message": body["error"]["message"]}
    if body["error"]["code"] == _NO_THREADS:
        error["details"] = {"error_code": _NO_THREADS, "unsupported": ["thread"]}
    return {"type": "error", "error": error, "request_id": request}


def _status(error: Dsv4Error) -> int:
    return 404 if isinstance(error, UnknownModelError) else _kind(error).status


def _kind(error: Dsv4Error) -> _Kind:
    return next(kind for each, kind in _KINDS if isinstance(error, each))


def _field(message: str) -> str | None:
    """Of the request; messages begin with it, whoever found the fault."""
    found = re.match(r"(?:the )?([\w.[\]]*\w[\]]?)(?: of \d+)?(?: is| has| have|:)", message)
    return found[1] if found else None
