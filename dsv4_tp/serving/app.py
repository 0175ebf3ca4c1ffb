"""The paths, and what stands behind each."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from dsv4_tp.config import Http
from dsv4_tp.coordinator.coordinator import Coordinator
from dsv4_tp.coordinator.texts import Texts
from dsv4_tp.errors import Dsv4Error
from dsv4_tp.serving import failures, shapes
from dsv4_tp.serving.chat import ChatRequest
from dsv4_tp.serving.completions import CompletionRequest
from dsv4_tp.serving.desk import Desk
from dsv4_tp.serving.entrance import HEALTH, entrance
from dsv4_tp.serving.keys import Keys
from dsv4_tp.serving.messages import Counted, MessageRequest
from dsv4_tp.serving.page import files
from dsv4_tp.serving.page.news import News
from dsv4_tp.serving.paths import Endpoint, Path, described, routes
from dsv4_tp.serving.probes import PROBES, Probes
from dsv4_tp.serving.records import Record, Recorded, record_of
from dsv4_tp.serving.replies import BEAT_S
from dsv4_tp.serving.responses import ResponseRequest

_MOST_BYTES = 16 * 2**20  # of a body: ids of a context of a million tokens
_BODY_S = 60.0  # from its head on; a megabyte in 4 s
_MOST_SHOWN = 60  # characters of a header in a message
_JSON = re.compile(r"application/(\S+\+)?json *(;.*)?", re.IGNORECASE)

_Take = Callable[[bytes, Record], Response]
_Models = tuple[type[BaseModel], type[BaseModel], type[BaseModel] | None]


class App:
    """What clients of one cluster may call."""

    def __init__(
        self,
        coordinator: Coordinator,
        texts: Texts,
        *,
        beat_s: float = BEAT_S,
        body_s: float = _BODY_S,
    ) -> None:
        """After `beat_s` of silence a stream says that it lives; a body has to come in `body_s`."""
        self._body_s = body_s
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
        probes = Probes(self._coordinator, answers, http.metrics_alias)
        paths = described([*probes.paths(), *self._paths()], keys=keys is not None)
        app = Starlette(
            routes=[*routes(paths), *News(self._coordinator).routes(), *files.routes()],
            middleware=entrance(http, keys, open_to_all=(*HEALTH, *files.PATHS)),
            exception_handlers={
                Dsv4Error: failures.refuse,
                HTTPException: failures.refuse_path,
                ClientDisconnect: failures.let_go,
                Exception: failures.fail,
            },
        )
        app.router.redirect_slashes = False  # OpenAI's API knows no such paths
        return Recorded(app, answers, quiet=(*PROBES, *files.PATHS))

    def _paths(self) -> list[Path]:
        return [*self._paths_of_models(), *self._paths_of_openai(), *self._paths_of_anthropic()]

    def _paths_of_models(self) -> list[Path]:
        one = "/v1/models/{name:path}"
        return [
            Path("GET", "/v1/models", self._models, "The one model.", shapes.Models),
            Path("GET", one, self._one_model, "Whether it is this.", shapes.Model, fails=(404,)),
        ]

    def _paths_of_openai(self) -> list[Path]:
        return [
            self._texts(
                ("/v1/completions", self._desk.complete, "What a text goes on with."),
                (CompletionRequest, shapes.Completion, shapes.CompletionChunk),
            ),
            self._texts(
                ("/v1/chat/completions", self._desk.chat, "An answer."),
                (ChatRequest, shapes.ChatCompletion, shapes.ChatChunk),
            ),
            self._texts(
                ("/v1/responses", self._desk.respond, "An answer, in OpenAI's later words."),
                (ResponseRequest, shapes.Response, shapes.Event),
            ),
        ]

    def _paths_of_anthropic(self) -> list[Path]:
        counted = "How many tokens a conversation has."
        rows = [
            self._texts(
                ("/v1/messages", self._desk.message, "An answer, in Anthropic's words."),
                (MessageRequest, shapes.AnthropicMessage, shapes.Event),
            ),
            self._texts(
                ("/v1/messages/count_tokens", self._desk.count, counted),
                (Counted, shapes.Count, None),
            ),
        ]
        return [replace(row, fails=(529,), refuses=shapes.AnthropicError) for row in rows]

    def _texts(self, what: tuple[str, _Take, str], models: _Models) -> Path:
        """A path to send bodies to: what takes them, what for; what is asked, told and streamed."""
        (path, take, says), (asks, tells, streams) = what, models
        return Path("POST", path, self._asked(take), says, tells, asks, streams)

    async def _models(self, _request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._model]})

    async def _one_model(self, request: Request) -> Response:
        self._desk.check_model(request.path_params["name"])
        return JSONResponse(self._model)

    def _asked(self, take: _Take) -> Endpoint:
        """Takes bodies beside the loop."""

        async def answer(request: Request) -> Response:
            body = await self._body(request)
            return await asyncio.to_thread(take, body, record_of(request))

        return answer

    async def _body(self, request: Request) -> bytes:
        """All of it; raises HTTPException if it is not JSON, comes too slowly or is too large."""
        _check_kind(request.headers)
        try:
            async with asyncio.timeout(self._body_s):
                return await _read(request)
        except TimeoutError as error:
            late = f"the body was not here within {self._body_s:g} s; send it again"
            raise HTTPException(408, late) from error


def _check_kind(headers: Headers) -> None:
    """A body whose kind is not told is taken for JSON; if it is none, that is told then."""
    kind = headers.get("content-type", "application/json")
    if not _JSON.fullmatch(kind):
        raise HTTPException(415, f"the body is {kind[:_MOST_SHOWN]!r}; send application/json")
    coding = headers.get("content-encoding", "identity")
    if coding != "identity":
        raise HTTPException(415, f"it is packed by {coding[:_MOST_SHOWN]!r}; send it as it is")


async def _read(request: Request) -> bytes:
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
