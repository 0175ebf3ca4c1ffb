"""What a body asks for becomes an answer on its way."""

from collections.abc import Sequence

from starlette.responses import JSONResponse, Response

from dsv4_tp.asks import Ask, Conversation
from dsv4_tp.coordinator.texts import Texts
from dsv4_tp.serving import chat, completions, messages, responses
from dsv4_tp.serving.answers import Answers
from dsv4_tp.serving.choices import asks_of, merged
from dsv4_tp.serving.completions import Answering
from dsv4_tp.serving.failures import UnknownModelError
from dsv4_tp.serving.fields import Sampled
from dsv4_tp.serving.records import Record
from dsv4_tp.serving.replies import Events, Whole
from dsv4_tp.serving.said import Said
from dsv4_tp.serving.spoken import Choice, Speaking


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
        asks = asks_of(asked.ask(), asked.n or 1)
        answering = Answering(self._name, record.id, asked, self._texts.word)
        return self._answer(asked, asks, answering, record)

    def chat(self, body: bytes, record: Record) -> Response:
        """Of /v1/chat/completions."""
        asked = chat.parse(body)
        ask = asked.ask()
        assert isinstance(ask.prompt, Conversation)
        choices = [
            Choice(
                self._said(ask.prompt, calls=bool(asked.usable_tools)),
                f"call_{record.id}_{number}",
            )
            for number in range(asked.n or 1)
        ]
        speaking = Speaking(self._name, record.id, asked, self._texts.word, choices)
        return self._answer(asked, asks_of(ask, asked.n or 1), speaking, record)

    def message(self, body: bytes, record: Record) -> Response:
        """Of /v1/messages."""
        asked = messages.parse(body)
        talk = asked.talk()
        said = self._said(talk, calls=bool(asked.usable_tools))
        telling = messages.Telling(self._name, record, said)
        return self._answer(asked, [asked.ask(talk)], telling, record)

    def respond(self, body: bytes, record: Record) -> Response:
        """Of /v1/responses."""
        asked = responses.parse(body)
        talk = asked.talk()
        said = self._said(talk, calls=bool(asked.usable_tools))
        responding = responses.Responding(self._name, record, asked, said)
        return self._answer(asked, [asked.ask(talk)], responding, record)

    def count(self, body: bytes, _record: Record) -> Response:
        """Of /v1/messages/count_tokens."""
        asked = messages.parse_count(body)
        self.check_model(asked.model)
        return JSONResponse({"input_tokens": self._texts.count(asked.talk())})

    def _said(self, talk: Conversation, *, calls: bool) -> Said:
        thinks = self._texts.thinks(talk)
        reading = self._texts.reading(thinking=thinks, calls=calls)
        return Said(reading, thinks=thinks, closing=self._texts.closing)

    def _answer(
        self, asked: Sampled, asks: Sequence[Ask], answers: Answers, record: Record
    ) -> Response:
        self.check_model(asked.model)
        streams = [
            record.watch(self._texts.stream(each, request_id=record.name(number)))
            for number, each in enumerate(asks)
        ]
        pieces = merged(streams)
        if asked.stream:
            return Events(answers, answers.chunks(pieces), beat_s=self._beat_s)
        return Whole(answers, pieces)
