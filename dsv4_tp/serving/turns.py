"""The messages and tools of a chat: as OpenAI's and DeepSeek's APIs have them, and as we do."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from dsv4_tp.asks import Message, ToolCall
from dsv4_tp.errors import RequestError
from dsv4_tp.prompts import with_tools
from dsv4_tp.serving.fields import PARTS, TOOLS, Idle, Strict
from dsv4_tp.serving.schemas import check_schemas


class TextPart(Strict):
    """A piece of a message; there are no other kinds here."""

    type: Literal["text"]
    text: str


class Called(Strict):
    """What a call was of."""

    name: str
    arguments: str


class Call(Strict):
    """A call that an earlier answer made."""

    id: str = ""
    type: Literal["function"] = "function"
    function: Called


class Turn(Strict):
    """One message. Who said it is told by its role; the format knows no `name`."""

    idle: ClassVar[Idle] = {  # what OpenAI's own answers carry, and clients send back
        "refusal": (None,),
        "annotations": (None, []),
        "audio": (None,),
        "function_call": (None,),
    }
    role: Literal["system", "developer", "user", "assistant", "tool", "latest_reminder"]
    content: str | Annotated[list[TextPart], PARTS] | None = None
    name: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None  # as some servers call it
    tool_calls: Annotated[list[Call], TOOLS] | None = None
    tool_call_id: str | None = None
    task: str | None = None
    prefix: bool | None = None  # the answer goes on with this one

    @property
    def text(self) -> str:
        """All of its parts."""
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""


class Function(Strict):
    """What may be called."""

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Strict):
    """A function that the model may call."""

    type: Literal["function"]
    function: Function

    @property
    def written(self) -> str:
        """The function as the model reads it: what the client has said, and nothing else."""
        return json.dumps(self.function.model_dump(exclude_unset=True), ensure_ascii=False)


def checked(turns: Sequence[Turn], tools: Sequence[Tool]) -> None:
    """Raises RequestError, which names the place, for what the types do not show."""
    if not turns:
        raise RequestError("messages: there are none; give at least one")
    if turns[-1].role == "assistant" and not turns[-1].prefix:
        last = f"messages[{len(turns) - 1}].prefix"
        raise RequestError(f"{last}: the answer is there already; say true to have it gone on with")
    check_tools([(tool.function.name, tool.function.parameters) for tool in tools])


def check_tools(
    tools: Sequence[tuple[str, Mapping[str, Any] | None]],
    name_at: str = "function.name",
    schema_at: str = "function.parameters",
) -> None:
    """Raises RequestError if two have one name, or what is to be a JSON schema is none."""
    names = [name for name, _ in tools]
    for number, name in enumerate(names):
        if name in names[:number]:
            at = f"tools[{number}].{name_at}"
            raise RequestError(f"{at}: {name!r} is there twice; rename one")
    check_schemas({f"tools[{n}].{schema_at}": said or {} for n, (_, said) in enumerate(tools)})


def written(
    name: str, description: str | None, parameters: Mapping[str, Any] | None, strict: bool | None
) -> str:
    """A function as the model reads it; what the client has not said is left out."""
    said = {"name": name, "description": description, "parameters": parameters, "strict": strict}
    known = {field: value for field, value in said.items() if value is not None}
    return json.dumps(known, ensure_ascii=False)


def joined(messages: Iterable[Message]) -> list[Message]:
    """The same, an assistant's in a row as one: other APIs have them in parts."""
    found: list[Message] = []
    for each in messages:
        if found and found[-1].role == each.role == "assistant":
            found[-1] = _both(found[-1], each)
        else:
            found.append(each)
    return found


def _both(one: Message, other: Message) -> Message:
    return replace(
        one,
        content=one.content + other.content,
        reasoning=one.reasoning + other.reasoning,
        tool_calls=one.tool_calls + other.tool_calls,
    )


def messages(
    turns: Iterable[Turn], tools: Iterable[Tool], response_format: str
) -> tuple[Message, ...]:
    """The conversation; tools and the form of the answer are told at its beginning."""
    return with_tools([*map(_message, turns)], [tool.written for tool in tools], response_format)


def _message(turn: Turn) -> Message:
    calls = tuple(
        ToolCall(call.function.name, call.function.arguments, call.id)
        for call in turn.tool_calls or ()
    )
    return Message(
        turn.role,
        turn.text,
        reasoning=turn.reasoning_content or turn.reasoning or "",
        tool_calls=calls,
        tool_call_id=turn.tool_call_id or "",
        task=turn.task or "",
        open=bool(turn.prefix),
    )
