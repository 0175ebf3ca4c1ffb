"""The rules by which a conversation becomes one text: each has a case of its own."""

from dataclasses import replace

import pytest

from dsv4_tp import demo
from dsv4_tp.asks import Message, ToolCall
from dsv4_tp.prompts import Table, encode, read_table, with_tools
from tests.prompts.conversations import (
    ASSISTANT,
    BOS,
    EOS,
    NO_THOUGHT,
    THINK,
    USER,
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
LATER = table_of("later")
OPENED, CLOSED = ASSISTANT + THINK, ASSISTANT + NO_THOUGHT
SUM = '{"name": "sum"}'


def chat(*messages: Message) -> str:
    """Behind BOS, without thinking."""
    return after_bos(encode(messages, TABLE, thinking=False))


def thinking(*messages: Message, drop_thinking: bool = True) -> str:
    """Behind BOS, with thinking."""
    return after_bos(encode(messages, TABLE, thinking=True, drop_thinking=drop_thinking))


def after_bos(text: str) -> str:
    assert text.startswith(BOS)
    assert BOS not in text[len(BOS) :]
    return text[len(BOS) :]


def test_nothing_stands_between_roles():
    text = chat(system("S"), user("U"), assistant("A"), user("V"))
    assert text == f"S{USER}U{CLOSED}A{EOS}{USER}V{CLOSED}"


def test_a_system_message_is_bare():
    assert chat(system("S"), user("U")).startswith("S<")


def test_a_system_message_in_the_middle_is_bare_too():
    assert chat(user("U"), system("S"), user("V")) == f"{USER}US{USER}V{CLOSED}"


def test_system_tools_come_after_an_empty_line():
    text = chat(system("S", tools=(SUM, '{"name":"π","n":[1,2]}')), user("U"))
    tools = TABLE.tools_template.format(
        dsml_token="｜DSML｜",
        thinking_start_token=THINK,
        thinking_end_token=NO_THOUGHT,
        tool_schemas='{"name": "sum"}\n{"name": "π", "n": [1, 2]}',
    )
    assert text == f"S\n\n{tools}{USER}U{CLOSED}"
    assert 'such as {"key": 1}.' in text


def test_a_response_format_comes_after_the_tools():
    text = chat(system("S", tools=(SUM,), response_format='{"type":"ü"}'), user("U"))
    form = '# Form\n\nAnswer as {JSON} of this form: {"type": "ü"}'
    assert text.endswith(f"These are all.\n\n\n{form}{USER}U{CLOSED}")


def test_tools_without_a_system_message_get_an_empty_one():
    messages = with_tools([user("U")], [SUM], '{"type": "object"}')
    assert messages == (system(tools=(SUM,), response_format='{"type": "object"}'), user("U"))
    assert chat(*messages).startswith("\n\n# What you can call")


def test_tools_go_to_the_system_message_at_the_beginning():
    messages = with_tools([system("S", tools=(SUM,)), user("U"), system("T")], ["{}"])
    assert messages == (system("S", tools=(SUM, "{}")), user("U"), system("T"))


def test_without_tools_a_conversation_stays_as_it_is():
    assert with_tools([user("U")], []) == (user("U"),)


def test_a_developer_is_written_as_a_user():
    assert chat(developer("D")) == chat(user("D"))


def test_a_developer_may_bring_tools_and_a_format():
    text = chat(developer("D", tools=(SUM,), response_format="{}"))
    assert text.startswith(f"{USER}D\n\n# What you can call\n\n")
    assert text.endswith(f"\n\n# Form\n\nAnswer as {{JSON}} of this form: {{}}{CLOSED}")


def test_a_latest_reminder_has_its_token():
    assert chat(reminder("R"), user("U")) == f"<｜latest_reminder｜>R{USER}U{CLOSED}"


def test_the_assistant_is_called_before_a_reminder():
    assert chat(user("U"), reminder("R")) == f"{USER}U{CLOSED}<｜latest_reminder｜>R"


def test_the_assistant_is_called_before_its_answer():
    assert chat(user("U"), assistant("A")) == f"{USER}U{CLOSED}A{EOS}"


def test_the_assistant_is_not_called_before_anybody_else():
    assert chat(developer("D"), user("U")) == f"{USER}D{USER}U{CLOSED}"


def test_the_last_turn_opens_a_thought():
    assert thinking(user("U")) == f"{USER}U{OPENED}"


def test_earlier_turns_close_it_if_thoughts_are_dropped():
    text = thinking(user("U"), assistant("A", "why"), user("V"))
    assert text == f"{USER}U{CLOSED}A{EOS}{USER}V{OPENED}"


def test_all_turns_open_a_thought_if_none_are_dropped():
    text = thinking(user("U"), assistant("A", "why"), user("V"), drop_thinking=False)
    assert text == f"{USER}U{OPENED}why{NO_THOUGHT}A{EOS}{USER}V{OPENED}"


def test_an_answer_without_a_thought_closes_an_empty_one():
    text = thinking(user("U"), assistant("A"), user("V"), drop_thinking=False)
    assert f"{OPENED}{NO_THOUGHT}A{EOS}" in text


def test_thoughts_after_the_last_user_stay():
    text = thinking(user("U"), assistant("A", "why"))
    assert text == f"{USER}U{OPENED}why{NO_THOUGHT}A{EOS}"


@pytest.mark.parametrize("drop_thinking", [True, False])
def test_chat_mode_has_no_thoughts(drop_thinking: bool):
    messages = [user("U"), assistant("A", "why"), user("V")]
    text = encode(messages, TABLE, thinking=False, drop_thinking=drop_thinking)
    assert after_bos(text) == f"{USER}U{CLOSED}A{EOS}{USER}V{CLOSED}"


def test_an_open_answer_has_no_eos():
    assert chat(user("U"), assistant("A", open=True)) == f"{USER}U{CLOSED}A"


def test_an_open_answer_has_its_thought():
    text = thinking(user("U"), assistant("A", "why", open=True))
    assert text == f"{USER}U{OPENED}why{NO_THOUGHT}A"


def test_dropping_drops_earlier_developers():
    messages = [system("S"), developer("D"), reminder("R"), user("U")]
    assert thinking(*messages) == f"S<｜latest_reminder｜>R{USER}U{OPENED}"


def test_a_developer_who_is_last_is_not_dropped():
    assert thinking(user("U"), assistant("A", "why"), developer("D")) == (
        f"{USER}U{CLOSED}A{EOS}{USER}D{OPENED}"
    )


def test_nobody_is_dropped_in_chat_mode():
    assert chat(developer("D"), user("U")) == f"{USER}D{USER}U{CLOSED}"


def test_nobody_is_dropped_where_all_thoughts_stay():
    text = thinking(developer("D"), user("U"), drop_thinking=False)
    assert text == f"{USER}D{USER}U{OPENED}"


@pytest.mark.parametrize("at", [0, 1])
def test_tools_keep_all_thoughts(at: int):
    messages = [system("S"), developer("D"), user("U"), assistant("A", "why"), user("V")]
    messages[at] = replace(messages[at], tools=(SUM,))
    text = thinking(*messages)
    assert f"{USER}U{OPENED}why{NO_THOUGHT}A{EOS}{USER}V{OPENED}" in text
    assert f"{USER}D" in text


def test_results_count_as_the_last_user():
    text = thinking(user("U"), replace(calls("a"), reasoning="why"), result("a", "R"))
    assert "why" not in text
    assert text.endswith(f"{EOS}{USER}<tool_result>R</tool_result>{OPENED}")


def test_results_are_a_users_parts():
    text = chat(user("U"), calls("a", "b"), result("a", "1"), result("b", "2"))
    parts = "<tool_result>1</tool_result>\n\n<tool_result>2</tool_result>"
    assert text.endswith(f"{EOS}{USER}{parts}{CLOSED}")


def test_results_and_what_the_user_says_are_one_turn():
    text = chat(user("U"), calls("a"), result("a", "1"), user("V"), user("W"))
    assert text.endswith(f"{EOS}{USER}<tool_result>1</tool_result>\n\nV\n\nW{CLOSED}")


def test_a_user_who_speaks_twice_has_one_turn():
    assert chat(user("U"), user("V")) == f"{USER}U\n\nV{CLOSED}"


def test_a_message_after_a_task_is_a_turn_of_its_own():
    assert chat(user("U", task="query"), user("V")) == f"{USER}U{USER}V{CLOSED}"


def test_the_task_of_a_merged_message_stays():
    text = chat(user("U"), calls("a"), result("a", "1"), user("V", task="query"))
    assert text.endswith(f"{USER}<tool_result>1</tool_result>\n\nV<｜query｜>")


def test_results_are_sorted_by_their_calls():
    text = chat(calls("a", "b", "c"), result("c", "3"), user("V"), result("a", "1"))
    parts = "<tool_result>1</tool_result>\n\nV\n\n<tool_result>3</tool_result>"
    assert text.endswith(f"{EOS}{USER}{parts}{CLOSED}")


def test_results_are_sorted_by_the_calls_before_them():
    first, second = [calls("a", "b"), result("a", "")], [calls("b", "a"), result("a", "1")]
    text = chat(*first, *second, result("b", "2"))
    assert text.index("<tool_result>2<") < text.index("<tool_result>1<")


def test_results_without_ids_keep_their_order():
    text = chat(calls("", ""), result("", "1"), result("", "2"))
    assert text.index("<tool_result>1<") < text.index("<tool_result>2<")


def test_results_without_ids_stand_first():
    text = chat(calls("", "b", ""), result("b", "2"), result("", "1"))
    assert text.index("<tool_result>1<") < text.index("<tool_result>2<")


def test_calls_stand_in_a_block_after_the_content():
    call = ToolCall("look", '{"where":"here","deep":true}', "a")
    text = chat(user("U"), assistant("A", tool_calls=(call, ToolCall("stop", "{}", "b"))))
    assert text == (
        f"{USER}U{CLOSED}A\n\n"
        "<｜DSML｜tool_calls>\n"
        '<｜DSML｜invoke name="look">\n'
        '<｜DSML｜parameter name="where" string="true">here</｜DSML｜parameter>\n'
        '<｜DSML｜parameter name="deep" string="false">true</｜DSML｜parameter>\n'
        "</｜DSML｜invoke>\n"
        '<｜DSML｜invoke name="stop">\n'
        "\n"
        "</｜DSML｜invoke>\n"
        f"</｜DSML｜tool_calls>{EOS}"
    )


def parameters(arguments: str) -> list[str]:
    """How a call's arguments are written, a line each."""
    text = chat(assistant(tool_calls=(ToolCall("f", arguments),)))
    return text.partition('name="f">\n')[2].partition("\n</｜DSML｜invoke>")[0].splitlines()


def parameter(name: str, value: str, *, is_text: bool) -> str:
    string = "true" if is_text else "false"
    return f'<｜DSML｜parameter name="{name}" string="{string}">{value}</｜DSML｜parameter>'


def test_text_is_written_raw():
    raw = parameter("k", '<a href="x">{y}</a> ü', is_text=True)
    assert parameters(r'{"k":"<a href=\"x\">{y}</a> \u00fc"}') == [raw]


@pytest.mark.parametrize(
    ("given", "written"),
    [("1.50", "1.5"), ("null", "null"), ('[1,"é"]', '[1, "é"]'), ('{"a":{}}', '{"a": {}}')],
)
def test_everything_else_is_json(given: str, written: str):
    assert parameters(f'{{"k":{given}}}') == [parameter("k", written, is_text=False)]


@pytest.mark.parametrize(
    "arguments",
    ["now!", "", "[1]", "3", '"text"', '{"a":', r'{"a":"\ud800"}', "[" * 100_000, "1" * 5000],
    ids=lambda arguments: arguments[:9],
)
def test_arguments_that_are_no_json_object_are_one_text(arguments: str):
    assert parameters(arguments) == [parameter("arguments", arguments, is_text=True)]


@pytest.mark.parametrize("task", ["query", "authority", "domain", "title", "read_url"])
@pytest.mark.parametrize("write", [chat, thinking])
def test_a_task_is_named_right_after_the_message(task: str, write):
    assert write(user("U", task=task)) == f"{USER}U<｜{task}｜>"


def test_an_answer_may_have_a_task():
    text = thinking(user("U"), assistant("A", task="title"))
    assert text == f"{USER}U{OPENED}{NO_THOUGHT}A{EOS}<｜title｜>"


def test_an_action_is_named_after_the_assistant():
    assert chat(user("U", task="action")) == f"{USER}U{CLOSED}<｜action｜>"
    assert thinking(user("U", task="action")) == f"{USER}U{OPENED}<｜action｜>"


def test_the_answer_to_a_task_has_no_thought():
    text = thinking(user("U", task="query"), assistant("A", "why"), drop_thinking=False)
    assert text == f"{USER}U<｜query｜>A{EOS}"


def effort(table: Table, word: str | None, *, thinking: bool = True) -> str:
    """What an effort puts between BOS and the conversation."""
    text = after_bos(encode([system("S"), user("U")], table, thinking=thinking, effort=word))
    return text.partition("S<")[0]


@pytest.mark.parametrize("word", [None, "low", "high"])
def test_the_original_revision_adds_nothing_below_max(word: str | None):
    assert effort(TABLE, word) == ""


def test_the_original_revision_adds_words_for_max():
    assert effort(TABLE, "max") == TABLE.effort_words["max"] != ""


@pytest.mark.parametrize(("word", "same_as"), [(None, "low"), ("high", "high"), ("max", "max")])
def test_the_later_revision_has_three_efforts(word: str | None, same_as: str):
    assert effort(LATER, word) == LATER.effort_words[same_as]
    assert len(set(LATER.effort_words.values())) == 3


def test_the_default_effort_is_the_tables():
    assert effort(replace(LATER, default_effort="max"), None) == LATER.effort_words["max"]


def test_chat_mode_has_no_effort():
    assert effort(TABLE, "max", thinking=False) == ""


def test_effort_stands_first_even_if_the_first_message_is_dropped():
    text = encode([developer("D"), user("U")], LATER, thinking=True, effort="high")
    assert after_bos(text) == f"{LATER.effort_words['high']}{USER}U{OPENED}"


def test_braces_of_a_message_are_no_fields():
    assert chat(user("{content} {{x}} {"), assistant("{0}")) == (
        f"{USER}{{content}} {{{{x}}}} {{{CLOSED}{{0}}{EOS}"
    )


def test_the_words_come_from_the_table():
    table = read_table(demo.path())
    assert table is not None
    text = encode([system("S", tools=(SUM,)), user("U")], table, thinking=True, effort="max")
    assert text == (
        BOS
        + "You may think for a long time.\n\n"
        + "S\n\n"
        + table.tools_template.format(
            dsml_token="｜DSML｜",
            thinking_start_token=THINK,
            thinking_end_token=NO_THOUGHT,
            tool_schemas=SUM,
        )
        + f"{USER}U{OPENED}"
    )


@pytest.mark.parametrize("thinks", [True, False])
def test_plain_turns_are_the_same_without_a_table(thinks: bool):
    messages = [system("S"), user("U"), assistant("A", "why"), user("V"), assistant("B", "so")]
    without = encode(messages, None, thinking=thinks)
    assert without == encode(messages, TABLE, thinking=thinks)
