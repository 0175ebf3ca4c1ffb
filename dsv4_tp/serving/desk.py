"""What a body asks for becomes an answer on its way."""

from collections.abc import AsyncGenerator
from typing import Any, Protocol

from starlette.responses import Response

from dsv4_tp.asks import Ask, Conversation
from dsv4_tp.coordinator.texts import Texts
from dsv4_tp.serving import chat, completions
from dsv4_tp.serving.choices import Pieces, asks_of, merged
from dsv4_tp.serving.completions import Answering
from dsv4_tp.serving.failures import UnknownModelError
from dsv4_tp.serving.fields import TextRequest
from dsv4_tp.serving.records import Record
from dsv4_tp.serving.replies import Events, Whole
from dsv4_tp.serving.spoken import Choice, Speaking


class _Answers(Protocol):
    """Of one request, in the words of its endpoint."""

    async def whole(self, pieces: Pieces) -> dict[str, Any]: ...
    def chunks(self, pieces: Pieces) -> AsyncGenerator[dict[str, Any]]: ...


class Desk:
    """Takes bodies for the texts of one model."""

    def __init__(self, name: str, texts: Texts, *, beat_s: float) -> None:
        """`name` of the model; after `beat_s` of silence a stream says that it lives."""
        self._name = name
        self._texts = texts
        self._beat_s = beat_s

    def check_model(self, name: str | None) -> None:
        """Raises UnknownModelError if it is another one."""
        if name not in (None, self._name):
            raise UnknownModelError(f"model {name!r} is not here; {self._name!r} is")

    def complete(self, body: bytes, record: Record) -> Response:
        """Of /v1/completions."""
        asked = completions.parse(body)
        answering = Answering(self._name, record.id, asked, self._texts.word)
        return self._answer(asked, asked.ask(), answering, record)

    def chat(self, body: bytes, record: Record) -> Response:
        """Of /v1/chat/completions."""
        asked = chat.parse(body)
        ask = asked.ask()
        assert isinstance(ask.prompt, Conversation)
        thinks = self._texts.thinks(ask.prompt)
        choices = [
            Choice(
                self._texts.reading(thinking=thinks, calls=bool(asked.usable_tools)),
                f"call_{record.id}_{number}",
                thinks=thinks,
                closing=self._texts.closing,
            )
            for number in range(asked.n or 1)
        ]
        speaking = Speaking(self._name, record.id, asked, self._texts.word, choices)
        return self._answer(asked, ask, speaking, record)

    def _answer(self, asked: TextRequest, ask: Ask, answers: _Answers, record: Record) -> Response:
        self.check_model(asked.model)
        streams = [
            record.watch(self._texts.stream(each, request_id=record.name(number)))
            for number, each in enumerate(asks_of(ask, asked.n or 1))
        ]
        pieces = merged(streams)
        if asked.stream:
            return Events(answers.chunks(pieces), beat_s=self._beat_s)
        return Whole(lambda: answers.whole(pieces))
