"""One line in the log for each request at its end, and the id that it is told by.

Lines have ids, numbers and our own words. Nothing of what clients ask or hear is in them, and for
that reason no message of an exception that nobody expected.
"""

import re
import secrets
import time
from collections import Counter
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from traceback import extract_tb
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dsv4_tp.asks import Finish, Piece
from dsv4_tp.core import FinishReason
from dsv4_tp.log import log

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HEADER = "x-request-id"
_HEADERS = (_HEADER, "request-id")  # the latter is where Anthropic's clients look
_KEY = "dsv4_tp.record"
_MOST_FRAMES = 8
_MOST_PATH = 100  # characters in the log


@dataclass(slots=True)
class Record:
    """What is known of a request; it grows while that is served."""

    request: str  # as its client calls it, else its id
    id: str  # of its text, here and on the ranks
    begun_s: float = field(default_factory=time.monotonic)
    status: int | None = None  # None: nothing is answered yet
    answered: bool = False  # wholly
    gone: bool = False  # its client, before that
    generated: int | None = None  # tokens so far; None: there is no text
    finish: Finish | None = None
    error: str = ""  # what the text failed of

    def name(self, number: int) -> str:
        """Of one of its texts, here and on the ranks."""
        return f"{self.id}-{number}" if number else self.id

    async def watch(self, pieces: AsyncGenerator[Piece]) -> AsyncGenerator[Piece]:
        """The pieces, of which it is noted what they are and how they end.

        Of several texts their tokens are counted together, and the last one's end is the end.
        """
        self.generated = self.generated or 0
        async with aclosing(pieces):
            try:
                async for piece in pieces:
                    self.generated += len(piece.tokens)
                    self.finish = piece.finish
                    yield piece
            except Exception as error:
                self.error = type(error).__name__
                raise

    def words(self) -> dict[str, object]:
        """All that is known of it, by name."""
        known = {
            "status": self.status,
            **(self._text() if self.generated is not None else {}),
            "seconds": time.monotonic() - self.begun_s,
            "client": "gone" if self.gone else None,
        }
        return {name: value for name, value in known.items() if value is not None}

    def _text(self) -> dict[str, object]:
        told: dict[str, object] = {"id": self.id, "generated_tokens": self.generated}
        if (finish := self.finish) is None:
            return told | {"ended": self.error or FinishReason.CANCELLED.value}
        stats = finish.stats
        return {
            "id": self.id,
            "prompt_tokens": stats.prompt_tokens,
            "cached_tokens": stats.cached_tokens,
            "generated_tokens": stats.generated_tokens,
            "queue_s": stats.queue_s,
            "first_token_s": stats.first_token_s,
            "restarts": stats.restarts or None,
            "ended": finish.reason.value,
        }


def record_of(request: Request) -> Record:
    """The record of a request that is being served."""
    return request.scope[_KEY]


class Recorded:
    """An app whose requests have an id, and a line in the log when they are over."""

    def __init__(self, app: ASGIApp, answers: Counter[int], quiet: Collection[str] = ()) -> None:
        """Answers are counted in `answers`, by status.

        Requests for `quiet` paths have no line: probes come every few seconds.
        """
        self._app = app
        self._answers = answers
        self._quiet = quiet

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one; what nobody expected was answered within, and ends here."""
        record = scope[_KEY] = _record(scope)
        try:
            await self._app(scope, _hearing(record, receive), _telling(record, send))
        except Exception as error:
            log("http-fault", request=record.request, error=type(error).__name__, at=_trace(error))
        finally:
            if record.status is not None:
                self._answers[record.status] += 1
            if scope["path"] not in self._quiet:
                asked = {"method": scope["method"], "path": quote(scope["path"])[:_MOST_PATH]}
                log("http", request=record.request, **asked, **record.words())


def _record(scope: Scope) -> Record:
    own, said = secrets.token_hex(8), Headers(scope=scope).get(_HEADER, "")
    return Record(said if _ID.fullmatch(said) else own, own)


def _hearing(record: Record, receive: Receive) -> Receive:
    async def hear() -> Message:
        message = await receive()
        record.gone = record.gone or (message["type"] == "http.disconnect" and not record.answered)
        return message

    return hear


def _telling(record: Record, send: Send) -> Send:
    async def tell(message: Message) -> None:
        if message["type"] == "http.response.start":
            record.status = message["status"]
            for name in _HEADERS:
                MutableHeaders(scope=message)[name] = record.request
        else:
            record.answered = not message.get("more_body", False)
        await send(message)

    return tell


def _trace(error: Exception) -> str:
    """Where it was raised, innermost first."""
    frames = reversed(extract_tb(error.__traceback__)[-_MOST_FRAMES:])
    return " ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames)
