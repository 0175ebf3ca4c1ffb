"""/v1/completions: what is asked, checked field by field, and what is answered."""

import time
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator

from dsv4_tp.asks import Ask, Logprob, Piece, Stats, whole
from dsv4_tp.serving.answers import Answers
from dsv4_tp.serving.choices import Pieces, usage
from dsv4_tp.serving.fields import Idle, TextRequest, TokenId, parsed

_MOST_LOGPROBS = 5
_MOST_TOKENS = 2**20


class CompletionRequest(TextRequest):
    """What a client may say; where it says nothing, the checkpoint's makers have."""

    idle: ClassVar[Idle] = {"best_of": (None, 1), "echo": (None, False), "suffix": (None, "")}
    prompt: str | Annotated[list[TokenId], Field(max_length=_MOST_TOKENS, fail_fast=True)]
    logprobs: Annotated[int, Field(ge=0, le=_MOST_LOGPROBS)] | None = None

    @field_validator("prompt", mode="before")
    @classmethod
    def _one_prompt(cls, said: Any) -> Any:
        """A list of one text is that text."""
        if isinstance(said, list) and said and isinstance(said[0], str | list):
            if len(said) > 1:  # pyright: ignore[reportUnknownArgumentType]
                raise ValueError("there are several; ask for each by itself")
            return said[0]  # pyright: ignore[reportUnknownVariableType]
        return said  # pyright: ignore[reportUnknownVariableType]

    def ask(self) -> Ask:
        """The text that is asked for."""
        return replace(self.asked(self.prompt), logprobs=self.logprobs)


def parse(body: bytes) -> CompletionRequest:
    """The request in a body.

    Raises RequestError: it is not JSON, or a field, which is named, is not what it must be, or
    cannot be served.
    """
    return parsed(CompletionRequest, body)


class Answering(Answers):
    """The answer to one request, in OpenAI's words."""

    def __init__(
        self, name: str, request_id: str, asked: CompletionRequest, word: Callable[[int], str]
    ) -> None:
        """`name` of the model; `word` is a token by itself."""
        self._head = {
            "id": f"cmpl-{request_id}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": name,
        }
        self._asked = asked
        self._word = word
        self._written: Counter[int] = Counter()  # characters, by answer

    async def whole(self, pieces: Pieces) -> dict[str, Any]:
        """All of them."""
        found: defaultdict[int, list[Piece]] = defaultdict(list)
        async with aclosing(pieces):
            async for number, piece in pieces:
                found[number].append(piece)
        answers = {number: whole(found[number]) for number in sorted(found)}
        choices = [
            self._choice(number, Piece(each.tokens, each.text, each.finish, each.logprobs))
            for number, each in answers.items()
        ]
        costs = [each.finish.stats for each in answers.values()]
        return self._head | {"choices": choices, "usage": usage(costs)}

    async def chunks(self, pieces: Pieces) -> AsyncGenerator[dict[str, Any]]:
        """As they come, and at the end what they cost if that is asked for."""
        asked: dict[str, Any] = {"usage": None} if self._asked.wants_usage else {}
        costs: list[Stats] = []
        async with aclosing(pieces):
            async for number, piece in pieces:
                yield self._head | {"choices": [self._choice(number, piece)]} | asked
                costs += [piece.finish.stats] if piece.finish else []
        if asked:
            yield self._head | {"choices": [], "usage": usage(costs)}

    def _choice(self, number: int, piece: Piece) -> dict[str, Any]:
        said = self._asked.logprobs is not None
        choice = {
            "index": number,
            "text": piece.text,
            "logprobs": self._logprobs(piece, self._written[number]) if said else None,
            "finish_reason": piece.finish.reason.value if piece.finish else None,
        }
        self._written[number] += len(piece.text)
        return choice

    def _logprobs(self, piece: Piece, start: int) -> dict[str, Any]:
        words = [self._word(token) for token in piece.tokens]
        pairs = list(zip(words, piece.logprobs, strict=True))
        return {
            "tokens": words,
            "token_logprobs": [each.logprob for each in piece.logprobs],
            "top_logprobs": [self._top(word, each) for word, each in pairs],
            "text_offset": _offsets(words, start),
        }

    def _top(self, word: str, chosen: Logprob) -> dict[str, float]:
        """The likeliest, and the chosen one if it is none of them."""
        top = {self._word(token): logprob for token, logprob in chosen.top}
        return {word: chosen.logprob} | top


def _offsets(words: Sequence[str], start: int) -> list[int]:
    """Where each begins in the answer; close, where characters are made of several tokens."""
    return [start + sum(map(len, words[:count])) for count in range(len(words))]
