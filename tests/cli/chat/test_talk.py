"""What lines do to a conversation; without a cluster."""

import json
from pathlib import Path

import pytest

from dsv4_tp.asks import Conversation, Finish, Message, Stats
from dsv4_tp.cli.chat.orders import Leave, Put, Save, Tell, obey, order_names
from dsv4_tp.cli.chat.talk import Talk, Think, Turn
from dsv4_tp.core import FinishReason
from dsv4_tp.errors import ConfigError

STATS = Stats(12, 5, 0.5, 0.25, 20.0, 7.0, 64.0, first_token_s=0.5)
ONE = Turn("Who?", "Lena.", "Hm.", Finish(FinishReason.STOP, STATS))
TALK = Talk().with_turn(ONE)


def told(talk: Talk, line: str) -> str:
    _, act = obey(talk, line)
    assert isinstance(act, Tell)
    return act.text


def test_a_question_comes_behind_all_that_was_said():
    talk = Talk("Be short.").with_turn(ONE)
    assert talk.asking("Why?") == Conversation(
        (
            Message("system", "Be short."),
            Message("user", "Who?"),
            Message("assistant", "Lena.", reasoning="Hm."),
            Message("user", "Why?"),
        )
    )


@pytest.mark.parametrize(
    ("word", "thinking", "effort"),
    [("on", True, ""), ("off", False, ""), ("low", True, "low"), ("max", True, "max")],
)
def test_how_it_thinks(word: str, thinking: bool, effort: str):
    talk, act = obey(Talk(), f"/think {word}")
    assert act == Tell(f"thinking: {word}")
    asked = talk.asking("x")
    assert (asked.thinking, asked.effort, talk.thinks) == (thinking, effort, thinking)
    assert told(talk, "/think") == f"thinking: {word}"


def test_lines_that_are_questions():
    for line in ("Who?", " /new is a word ", "/etc/hosts is what?", "1/2"):
        assert obey(TALK, line) == (TALK, Put(line.strip()))
    assert obey(TALK, "two\nlines\n") == (TALK, Put("two\nlines"))
    assert obey(TALK, "  \n") is None


def test_a_new_conversation_keeps_its_system():
    talk, act = obey(Talk("Be short.").with_turn(ONE), "/new")
    assert talk == Talk("Be short.")
    assert act == Tell("a new conversation; the system's words stay")


def test_the_systems_words():
    talk, _ = obey(TALK, "/system Be short.\nBe kind.")
    assert (talk.system, talk.turns) == ("Be short.\nBe kind.", (ONE,))
    assert obey(talk, "/system")[0].system == ""


def test_the_last_question_again():
    talk, act = obey(TALK, "/again")
    assert (talk.turns, act) == ((), Put("Who?"))


def test_a_question_without_an_answer_is_not_said_but_can_be_asked_again():
    talk = TALK.with_turn(Turn("And then?", "", "Hm"))
    assert talk.turns == (ONE,)
    again, act = obey(talk, "/again")
    assert (again.turns, act) == ((ONE,), Put("And then?"))


def test_half_an_answer_was_said():
    half = Turn("And then?", "Then")
    assert TALK.with_turn(half).turns == (ONE, half)


def test_what_is_saved_can_be_asked_over_http():
    talk, act = obey(TALK, "/save my talk.json")
    assert isinstance(act, Save)
    assert (talk, act.file) == (TALK, Path("my talk.json"))
    assert json.loads(act.text) == {
        "messages": [
            {"role": "user", "content": "Who?"},
            {"role": "assistant", "content": "Lena.", "reasoning_content": "Hm."},
        ]
    }


def test_what_it_cost():
    assert told(TALK, "/stats").splitlines() == [
        "turns: 1, tokens generated: 5; thinking: on",
        "last answer: prompt: 12 tokens in 0.50 s; text: 5 tokens in 0.25 s, 20.0 tokens/s, "
        "ended by stop",
    ]
    assert told(Talk("Be short."), "/stats") == (
        "turns: 0, tokens generated: 0; thinking: on; system: Be short."
    )


def test_leaving_and_help():
    assert [obey(TALK, word) for word in ("/exit", "/quit", "/bye")] == [(TALK, Leave())] * 3
    page = told(TALK, "/help")
    assert all(f"  {name}" in page for name in order_names())


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("/sav x", r"/sav: no such command; did you mean /save\? /help lists them"),
        ("/", "/: no such command; /help lists them"),
        ("/think hard", "/think 'hard': expected on, off, low, high or max"),
        ("/save", "/save: into which file"),
        ("/again", "/again: nothing was asked yet"),
    ],
)
def test_what_makes_no_sense_is_refused(line: str, says: str):
    with pytest.raises(ConfigError, match=says):
        obey(Talk(think=Think.OFF), line)
