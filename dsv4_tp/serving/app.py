"""The paths, and what stands behind each."""

import secrets
import time
from collections import Counter

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dsv4_tp.config import LOCALHOST, LOOPBACK
from dsv4_tp.coordinator.cluster import refused
from dsv4_tp.coordinator.coordinator import Coordinator
from dsv4_tp.coordinator.texts import Texts
from dsv4_tp.errors import BusyError, Dsv4Error
from dsv4_tp.log import log
from dsv4_tp.serving import failures
from dsv4_tp.serving.completions import Answering, parse
from dsv4_tp.serving.failures import RETRY_S, UnknownModelError
from dsv4_tp.serving.replies import BEAT_S, Events, Whole

_MOST_BYTES = 16 * 2**20  # of a body: ids of a context of a million tokens
_MOST_NAMES = 100  # of unknown fields, which clients choose


class App:
    """What clients of one cluster may call."""

    def __init__(self, coordinator: Coordinator, texts: Texts, *, beat_s: float = BEAT_S) -> None:
        """After `beat_s` of silence a stream says that it lives."""
        self._coordinator = coordinator
        self._texts = texts
        self._name = coordinator.setup.model_name
        self._model = {
            "id": self._name,
            "object": "model",
            "created": int(time.time()),
            "owned_by": "dsv4-tp",
            "max_model_len": coordinator.setup.context,
        }
        self._beat_s = beat_s
        self._unheard: Counter[str] = Counter()

    def asgi(self, host: str = LOOPBACK) -> Starlette:
        """As a server takes it; `host` is the address it is reached at.

        A page of another site, whose name leads here, could else read texts through the browser of
        its visitor.
        """
        return Starlette(
            routes=[
                Route("/health", self._ready),
                Route("/health/live", self._live),
                Route("/health/ready", self._ready),
                Route("/v1/models", self._models),
                Route("/v1/models/{name:path}", self._one_model),
                Route("/v1/completions", self._completions, methods=["POST"]),
            ],
            middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[LOCALHOST, host])],
            exception_handlers={
                Dsv4Error: failures.refuse,
                HTTPException: failures.refuse_path,
                Exception: failures.fail,
            },
        )

    async def _live(self, _request: Request) -> Response:
        return JSONResponse({"state": "live"})

    async def _ready(self, _request: Request) -> Response:
        """From what is known of the ranks, never by asking them; busy is ready."""
        state = self._coordinator.state
        error = refused(state)
        ready = error is None or isinstance(error, BusyError)
        body = {
            "state": state.phase.value,
            "epoch": state.epoch,
            "ranks": [
                {"rank": number, "host": rank.host, "phase": rank.report.phase}
                for number, rank in sorted(state.ranks.items())
            ],
            "reason": None if ready else str(error),
        }
        if ready:
            return JSONResponse(body)
        return JSONResponse(body, 503, {"retry-after": str(RETRY_S)})

    async def _models(self, _request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._model]})

    async def _one_model(self, request: Request) -> Response:
        self._check_model(request.path_params["name"])
        return JSONResponse(self._model)

    async def _completions(self, request: Request) -> Response:
        asked = parse(await _body(request))
        self._check_model(asked.model)
        self._note(asked.unheard)
        answering = Answering(self._name, secrets.token_hex(8), asked, self._texts.word)
        pieces = self._texts.stream(asked.ask())
        if asked.stream:
            return Events(answering.chunks(pieces), beat_s=self._beat_s)
        return Whole(lambda: answering.whole(pieces))

    def _check_model(self, name: str | None) -> None:
        if name not in (None, self._name):
            raise UnknownModelError(f"model {name!r} is not here; {self._name!r} is")

    def _note(self, unheard: list[str]) -> None:
        """Fields that are ignored are told once each."""
        for name in unheard:
            if name not in self._unheard and len(self._unheard) < _MOST_NAMES:
                log("unknown-field-ignored", path="/v1/completions", field=name[:100])
            self._unheard[name] += 1


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _MOST_BYTES:
            raise HTTPException(413, f"the body is larger than {_MOST_BYTES} bytes")
    return bytes(body)
