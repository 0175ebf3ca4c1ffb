"""Turns of Anthropic's API, made of blocks, and how they become messages of ours."""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, Tag

from dsv4_tp.asks import Message, ToolCall
from dsv4_tp.errors import RequestError
from dsv4_tp.serving.fields import BY_TYPE, PARTS, Idle, Strict
from dsv4_tp.serving.turns import joined, written


class CacheControl(Strict):
    """A mark where a prompt may begin like a later one; ours are found without."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class TextBlock(Strict):
    """A piece of text."""

    idle: ClassVar[Idle] = {"citations": (None, [])}
    type: Literal["text"]
    text: str
    cache_control: CacheControl | None = None


class ThinkingBlock(Strict):
    """What an earlier answer thought; its signature is not looked at."""

    type: Literal["thinking"]
    thinking: str
    signature: str = ""


class ToolUseBlock(Strict):
    """A call that an earlier answer made."""

    idle: ClassVar[Idle] = {"caller": (None, {"type": "direct"}), "toolset_name": (None,)}
    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]
    cache_control: CacheControl | None = None


_Text = Annotated[TextBlock, Tag("Text")]
Texts = Annotated[list[Annotated[_Text, BY_TYPE]], PARTS]


class ToolResultBlock(Strict):
    """What a call gave."""

    idle: ClassVar[Idle] = {"toolset_name": (None,)}
    type: Literal["tool_result"]
    tool_use_id: str
    content: str | Texts | None = None
    is_error: bool | None = None  # the format knows no such mark: the content says it
    cache_control: CacheControl | None = None


Block = Annotated[
    _Text
    | Annotated[ThinkingBlock, Tag("Thinking")]
    | Annotated[ToolUseBlock, Tag("ToolUse")]
    | Annotated[ToolResultBlock, Tag("ToolResult")],
    BY_TYPE,
]
_OWNERS = {"thinking": "assistant", "tool_use": "assistant", "tool_result": "user"}


class Turn(Strict):
    """What one of them says."""

    role: Literal["user", "assistant", "system"]
    content: str | Annotated[list[Block], PARTS]

    @property
    def blocks(self) -> list[Block]:
        """A text alone is one."""
        if isinstance(self.content, list):
            return self.content
        return [TextBlock(type="text", text=self.content)]


class Tool(Strict):
    """A function that the model may call."""

    idle: ClassVar[Idle] = {
        "allowed_callers": (None, ["direct"]),
        "defer_loading": (None, False),
        "input_examples": (None, []),
    }
    type: Literal["custom"] | None = None
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,128}$")]
    description: str | None = None
    input_schema: dict[str, Any]
    strict: bool | None = None
    eager_input_streaming: bool | None = None  # inputs always come as they are made
    cache_control: CacheControl | None = None

    @property
    def written(self) -> str:
        """The function as the model reads it."""
        return written(self.name, self.description, self.input_schema, self.strict)


def text_of(content: str | Sequence[TextBlock] | None, between: str = "") -> str:
    """A text, or all of its blocks."""
    if isinstance(content, str):
        return content
    return between.join(block.text for block in content or ())


def check_turns(turns: Sequence[Turn]) -> None:
    """Raises RequestError, which names the place, for what the types do not show."""
    if not turns:
        raise RequestError("messages: there are none; give at least one")
    called: set[str] = set()
    for at, turn in enumerate(turns):
        for number, block in enumerate(turn.blocks):
            _check_block(block, turn.role, called, f"messages[{at}].content[{number}]")
            called |= {block.id} if isinstance(block, ToolUseBlock) else set()
    if turns[-1].role == "assistant" and _calls(turns[-1]):
        raise RequestError(f"messages[{len(turns) - 1}].content: its calls have no tool_result yet")


def _check_block(block: Block, role: str, called: Collection[str], at: str) -> None:
    owner = _OWNERS.get(block.type, role)
    if owner != role:
        raise RequestError(f"{at}.type: {block.type} is for turns of {owner} only")
    if isinstance(block, ToolResultBlock) and block.tool_use_id not in called:
        raise RequestError(f"{at}.tool_use_id: no earlier call {block.tool_use_id!r}")


def messages_of(turns: Iterable[Turn]) -> list[Message]:
    """The same as messages; an assistant's at the end is gone on with."""
    messages = joined(_said(turn.role, block) for turn in turns for block in turn.blocks)
    if messages and messages[-1].role == "assistant":
        messages[-1] = replace(messages[-1], open=True)
    return messages


def _calls(turn: Turn) -> bool:
    return any(isinstance(block, ToolUseBlock) for block in turn.blocks)


def _said(role: str, block: Block) -> Message:
    """A message for each block; the prompt's own rules put a user's together."""
    match block:
        case TextBlock(text=text):
            return Message(role, text)
        case ThinkingBlock(thinking=thinking):
            return Message(role, reasoning=thinking)
        case ToolUseBlock(name=name, id=call):
            arguments = json.dumps(block.input, ensure_ascii=False)
            return Message(role, tool_calls=(ToolCall(name, arguments, call),))
        case ToolResultBlock(tool_use_id=call):
            return Message("tool", text_of(block.content), tool_call_id=call)
