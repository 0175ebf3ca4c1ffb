"""Answers of /v1/chat/completions as OpenAI's own client hears them; the texts are a stand-in's."""

from dataclasses import replace

import pytest
from openai import AsyncOpenAI

from dsv4_tp.asks import Logprob, Piece
from dsv4_tp.core import FinishReason
from tests.serving.test_app import END, StandIn, by_client

CLOSING = StandIn.closing
HI = {"model": "demo", "messages": [{"role": "user", "content": "hi"}]}
PLAIN = {"extra_body": {"thinking": {"type": "disabled"}}}
TOOLS = {
    "tools": [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
}
STOP = replace(END, tokens=(1,), text="", finish=replace(END.finish, reason=FinishReason.STOP))
CALLS = (
    '\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name="add">\n'
    '<｜DSML｜parameter name="a" string="false">5</｜DSML｜parameter>\n'
    '<｜DSML｜parameter name="b" string="true">x"y</｜DSML｜parameter>\n'
    '</｜DSML｜invoke>\n<｜DSML｜invoke name="add">\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>'
)


def said(*texts: str) -> tuple[Piece, ...]:
    """A token for each, the one that ends the thinking among them."""
    return (*(Piece((CLOSING if text == "</think>" else 2,), text, None) for text in texts), STOP)


def test_thinking_and_text_are_apart():
    async def act(client: AsyncOpenAI, it: StandIn) -> None:
        stream = await client.chat.completions.create(**HI, stream=True)
        chunks = [chunk.choices[0] async for chunk in stream]
        assert chunks[0].delta.role == "assistant"
        thought = [getattr(each.delta, "reasoning_content", None) or "" for each in chunks]
        assert "".join(thought) == "so it is"
        assert "".join(each.delta.content or "" for each in chunks) == "a < b"
        assert [each.finish_reason for each in chunks if each.finish_reason] == ["stop"]
        whole = await client.chat.completions.create(**HI)
        assert whole.choices[0].message.content == "a < b"
        assert whole.choices[0].message.reasoning_content == "so it is"
        assert whole.usage.completion_tokens_details.reasoning_tokens == 3
        assert it.asked[0].prompt.messages[0].content == "hi"

    by_client(lambda: StandIn(*said("so it", " is", "</think>", "a <", " b")), act)


def test_without_thinking_all_is_text():
    async def act(client: AsyncOpenAI, _it: StandIn) -> None:
        whole = await client.chat.completions.create(**HI, **PLAIN)
        assert whole.choices[0].message.content == "a</think>b"
        assert whole.usage.completion_tokens_details.reasoning_tokens == 0

    by_client(lambda: StandIn(*said("a", "</think>", "b")), act)


@pytest.mark.parametrize("cut", [1, 7, 1000])
def test_calls_are_told_as_they_come(cut: int):
    pieces = ["I add.", *(CALLS[at : at + cut] for at in range(0, len(CALLS), cut))]

    async def act(client: AsyncOpenAI, _it: StandIn) -> None:
        whole = await client.chat.completions.create(**HI, **TOOLS, **PLAIN)
        message = whole.choices[0].message
        assert whole.choices[0].finish_reason == "tool_calls"
        assert message.content == "I add."
        calls = [(call.function.name, call.function.arguments) for call in message.tool_calls]
        assert calls == [("add", '{"a": 5, "b": "x\\"y"}'), ("add", "{}")]
        assert len({call.id for call in message.tool_calls}) == 2
        async with client.chat.completions.stream(**HI, **TOOLS, **PLAIN) as stream:
            final = await stream.get_final_completion()
        told = final.choices[0].message
        assert [(each.function.name, each.function.arguments) for each in told.tool_calls] == calls
        assert told.content == "I add."

    by_client(lambda: StandIn(*said(*pieces)), act)


def test_tags_are_text_where_there_are_no_tools():
    async def act(client: AsyncOpenAI, _it: StandIn) -> None:
        whole = await client.chat.completions.create(**HI, **PLAIN)
        assert whole.choices[0].message.content == CALLS
        assert whole.choices[0].message.tool_calls is None

    by_client(lambda: StandIn(*said(CALLS)), act)


def test_log_probabilities_are_of_the_text_and_told_once():
    likely = Logprob(-0.5, ((1, -0.5), (2, -1.5)))
    thought = Piece((3,), "so", None, (Logprob(-9.0, ()),))
    closed = Piece((CLOSING, 1), "</think>a", None, (Logprob(-8.0, ()), likely))
    held = Piece((2,), "", None, (likely,))

    async def act(client: AsyncOpenAI, _it: StandIn) -> None:
        stream = await client.chat.completions.create(
            **HI, logprobs=True, top_logprobs=2, stream=True
        )
        told = [c.choices[0].logprobs for c in [c async for c in stream]]
        content = [each for one in told if one for each in one.content]
        assert [each.token for each in content] == ["a", "b", "a"]
        assert [each.token for each in content[0].top_logprobs] == ["a", "b"]
        assert content[0].bytes == [97]
        whole = await client.chat.completions.create(**HI, logprobs=True, top_logprobs=2)
        assert [each.token for each in whole.choices[0].logprobs.content] == ["a", "b", "a"]

    last = replace(STOP, logprobs=(likely,))
    by_client(lambda: StandIn(thought, closed, held, last), act)


def test_several_answers_to_one_request():
    async def act(client: AsyncOpenAI, it: StandIn) -> None:
        whole = await client.chat.completions.create(**HI, **PLAIN, n=3, seed=2**63)
        assert [choice.index for choice in whole.choices] == [0, 1, 2]
        assert [choice.message.content for choice in whole.choices] == ["ab"] * 3
        assert [ask.seed - 2**63 for ask in it.asked] == [0, 1, 2]
        assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (4, 9)
        stream = await client.completions.create(model="demo", prompt="x", n=2, stream=True)
        texts = ["", ""]
        async for chunk in stream:
            texts[chunk.choices[0].index] += chunk.choices[0].text
        assert texts == ["ab", "ab"]

    by_client(lambda: StandIn(*said("a", "b")), act)
