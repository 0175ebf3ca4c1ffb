"""/v1/messages: what is asked, checked field by field, in our own words."""

import json
from collections.abc import Collection
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from dsv4_tp.asks import Ask, Calls, Conversation, Message
from dsv4_tp.core import MOST_STOPS
from dsv4_tp.errors import RequestError
from dsv4_tp.prompts import with_tools
from dsv4_tp.serving.calling import check_calls, held
from dsv4_tp.serving.failures import UnkeptError
from dsv4_tp.serving.fields import TOOLS, TURNS, Count, Idle, Sampled, Strict, parsed
from dsv4_tp.serving.messages.blocks import (
    CacheControl,
    Texts,
    Tool,
    Turn,
    check_turns,
    messages_of,
    text_of,
)
from dsv4_tp.serving.turns import check_tools

_KEEP_ALL = {"type": "clear_thinking_20251015", "keep": "all"}  # which agents say


class Thinking(Strict):
    """Whether it thinks; how much, `output_config.effort` says. A budget is not kept."""

    idle: ClassVar[Idle] = {"display": (None, "summarized")}  # all of it is told, in clear
    type: Literal["enabled", "adaptive", "disabled"]
    budget_tokens: Count | None = None


class ToolChoice(Strict):
    """Whether it calls."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None

    def check(self) -> None:
        """Raises RequestError for a name that is missing, or has no meaning."""
        if (self.type == "tool") != bool(self.name):
            raise RequestError(f"tool_choice.name: it goes with type tool, and this is {self.type}")

    @property
    def calls(self) -> Calls:
        """The same in our own words."""
        return Calls(
            required=self.type in ("any", "tool"),
            name=self.name or "",
            single=bool(self.disable_parallel_tool_use),
        )


class Format(Strict):
    """What form the answer has."""

    type: Literal["json_schema"]
    schema_: Annotated[dict[str, Any], Field(alias="schema")]


class OutputConfig(Strict):
    """How much it thinks, and what form the answer has."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: Format | None = None


class Counted(Strict):
    """A conversation: what is counted, and what is answered."""

    idle: ClassVar[Idle] = {"speed": (None, "standard")}
    records: ClassVar[Collection[str]] = ("metadata", "user_profile_id", "workspace_id")
    model: str | None = None
    messages: Annotated[list[Turn], TURNS]
    system: str | Texts | None = None
    tools: Annotated[list[Tool], TOOLS] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    cache_control: CacheControl | None = None

    def check(self) -> None:
        """Raises RequestError, which names the place, for what the types do not show."""
        super().check()
        check_turns(self.messages)
        tools = [(tool.name, tool.input_schema) for tool in self.tools or ()]
        check_tools(tools, "name", "input_schema")
        if self.tool_choice:
            self.tool_choice.check()
        names = [name for name, _ in tools]
        check_calls(self.calls, names, "tool_choice", "tool_choice.name")

    @property
    def calls(self) -> Calls:
        """What is said of its calls."""
        return self.tool_choice.calls if self.tool_choice else Calls()

    @property
    def usable_tools(self) -> list[Tool]:
        """Those that may be called."""
        none = self.tool_choice and self.tool_choice.type == "none"
        return [] if none else self.tools or []

    @property
    def json_schema(self) -> str | None:
        """What the answer is held to."""
        form = self.output_config and self.output_config.format
        return json.dumps(form.schema_, ensure_ascii=False) if form else None

    def talk(self) -> Conversation:
        """The conversation; it thinks if that is said."""
        system = text_of(self.system, "\n\n")
        said = [*([Message("system", system)] if system else []), *messages_of(self.messages)]
        said = with_tools(
            said, [tool.written for tool in self.usable_tools], self.json_schema or ""
        )
        strict = [tool.strict for tool in self.usable_tools]
        calls = held(self.calls, strict, formed=self.json_schema is not None)
        thinks = self.thinking is not None and self.thinking.type != "disabled"
        effort = (self.output_config and self.output_config.effort) or ""
        return Conversation(said, thinking=thinks, effort=effort, calls=calls)


class MessageRequest(Sampled, Counted):
    """What a client may say; where it says nothing, the checkpoint's makers have."""

    idle: ClassVar[Idle] = {
        **Counted.idle,
        "container": (None,),
        "context_management": (None, {"edits": [_KEEP_ALL]}),
        "diagnostics": (None,),
        "inference_geo": (None,),
        "mcp_servers": (None, []),
        "service_tier": (None, "auto", "standard_only"),
    }
    max_tokens: Count
    stop_sequences: (
        Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=MOST_STOPS)] | None
    ) = None
    thread: dict[str, Any] | None = None  # the client's own loop of tools asks for one first

    def check(self) -> None:
        """Raises RequestError, which names the place, for what the types do not show."""
        super().check()
        if self.thread is not None:
            raise UnkeptError("thread: no conversation is kept here; send all of it each time")

    def ask(self, talk: Conversation) -> Ask:
        """The answer that is asked for, to that conversation."""
        return replace(
            self.asked(talk),
            max_tokens=self.max_tokens,
            stop=self.stop_sequences or (),
            json_schema=self.json_schema,
        )


def parse(body: bytes) -> MessageRequest:
    """The request in a body of /v1/messages.

    Raises RequestError: it is not JSON, or a field, which is named, is not what it must be, or
    cannot be served.
    """
    return parsed(MessageRequest, body)


def parse_count(body: bytes) -> Counted:
    """The conversation in a body of /v1/messages/count_tokens; raises as `parse` does."""
    return parsed(Counted, body)
