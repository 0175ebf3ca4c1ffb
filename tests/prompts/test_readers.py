"""Who reads an encoded text knows who said what: random conversations, and a reader of its own."""

import json
import re
from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsv4_tp.asks import Message, ToolCall
from dsv4_tp.prompts import encode
from tests.prompts.conversations import table_of

# Nothing of which a token could be made, but much that formats trip over.
words = st.text("aé \n{}\"'<>/\\", max_size=8)
names = st.text("abc", min_size=1, max_size=3)
values = st.one_of(words, st.integers(), st.none(), st.lists(words, max_size=2))
arguments = st.dictionaries(names, values, max_size=3)
fuzz = settings(deadline=None, max_examples=50)


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    """A system message, perhaps, and rounds of a user, an answer, calls and their results."""
    messages = [Message("system", draw(words))] if draw(st.booleans()) else []
    for turn in range(draw(st.integers(1, 4))):
        messages += [Message("user", draw(words)) for _ in range(draw(st.integers(1, 2)))]
        given = draw(st.lists(st.tuples(names, arguments), max_size=3))
        calls = tuple(
            ToolCall(name, json.dumps(what), f"{turn}.{place}")
            for place, (name, what) in enumerate(given)
        )
        messages.append(Message("assistant", draw(words), draw(words), calls))
        answers = [Message("tool", draw(words), tool_call_id=call.id) for call in calls]
        messages += draw(st.permutations(answers))
    return [*messages, Message("user", draw(words))]


def read(text: str) -> list[tuple[str, ...]]:
    """Who said what: (role, text), and for the assistant (role, thought, text, calls)."""
    body = text.removeprefix("<｜begin▁of▁sentence｜>")
    begin, *turns = body.split("<｜User｜>")
    said: list[tuple[str, ...]] = [("system", begin)] if begin else []
    for turn in turns:
        asked, _, answer = turn.partition("<｜Assistant｜><think>")
        said.append(("user", asked))
        if answer:
            assert answer.endswith("<｜end▁of▁sentence｜>")
            thought, _, rest = answer.removesuffix("<｜end▁of▁sentence｜>").partition("</think>")
            spoken, _, block = rest.partition("\n\n<｜DSML｜tool_calls>\n")
            said.append(("assistant", thought, spoken, json.dumps(read_calls(block))))
    return said


def read_calls(block: str) -> list[tuple[str, dict[str, object]]]:
    """The calls of a block: names and arguments."""
    call = r'<｜DSML｜invoke name="(.*?)">\n(.*?)\n</｜DSML｜invoke>'
    part = r'<｜DSML｜parameter name="(.*?)" string="(.*?)">(.*?)</｜DSML｜parameter>'
    return [
        (
            name,
            {
                key: value if is_text == "true" else json.loads(value)
                for key, is_text, value in re.findall(part, inner, flags=re.DOTALL)
            },
        )
        for name, inner in re.findall(call, block, flags=re.DOTALL)
    ]


def expected(messages: list[Message]) -> list[tuple[str, ...]]:
    """What `read` is to find: consecutive users and results are one, results by their calls."""
    said: list[tuple[str, ...]] = []
    asks = ("user", "tool")
    for asked, group in groupby(messages, key=lambda message: message.role in asks):
        if asked:
            said.append(("user", said_by_users(list(group))))
            continue
        for message in group:
            if message.role == "assistant":
                calls = [(call.name, json.loads(call.arguments)) for call in message.tool_calls]
                said.append(("assistant", message.reasoning, message.content, json.dumps(calls)))
            elif message.content:
                said.append(("system", message.content))
    return said


def said_by_users(messages: list[Message]) -> str:
    results = sorted((m for m in messages if m.role == "tool"), key=lambda m: m.tool_call_id)
    wrapped = [f"<tool_result>{message.content}</tool_result>" for message in results]
    return "\n\n".join([*wrapped, *(m.content for m in messages if m.role == "user")])


@pytest.mark.parametrize("revision", ["original", "later"])
@fuzz
@given(conversations())
def test_roles_and_contents_are_read_back(revision: str, messages: list[Message]):
    text = encode(messages, table_of(revision), thinking=True, drop_thinking=False)
    assert read(text) == expected(messages)


@fuzz
@given(conversations())
def test_dropping_takes_thoughts_and_nothing_else(messages: list[Message]):
    table = table_of("original")
    dropped = encode(messages, table, thinking=True)
    kept = encode(messages, table, thinking=True, drop_thinking=False)
    without = re.sub(r"<think>[^｜]*?</think>", "</think>", kept)
    assert dropped == without
    assert encode(messages, table, thinking=False) == f"{dropped.removesuffix('<think>')}</think>"


@fuzz
@given(conversations(), st.data())
def test_a_conversation_begins_as_it_did_before(messages: list[Message], data: st.DataObject):
    """What is kept of an earlier prompt, so that it need not be fed again."""
    ends = [at for at, message in enumerate(messages) if message.role == "assistant"]
    end = data.draw(st.sampled_from(ends))
    table = table_of("original")
    earlier = encode(messages[:end], table, thinking=True, drop_thinking=False)
    assert encode(messages, table, thinking=True, drop_thinking=False).startswith(earlier)
