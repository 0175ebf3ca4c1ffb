"""Which conversations can be encoded. Errors name the message and its field."""

import json
from collections.abc import Sequence

from dsv4_tp.asks import Message
from dsv4_tp.errors import RequestError
from dsv4_tp.prompts.table import FILE, Table

_ROLES = ("system", "developer", "user", "assistant", "tool", "latest_reminder")
_OWNERS = {  # of the fields that not every role has
    "reasoning": ("assistant",),
    "tool_calls": ("assistant",),
    "tool_call_id": ("tool",),
    "tools": ("system", "developer"),
    "response_format": ("system", "developer"),
    "task": ("user", "assistant"),
    "open": ("assistant",),
}
_OF_THE_FILE = ("tool_calls", "tools", "response_format", "task")


def check(messages: Sequence[Message], table: Table | None) -> None:
    """Whether `encode` can write the conversation; without a table, plain turns only.

    Raises:
        RequestError: it cannot; names the index of the message, the field and what is wrong.
    """
    if not messages:
        raise RequestError("messages: there are none; a conversation needs at least one")
    called: set[str] = set()
    for at, message in enumerate(messages):
        where = f"messages[{at}]"
        _check_roles(where, message)
        _check_texts(where, message)
        _check_table(where, message, table)
        if message.role == "tool" and message.tool_call_id not in called:
            raise RequestError(f"{where}.tool_call_id: no earlier call {message.tool_call_id!r}")
        if message.open and at + 1 < len(messages):
            raise RequestError(f"{where}.open: only the last message can be gone on with")
        called |= {call.id for call in message.tool_calls}


def _check_roles(where: str, message: Message) -> None:
    if message.role not in _ROLES:
        known = ", ".join(_ROLES)
        raise RequestError(f"{where}.role: unknown role {message.role!r}; known are {known}")
    for field, owners in _OWNERS.items():
        if getattr(message, field) and message.role not in owners:
            owner = " or ".join(owners)
            raise RequestError(f"{where}.{field}: {message.role} messages have none, only {owner}")
    if message.role == "developer" and not message.content:
        raise RequestError(f"{where}.content: a developer's message cannot be empty")


def _check_texts(where: str, message: Message) -> None:
    calls = [
        (f"tool_calls[{at}].{field}", text)
        for at, call in enumerate(message.tool_calls)
        for field, text in (("name", call.name), ("arguments", call.arguments))
    ]
    for field, text in [("content", message.content), ("reasoning", message.reasoning), *calls]:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise RequestError(f"{where}.{field}: not Unicode text: {error.reason}") from error
    for at, tool in enumerate(message.tools):
        _check_object(f"{where}.tools[{at}]", tool)
    if message.response_format:
        _check_object(f"{where}.response_format", message.response_format)


def _check_object(where: str, words: str) -> None:
    try:
        value = json.loads(words)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{where}: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise RequestError(f"{where}: expected a JSON object, found {words[:40]!r}")


def _check_table(where: str, message: Message, table: Table | None) -> None:
    if table is None:
        fields = [field for field in _OF_THE_FILE if getattr(message, field)]
        if message.role in ("tool", "latest_reminder"):
            fields.append("role")
        if fields:
            raise RequestError(
                f"{where}.{fields[0]}: the checkpoint, which says how to write it, has no {FILE}"
            )
    elif message.task and message.task not in table.task_tokens:
        known = ", ".join(table.task_tokens)
        raise RequestError(f"{where}.task: unknown task {message.task!r}; known are {known}")
