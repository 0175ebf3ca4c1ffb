"""Tools in a prompt: what there is to call, and what was called."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from dsv4_tp.asks import Message, ToolCall
from dsv4_tp.prompts.pieces import Piece, Pieces, fill, given, joined, ours
from dsv4_tp.prompts.table import Table

_PARAMETER = (
    '<{dsml_token}parameter name="{name}" string="{is_text}">{value}</{dsml_token}parameter>'
)


def with_tools(
    messages: Sequence[Message], tools: Sequence[str], response_format: str = ""
) -> tuple[Message, ...]:
    """The conversation with what a request brings beside its messages.

    It goes to the system message at the beginning, or to an empty one if there is none.
    """
    if not tools and not response_format:
        return tuple(messages)
    leads = bool(messages) and messages[0].role == "system"
    first = messages[0] if leads else Message("system")
    first = replace(
        first,
        tools=(*first.tools, *tools),
        response_format=response_format or first.response_format,
    )
    return (first, *messages[leads:])


def offer(table: Table, message: Message) -> Pieces:
    """The tools and the format of answers that a message brings, each after an empty line."""
    offered: list[Piece] = []
    if message.tools:
        schemas = joined("\n", [given(_json(json.loads(tool))) for tool in message.tools])
        offered += ours("\n\n") + fill(
            table.tools_template,
            dsml_token=ours(table.dsml_token),
            thinking_start_token=ours(table.thinking_start_token),
            thinking_end_token=ours(table.thinking_end_token),
            tool_schemas=schemas,
        )
    if message.response_format:
        schema = given(_json(json.loads(message.response_format)))
        offered += ours("\n\n") + fill(table.response_format_template, schema=schema)
    return tuple(offered)


def called(table: Table, calls: Sequence[ToolCall]) -> Pieces:
    """The calls of an answer, after an empty line; nothing where there are none."""
    if not calls:
        return ()
    block = fill(
        table.tool_calls_template,
        dsml_token=ours(table.dsml_token),
        tc_block_name=ours(table.tool_calls_block_name),
        tool_calls=joined("\n", [_call(table, call) for call in calls]),
    )
    return ours("\n\n") + block


def _call(table: Table, call: ToolCall) -> Pieces:
    return fill(
        table.tool_call_template,
        dsml_token=ours(table.dsml_token),
        name=given(call.name),
        arguments=joined("\n", [_parameter(table, *part) for part in _parameters(call)]),
    )


def _parameter(table: Table, name: str, is_text: bool, value: str) -> Pieces:
    return fill(
        _PARAMETER,
        dsml_token=ours(table.dsml_token),
        name=given(name),
        is_text=ours("true" if is_text else "false"),
        value=given(value),
    )


def _parameters(call: ToolCall) -> list[tuple[str, bool, str]]:
    """Name, whether it is text, and value of each; arguments that are no JSON object are one."""
    whole = [("arguments", True, call.arguments)]
    try:
        arguments = json.loads(call.arguments)
        if not isinstance(arguments, dict):
            return whole
        parts = [
            (name, isinstance(value, str), value if isinstance(value, str) else _json(value))
            for name, value in cast(dict[str, object], arguments).items()
        ]
        "".join(name + value for name, _, value in parts).encode()  # escapes may spell no Unicode
    except (ValueError, RecursionError):
        return whole
    return parts


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
