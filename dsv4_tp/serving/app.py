"""The paths, and what stands behind each."""

import asyncio
import time
from collections import Counter

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from dsv4_tp.config import Http
from dsv4_tp.coordinator.coordinator import Coordinator
from dsv4_tp.coordinator.texts import Texts
from dsv4_tp.errors import Dsv4Error
from dsv4_tp.serving import failures
from dsv4_tp.serving.desk import Desk
from dsv4_tp.serving.entrance import HEALTH, entrance
from dsv4_tp.serving.keys import Keys
from dsv4_tp.serving.page import files
from dsv4_tp.serving.page.news import News
from dsv4_tp.serving.probes import PROBES, Probes
from dsv4_tp.serving.records import Recorded, record_of
from dsv4_tp.serving.replies import BEAT_S

_MOST_BYTES = 16 * 2**20  # of a body: ids of a context of a million tokens


class App:
    """What clients of one cluster may call."""

    def __init__(self, coordinator: Coordinator, texts: Texts, *, beat_s: float = BEAT_S) -> None:
        """After `beat_s` of silence a stream says that it lives."""
        self._coordinator = coordinator
        self._desk = Desk(coordinator.setup.model_name, texts, beat_s=beat_s)
        self._model = {
            "id": coordinator.setup.model_name,
            "object": "model",
            "created": int(time.time()),
            "owned_by": "dsv4-tp",
            "max_model_len": coordinator.setup.context,
        }

    def asgi(self, http: Http = Http(), keys: Keys | None = None) -> ASGIApp:  # noqa: B008
        """As a server takes it; without `keys` whoever reaches it is let in."""
        answers: Counter[int] = Counter()
        app = Starlette(
            routes=[
                *Probes(self._coordinator, answers, http.metrics_alias).routes(),
                Route("/v1/models", self._models),
                Route("/v1/models/{name:path}", self._one_model),
                Route("/v1/completions", self._completions, methods=["POST"]),
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
                *News(self._coordinator).routes(),
                *files.routes(),
                Route("/v1/responses", self._respond, methods=["POST"]),
                Route("/v1/messages", self._message, methods=["POST"]),
                Route("/v1/messages/count_tokens", self._count, methods=["POST"]),
            ],
            middleware=entrance(http, keys, open_to_all=(*HEALTH, *files.PATHS)),
            exception_handlers={
                Dsv4Error: failures.refuse,
                HTTPException: failures.refuse_path,
                Exception: failures.fail,
            },
        )
        return Recorded(app, answers, quiet=(*PROBES, *files.PATHS))

    async def _models(self, _request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._model]})

    async def _one_model(self, request: Request) -> Response:
        self._desk.check_model(request.path_params["name"])
        return JSONResponse(self._model)

    async def _completions(self, request: Request) -> Response:
        body = await _body(request)
        return await asyncio.to_thread(self._desk.complete, body, record_of(request))

    async def _chat(self, request: Request) -> Response:
        body = await _body(request)
        return await asyncio.to_thread(self._desk.chat, body, record_of(request))

    async def _respond(self, request: Request) -> Response:
        body = await _body(request)
        return await asyncio.to_thread(self._desk.respond, body, record_of(request))

    async def _message(self, request: Request) -> Response:
        body = await _body(request)
        return await asyncio.to_thread(self._desk.message, body, record_of(request))

    async def _count(self, request: Request) -> Response:
        body = await _body(request)
        return JSONResponse(await asyncio.to_thread(self._desk.count, body))


async def _body(request: Request) -> bytes:
    """One that is announced as too large is not read."""
    announced = request.headers.get("content-length", "")
    body = bytearray()
    _check_size(int(announced) if announced.isdecimal() else 0)
    async for part in request.stream():
        body += part
        _check_size(len(body))
    return bytes(body)


def _check_size(nbytes: int) -> None:
    if nbytes > _MOST_BYTES:
        raise HTTPException(413, f"the body is larger than {_MOST_BYTES} bytes")
