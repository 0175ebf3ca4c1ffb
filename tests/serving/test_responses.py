"""/v1/responses by OpenAI's own clients; the texts and the faults are a stand-in's."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.responses import ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from dsv4_tp import errors
from dsv4_tp.asks import Ask, Calls, Message, Piece, ToolCall
from dsv4_tp.core import FinishReason
from dsv4_tp.errors import RequestError
from dsv4_tp.serving.failures import told
from dsv4_tp.serving.responses import parse
from tests.serving.test_app import END, StandIn, by_client
from tests.serving.test_spoken import CALLS, STOP, said

HI: dict[str, Any] = {"model": "demo", "input": "hi"}
PLAIN = {"reasoning": {"effort": "none"}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
TOOLS = [{"type": "function", "name": "add", "parameters": SCHEMA, "strict": False}]
CALL = {"type": "function_call", "call_id": "c1", "name": "add", "arguments": '{"a": 5}'}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "6"}


def test_thinking_and_text_are_items():
    async def act(client: AsyncOpenAI, it: StandIn) -> None:
        whole = await client.responses.create(**HI, instructions="be brief", metadata={"a": "b"})
        thought, text = whole.output
        assert (thought.type, thought.content[0].text) == ("reasoning", "so it is")
        assert (text.type, text.status, whole.output_text) == ("message", "completed", "a < b")
        assert (whole.status, whole.model, whole.store) == ("completed", "demo", False)
        assert (whole.instructions, whole.metadata) == ("be brief", {"a": "b"})
        usage = whole.usage
        assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (4, 3, 7)
        assert usage.input_tokens_details.cached_tokens == 2
        assert usage.output_tokens_details.reasoning_tokens == 3
        assert it.asked[0].prompt.messages[0] == Message("system", "be brief")
        async with client.responses.stream(**HI) as stream:
            texts = [e.delta async for e in stream if e.type == "response.output_text.delta"]
            final = await stream.get_final_response()
        assert "".join(texts) == final.output_text == "a < b"
        assert final.output[0].content[0].text == "so it is"

    by_client(lambda: StandIn(*said("so it", " is", "</think>", "a <", " b")), act)


def test_events_have_names_numbers_and_an_order():
    async def act(client: AsyncOpenAI, _it: StandIn) -> None:
        raw = await client.responses.with_raw_response.create(**HI, tools=TOOLS, stream=True)
        lines = [line async for line in raw.http_response.aiter_lines() if line]
        events = [json.loads(line.removeprefix("data: ")) for line in lines[1::2]]
        names = [line.removeprefix("event: ") for line in lines[::2]]
        assert names == [event["type"] for event in events]
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        item, part = ["output_item.added", "content_part.added"], ["content_part.done"]
        call = "function_call_arguments"
        assert [name.removeprefix("response.") for name in names] == [
            *("created", "in_progress"),
            *(*item, "reasoning_text.delta", "reasoning_text.done", *part, "output_item.done"),
            *(*item, "output_text.delta", "output_text.done", *part, "output_item.done"),
            *(item[0], f"{call}.delta", f"{call}.done", "output_item.done"),
            *(item[0], f"{call}.delta", f"{call}.done", "output_item.done"),
            "completed",
        ]
        done = [e["item"] for e in events if e["type"] == "response.output_item.done"]
        assert events[-1]["response"]["output"] == done
        assert len({each["id"] for each in done}) == 4
        for event in events:  # each has all that its type has, and tells whose it is
            TypeAdapter(ResponseStreamEvent).validate_python(event)
            if "item_id" in event:
                assert event["item_id"] == done[event["output_index"]]["id"]

    by_client(lambda: StandIn(*said("so", "</think>", "I add." + CALLS)), act)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_calls_come_as_they_are_made(size: int):
    pieces = ["I add.", *(CALLS[at : at + size] for at in range(0, len(CALLS), size))]

    async def act(client: AsyncOpenAI, _it: StandIn) -> None:
        whole = await client.responses.create(**HI, **PLAIN, tools=TOOLS)
        text, *calls = whole.output
        assert text.content[0].text == "I add."
        assert [(call.name, json.loads(call.arguments)) for call in calls] == [
            ("add", {"a": 5, "b": 'x"y'}),
            ("add", {}),
        ]
        assert len({call.call_id for call in calls}) == 2
        async with client.responses.stream(**HI, **PLAIN, tools=TOOLS) as stream:
            final = await stream.get_final_response()
        assert [call.arguments for call in final.output[1:]] == [call.arguments for call in calls]

    by_client(lambda: StandIn(*said(*pieces)), act)


def test_what_an_answer_has_comes_back_with_its_output():
    class Turns(StandIn):
        async def stream(self, ask: Ask, *, request_id: str = ""):
            self.script = said("so", "</think>", "It is 6." if self.asked else CALLS)
            async for piece in super().stream(ask, request_id=request_id):
                yield piece

    async def act(client: AsyncOpenAI, it: StandIn) -> None:
        def loop() -> str:
            asked: list[Any] = [{"role": "user", "content": "hi"}]
            with OpenAI(base_url=client.base_url, api_key="-", max_retries=0) as own:
                first = own.responses.create(model="demo", input=asked, tools=TOOLS)
                asked += first.output
                for item in first.output:
                    if item.type == "function_call":
                        asked.append(OUTPUT | {"call_id": item.call_id})
                return own.responses.create(model="demo", input=asked, tools=TOOLS).output_text

        assert await asyncio.to_thread(loop) == "It is 6."
        answer, *results = it.asked[1].prompt.messages[-3:]
        assert (answer.reasoning, len(answer.tool_calls)) == ("so", 2)
        assert [each.tool_call_id for each in results] == [call.id for call in answer.tool_calls]

    by_client(Turns, act)


def test_an_answer_that_is_cut_is_incomplete():
    length = replace(STOP, finish=replace(END.finish, reason=FinishReason.LENGTH))

    async def act(client: AsyncOpenAI, it: StandIn) -> None:
        whole = await client.responses.create(**HI, **PLAIN, tools=TOOLS, max_output_tokens=3)
        assert (whole.status, whole.incomplete_details.reason) == (
            "incomplete",
            "max_output_tokens",
        )
        assert [item.status for item in whole.output] == ["completed", "incomplete"]
        assert it.asked[0].max_tokens == 3
        stream = await client.responses.create(**HI, stream=True)
        assert [event.type async for event in stream][-1] == "response.incomplete"

    by_client(lambda: StandIn(Piece((2,), "I add." + CALLS[:60], None), length), act)


def test_what_fails_is_a_status_or_the_last_event():
    killed = errors.RankFailure("rank 1 on b: killed")

    async def act(client: AsyncOpenAI, it: StandIn) -> None:
        stream = await client.responses.create(**HI, **PLAIN, stream=True)
        last = [event async for event in stream][-1]
        assert (last.type, last.response.status) == ("response.failed", "failed")
        assert last.response.error.code == "server_error"
        assert last.response.error.message == "rank 1 on b: killed"
        it.script = (killed,)
        for streamed in (True, False):
            with pytest.raises(openai.InternalServerError, match="killed") as caught:
                await client.responses.create(**HI, stream=streamed)
            assert caught.value.status_code == 503

    by_client(lambda: StandIn(*said("a")[:1], killed), act)


def test_a_silent_stream_begins_and_says_that_it_lives():
    async def act(client: AsyncOpenAI, _it: StandIn) -> None:
        raw = await client.responses.with_raw_response.create(**HI, stream=True)
        lines = [line async for line in raw.http_response.aiter_lines() if line]
        assert [line for line in lines[:5] if not line.startswith("data: ")] == [
            "event: response.created",
            "event: response.in_progress",
            ": keep-alive",
        ]
        assert lines.count("event: response.created") == 1
        assert lines[-2] == "event: response.completed"

    by_client(lambda: StandIn(0.3, *said("a")), act, beat_s=0.05)


def test_an_answer_of_a_form():
    async def act(client: AsyncOpenAI, it: StandIn) -> None:
        form = {"type": "json_schema", "name": "x", "schema": SCHEMA, "strict": True}
        whole = await client.responses.create(**HI, **PLAIN, text={"format": form})
        assert whole.text.format.schema_ == SCHEMA
        (ask,) = it.asked
        assert json.loads(ask.json_schema) == SCHEMA
        assert json.loads(ask.prompt.messages[0].response_format) == SCHEMA

    by_client(lambda: StandIn(*said("{}")), act)


class Number(BaseModel):
    a: int


def test_the_client_parses_an_answer_of_a_form():
    async def act(client: AsyncOpenAI, it: StandIn) -> None:
        parsed = await client.responses.parse(**HI, **PLAIN, text_format=Number)
        assert parsed.output_parsed == Number(a=5)
        assert json.loads(it.asked[0].json_schema)["required"] == ["a"]

    by_client(lambda: StandIn(*said('{"a": 5}')), act)


def body(**fields: Any) -> bytes:
    return json.dumps(HI | fields).encode()


def talk(**fields: Any):
    return parse(body(**fields)).talk()


def test_a_conversation_with_a_call():
    thought = {
        **{"type": "reasoning", "id": "rs_1", "summary": [], "status": "completed"},
        "content": [{"type": "reasoning_text", "text": "so"}],
        "encrypted_content": None,
    }
    text = {
        **{"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"},
        "content": [{"type": "output_text", "text": "I add.", "annotations": []}],
    }
    hi = {"role": "user", "content": [{"type": "input_text", "text": "hi"}]}
    items = [hi, thought, text, CALL | {"id": "fc_1", "status": "completed"}, OUTPUT]
    assert talk(input=items, instructions="be brief").messages == (
        Message("system", "be brief"),
        Message("user", "hi"),
        Message("assistant", "I add.", "so", (ToolCall("add", '{"a": 5}', "c1"),)),
        Message("tool", "6", tool_call_id="c1"),
    )


def test_tools_are_told_as_they_are_said():
    first, _ = talk(tools=TOOLS).messages
    assert [json.loads(tool) for tool in first.tools] == [
        {"name": "add", "parameters": SCHEMA, "strict": False}
    ]
    assert talk(tools=TOOLS, tool_choice="none").messages == (Message("user", "hi"),)


@pytest.mark.parametrize(
    ("fields", "calls"),
    [
        ({}, None),
        ({"tool_choice": "none"}, None),
        ({"tool_choice": "required"}, Calls(required=True)),
        ({"tool_choice": {"type": "function", "name": "add"}}, Calls(required=True, name="add")),
        ({"parallel_tool_calls": False}, Calls(single=True)),
    ],
    ids=str,
)
def test_what_calls_are_held_to(fields: dict[str, Any], calls: Calls | None):
    assert talk(tools=TOOLS, **fields).calls == calls


def test_what_changes_nothing_may_be_said():
    idle = {"store": False, "previous_response_id": None, "user": "me", "truncation": "disabled"}
    more = {"include": ["reasoning.encrypted_content"], "tool_choice": "auto", "background": False}
    assert talk(**idle, **more, reasoning={"summary": "auto"}) == talk()
    asked = parse(body(temperature=0.5, top_p=0.9, seed=3))
    assert asked.ask(talk()) == Ask(talk(), temperature=0.5, top_p=0.9, seed=3)
    assert talk(reasoning={"effort": "high"}).effort == "high"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": [5]}, "input[0]"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": 5}]}, "input[0].content"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            "input[0].content[0].type",
        ),
        ({"input": [{"role": "user", "content": "x", "colour": 1}]}, "input[0].colour"),
        ({"input": [OUTPUT]}, "input[0].call_id"),
        ({"input": [{"role": "user", "content": "x"}] * (2**14 + 1)}, "input"),
        ({"input": [CALL]}, "input[0]"),
        ({"input": [{"type": "function_call", "name": "f"}]}, "input[0].call_id"),
        ({"store": True}, "store"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "c"}, "conversation"),
        ({"background": True}, "background"),
        ({"include": ["file_search_call.results"]}, "include"),
        ({"tools": TOOLS * 2}, "tools[1].name"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [TOOLS[0] | {"parameters": {"type": 5}}]}, "tools[0].parameters.type"),
        ({"tool_choice": "maybe"}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "name": "f"}}, "tool_choice.name"),
        ({"text": {"format": {"type": "yaml"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
        ({"text": {"verbosity": "low"}}, "text.verbosity"),
        ({"reasoning": {"efort": "low"}}, "reasoning.efort"),
        ({"max_tokens": 5}, "max_tokens"),
        ({"max_output_tokens": -1}, "max_output_tokens"),
        ({"n": 2}, "n"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_is_named_with_its_place(fields: dict[str, Any], param: str):
    with pytest.raises(RequestError) as refused:
        talk(**fields)
    assert told(refused.value)["error"]["param"] == param
