"""What /v1/messages answers: blocks of thinking, text and calls, streamed or whole."""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing

from dsv4_tp.asks import Finish
from dsv4_tp.core import FinishReason
from dsv4_tp.errors import Dsv4Error
from dsv4_tp.serving.answers import Json, Named
from dsv4_tp.serving.choices import Pieces
from dsv4_tp.serving.failures import message_told
from dsv4_tp.serving.parts import Closed, Grown, Kind, Opened, Part, Parts, Step
from dsv4_tp.serving.records import Record
from dsv4_tp.serving.said import Said

_PING: Json = {"type": "ping"}
_SIGNATURE = "unsigned"  # clients drop thoughts that have none
_DELTAS = {
    Kind.THOUGHT: ("thinking_delta", "thinking"),
    Kind.TEXT: ("text_delta", "text"),
    Kind.CALL: ("input_json_delta", "partial_json"),
}


class Telling(Named):
    """The answer to one request, in Anthropic's words."""

    def __init__(self, name: str, record: Record, said: Said) -> None:
        """`name` of the model."""
        self._said = said
        self._request = record.request
        self._parts = Parts(said, f"toolu_{record.id}")
        self._head: Json = {
            "id": f"msg_{record.id}",
            "type": "message",
            "role": "assistant",
            "model": name,
        }
        self._begun = False

    async def whole(self, pieces: Pieces) -> Json:
        """All of it."""
        async with aclosing(pieces):
            async for _, piece in pieces:
                self._parts.add(piece)
        content = [_block(part, whole=True) for part in self._parts.all]
        return self._head | {"content": content, **self._end(), "usage": self._usage()}

    async def chunks(self, pieces: Pieces) -> AsyncGenerator[Json]:
        """As it comes."""
        async with aclosing(pieces):
            async for _, piece in pieces:
                steps = self._parts.add(piece)
                for one in self._begin():
                    yield one
                for one in (event for step in steps for event in _events(step)):
                    yield one
        yield {"type": "message_delta", "delta": self._end(), "usage": self._usage()}
        yield {"type": "message_stop"}

    def silence(self) -> bytes:
        """A ping; before it the beginning, as no event may come before that."""
        return b"".join(map(self.event, [*self._begin(), _PING]))

    def failure(self, error: Dsv4Error) -> Json:
        """An error event."""
        return message_told(error, self._request)

    def _begin(self) -> list[Json]:
        """Once; what the prompt costs is known at the end."""
        if self._begun:
            return []
        self._begun = True
        cost = {"input_tokens": 0, "output_tokens": 0}
        end = {"stop_reason": None, "stop_sequence": None}
        return [
            {"type": "message_start", "message": self._head | {"content": [], **end, "usage": cost}}
        ]

    def _end(self) -> Json:
        finish = self._finish
        return {"stop_reason": _reason(self._said, finish), "stop_sequence": finish.stop or None}

    def _usage(self) -> Json:
        """What is read from a cache is not counted twice."""
        stats = self._finish.stats
        return {
            "input_tokens": stats.prompt_tokens - stats.cached_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": stats.cached_tokens,
            "output_tokens": stats.generated_tokens,
            "output_tokens_details": {"thinking_tokens": self._said.reasoning_tokens},
        }

    @property
    def _finish(self) -> Finish:
        assert self._said.finish, "told before the end"
        return self._said.finish


def _reason(said: Said, finish: Finish) -> str:
    if said.reason is FinishReason.LENGTH:
        return "max_tokens"
    if finish.stop:
        return "stop_sequence"
    return "tool_use" if said.waits else "end_turn"


def _events(step: Step) -> list[Json]:
    at = {"index": step.part.index}
    match step:
        case Opened(part):
            return [{"type": "content_block_start", **at, "content_block": _block(part)}]
        case Grown(part, text):
            name, field = _DELTAS[part.kind]
            return [_delta(part, {"type": name, field: text})]
        case Closed(part):
            signed = _delta(part, {"type": "signature_delta", "signature": _SIGNATURE})
            stop: Json = {"type": "content_block_stop", **at}
            return [signed, stop] if part.kind is Kind.THOUGHT else [stop]


def _delta(part: Part, delta: Json) -> Json:
    return {"type": "content_block_delta", "index": part.index, "delta": delta}


def _block(part: Part, *, whole: bool = False) -> Json:
    """The part as a block, or the block with which it begins."""
    text = part.text if whole else ""
    match part.kind:
        case Kind.THOUGHT:
            signature = _SIGNATURE if whole else ""
            return {"type": "thinking", "thinking": text, "signature": signature}
        case Kind.TEXT:
            return {"type": "text", "text": text}
        case Kind.CALL:
            called = {"id": part.call_id, "name": part.name, "input": json.loads(text or "{}")}
            return {"type": "tool_use", **called}
