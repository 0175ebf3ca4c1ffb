"""/v1/responses: what is asked, checked field by field, in our own words."""

import json
from collections.abc import Collection
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from dsv4_tp.asks import Ask, Calls, Conversation, Message
from dsv4_tp.errors import RequestError
from dsv4_tp.prompts import with_tools
from dsv4_tp.serving.calling import check_calls, held
from dsv4_tp.serving.fields import (
    OPENAI_RECORDS,
    TOOLS,
    TURNS,
    Count,
    Idle,
    Sampled,
    Strict,
    parsed,
)
from dsv4_tp.serving.responses.items import Item, MessageItem, Tool, check_items, messages_of
from dsv4_tp.serving.turns import check_tools


class OneTool(Strict):
    """The one function that has to be called."""

    type: Literal["function"]
    name: str


class Format(Strict):
    """What form the answer has."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    description: str | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None


class TextConfig(Strict):
    """How its text is made."""

    idle: ClassVar[Idle] = {"verbosity": (None, "medium")}
    format: Format | None = None


class Thinking(Strict):
    """How much it thinks. What it thought is told whole, so a summary changes nothing."""

    idle: ClassVar[Idle] = {
        "generate_summary": (None, "auto", "concise", "detailed"),
        "summary": (None, "auto", "concise", "detailed"),
    }
    effort: str | None = None


class ResponseRequest(Sampled):
    """What a client may say; where it says nothing, the checkpoint's makers have."""

    records: ClassVar[Collection[str]] = OPENAI_RECORDS | {"client_metadata"}
    idle: ClassVar[Idle] = {
        "background": (None, False),
        "context_management": (None,),
        "conversation": (None,),
        "include": (None, [], ["reasoning.encrypted_content"]),
        "max_tool_calls": (None,),
        "moderation": (None,),
        "prompt": (None,),
        "prompt_cache_options": (None, {"mode": "implicit"}),
        "service_tier": (None, "auto", "default"),
        "stream_options": (None, {}, {"include_obfuscation": False}),
        "top_logprobs": (None, 0),
        "truncation": (None, "disabled"),
    }
    input: str | Annotated[list[Item], TURNS]
    instructions: str | None = None
    max_output_tokens: Count | None = None
    tools: Annotated[list[Tool], TOOLS] | None = None
    tool_choice: Literal["none", "auto", "required"] | OneTool | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: Thinking | None = None
    store: bool | None = None
    previous_response_id: str | None = None

    def check(self) -> None:
        """Raises RequestError, which names the place, for what the types do not show."""
        super().check()
        if self.store:
            raise RequestError("store: no response is kept here; leave it out, or say false")
        if self.previous_response_id is not None:
            raise RequestError("previous_response_id: no response is kept here; send all of input")
        check_items(self.items)
        tools = [(tool.name, tool.parameters) for tool in self.tools or ()]
        check_tools(tools, "name", "parameters")
        names = [name for name, _ in tools]
        check_calls(self.calls, names, "tool_choice", "tool_choice.name")
        form = self._format
        if (form.type == "json_schema") != (form.schema_ is not None):
            raise RequestError(
                f"text.format.schema: it goes with type json_schema, and this is {form.type}"
            )

    @property
    def items(self) -> list[Item]:
        """What was said so far; a text alone is one."""
        if isinstance(self.input, list):
            return self.input
        return [MessageItem(role="user", content=self.input)]

    @property
    def calls(self) -> Calls:
        """What is said of its calls."""
        single = self.parallel_tool_calls is False
        match self.tool_choice:
            case OneTool(name=name):
                return Calls(required=True, name=name, single=single)
            case choice:
                return Calls(required=choice == "required", single=single)

    @property
    def usable_tools(self) -> list[Tool]:
        """Those that may be called."""
        return [] if self.tool_choice == "none" else self.tools or []

    @property
    def json_schema(self) -> str | None:
        """What the answer is held to."""
        match self._format:
            case Format(type="json_object"):
                return json.dumps({"type": "object"})
            case Format(type="json_schema", schema_=schema):
                return json.dumps(schema, ensure_ascii=False)
            case _:
                return None

    def talk(self) -> Conversation:
        """The conversation."""
        said = messages_of(self.items)
        if self.instructions:
            said = [Message("system", self.instructions), *said]
        told = self.json_schema if self._format.type == "json_schema" else None
        turns = with_tools(said, [tool.written for tool in self.usable_tools], told or "")
        strict = [tool.strict for tool in self.usable_tools]
        calls = held(self.calls, strict, formed=self.json_schema is not None)
        effort = (self.reasoning and self.reasoning.effort) or ""
        return Conversation(turns, effort=effort, calls=calls)

    def ask(self, talk: Conversation) -> Ask:
        """The answer that is asked for, to that conversation."""
        return replace(
            self.asked(talk), max_tokens=self.max_output_tokens, json_schema=self.json_schema
        )

    @property
    def _format(self) -> Format:
        return (self.text and self.text.format) or Format(type="text")


def parse(body: bytes) -> ResponseRequest:
    """The request in a body.

    Raises RequestError: it is not JSON, or a field, which is named, is not what it must be, or
    cannot be served.
    """
    return parsed(ResponseRequest, body)
