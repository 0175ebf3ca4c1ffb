"""/v1/completions: what is asked, checked field by field, and what is answered."""

import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from dsv4_tp.asks import Ask, Logprob, Piece, Stats, whole
from dsv4_tp.core import FinishReason
from dsv4_tp.errors import DeadlineError, RequestError

_Count = Annotated[int, Field(ge=0, lt=2**31)]
_Id = Annotated[int, Field(ge=0, lt=2**31)]
_Seed = Annotated[int, Field(ge=0, lt=2**64)]
_MOST_LOGPROBS = 5
# Of OpenAI's, those that would change the answer; with these values alone they change nothing.
_IDLE: Mapping[str, tuple[Any, ...]] = {
    "n": (None, 1),
    "best_of": (None, 1),
    "echo": (None, False),
    "suffix": (None, ""),
}
_UNUSED = ("user",)
_EXPECTED = {
    "prompt": "Input should be a text, or token ids",
    "stop": "Input should be a text, or a list of texts",
}


class StreamOptions(BaseModel):
    """What a stream tells beside its text."""

    model_config = ConfigDict(strict=True)
    include_usage: bool = False


class CompletionRequest(BaseModel):
    """What a client may say; where it says nothing, the checkpoint's makers have."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)
    prompt: str | list[_Id]
    model: str | None = None
    max_tokens: _Count | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: _Count | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[_Id, float] | None = None
    seed: _Seed | None = None
    stop: str | list[str] | None = None
    logprobs: Annotated[int, Field(ge=0, le=_MOST_LOGPROBS)] | None = None
    time_limit_s: float | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @field_validator("prompt", mode="before")
    @classmethod
    def _one_prompt(cls, said: Any) -> Any:
        """A list of one text is that text."""
        if isinstance(said, list) and said and isinstance(said[0], str | list):
            if len(said) > 1:  # pyright: ignore[reportUnknownArgumentType]
                raise ValueError("there are several; ask for each by itself")
            return said[0]  # pyright: ignore[reportUnknownVariableType]
        return said  # pyright: ignore[reportUnknownVariableType]

    @property
    def unheard(self) -> list[str]:
        """Fields that nobody here knows."""
        return sorted(set(self.model_extra or {}) - {*_IDLE, *_UNUSED})

    def ask(self) -> Ask:
        """The text that is asked for."""
        return Ask(
            self.prompt,
            stop=() if self.stop is None else self.stop,
            **self.model_dump(
                include={
                    *("max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "logprobs"),
                    *("repetition_penalty", "presence_penalty", "frequency_penalty"),
                    *("logit_bias", "time_limit_s"),
                }
            ),
        )


def parse(body: bytes) -> CompletionRequest:
    """The request in a body.

    Raises RequestError: it is not JSON, or a field, which is named, is not what it must be.
    """
    try:
        asked = CompletionRequest.model_validate_json(body)
    except ValidationError as error:
        raise RequestError(_first_fault(error)) from error
    for name, values in _IDLE.items():
        if (said := (asked.model_extra or {}).get(name)) not in values:
            raise RequestError(f"{name} is {said!r}; it cannot be served, leave it out")
    if asked.stream_options and not asked.stream:
        raise RequestError("stream_options: there is no stream; say stream: true")
    return asked


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False)[0]
    said = fault["msg"].removeprefix("Value error, ")
    if not fault["loc"]:
        return f"not a JSON object: {said}"
    name = str(fault["loc"][0])
    if fault["type"] not in ("value_error", "missing"):  # of a choice of types, each is told
        said = _EXPECTED.get(name, said)
    return f"{name}: {said}"


class Answering:
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
        self._written = 0  # characters

    async def whole(self, pieces: AsyncGenerator[Piece]) -> dict[str, Any]:
        """All of it."""
        async with aclosing(pieces):
            answer = whole([_in_time(piece) async for piece in pieces])
        everything = Piece(answer.tokens, answer.text, answer.finish, answer.logprobs)
        return self._chunk(everything) | {"usage": _usage(answer.finish.stats)}

    async def chunks(self, pieces: AsyncGenerator[Piece]) -> AsyncGenerator[dict[str, Any]]:
        """As it comes, and at the end what it cost if that is asked for."""
        options = self._asked.stream_options
        usage: dict[str, Any] = {"usage": None} if options and options.include_usage else {}
        async with aclosing(pieces):
            async for piece in pieces:
                yield self._chunk(_in_time(piece)) | usage
                if usage and piece.finish:
                    yield self._head | {"choices": [], "usage": _usage(piece.finish.stats)}

    def _chunk(self, piece: Piece) -> dict[str, Any]:
        choice = {
            "index": 0,
            "text": piece.text,
            "logprobs": self._logprobs(piece) if self._asked.logprobs is not None else None,
            "finish_reason": piece.finish.reason.value if piece.finish else None,
        }
        self._written += len(piece.text)
        return self._head | {"choices": [choice]}

    def _logprobs(self, piece: Piece) -> dict[str, Any]:
        words = [self._word(token) for token in piece.tokens]
        pairs = list(zip(words, piece.logprobs, strict=True))
        return {
            "tokens": words,
            "token_logprobs": [each.logprob for each in piece.logprobs],
            "top_logprobs": [self._top(word, each) for word, each in pairs],
            "text_offset": _offsets(words, self._written),
        }

    def _top(self, word: str, chosen: Logprob) -> dict[str, float]:
        """The likeliest, and the chosen one if it is none of them."""
        top = {self._word(token): logprob for token, logprob in chosen.top}
        return {word: chosen.logprob} | top


def _offsets(words: Sequence[str], start: int) -> list[int]:
    """Where each begins in the answer; close, where characters are made of several tokens."""
    return [start + sum(map(len, words[:count])) for count in range(len(words))]


def _in_time(piece: Piece) -> Piece:
    """OpenAI has no word for a text that is cut by the clock; as an error it is not missed."""
    if piece.finish and piece.finish.reason is FinishReason.TIMEOUT:
        made = piece.finish.stats.generated_tokens
        raise DeadlineError(f"the time limit was reached after {made} tokens; the text is not done")
    return piece


def _usage(stats: Stats) -> dict[str, Any]:
    return {
        "prompt_tokens": stats.prompt_tokens,
        "completion_tokens": stats.generated_tokens,
        "total_tokens": stats.prompt_tokens + stats.generated_tokens,
        "prompt_tokens_details": {"cached_tokens": stats.cached_tokens},
    }
