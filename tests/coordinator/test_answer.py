"""What a client hears of its request, token by token."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsv4_tp import demo
from dsv4_tp.asks import Ask, Piece, whole
from dsv4_tp.coordinator.answer import Answer
from dsv4_tp.coordinator.prompts import Prompts
from dsv4_tp.core import SHUTTING_DOWN, FinishEvent, FinishReason, TokenEvent
from dsv4_tp.errors import NotReadyError, RequestError
from dsv4_tp.modelspec import read_spec
from dsv4_tp.text import Detokenizer, Text

TEXT = Text.load(demo.path())
VOCAB_SIZE = TEXT.tokenizer.get_vocab_size()


def hear(ids: list[int], stops: list[str], *, words: bool = True):
    """Everything that is heard, in one; the ranks make some more tokens than are wanted."""
    answer = Answer(TEXT.stream() if words else None, stops)
    heard: list[Piece] = []
    for index, token in enumerate(ids):
        if piece := answer.token(TokenEvent("r", index, token, -index, ((token, -index),))):
            heard.append(piece)
    reason = FinishReason.CANCELLED if answer.stopped else FinishReason.LENGTH
    end = FinishEvent("r", reason, 3, len(ids), 0.5, 0.25, 8, 80, decode_steps=len(ids) - 1)
    return whole([*heard, answer.finish(end)])


@settings(deadline=None)
@given(
    st.lists(st.integers(0, VOCAB_SIZE + 2), min_size=1, max_size=20),
    st.lists(st.sampled_from(["e", "he", "é", "\ufffd", " the", "ab"]), max_size=3),
)
def test_an_answer_is_the_text_before_the_stop_and_its_tokens(ids: list[int], stops: list[str]):
    heard = hear(ids, stops)
    whole = TEXT.tokenizer.decode(ids, skip_special_tokens=True)
    ends = [at for stop in stops if (at := whole.find(stop)) >= 0]
    assert heard.text == (whole[: min(ends)] if ends else whole)
    assert list(heard.tokens) == ids[: len(heard.tokens)]
    assert [each.logprob for each in heard.logprobs] == [-n for n in range(len(heard.tokens))]
    if not ends:
        assert (list(heard.tokens), heard.reason) == (ids, FinishReason.LENGTH)
        return
    assert heard.reason is FinishReason.STOP
    # A token belongs to it if the characters before it, which are whole, are not yet all of it.
    starts = [len(text_of(ids[:count])) for count in range(len(ids))]
    assert len(heard.tokens) == sum(start < len(heard.text) for start in starts)
    completed = heard.finish.stats.generated_tokens
    assert all(stop not in text_of(ids[: completed - 1]) for stop in stops)
    assert completed == len(ids) or any(stop in text_of(ids[:completed]) for stop in stops)


def text_of(ids: list[int]) -> str:
    return Detokenizer(TEXT.tokenizer).add(ids)


def test_tokens_come_with_their_text():
    ids = [TEXT.tokenizer.token_to_id(each) for each in ("T", "h", "e")]
    answer = Answer(TEXT.stream(), ["hex"])
    heard = [answer.token(TokenEvent("r", index, token)) for index, token in enumerate(ids)]
    assert heard == [Piece((ids[0],), "T", None), None, None]
    finish = answer.finish(FinishEvent("r", FinishReason.LENGTH, 1, 3, 0, 0, 0, 0))
    assert (list(finish.tokens), finish.text) == (ids[1:], "he")


def test_the_stop_that_ended_it_is_told():
    ids = TEXT.tokenizer.encode("The end.", add_special_tokens=False).ids
    assert hear(ids, ["nd", "x"]).finish.stop == "nd"
    assert hear(ids, ["x"]).finish.stop == ""


def test_without_a_tokenizer_there_are_tokens():
    assert list(hear([5, 6], [], words=False).tokens) == [5, 6]


@pytest.mark.parametrize(
    ("stops", "says"),
    [
        ([""], "stop has an empty string"),
        (["a"] * 17, "stop has 17 strings; give at most 16"),
    ],
)
def test_stop_strings_that_cannot_be_looked_for(stops: list[str], says: str):
    with pytest.raises(RequestError, match=says):
        Prompts(demo.path(), read_spec(demo.path())).answer(Ask("x", stop=stops))


@pytest.mark.parametrize("limit_s", [0.0, -1.0, float("nan")])
def test_a_time_limit_that_cannot_be_kept(limit_s: float):
    with pytest.raises(RequestError, match=f"time_limit_s is {limit_s}; it must be above 0"):
        Prompts(demo.path(), read_spec(demo.path())).time_limit_s(Ask("x", time_limit_s=limit_s))


def test_stop_ids_come_beside_the_checkpoint_s_own():
    prompts = Prompts(demo.path(), read_spec(demo.path()))
    own = prompts.request(Ask("x")).stop_ids
    assert own
    assert prompts.request(Ask("x", stop_ids=[own[0], 7])).stop_ids == (*own, 7)


def test_what_had_no_place_before_the_end_is_no_text():
    left = FinishEvent("r", FinishReason.CANCELLED, 1, 0, 0, 0, 0, 0, error=SHUTTING_DOWN)
    with pytest.raises(NotReadyError, match="shutting down"):
        Answer(None).finish(left)
