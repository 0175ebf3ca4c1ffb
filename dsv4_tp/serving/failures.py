"""Our errors as HTTP tells them: a status, and the error object of OpenAI's API. One table.

The same errors have codes of gRPC in `rpc.status`.
"""

import re
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from dsv4_tp import errors
from dsv4_tp.errors import Dsv4Error

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
    kind = _kind(error)
    of_a_field = isinstance(error, errors.RequestError)
    return error_object(str(error), kind.type, param=_field(str(error)) if of_a_field else None)


async def refuse(_request: Request, error: Exception) -> JSONResponse:
    """The whole answer to a request that failed before any of its answer was sent."""
    assert isinstance(error, Dsv4Error)
    kind = _kind(error)
    headers = {} if kind.retry_s is None else {"retry-after": str(kind.retry_s)}
    if kind.status >= 500 and kind.retry_s is None:
        headers["x-should-retry"] = "false"  # OpenAI's clients would, and it would cost as much
    status = 404 if isinstance(error, UnknownModelError) else kind.status
    return JSONResponse(told(error), status, headers)


async def refuse_path(_request: Request, error: Exception) -> JSONResponse:
    """There is no such path, or no such method, or the body is too large."""
    assert isinstance(error, HTTPException)
    return JSONResponse(error_object(error.detail, _BAD), error.status_code, error.headers)


def refuse_key() -> JSONResponse:
    """The client has shown no key that is known here."""
    message = "no API key, or none that is known here; send it as Authorization: Bearer KEY"
    body = error_object(message, _BAD, code="invalid_api_key")
    return JSONResponse(body, 401, {"www-authenticate": "Bearer"})


def refuse_origin(origin: str) -> JSONResponse:
    """A page asks that may not."""
    message = (
        f"pages of {origin} may not call this; http.origins in cluster.yaml names those that may"
    )
    return JSONResponse(error_object(message, _BAD, code="origin_not_allowed"), 403)


async def fail(_request: Request, _error: Exception) -> JSONResponse:
    """A mistake of ours; our log says where."""
    return JSONResponse(error_object("a fault in the server; its log says where", _OURS), 500)


def _kind(error: Dsv4Error) -> _Kind:
    return next(kind for each, kind in _KINDS if isinstance(error, each))


def _field(message: str) -> str | None:
    """Of the request; messages begin with it, whoever found the fault."""
    found = re.match(r"(?:the )?([\w.[\]]*\w[\]]?)(?: of \d+)?(?: is| has|:)", message)
    return found[1] if found else None
