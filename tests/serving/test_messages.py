"""/v1/messages by Anthropic's own clients; the texts and the faults are a stand-in's."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic, AsyncAnthropic, beta_tool
from anthropic.types import RawMessageStreamEvent
from openai import AsyncOpenAI
from pydantic import BaseModel, TypeAdapter

from dsv4_tp import errors
from dsv4_tp.asks import Ask, Calls, Message, Piece, ToolCall
from dsv4_tp.core import FinishReason
from dsv4_tp.errors import RequestError
from dsv4_tp.serving.messages import parse
from tests.serving.test_app import END, StandIn, by_client, url_of
from tests.serving.test_spoken import CALLS, STOP, said

HI: dict[str, Any] = {
    "model": "demo",
    "max_tokens": 50,
    "messages": [{"role": "user", "content": "hi"}],
}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
TOOLS = [{"name": "add", "description": "Über", "input_schema": SCHEMA}]
THINKING = {"type": "enabled", "budget_tokens": 1024}
THOUGHT = said("so it", " is", "</think>", "a <", " b")
USE = {"type": "tool_use", "id": "c1", "name": "add", "input": {"a": 5}}
RESULT = {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "6"}]}


def by_anthropic(
    stand_in: Callable[[], StandIn],
    act: Callable[[AsyncAnthropic, StandIn], Awaitable[None]],
    **options: Any,
) -> None:
    async def with_its_client(client: AsyncOpenAI, it: StandIn) -> None:
        where = {"base_url": url_of(client, ""), "api_key": "-", "max_retries": 0}
        async with AsyncAnthropic(**where) as own:
            await act(own, it)

    by_client(stand_in, with_its_client, **options)


def test_thinking_and_text_are_blocks():
    async def act(client: AsyncAnthropic, it: StandIn) -> None:
        whole = await client.messages.create(**HI, thinking=THINKING)
        thought, text = whole.content
        assert (thought.type, thought.thinking) == ("thinking", "so it is")
        assert (text.type, text.text) == ("text", "a < b")
        assert (whole.role, whole.model, whole.stop_reason) == ("assistant", "demo", "end_turn")
        usage = whole.usage
        assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (2, 2, 3)
        assert usage.output_tokens_details.thinking_tokens == 3
        assert whole._request_id
        async with client.messages.stream(**HI, thinking=THINKING) as stream:
            texts = [text async for text in stream.text_stream]
            final = await stream.get_final_message()
        assert texts == ["a <", " b"]
        assert final.content[0].signature
        assert final.model_dump(exclude={"id", "content"}) == whole.model_dump(
            exclude={"id", "content"}
        )
        assert [block.to_dict() for block in final.content] == [
            block.to_dict() for block in whole.content
        ]

    by_anthropic(lambda: StandIn(*THOUGHT), act)


def test_events_have_names_and_an_order():
    async def act(client: AsyncAnthropic, _it: StandIn) -> None:
        raw = await client.messages.with_raw_response.create(
            **HI, thinking=THINKING, tools=TOOLS, stream=True
        )
        lines = [line async for line in raw.http_response.aiter_lines() if line]
        names = [line.removeprefix("event: ") for line in lines[::2]]
        events = [json.loads(line.removeprefix("data: ")) for line in lines[1::2]]
        assert names == [event["type"] for event in events]
        for event in events:
            TypeAdapter(RawMessageStreamEvent).validate_python(event)
        begin, delta, stop = (f"content_block_{word}" for word in ("start", "delta", "stop"))
        assert names == [
            "message_start",
            *(begin, delta, delta, stop),  # the thought, and its signature
            *(begin, delta, stop),
            *(begin, delta, stop),
            *(begin, delta, stop),
            "message_delta",
            "message_stop",
        ]
        blocks = [event["content_block"] for event in events if event["type"] == begin]
        assert [block["type"] for block in blocks] == ["thinking", "text", "tool_use", "tool_use"]
        assert [event["index"] for event in events if event["type"] == stop] == [0, 1, 2, 3]
        assert events[-2]["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}

    by_anthropic(lambda: StandIn(*said("so", "</think>", "I add." + CALLS)), act)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_calls_come_as_they_are_made(size: int):
    pieces = ["I add.", *(CALLS[at : at + size] for at in range(0, len(CALLS), size))]

    async def act(client: AsyncAnthropic, _it: StandIn) -> None:
        whole = await client.messages.create(**HI, tools=TOOLS)
        assert whole.stop_reason == "tool_use"
        text, *calls = whole.content
        assert text.text == "I add."
        assert [(call.name, call.input) for call in calls] == [
            ("add", {"a": 5, "b": 'x"y'}),
            ("add", {}),
        ]
        assert len({call.id for call in calls}) == 2
        async with client.messages.stream(**HI, tools=TOOLS) as stream:
            final = await stream.get_final_message()
        assert [call.input for call in final.content[1:]] == [call.input for call in calls]

    by_anthropic(lambda: StandIn(*said(*pieces)), act)


def test_the_client_s_own_loop_calls_a_tool_and_goes_on():
    asked: list[int] = []

    @beta_tool
    def add(a: int) -> str:
        """Adds one.

        Args:
            a: to this
        """
        asked.append(a)
        return str(a + 1)

    call = CALLS.replace('<｜DSML｜parameter name="b" string="true">x"y</｜DSML｜parameter>\n', "")
    call = call.replace('<｜DSML｜invoke name="add">\n</｜DSML｜invoke>\n', "")

    class Turns(StandIn):
        async def stream(self, ask: Ask, *, request_id: str = ""):
            self.script = said("It is 6.") if self.asked else said("so", "</think>", call)
            async for piece in super().stream(ask, request_id=request_id):
                yield piece

    async def act(client: AsyncAnthropic, it: StandIn) -> None:
        def loop() -> str:
            with Anthropic(base_url=client.base_url, api_key="-", max_retries=0) as own:
                how = {**HI, "thinking": THINKING, "tools": [add]}
                final = own.beta.messages.tool_runner(**how).until_done()
                return final.content[-1].thinking

        assert await asyncio.to_thread(loop) == "It is 6."  # which is what it begins with
        assert asked == [5]
        said_, result = it.asked[1].prompt.messages[-2:]
        assert said_.reasoning == "so"
        assert (said_.tool_calls[0].name, result.role, result.content) == ("add", "tool", "6")
        assert result.tool_call_id == said_.tool_calls[0].id

    by_anthropic(Turns, act)


def test_why_it_ended():
    cut = replace(END.finish, reason=FinishReason.LENGTH)
    stopped = replace(STOP.finish, stop="###")

    async def act(client: AsyncAnthropic, it: StandIn) -> None:
        it.script = (replace(STOP, finish=stopped),)
        whole = await client.messages.create(**HI, stop_sequences=["###", "x"])
        assert (whole.stop_reason, whole.stop_sequence) == ("stop_sequence", "###")
        assert it.asked[0].stop == ["###", "x"]
        it.script = (Piece((2,), CALLS[:60], None), replace(STOP, finish=cut))
        whole = await client.messages.create(**HI, tools=TOOLS)
        assert (whole.stop_reason, whole.stop_sequence) == ("max_tokens", None)
        cancelled = replace(STOP.finish, reason=FinishReason.CANCELLED)
        it.script = (replace(STOP, finish=cancelled),)
        with pytest.raises(anthropic.OverloadedError, match="cancelled"):
            await client.messages.create(**HI)

    by_anthropic(StandIn, act)


class Number(BaseModel):
    a: int


def test_an_answer_of_a_form():
    async def act(client: AsyncAnthropic, it: StandIn) -> None:
        parsed = await client.messages.parse(**HI, output_format=Number)
        assert parsed.parsed_output == Number(a=5)
        schema = json.loads(it.asked[0].json_schema)
        assert schema["required"] == ["a"]
        assert json.loads(it.asked[0].prompt.messages[0].response_format) == schema

    by_anthropic(lambda: StandIn(*said('{"a": 5}')), act)


def test_its_client_finds_the_model():
    async def act(client: AsyncAnthropic, _it: StandIn) -> None:
        assert [model.id async for model in client.models.list()] == ["demo"]
        assert (await client.models.retrieve("demo")).id == "demo"

    by_anthropic(StandIn, act)


def test_tokens_are_counted_without_an_answer():
    async def act(client: AsyncAnthropic, it: StandIn) -> None:
        how = {"model": "demo", "messages": HI["messages"], "system": "abc", "tools": TOOLS}
        assert (await client.messages.count_tokens(**how)).input_tokens == 5
        assert it.asked == []
        with pytest.raises(anthropic.NotFoundError):
            await client.messages.count_tokens(**how | {"model": "x"})

    by_anthropic(StandIn, act)


REFUSED = [
    (errors.RequestError("top_p is 3"), 400, "invalid_request_error", None),
    (errors.BusyError("64 requests wait already"), 429, "rate_limit_error", "1"),
    (errors.NotReadyError("it is loading"), 529, "overloaded_error", "5"),
    (errors.DeadlineError("too late"), 504, "timeout_error", None),
    (errors.NumericsError("no numbers"), 500, "api_error", None),
    (RuntimeError("as planted"), 500, "api_error", None),
]


@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize(
    ("error", "status", "kind", "retry_s"),
    REFUSED,
    ids=[type(case[0]).__name__ for case in REFUSED],
)
def test_errors_are_in_its_words(
    error: Exception, status: int, kind: str, retry_s: str | None, streamed: bool
):
    async def act(client: AsyncAnthropic, _it: StandIn) -> None:
        with pytest.raises(anthropic.APIStatusError) as caught:
            await client.messages.create(**HI, stream=streamed)
        assert caught.value.status_code == status
        body = caught.value.body
        assert (body["type"], body["error"]["type"]) == ("error", kind)
        assert body["request_id"] == caught.value.response.headers["request-id"]
        assert caught.value.response.headers.get("retry-after") == retry_s

    by_anthropic(lambda: StandIn(error), act)


def test_paths_and_models_that_are_not_here():
    async def act(client: AsyncAnthropic, _it: StandIn) -> None:
        for ask in (
            client.messages.create(**HI | {"model": "claude"}),
            client.messages.batches.list(),
        ):
            with pytest.raises(anthropic.NotFoundError) as caught:
                await ask
            assert caught.value.body["error"]["type"] == "not_found_error"

    by_anthropic(StandIn, act)


def test_what_fails_on_the_way_is_an_event():
    async def act(client: AsyncAnthropic, _it: StandIn) -> None:
        async with client.messages.stream(**HI) as stream:
            texts = stream.text_stream
            assert await anext(texts) == "a"
            with pytest.raises(anthropic.APIStatusError, match="rank 1 on b: killed") as caught:
                await anext(texts)
        assert caught.value.body["error"]["type"] == "overloaded_error"

    by_anthropic(lambda: StandIn(*said("a")[:1], errors.RankFailure("rank 1 on b: killed")), act)


def test_a_silent_stream_begins_and_pings():
    async def act(client: AsyncAnthropic, _it: StandIn) -> None:
        raw = await client.messages.with_raw_response.create(**HI, stream=True)
        names = [
            line async for line in raw.http_response.aiter_lines() if line.startswith("event: ")
        ]
        assert names[:2] == ["event: message_start", "event: ping"]
        assert names.count("event: message_start") == 1
        assert names[-1] == "event: message_stop"
        async with client.messages.stream(**HI) as stream:
            assert (await stream.get_final_text()) == "a"

    by_anthropic(lambda: StandIn(0.3, *said("a")), act, beat_s=0.05)


def body(**fields: Any) -> bytes:
    return json.dumps(HI | fields).encode()


def talk(**fields: Any):
    return parse(body(**fields)).talk()


def turns(*contents: Any) -> dict[str, Any]:
    roles = ("user", "assistant")
    said_ = [{"role": roles[at % 2], "content": each} for at, each in enumerate(contents)]
    return {"messages": said_}


def test_a_conversation_with_a_call():
    thought = {"type": "thinking", "thinking": "so", "signature": "s"}
    text = {"type": "text", "text": "I add."}
    more = {"type": "text", "text": "go on", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    said_ = talk(**turns("hi", [thought, text, USE], [RESULT, more]), system="be brief")
    assert said_.messages == (
        Message("system", "be brief"),
        Message("user", "hi"),
        Message("assistant", "I add.", "so", (ToolCall("add", '{"a": 5}', "c1"),)),
        Message("tool", "6", tool_call_id="c1"),
        Message("user", "go on"),
    )


def test_turns_of_an_assistant_in_a_row_are_one_and_the_last_is_gone_on_with():
    a, b = ({"role": "assistant", "content": word} for word in ("a", "b"))
    assert talk(messages=[*HI["messages"], a, b]).messages[1:] == (
        Message("assistant", "ab", open=True),
    )


def test_the_system_s_blocks_and_the_tools_come_first():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    form = {"format": {"type": "json_schema", "schema": {"type": "array"}}}
    first, _ = talk(system=parts, tools=TOOLS, output_config=form).messages
    assert (first.role, first.content) == ("system", "a\n\nb")
    (tool,) = first.tools
    assert "Über" in tool
    assert json.loads(tool) == {"name": "add", "description": "Über", "parameters": SCHEMA}
    assert json.loads(first.response_format) == {"type": "array"}
    none = talk(tools=TOOLS, tool_choice={"type": "none"}).messages
    assert none == (Message("user", "hi"),)


@pytest.mark.parametrize(
    ("choice", "calls"),
    [
        ({"type": "auto"}, None),
        ({"type": "none"}, None),
        ({"type": "any"}, Calls(required=True)),
        ({"type": "tool", "name": "add"}, Calls(required=True, name="add")),
        ({"type": "auto", "disable_parallel_tool_use": True}, Calls(single=True)),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)
def test_what_calls_are_held_to(choice: dict[str, Any], calls: Calls | None):
    assert talk(tools=TOOLS, tool_choice=choice).calls == calls


def test_calls_of_strict_tools_are_held_to_their_schemas():
    assert talk(tools=[TOOLS[0] | {"strict": True}]).calls == Calls()
    assert talk(tools=TOOLS).calls is None


def test_it_thinks_if_that_is_said():
    assert not talk().thinking
    assert not talk(thinking={"type": "disabled"}).thinking
    assert talk(thinking=THINKING).thinking
    deep = talk(thinking={"type": "adaptive"}, output_config={"effort": "max"})
    assert (deep.thinking, deep.effort) == (True, "max")


def test_what_changes_nothing_may_be_said():
    idle = {"metadata": {"user_id": "me"}, "service_tier": "auto", "container": None}
    marked = {"cache_control": {"type": "ephemeral"}, "tool_choice": {"type": "auto"}}
    assert talk(**idle, **marked) == talk()
    asked = parse(body(temperature=0.5, top_p=0.9, top_k=7, seed=3))
    assert asked.ask(talk()) == Ask(
        talk(), max_tokens=50, temperature=0.5, top_p=0.9, top_k=7, seed=3
    )


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"max_tokens": None}, "max_tokens:"),
        ({"messages": []}, "messages:"),
        (turns(*["x"] * (2**14 + 1)), "messages: List should have at most 16384 items"),
        (turns([{}] * 100_000), r"messages\[0\].content\[0\].type: Field required"),
        ({"messages": [{"role": "robot", "content": "x"}]}, r"messages\[0\].role:"),
        (turns(5), r"messages\[0\].content: Input should be a text"),
        (turns([5]), r"messages\[0\].content\[0\]: Input should be an object"),
        (turns([{"text": "x"}]), r"messages\[0\].content\[0\].type: Field required"),
        (
            turns([{"type": "image", "source": {}}]),
            r"messages\[0\].content\[0\].type: .*'text', 'thinking', 'tool_use', 'tool_result'",
        ),
        (turns([{"type": "text"}]), r"messages\[0\].content\[0\].text: Field required"),
        (turns([{"type": "text", "text": "x", "colour": 1}]), r"messages\[0\].content\[0\].colour"),
        (turns([USE]), r"messages\[0\].content\[0\].type: tool_use is for turns of assistant"),
        (turns("x", [RESULT], "x"), r"messages\[1\].content\[0\].type: tool_result is for"),
        (turns("x", [USE]), r"messages\[1\].content: its calls have no tool_result"),
        (
            turns("x", [USE], [RESULT | {"content": [{"type": "image"}]}]),
            r"messages\[2\].content\[0\].content\[0\].type",
        ),
        ({"system": [{"type": "text"}]}, r"system\[0\].text"),
        ({"tools": TOOLS * 2}, r"tools\[1\].name: 'add' is there twice"),
        ({"tools": [TOOLS[0] | {"input_schema": {"type": 5}}]}, r"tools\[0\].input_schema.type"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, r"tools\[0\].type"),
        ({"tool_choice": "auto"}, "tool_choice: Input should be an object"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"tool_choice": {"type": "any"}}, "tool_choice: a call is required"),
        ({"context_management": {"edits": [{"type": "x"}]}}, "context_management is"),
        (
            {"tool_choice": {"type": "tool", "name": "f"}},
            "tool_choice.name is 'f'; tools has: none",
        ),
        ({"thinking": {"type": "maybe"}}, "thinking.type"),
        ({"thinking": THINKING | {"display": "omitted"}}, "thinking.display is 'omitted'"),
        ({"output_config": {"effort": "little"}}, "output_config.effort"),
        ({"mcp_servers": [{}]}, "mcp_servers"),
        (
            turns("x", [USE], [RESULT | {"tool_use_id": "c2"}]),
            r"content\[0\].tool_use_id: no .*'c2'",
        ),
        ({"stop_sequences": [""]}, r"stop_sequences\[0\]"),
        ({"stop_sequences": ["x"] * 17}, "stop_sequences"),
        ({"thread": {"type": "create"}}, "thread: no conversation is kept"),
        ({"user": "me"}, "user: there is no such field"),
        ({"stop_sequence": ["x"]}, "did you mean stop_sequences"),
        ({"top_k": -1}, "top_k"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_is_named_with_its_place(fields: dict[str, Any], says: str):
    with pytest.raises(RequestError, match=says):
        talk(**fields)


def test_a_turn_without_blocks_says_nothing():
    assert talk(messages=[{"role": "user", "content": []}]).messages == ()
