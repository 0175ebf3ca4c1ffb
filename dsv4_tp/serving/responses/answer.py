"""What /v1/responses answers: items of thinking, text and calls, streamed or whole."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from itertools import count

from dsv4_tp.core import FinishReason
from dsv4_tp.errors import Dsv4Error
from dsv4_tp.serving.answers import Json, Named
from dsv4_tp.serving.choices import Pieces
from dsv4_tp.serving.failures import told
from dsv4_tp.serving.parts import Closed, Grown, Kind, Opened, Part, Parts, Step
from dsv4_tp.serving.records import Record
from dsv4_tp.serving.responses.request import ResponseRequest
from dsv4_tp.serving.said import Said

_IDS = {Kind.THOUGHT: "rs", Kind.TEXT: "msg", Kind.CALL: "fc"}
_STREAMED = {  # what its events are called
    Kind.THOUGHT: "response.reasoning_text",
    Kind.TEXT: "response.output_text",
    Kind.CALL: "response.function_call_arguments",
}
_BEGINNING = ("created", "in_progress")
_CODES = {"invalid_request_error": "invalid_prompt", "rate_limit_error": "rate_limit_exceeded"}


class Responding(Named):
    """The answer to one request, in the words of OpenAI's Responses."""

    def __init__(self, name: str, record: Record, asked: ResponseRequest, said: Said) -> None:
        """`name` of the model."""
        self._said = said
        self._id = record.id
        self._parts = Parts(said, f"call_{record.id}")
        self._head = _head(name, record.id, asked)
        self._numbers = count()
        self._begun = False

    async def whole(self, pieces: Pieces) -> Json:
        """All of it."""
        async with aclosing(pieces):
            async for _, piece in pieces:
                self._parts.add(piece)
        return self._ended()

    async def chunks(self, pieces: Pieces) -> AsyncGenerator[Json]:
        """As it comes."""
        async with aclosing(pieces):
            async for _, piece in pieces:
                steps = self._parts.add(piece)
                for one in self._begin():
                    yield one
                for one in (event for step in steps for event in self._events(step)):
                    yield one
        ended = self._ended()
        yield self._told(f"response.{ended['status']}", response=ended)

    def silence(self) -> bytes:
        """A comment; before it the beginning, if that was not told."""
        return b"".join(map(self.event, self._begin())) + super().silence()

    def failure(self, error: Dsv4Error) -> Json:
        """The response, which has failed."""
        found = told(error)["error"]
        code = _CODES.get(found["type"], "server_error")
        failed = {"status": "failed", "error": {"code": code, "message": found["message"]}}
        return self._told("response.failed", response=self._head | failed | self._output())

    def _begin(self) -> list[Json]:
        """Once."""
        if self._begun:
            return []
        self._begun = True
        return [self._told(f"response.{word}", response=self._head) for word in _BEGINNING]

    def _told(self, kind: str, **fields: object) -> Json:
        return {"type": kind, "sequence_number": next(self._numbers), **fields}

    def _events(self, step: Step) -> list[Json]:
        part = step.part
        item: Json = {"output_index": part.index}
        at: Json = item | {"item_id": self._item_id(part)}
        at |= {} if part.kind is Kind.CALL else {"content_index": 0}
        more: Json = {"logprobs": []} if part.kind is Kind.TEXT else {}
        match step:
            case Opened():
                added = [("response.output_item.added", item | {"item": self._item(part)})]
                filled = [("response.content_part.added", at | {"part": _content(part)})]
                events = added + (filled if part.kind is not Kind.CALL else [])
            case Grown(text=text):
                events = [(f"{_STREAMED[part.kind]}.delta", at | more | {"delta": text})]
            case Closed():
                events = self._closing(part, item, at | more)
        return [self._told(kind, **fields) for kind, fields in events]

    def _closing(self, part: Part, item: Json, at: Json) -> list[tuple[str, Json]]:
        name = f"{_STREAMED[part.kind]}.done"
        done = ("response.output_item.done", item | {"item": self._item(part, whole=True)})
        if part.kind is Kind.CALL:
            return [(name, at | {"arguments": part.text, "name": part.name}), done]
        where = {key: value for key, value in at.items() if key != "logprobs"}
        content = ("response.content_part.done", where | {"part": _content(part, whole=True)})
        return [(name, at | {"text": part.text}), content, done]

    def _item(self, part: Part, *, whole: bool = False) -> Json:
        """The part as an item, or the item with which it begins."""
        status = self._status(part) if whole else "in_progress"
        item: Json = {"id": self._item_id(part), "status": status}
        content = [_content(part, whole=True)] if whole else []
        match part.kind:
            case Kind.THOUGHT:
                return item | {"type": "reasoning", "summary": [], "content": content}
            case Kind.TEXT:
                return item | {"type": "message", "role": "assistant", "content": content}
            case Kind.CALL:
                called = {"call_id": part.call_id, "name": part.name}
                arguments = part.text if whole else ""
                return item | {"type": "function_call", **called, "arguments": arguments}

    def _item_id(self, part: Part) -> str:
        return f"{_IDS[part.kind]}_{self._id}_{part.index}"

    def _status(self, part: Part) -> str:
        """The last part of an answer that was cut is not whole."""
        finish, last = self._said.finish, part is self._parts.all[-1]
        cut = finish is None or finish.reason is not FinishReason.STOP
        return "incomplete" if cut and last else "completed"

    def _output(self) -> Json:
        return {"output": [self._item(part, whole=True) for part in self._parts.all]}

    def _ended(self) -> Json:
        cut = self._said.reason is FinishReason.LENGTH
        status: Json = {"status": "incomplete" if cut else "completed"}
        status["incomplete_details"] = {"reason": "max_output_tokens"} if cut else None
        return self._head | status | self._output() | {"usage": self._usage()}

    def _usage(self) -> Json:
        assert self._said.finish, "told before the end"
        stats = self._said.finish.stats
        return {
            "input_tokens": stats.prompt_tokens,
            "input_tokens_details": {"cached_tokens": stats.cached_tokens, "cache_write_tokens": 0},
            "output_tokens": stats.generated_tokens,
            "output_tokens_details": {"reasoning_tokens": self._said.reasoning_tokens},
            "total_tokens": stats.prompt_tokens + stats.generated_tokens,
        }


def _head(name: str, response_id: str, asked: ResponseRequest) -> Json:
    """The response before there is anything of it; what was asked comes back."""
    said = asked.model_dump(by_alias=True, exclude_none=True)
    return {
        "id": f"resp_{response_id}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": asked.instructions,
        "max_output_tokens": asked.max_output_tokens,
        "metadata": said.get("metadata", {}),
        "model": name,
        "output": [],
        "parallel_tool_calls": asked.parallel_tool_calls is not False,
        "previous_response_id": None,
        "reasoning": said.get("reasoning", {"effort": None, "summary": None}),
        "store": False,
        "temperature": asked.temperature,
        "text": said.get("text", {"format": {"type": "text"}}),
        "tool_choice": said.get("tool_choice", "auto"),
        "tools": said.get("tools", []),
        "top_p": asked.top_p,
        "truncation": "disabled",
        "usage": None,
    }


def _content(part: Part, *, whole: bool = False) -> Json:
    """What an item has in it; empty where it begins."""
    text = part.text if whole else ""
    if part.kind is Kind.THOUGHT:
        return {"type": "reasoning_text", "text": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
