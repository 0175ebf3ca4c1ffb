"""The table of paths: from a row of it come the route and what /openapi.json says of it."""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dsv4_tp import __version__
from dsv4_tp.serving.entrance import HEALTH
from dsv4_tp.serving.shapes import Description, Error

Json = dict[str, Any]
Endpoint = Callable[[Request], Awaitable[Response]]
_REF = "#/components/schemas/{model}"
_FAILS = {
    400: "it is not what it must be, or cannot be served",
    401: "no API key, or an unknown one",
    403: "a page of another site asks",
    404: "no such model",
    408: "the body did not come in time",
    413: "the body is too large",
    415: "the body is no JSON",
    429: "as many requests wait as may",
    500: "a fault of ours, or of the model's numbers",
    503: "the cluster takes no requests now",
    504: "the time limit was reached",
    529: "the cluster takes no requests now",
}
_LATER = (429, 503, 529)
_ASKED_IN_VAIN = (404, 408, 413, 415, 429, 500, 503, 504)  # of what has a body
_AT_THE_DOOR = (400, 401, 403)


@dataclass(frozen=True, slots=True)
class Path:
    """One row."""

    method: str
    path: str  # as Starlette's routes have it
    answer: Endpoint
    says: str  # what it is for, in a line
    tells: type[BaseModel] | str  # what is answered, or its type if that is text
    asks: type[BaseModel] | None = None  # the body
    streams: type[BaseModel] | None = None  # each event, if a stream can be asked for
    fails: tuple[int, ...] = ()  # with other statuses than all do
    unready: type[BaseModel] | None = None  # what 503 tells, if not an error
    refuses: type[BaseModel] = Error  # what is told of what went wrong


def routes(paths: Sequence[Path]) -> list[Route]:
    """A route for each row."""
    return [Route(row.path, row.answer, methods=[row.method]) for row in paths]


def described(paths: Sequence[Path], *, keys: bool) -> list[Path]:
    """The rows, and one that describes them all."""
    told: Json = {}

    async def describe(_request: Request) -> Response:
        return JSONResponse(told)

    says = "What there is, in the words of OpenAPI."
    rows = [*paths, Path("GET", "/openapi.json", describe, says, Description)]
    told |= openapi(rows, keys=keys)
    return rows


def openapi(paths: Sequence[Path], *, keys: bool) -> Json:
    """The API in the words of OpenAPI 3.1; `keys`: clients need one."""
    found: Json = {}
    for row in paths:
        place = found.setdefault(re.sub(r":\w+}", "}", row.path), {})
        place[row.method.lower()] = _operation(row)
    return {
        "openapi": "3.1.0",
        "info": {"title": "dsv4-tp", "version": __version__},
        "paths": found,
        "components": {
            "schemas": _schemas(paths),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
        "security": [{"bearer": []}, {"header": []}] if keys else [],
    }


def _operation(row: Path) -> Json:
    told: Json = {
        "summary": row.says,
        "operationId": f"{row.method.lower()}{re.sub('[^a-z0-9]+', '_', row.path)}".rstrip("_"),
        "responses": {"200": _answered(row)}
        | {str(each): _failed(each, row.refuses) for each in _fails(row)},
    }
    if row.unready:
        told["responses"]["503"] |= {"content": _json(row.unready)}
    if row.asks:
        told["requestBody"] = {"required": True, "content": _json(row.asks)}
    if names := re.findall(r"{(\w+)", row.path):
        told["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in names
        ]
    return told | ({"security": []} if row.path in HEALTH else {})


def _fails(row: Path) -> list[int]:
    more = _ASKED_IN_VAIN if row.asks else (503,) if row.unready else ()
    return sorted({*_AT_THE_DOOR, *more, *row.fails})


def _failed(status: int, refuses: type[BaseModel]) -> Json:
    told: Json = {"description": _FAILS[status], "content": _json(refuses)}
    if status in _LATER:
        told["headers"] = {"Retry-After": {"schema": {"type": "integer"}}}
    return told


def _answered(row: Path) -> Json:
    if isinstance(row.tells, str):
        return {"description": row.says, "content": {row.tells: {"schema": {"type": "string"}}}}
    content = _json(row.tells)
    if row.streams:
        content["text/event-stream"] = {"schema": _event(row.streams, row.refuses)}
    return {"description": row.says, "content": content}


def _event(model: type[BaseModel], refuses: type[BaseModel]) -> Json:
    """Each one of a stream, whose last may be no JSON."""
    one = {"anyOf": [_ref(model), _ref(refuses)]}
    text = {"type": "string", "contentMediaType": "application/json", "contentSchema": one}
    data = {"anyOf": [{"const": "[DONE]"}, text]}
    return {"type": "object", "properties": {"data": data}, "required": ["data"]}


def _json(model: type[BaseModel]) -> Json:
    return {"application/json": {"schema": _ref(model)}}


def _ref(model: type[BaseModel]) -> Json:
    return {"$ref": _REF.format(model=model.__name__)}


def _schemas(paths: Sequence[Path]) -> Json:
    asked = {row.asks for row in paths if row.asks}
    told = {each for row in paths for each in (row.tells, row.streams, row.unready, row.refuses)}
    models = [each for each in told if isinstance(each, type)]
    _, found = models_json_schema(
        [
            *((model, "validation") for model in sorted(asked, key=_name)),
            *((model, "serialization") for model in sorted(models, key=_name)),
        ],
        ref_template=_REF,
    )
    return found["$defs"]


def _name(model: type[BaseModel]) -> str:
    return model.__name__
