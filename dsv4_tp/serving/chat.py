"""/v1/chat/completions: what is asked, checked field by field, in our own words."""

import json
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from dsv4_tp.asks import Ask, Calls, Conversation
from dsv4_tp.errors import RequestError
from dsv4_tp.serving.calling import check_calls, held
from dsv4_tp.serving.fields import TOOLS, TURNS, Count, Idle, Strict, TextRequest, parsed
from dsv4_tp.serving.turns import Tool, Turn, checked, messages

_MOST_LOGPROBS = 20


class Thinking(Strict):
    """DeepSeek's switch."""

    type: Literal["enabled", "disabled"]


class Named(Strict):
    """A function by its name."""

    name: str


class OneTool(Strict):
    """The one function that has to be called."""

    type: Literal["function"]
    function: Named


class Schema(Strict):
    """A JSON schema, and what it is called."""

    name: str
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    description: str | None = None
    strict: bool | None = None


class Format(Strict):
    """What form the answer has."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: Schema | None = None


class ChatRequest(TextRequest):
    """What a client may say; where it says nothing, the checkpoint's makers have."""

    idle: ClassVar[Idle] = {
        "audio": (None,),
        "function_call": (None,),
        "functions": (None, []),
        "modalities": (None, ["text"]),
        "moderation": (None,),
        "prediction": (None,),
        "service_tier": (None, "auto", "default"),
        "store": (None, False),
        "verbosity": (None, "medium"),
        "web_search_options": (None,),
    }
    messages: Annotated[list[Turn], TURNS]
    max_completion_tokens: Count | None = None
    tools: Annotated[list[Tool], TOOLS] | None = None
    tool_choice: Literal["none", "auto", "required"] | OneTool | None = None
    parallel_tool_calls: bool | None = None
    response_format: Format | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=_MOST_LOGPROBS)] | None = None
    thinking: Thinking | None = None
    reasoning_effort: str | None = None

    @property
    def usable_tools(self) -> list[Tool]:
        """Those that may be called."""
        return [] if self.tool_choice == "none" else self.tools or []

    @property
    def json_schema(self) -> str | None:
        """What the answer is held to."""
        match self.response_format:
            case Format(type="json_object"):
                return json.dumps({"type": "object"})
            case Format(type="json_schema", json_schema=Schema(schema_=schema)):
                return json.dumps(schema or {}, ensure_ascii=False)
            case _:
                return None

    def ask(self) -> Ask:
        """The answer that is asked for."""
        most = self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens
        return replace(
            self.asked(self._conversation()),
            max_tokens=most,
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            json_schema=self.json_schema,
        )

    def _conversation(self) -> Conversation:
        told = self.json_schema if self.response_format and self.response_format.json_schema else ""
        effort = self.reasoning_effort or ""
        if self.thinking and self.thinking.type == "disabled":
            effort = "none"
        turns = messages(self.messages, self.usable_tools, told or "")
        strict = [tool.function.strict for tool in self.usable_tools]
        calls = held(self.calls, strict, formed=self.json_schema is not None)
        return Conversation(turns, effort=effort, calls=calls)

    @property
    def calls(self) -> Calls:
        """What is said of its calls."""
        single = self.parallel_tool_calls is False
        match self.tool_choice:
            case OneTool(function=Named(name=name)):
                return Calls(required=True, name=name, single=single)
            case choice:
                return Calls(required=choice == "required", single=single)


def parse(body: bytes) -> ChatRequest:
    """The request in a body.

    Raises RequestError: it is not JSON, or a field, which is named, is not what it must be, or
    cannot be served.
    """
    asked = parsed(ChatRequest, body)
    checked(asked.messages, asked.tools or ())
    names = [tool.function.name for tool in asked.tools or ()]
    check_calls(asked.calls, names, "tool_choice", "tool_choice.function.name")
    _check_format(asked.response_format)
    if asked.top_logprobs is not None and not asked.logprobs:
        raise RequestError("top_logprobs: there are none without logprobs; say logprobs: true")
    if asked.thinking and asked.thinking.type == "disabled" and asked.reasoning_effort:
        raise RequestError(
            f"reasoning_effort is {asked.reasoning_effort!r}, and thinking is disabled; "
            "leave one of them out"
        )
    return asked


def _check_format(asked: Format | None) -> None:
    if asked is None:
        return
    if (asked.type == "json_schema") != (asked.json_schema is not None):
        raise RequestError(
            f"response_format.json_schema: it goes with type json_schema, and this is {asked.type}"
        )
