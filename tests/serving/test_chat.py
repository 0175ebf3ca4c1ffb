"""What /v1/chat/completions may be asked; what is wrong is told with its place."""

import json
from typing import Any

import pytest

from dsv4_tp.asks import Calls, Message, ToolCall
from dsv4_tp.errors import RequestError
from dsv4_tp.serving.chat import parse
from dsv4_tp.serving.failures import told

HI = {"role": "user", "content": "hi"}
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Über",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
    },
}

STRICT = ADD | {"function": ADD["function"] | {"strict": True}}
ONE = {"type": "function", "function": {"name": "add"}}


def body(**fields: Any) -> bytes:
    return json.dumps({"messages": [HI]} | fields).encode()


def asked(**fields: Any):
    return parse(body(**fields)).ask()


def messages(**fields: Any) -> tuple[Message, ...]:
    return asked(**fields).prompt.messages


def turn(**fields: Any) -> dict[str, Any]:
    return {"messages": [HI, {"role": "assistant", "content": "x"} | fields, HI]}


def function(**fields: Any) -> dict[str, Any]:
    return {"tools": [{"type": "function", "function": {"name": "f"} | fields}]}


PART, CALL = "messages[0].content[0].x", "messages[1].tool_calls[0].function.x"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"content": "hi"}]}, "messages[0].role"),
        ({"messages": [HI, {"role": "robot", "content": "hi"}]}, "messages[1].role"),
        (turn(content=5), "messages[1].content"),
        (turn(content=[{"type": "image_url", "image_url": {}}]), "messages[1].content[0].type"),
        (turn(content=[{"type": "text"}]), "messages[1].content[0].text"),
        (turn(audio={"id": "a"}), "messages[1].audio"),
        (turn(contents="x"), "messages[1].contents"),
        ({"messages": [HI, {"role": "assistant", "content": "x"}]}, "messages[1].prefix"),
        (turn(tool_calls=[{"id": "a", "type": "custom"}]), "messages[1].tool_calls[0].type"),
        (function(name="a b"), "tools[0].function.name"),
        (function(parameters={"type": 5}), "tools[0].function.parameters.type"),
        (function(parameters=[]), "tools[0].function.parameters"),
        (function(colour="red"), "tools[0].function.colour"),
        ({"tools": [ADD, ADD]}, "tools[1].function.name"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "maybe"}, "tool_choice"),
        (
            {"tools": [ADD], "tool_choice": {"type": "function", "function": {"name": "g"}}},
            "tool_choice.function.name",
        ),
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "text", "x": 1}}, "response_format.x"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"thinking": {"type": "maybe"}}, "thinking.type"),
        ({"thinking": {"type": "disabled"}, "reasoning_effort": "high"}, "reasoning_effort"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"store": True}, "store"),
        ({"temprature": 1}, "temprature"),
        ({"tools": [ADD | {"x": 1}]}, "tools[0].x"),
        ({"thinking": {"type": "enabled", "x": 1}}, "thinking.x"),
        ({"stream": True, "stream_options": {"x": 1}}, "stream_options.x"),
        ({"messages": [HI | {"content": [{"type": "text", "text": "", "x": 1}]}]}, PART),
        (turn(tool_calls=[{"function": {"name": "f", "arguments": "", "x": 1}}]), CALL),
        ({"max_completion_tokens": -1}, "max_completion_tokens"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_is_named_with_its_place(fields: dict[str, Any], param: str):
    with pytest.raises(RequestError) as refused:
        asked(**fields)
    assert told(refused.value)["error"]["param"] == param


def test_what_changes_nothing_may_be_said():
    idle = {"user": "me", "metadata": {"a": "b"}, "store": False, "service_tier": "auto"}
    echoed = {"refusal": None, "annotations": [], "audio": None, "function_call": None}
    plain, more = {"messages": [HI, HI]}, {"messages": [HI, HI | echoed | {"name": "Lena"}]}
    assert asked(**more, **idle, functions=None, modalities=["text"]) == asked(**plain)


def test_the_parts_of_a_message_are_one_text():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert messages(messages=[{"role": "user", "content": parts}])[0].content == "ab"


def test_a_call_and_its_answer():
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    said = {"role": "assistant", "content": None, "reasoning_content": "so", "tool_calls": [call]}
    answer = {"role": "tool", "tool_call_id": "c1", "content": "3"}
    assert messages(messages=[HI, said, answer])[1:] == (
        Message("assistant", reasoning="so", tool_calls=(ToolCall("add", "{}", "c1"),)),
        Message("tool", "3", tool_call_id="c1"),
    )


def test_tools_and_forms_are_told_in_the_first_message():
    first, second = messages(tools=[ADD])
    assert (first.role, first.content) == ("system", "")
    assert [json.loads(tool) for tool in first.tools] == [ADD["function"]]
    assert "Über" in first.tools[0]
    assert second == Message("user", "hi")
    said = [{"role": "system", "content": "be brief"}, HI]
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "array"}}}
    first, _ = messages(messages=said, tools=[ADD], response_format=form)
    assert (first.role, first.content, len(first.tools)) == ("system", "be brief", 1)
    assert json.loads(first.response_format) == {"type": "array"}


def test_tools_that_may_not_be_called_are_not_told():
    assert messages(tools=[ADD], tool_choice="none") == (Message("user", "hi"),)


@pytest.mark.parametrize(
    ("fields", "calls"),
    [
        ({}, None),
        ({"tool_choice": "auto"}, None),
        ({"tool_choice": "none", "parallel_tool_calls": False}, None),
        ({"tool_choice": "required"}, Calls(required=True)),
        ({"tool_choice": ONE, "parallel_tool_calls": False}, Calls(True, "add", True)),
        ({"parallel_tool_calls": False}, Calls(single=True)),
        ({"tools": [STRICT]}, Calls()),
        ({"response_format": {"type": "json_object"}}, Calls()),
    ],
)
def test_what_calls_are_held_to(fields: dict[str, Any], calls: Calls | None):
    assert asked(**{"tools": [ADD]} | fields).prompt.calls == calls


def test_what_the_answer_is_held_to():
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "array"}}}
    assert asked().json_schema is None
    assert json.loads(asked(response_format={"type": "json_object"}).json_schema) == {
        "type": "object"
    }
    assert json.loads(asked(response_format=form).json_schema) == {"type": "array"}


def test_how_much_it_thinks():
    assert asked().prompt.effort == ""
    assert asked(reasoning_effort="high").prompt.effort == "high"
    assert asked(thinking={"type": "enabled"}).prompt.effort == ""
    assert asked(thinking={"type": "disabled"}).prompt.effort == "none"


def test_settings_under_both_names():
    assert asked(max_tokens=3).max_tokens == 3
    assert asked(max_tokens=3, max_completion_tokens=5).max_tokens == 5
    assert asked(logprobs=True).logprobs == 0
    assert asked(logprobs=True, top_logprobs=4).logprobs == 4
    assert asked(logprobs=False).logprobs is None
