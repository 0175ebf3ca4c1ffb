"""Our errors as HTTP tells them: a status, and the error object of the API. One table.

The same errors have codes of gRPC in `rpc.status`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Scope

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


_BAD = "invalid_request_error"
_OURS = "server_error"
_KINDS: tuple[tuple[type[Dsv4Error], _Kind], ...] = (
    (errors.RequestError, _Kind(400, _BAD)),
    (errors.BusyError, _Kind(429, "rate_limit_error", _SOON_S)),
    (errors.NotReadyError, _Kind(503, _OURS, RETRY_S)),
    (errors.HarmfulRequestError, _Kind(500, _OURS)),
    (errors.RankFailure, _Kind(503, _OURS, RETRY_S)),
    (errors.OutrankedError, _Kind(503, _OURS, RETRY_S)),
    (errors.DeadlineError, _Kind(504, "timeout_error")),
    (errors.InputError, _Kind(400, _BAD)),  # such as words for a checkpoint without a tokenizer
    (Dsv4Error, _Kind(500, _OURS)),
)


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


def error_object(
    message: str, kind: str, *, param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    """What OpenAI's API says of an error."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def told(error: Dsv4Error) -> dict[str, Any]:
    """The error object, which is also what a stream ends with if it fails on the way."""
    if isinstance(error, UnknownModelError):
        return error_object(str(error), _BAD, param="model", code="model_not_found")
    if isinstance(error, UnkeptError):
        return error_object(str(error), _BAD, param="thread", code=_NO_THREADS)
    kind = _kind(error)
    of_a_field = isinstance(error, errors.RequestError)
    return error_object(str(error), kind.type, param=_field(str(error)) if of_a_field else None)


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
    """There is no such path, or no such method, or the body is too large."""
    assert isinstance(error, HTTPException)
    body = error_object(error.detail, _BAD)
    return _answer(request.scope, error.status_code, body, error.headers)


def refuse_key(scope: Scope) -> JSONResponse:
    """The client has shown no key that is known here."""
    message = "no API key, or none that is known here; send it as Authorization: Bearer KEY"
    body = error_object(message, _BAD, code="invalid_api_key")
    return _answer(scope, 401, body, {"www-authenticate": "Bearer"})


def refuse_origin(scope: Scope, origin: str) -> JSONResponse:
    """A page asks that may not."""
    message = (
        f"pages of {origin} may not call this; http.origins in cluster.yaml names those that may"
    )
    return _answer(scope, 403, error_object(message, _BAD, code="origin_not_allowed"))


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
    kind = _TYPES_OF_MESSAGES.get(status, _BAD if status < 500 else "api_error")
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
    found = re.match(r"(?:the )?([\w.[\]]*\w[\]]?)(?: of \d+)?(?: is| has|:)", message)
    return found[1] if found else None
