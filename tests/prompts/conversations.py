"""Tables and short ways to write conversations, for the tests of prompts."""

from pathlib import Path

from dsv4_tp.asks import Message, ToolCall
from dsv4_tp.prompts import Table, read_table

TABLES = Path(__file__).parent / "tables"

BOS, EOS = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
USER, ASSISTANT = "<｜User｜>", "<｜Assistant｜>"
THINK, NO_THOUGHT = "<think>", "</think>"


def table_of(revision: str) -> Table:
    """The table of `original` or `later`."""
    table = read_table(TABLES / revision)
    assert table is not None
    return table


def system(content: str = "", **fields: object) -> Message:
    """A system message."""
    return Message("system", content, **fields)


def developer(content: str, **fields: object) -> Message:
    """A developer's message."""
    return Message("developer", content, **fields)


def user(content: str, task: str = "") -> Message:
    """A user's message."""
    return Message("user", content, task=task)


def assistant(content: str = "", reasoning: str = "", **fields: object) -> Message:
    """An answer."""
    return Message("assistant", content, reasoning, **fields)


def calls(*ids: str) -> Message:
    """An answer that calls a tool of that name for each id."""
    return assistant(tool_calls=tuple(ToolCall(f"tool_{name}", "{}", name) for name in ids))


def result(call: str, content: str) -> Message:
    """What a tool answers to a call."""
    return Message("tool", content, tool_call_id=call)


def reminder(content: str) -> Message:
    """A latest reminder."""
    return Message("latest_reminder", content)
