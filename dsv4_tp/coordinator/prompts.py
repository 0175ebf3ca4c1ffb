"""From what a client asks to what the ranks are told; whether it is possible, they decide."""

import json
import secrets
from pathlib import Path
from typing import TypeVar

from dsv4_tp.asks import Ask, Conversation
from dsv4_tp.coordinator.answer import Answer
from dsv4_tp.core import MOST_STOPS, Request, Sampling, ScoreRequest
from dsv4_tp.errors import ModelError, RequestError
from dsv4_tp.guides import check_form
from dsv4_tp.modelspec import ModelSpec
from dsv4_tp.prompts import (
    BUILT_IN,
    Mode,
    Reading,
    Tokens,
    calls_grammar,
    cut,
    encode_pieces,
    mode_of,
    read_table,
)
from dsv4_tp.text import NO_THOUGHT, Text, read_defaults
from dsv4_tp.v1 import cluster_pb2 as pb

_MAX_TOKENS = 256  # where a client does not say; an answer ends by itself
_SEED_BITS = 64

_T = TypeVar("_T")


class Prompts:
    """The words of one checkpoint.

    A checkpoint without a tokenizer is good for token ids; a request with text then raises
    ModelError, and what is generated comes as ids alone.
    """

    def __init__(self, model_dir: Path, spec: ModelSpec) -> None:
        self._model_dir = model_dir
        self._spec = spec
        self._defaults = read_defaults(model_dir)
        has_words = (model_dir / "tokenizer.json").is_file()
        self._text = Text.load(model_dir) if has_words else None
        self._table = read_table(model_dir)

    def request(self, ask: Ask, request_id: str | None = None) -> Request:
        """The request in full: ids, sampling and when to stop; with a new id or this one."""
        prompt, form = self._ids(ask), self._form(ask)
        room = self._spec.max_position_embeddings - len(prompt)
        usual = room if isinstance(ask.prompt, Conversation) else _MAX_TOKENS
        most = usual if ask.max_tokens is None else ask.max_tokens
        return Request(
            id=request_id or _new_id(),
            prompt=prompt,
            max_tokens=max(1, min(most, room)) if most else 0,
            sampling=self._sampling(ask),
            stop_ids=self._stop_ids(ask),
            mtp=ask.mtp,
            form=form,
            form_after=self._form_after(ask) if form else None,
        )

    def answer(self, ask: Ask) -> Answer:
        """The text that is asked for, before its first token.

        Raises RequestError for stop strings that cannot be looked for.
        """
        stops = (ask.stop,) if isinstance(ask.stop, str) else ask.stop
        if len(stops) > MOST_STOPS:
            raise RequestError(f"stop has {len(stops)} strings; give at most {MOST_STOPS}")
        if "" in stops:
            raise RequestError("stop has an empty string; give each at least one character")
        text = self._words() if stops else self._text
        tags = isinstance(ask.prompt, Conversation)
        return Answer(text.stream(tags=tags) if text else None, stops)

    def time_limit_s(self, ask: Ask) -> float | None:
        """The limit that the client sets, if it sets one; RequestError if it cannot be kept."""
        if ask.time_limit_s is not None and not ask.time_limit_s > 0:
            raise RequestError(f"time_limit_s is {ask.time_limit_s}; it must be above 0")
        return ask.time_limit_s

    def word(self, token: int) -> str:
        """A token by itself; what has no text, such as a part of a character, by its id."""
        text = self._text.stream().add([token]) if self._text else ""
        return text if text and "\ufffd" not in text else f"token_id:{token}"

    def _words(self) -> Text:
        return self._text or Text.load(self._model_dir)  # which says what is missing

    def _stop_ids(self, ask: Ask) -> tuple[int, ...]:
        """What the client says, beside the checkpoint's own."""
        own = self._defaults.eos_ids or self._spec.eos_token_ids
        # A tokenizer may be larger than its model's vocabulary.
        own = (token for token in own if token < self._spec.vocab_size)
        return tuple(dict.fromkeys((*own, *ask.stop_ids)))

    def count(self, talk: Conversation) -> int:
        """How many tokens it has; RequestError for one that cannot be written."""
        return len(self._talk_ids(talk))

    def thinks(self, talk: Conversation) -> bool:
        """Whether the answer begins with its thinking; RequestError for an unknown effort."""
        begun = bool(talk.messages) and talk.messages[-1].open  # its thinking is over
        return _mode(talk).thinking and not begun

    def reading(self, *, thinking: bool, calls: bool) -> Reading:
        """Takes the text of an answer apart; without `calls` it has none."""
        return Reading(self._table or BUILT_IN, thinking=thinking, calls=calls)

    @property
    def closing(self) -> int:
        """The token that ends the thinking."""
        return self._words().id_of(NO_THOUGHT)

    def _ids(self, ask: Ask) -> tuple[int, ...]:
        match ask.prompt:
            case Conversation() as talk:
                return self._talk_ids(talk)
            case str() as prompt:
                text = self._words()
                return text.chat_ids(prompt) if ask.chat else text.prompt_ids(prompt)
            case ids:
                return tuple(ids)

    def _talk_ids(self, talk: Conversation) -> tuple[int, ...]:
        text, mode = self._words(), _mode(talk)
        pieces = encode_pieces(
            talk.messages, self._table, thinking=mode.thinking, effort=mode.effort
        )
        return text.ids(cut(pieces, text.special))

    def _form(self, ask: Ask) -> str:
        """Refused here if texts cannot be held to it: before any rank hears of it."""
        form = self._calls(ask.prompt, ask.json_schema) or ask.json_schema
        if form is None:
            return ""
        if self._text is None:
            file = self._model_dir / "tokenizer.json"
            raise ModelError(f"{file}: no such file; json_schema needs it")
        check_form(form)
        return form

    def _calls(self, prompt: object, json_schema: str | None) -> str | None:
        """The grammar of the calls that the answer may have; None: it calls as it likes."""
        if not isinstance(prompt, Conversation) or prompt.calls is None:
            return None
        calls, table = prompt.calls, self._table or BUILT_IN
        tools = [tool for message in prompt.messages for tool in message.tools]
        return calls_grammar(
            [tool for tool in tools if calls.name in ("", json.loads(tool).get("name"))],
            Tokens(self._words().id_of(table.dsml_token), table.tool_calls_block_name),
            required=calls.required,
            single=calls.single,
            json_schema=json_schema,
        )

    def _form_after(self, ask: Ask) -> int | None:
        """A text that thinks first is free to think anything."""
        thinks = isinstance(ask.prompt, Conversation) and self.thinks(ask.prompt)
        return self.closing if thinks else None

    def _sampling(self, ask: Ask) -> Sampling:
        """What the client says, else what the checkpoint's makers recommend."""
        default = self._defaults
        return Sampling(
            temperature=_either(ask.temperature, default.temperature),
            top_p=_either(ask.top_p, default.top_p),
            top_k=_either(ask.top_k, default.top_k),
            seed=_either(ask.seed, secrets.randbits(_SEED_BITS)),
            min_p=_either(ask.min_p, default.min_p),
            repetition_penalty=_either(ask.repetition_penalty, default.repetition_penalty),
            presence_penalty=ask.presence_penalty or 0.0,
            frequency_penalty=ask.frequency_penalty or 0.0,
            logit_bias=tuple(sorted((ask.logit_bias or {}).items())),
            logprobs=ask.logprobs,
        )


def score_request(asked: pb.ScoreRequest) -> ScoreRequest:
    """The request to score these rows."""
    rows = tuple(tuple(row.ids) for row in asked.rows)
    return ScoreRequest(_new_id(), rows, asked.chunk, asked.want_logits)


def _mode(talk: Conversation) -> Mode:
    return mode_of(talk.effort or None, thinking=talk.thinking)


def _either(said: _T | None, default: _T) -> _T:
    return default if said is None else said


def _new_id() -> str:
    return secrets.token_hex(8)
