"""Messages of types.proto carry every field of the shared nouns, both ways."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsv4_tp import core
from dsv4_tp.asks import Ask, Calls, Conversation, Message, ToolCall
from dsv4_tp.errors import PreflightError, RequestError
from dsv4_tp.rpc import convert, convert_events
from dsv4_tp.rpc.convert_asks import ask_from_proto, ask_to_proto
from dsv4_tp.rpc.progress import PHASES
from dsv4_tp.v1 import types_pb2 as pb

ids = st.integers(0, 2**31)
counts = st.integers(0, 2**40)
numbers = st.floats(0, 1e6)
spans = st.tuples(ids, ids).map(lambda ends: core.Span(min(ends), max(ends)))
parts = st.builds(core.Part, spans, spans, spans, spans, spans)
likely = st.dictionaries(ids, st.floats(-100, 100), max_size=3).map(
    lambda biases: tuple(sorted(biases.items()))
)
samplings = st.builds(
    core.Sampling,
    *(numbers, numbers, ids, st.integers(0, 2**64 - 1)),
    *(numbers, numbers, numbers, numbers, likely, st.none() | ids),
)
rows = st.lists(ids, max_size=4).map(tuple)
maybe = st.none() | ids
requests = st.builds(
    core.Request, st.text(), rows, ids, samplings, rows, maybe, st.text(), rows, maybe
)
scores = st.builds(
    core.ScoreRequest, st.text(), st.lists(rows, max_size=3).map(tuple), ids, st.booleans()
)
actions = (
    st.builds(core.Submit, requests | scores)
    | st.builds(core.Cancel, st.text())
    | st.just(core.Drain())
)
words = st.text(max_size=9)
calls = st.lists(st.builds(ToolCall, words, words, words), max_size=2).map(tuple)
tools = st.lists(words, max_size=2).map(tuple)
messages = st.builds(Message, words, words, words, calls, words, tools, words, words, st.booleans())
calls = st.none() | st.builds(Calls, st.booleans(), words, st.booleans())
talks = st.builds(
    Conversation, st.lists(messages, max_size=3).map(tuple), st.booleans(), words, calls
)
commands = st.builds(core.Command, st.integers(1, 2**60), actions)
tokens = st.builds(core.TokenEvent, st.text(), ids, ids, st.none() | numbers, likely)
finishes = st.builds(
    core.FinishEvent,
    request_id=st.text(),
    reason=st.sampled_from(core.FinishReason),
    prompt_tokens=ids,
    generated_tokens=ids,
    prefill_s=numbers,
    decode_s=numbers,
    collectives=counts,
    wire_bytes=counts,
    error=st.text(),
    decode_steps=ids,
)
pieces = st.builds(
    core.ScoreEvent,
    st.text(),
    ids,
    st.binary(),
    ids,
    st.lists(numbers, max_size=3).map(tuple),
    st.booleans(),
)
works = st.builds(core.Work, counts, counts, counts, counts, counts, numbers)
steps = st.builds(core.StepEvent, st.sampled_from(["prefill", "decode"]), works, ids)
reports = st.builds(
    core.RankReport, ids, st.sampled_from(PHASES), *[counts] * 6, beats=counts, calls=counts
)


@given(parts)
def test_parts_come_back(part: core.Part):
    assert convert.part_from_proto(convert.part_to_proto(part)) == part


@given(commands)
def test_commands_come_back(command: core.Command):
    assert convert.command_from_proto(convert.command_to_proto(command)) == command


@given(tokens | finishes | pieces | steps)
def test_events_come_back(event: core.Event):
    assert convert_events.event_from_proto(convert_events.event_to_proto(event)) == event


@given(reports)
def test_reports_come_back(report: core.RankReport):
    assert convert.report_from_proto(convert.report_to_proto(report)) == report


@pytest.mark.parametrize(
    "read",
    [
        lambda: convert.command_from_proto(pb.Command(number=7)),
        lambda: convert_events.event_from_proto(pb.Event()),
        lambda: convert_events.reason_from_proto(pb.FINISH_REASON_UNSPECIFIED),
    ],
)
def test_a_message_of_another_version_is_refused(read):
    with pytest.raises(PreflightError, match="same dsv4-tp"):
        read()


@pytest.mark.parametrize(
    "ask",
    [
        Ask("x", temperature=0.0, mtp=0, logprobs=0, logit_bias={3: 1.5}, stop=("a",)),
        Ask("x", chat=True, logit_bias={}, stop_ids=(1,), seed=2**64 - 1, time_limit_s=0.0),
        Ask((1, 2), logit_bias={}),
    ],
    ids=["text", "chat", "ids"],
)
def test_asks_come_back(ask: Ask):
    """With what is zero, and without what is not said."""
    assert ask_from_proto(ask_to_proto(ask)) == ask


@given(talks)
def test_conversations_come_back(talk: Conversation):
    assert ask_from_proto(ask_to_proto(Ask(talk))).prompt == talk


def test_a_conversation_that_cannot_be_sent_is_refused():
    with pytest.raises(RequestError, match=r"prompt is .* which cannot be sent"):
        ask_to_proto(Ask(Conversation((Message("user", 5),))))
