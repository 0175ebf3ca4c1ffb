"""What cannot be encoded is refused by the index of its message and by its field."""

from dataclasses import replace

import pytest

from dsv4_tp.asks import Message, ToolCall
from dsv4_tp.errors import RequestError
from dsv4_tp.prompts import Mode, Table, encode, mode_of
from tests.prompts.conversations import (
    assistant,
    calls,
    developer,
    reminder,
    result,
    system,
    table_of,
    user,
)

TABLE = table_of("original")
NO_FILE = "the checkpoint, which says how to write it, has no encoding/encoding_dsv4.py"


def refusal(messages: list[Message], table: Table | None = TABLE, effort: str | None = None) -> str:
    """Why a conversation is refused."""
    with pytest.raises(RequestError) as caught:
        encode(messages, table, thinking=True, effort=effort)
    return str(caught.value)


def test_an_empty_conversation():
    assert refusal([]).startswith("messages: there are none")


@pytest.mark.parametrize("role", ["", "System", "function"])
def test_an_unknown_role(role: str):
    message = refusal([user("U"), Message(role, "X")])
    assert message.startswith(f"messages[1].role: unknown role {role!r}; known are system, ")


def test_a_result_without_a_call():
    assert refusal([user("U"), result("a", "R")]) == (
        "messages[1].tool_call_id: no earlier call 'a'"
    )


def test_a_result_before_its_call():
    assert refusal([result("a", "R"), calls("a")]).startswith("messages[0].tool_call_id: ")


def test_a_result_of_another_call():
    assert refusal([calls("a"), result("b", "R")]).startswith("messages[1].tool_call_id: ")


def test_an_open_answer_that_is_not_the_last():
    messages = [user("U"), assistant("A", open=True), user("V")]
    assert refusal(messages) == "messages[1].open: only the last message can be gone on with"


def test_an_unknown_task():
    assert refusal([user("U", task="poem")]) == (
        "messages[0].task: unknown task 'poem'; "
        "known are action, query, authority, domain, title, read_url"
    )


def test_a_developer_who_says_nothing():
    assert refusal([developer("")]).startswith("messages[0].content: ")


MISPLACED = [
    (Message("user", "U", reasoning="why"), "reasoning: user messages have none, only assistant"),
    (Message("system", "S", tool_calls=(ToolCall("f", "{}"),)), "tool_calls: system messages "),
    (Message("user", "U", tool_call_id="a"), "tool_call_id: user messages "),
    (Message("user", "U", tools=("{}",)), "tools: user messages have none, only system or dev"),
    (Message("assistant", "A", response_format="{}"), "response_format: assistant messages "),
    (Message("system", "S", task="title"), "task: system messages "),
    (Message("user", "U", open=True), "open: user messages "),
]


@pytest.mark.parametrize(("message", "found"), MISPLACED, ids=lambda value: str(value)[:12])
def test_a_field_of_another_role(message: Message, found: str):
    assert refusal([system("S"), message]).startswith(f"messages[1].{found}")


@pytest.mark.parametrize("field", ["content", "reasoning"])
def test_half_a_character(field: str):
    message = replace(assistant("A"), **{field: "x\ud800"})
    assert refusal([user("U"), message]).startswith(f"messages[1].{field}: not Unicode text: ")


@pytest.mark.parametrize("call", [ToolCall("\udfff", "{}"), ToolCall("f", "\udfff")])
def test_half_a_character_in_a_call(call: ToolCall):
    field = "name" if call.arguments == "{}" else "arguments"
    message = refusal([assistant(tool_calls=(ToolCall("g", "{}"), call))])
    assert message.startswith(f"messages[0].tool_calls[1].{field}: not Unicode text: ")


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("{", "not JSON: "),
        ("[1]", "expected a JSON object, found '[1]'"),
        (r'{"a":"\ud800"}', "not JSON: "),
        ("[" * 100_000, "not JSON: "),
    ],
    ids=["cut off", "a list", "half a character", "deep"],
)
def test_what_is_no_json_object(words: str, found: str):
    tools = [system("S", tools=("{}", words)), user("U")]
    assert refusal(tools).startswith(f"messages[0].tools[1]: {found}")
    form = [system("S", response_format=words), user("U")]
    assert refusal(form).startswith(f"messages[0].response_format: {found}")


def test_an_unknown_effort():
    message = refusal([user("U")], effort="medium")
    assert message == "effort: unknown word 'medium'; known are low, high, max"


FROM_THE_FILE = {
    "tools": system("S", tools=("{}",)),
    "response_format": system("S", response_format="{}"),
    "tool_calls": calls("a"),
    "task": user("U", task="title"),
    "role": reminder("R"),
}


@pytest.mark.parametrize(("field", "message"), FROM_THE_FILE.items(), ids=FROM_THE_FILE)
def test_what_only_the_file_says_how_to_write(field: str, message: Message):
    assert refusal([user("U"), message], table=None) == f"messages[1].{field}: {NO_FILE}"


@pytest.mark.parametrize("effort", ["low", "high", "max", "more"])
def test_an_effort_without_the_file(effort: str):
    message = refusal([user("U")], table=None, effort=effort)
    assert message.startswith(f"effort: {effort!r} ")
    assert message.endswith("has no encoding/encoding_dsv4.py")


EFFORTS = [
    (None, None),
    ("low", "low"),
    ("minimal", "low"),
    ("medium", "high"),
    ("high", "high"),
    ("xhigh", "max"),
    ("max", "max"),
]


@pytest.mark.parametrize(("word", "effort"), EFFORTS)
def test_words_for_an_effort(word: str | None, effort: str | None):
    assert mode_of(word, thinking=True) == Mode(thinking=True, effort=effort)
    assert mode_of(word, thinking=False) == Mode(thinking=False)


@pytest.mark.parametrize("thinking", [True, False])
def test_no_effort_is_no_thinking(thinking: bool):
    assert mode_of("none", thinking=thinking) == Mode(thinking=False)


@pytest.mark.parametrize("thinking", [True, False])
def test_an_unknown_word_for_an_effort(thinking: bool):
    with pytest.raises(RequestError, match="reasoning_effort: unknown word 'much'; known are none"):
        mode_of("much", thinking=thinking)
