"""From what a client asks to what the ranks are told; whether it is possible, they decide."""

import secrets
from pathlib import Path

from dsv4_tp.coordinator.answer import Answer
from dsv4_tp.core import MOST_STOPS, Request, Sampling, ScoreRequest
from dsv4_tp.errors import ModelError, RequestError
from dsv4_tp.guides import check_schema
from dsv4_tp.modelspec import ModelSpec
from dsv4_tp.text import Text, read_defaults
from dsv4_tp.v1 import cluster_pb2 as pb

_MAX_TOKENS = 256  # where a client does not say
_SEED_BITS = 64


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

    def request(self, asked: pb.GenerateRequest) -> Request:
        """The request in full: ids, sampling and when to stop."""
        prompt = self._ids(asked)
        room = self._spec.max_position_embeddings - len(prompt)
        most = asked.max_tokens if asked.HasField("max_tokens") else _MAX_TOKENS
        return Request(
            id=_new_id(),
            prompt=prompt,
            max_tokens=max(1, min(most, room)) if most else 0,
            sampling=self._sampling(asked),
            stop_ids=self._stop_ids(asked),
            mtp=asked.mtp if asked.HasField("mtp") else None,
            json_schema=self._json_schema(asked),
        )

    def answer(self, asked: pb.GenerateRequest) -> Answer:
        """The text that is asked for, before its first token.

        Raises RequestError for stop strings that cannot be looked for.
        """
        if len(asked.stop) > MOST_STOPS:
            raise RequestError(f"stop has {len(asked.stop)} strings; give at most {MOST_STOPS}")
        if "" in asked.stop:
            raise RequestError("stop has an empty string; give each at least one character")
        text = self._words() if asked.stop else self._text
        return Answer(text.stream() if text else None, asked.stop)

    def time_limit_s(self, asked: pb.GenerateRequest) -> float | None:
        """The limit that the client sets, if it sets one; RequestError if it cannot be kept."""
        if not asked.HasField("time_limit_s"):
            return None
        if not asked.time_limit_s > 0:
            raise RequestError(f"time_limit_s is {asked.time_limit_s}; it must be above 0")
        return asked.time_limit_s

    def _words(self) -> Text:
        return self._text or Text.load(self._model_dir)  # which says what is missing

    def _stop_ids(self, asked: pb.GenerateRequest) -> tuple[int, ...]:
        """What the client says, beside the checkpoint's own."""
        own = self._defaults.eos_ids or self._spec.eos_token_ids
        # A tokenizer may be larger than its model's vocabulary.
        own = (token for token in own if token < self._spec.vocab_size)
        return tuple(dict.fromkeys((*own, *asked.stop_ids)))

    def _ids(self, asked: pb.GenerateRequest) -> tuple[int, ...]:
        if asked.WhichOneof("input") == "ids":
            return tuple(asked.ids.ids)
        text = self._words()
        if asked.WhichOneof("input") == "user":
            return text.chat_ids(asked.user)
        return text.prompt_ids(asked.text)

    def _json_schema(self, asked: pb.GenerateRequest) -> str:
        """Refused here if texts cannot be held to it: before any rank hears of it."""
        if asked.HasField("json_schema"):
            if self._text is None:
                file = self._model_dir / "tokenizer.json"
                raise ModelError(f"{file}: no such file; json_schema needs it")
            check_schema(asked.json_schema)
        return asked.json_schema

    def _sampling(self, asked: pb.GenerateRequest) -> Sampling:
        """What the client says, else what the checkpoint's makers recommend."""
        default = self._defaults
        has = asked.HasField
        return Sampling(
            temperature=asked.temperature if has("temperature") else default.temperature,
            top_p=asked.top_p if has("top_p") else default.top_p,
            top_k=asked.top_k if has("top_k") else default.top_k,
            seed=asked.seed if has("seed") else secrets.randbits(_SEED_BITS),
            min_p=asked.min_p if has("min_p") else default.min_p,
            repetition_penalty=(
                asked.repetition_penalty
                if has("repetition_penalty")
                else default.repetition_penalty
            ),
            presence_penalty=asked.presence_penalty,
            frequency_penalty=asked.frequency_penalty,
            logit_bias=tuple(sorted(asked.logit_bias.items())),
            logprobs=asked.logprobs if has("logprobs") else None,
        )


def score_request(asked: pb.ScoreRequest) -> ScoreRequest:
    """The request to score these rows."""
    rows = tuple(tuple(row.ids) for row in asked.rows)
    return ScoreRequest(_new_id(), rows, asked.chunk, asked.want_logits)


def _new_id() -> str:
    return secrets.token_hex(8)
