"""Items of OpenAI's Responses, and how they become messages of ours."""

from collections.abc import Collection, Iterable, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, Tag

from dsv4_tp.asks import Message, ToolCall
from dsv4_tp.errors import RequestError
from dsv4_tp.serving.fields import BY_TYPE, PARTS, Idle, Strict, by_type
from dsv4_tp.serving.turns import joined, written

_ECHOED = ("id", "status", "phase", "caller", "namespace")  # what answers carry, and comes back


class InputText(Strict):
    """A piece of what is asked."""

    idle: ClassVar[Idle] = {"prompt_cache_breakpoint": (None,)}
    type: Literal["input_text"]
    text: str


class OutputText(Strict):
    """A piece of an earlier answer."""

    idle: ClassVar[Idle] = {"annotations": (None, []), "logprobs": (None, [])}
    type: Literal["output_text"]
    text: str


class ReasoningText(Strict):
    """A piece of what an earlier answer thought."""

    type: Literal["reasoning_text", "summary_text"]
    text: str


_Text = Annotated[
    Annotated[InputText, Tag("InputText")] | Annotated[OutputText, Tag("OutputText")], BY_TYPE
]
Texts = Annotated[list[_Text], PARTS]


class MessageItem(Strict):
    """What one of them says."""

    records: ClassVar[Collection[str]] = _ECHOED
    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: str | Texts


class CallItem(Strict):
    """A call that an earlier answer made."""

    records: ClassVar[Collection[str]] = _ECHOED
    idle: ClassVar[Idle] = {"async": (None, False)}
    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str


class OutputItem(Strict):
    """What a call gave."""

    records: ClassVar[Collection[str]] = _ECHOED
    type: Literal["function_call_output"]
    call_id: str
    output: str | Texts


class ReasoningItem(Strict):
    """What an earlier answer thought; it is told in clear, so there is nothing encrypted."""

    records: ClassVar[Collection[str]] = _ECHOED
    idle: ClassVar[Idle] = {"encrypted_content": (None, "")}
    type: Literal["reasoning"]
    summary: Annotated[list[ReasoningText], PARTS] | None = None
    content: Annotated[list[ReasoningText], PARTS] | None = None


Item = Annotated[
    Annotated[MessageItem, Tag("Message")]
    | Annotated[CallItem, Tag("FunctionCall")]
    | Annotated[OutputItem, Tag("FunctionCallOutput")]
    | Annotated[ReasoningItem, Tag("Reasoning")],
    by_type("message"),
]


class Tool(Strict):
    """A function that the model may call."""

    idle: ClassVar[Idle] = {
        "allowed_callers": (None, ["direct"]),
        "async": (None, False),
        "defer_loading": (None, False),
        "output_schema": (None,),
    }
    type: Literal["function"]
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,128}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    @property
    def written(self) -> str:
        """The function as the model reads it."""
        return written(self.name, self.description, self.parameters, self.strict)


def check_items(items: Sequence[Item]) -> None:
    """Raises RequestError, which names the place, for what the types do not show."""
    if not items:
        raise RequestError("input: there is none; give at least one item")
    called: set[str] = set()
    for at, item in enumerate(items):
        if isinstance(item, CallItem):
            called.add(item.call_id)
        if isinstance(item, OutputItem) and item.call_id not in called:
            raise RequestError(f"input[{at}].call_id: no earlier call {item.call_id!r}")
    if _said(items[-1]).role == "assistant":
        raise RequestError(f"input[{len(items) - 1}]: it is answered already; end with a question")


def messages_of(items: Iterable[Item]) -> list[Message]:
    """The same as messages."""
    return joined(map(_said, items))


def _said(item: Item) -> Message:
    match item:
        case MessageItem(role=role, content=content):
            return Message(role, _text(content))
        case ReasoningItem(content=content, summary=summary):
            return Message("assistant", reasoning=_text(content or summary or []))
        case CallItem(name=name, arguments=arguments, call_id=call):
            return Message("assistant", tool_calls=(ToolCall(name, arguments, call),))
        case OutputItem(output=output, call_id=call):
            return Message("tool", _text(output), tool_call_id=call)


def _text(content: str | Sequence[InputText | OutputText | ReasoningText]) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)
