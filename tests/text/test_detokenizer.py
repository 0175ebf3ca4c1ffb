"""Ids to text while they come."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from dsv4_tp.text import Detokenizer

FILE = Path(__file__).parents[1] / "golden/layouts/a_official_fp8_fp4/tokenizer.json"
TOKENIZER = Tokenizer.from_file(str(FILE))
VOCAB_SIZE = TOKENIZER.get_vocab_size()
# Machines that run tests may be busy: no example has a deadline.
fuzz = settings(deadline=None)


@fuzz
@given(st.lists(st.integers(0, VOCAB_SIZE + 5), max_size=40), st.integers(1, 5))
def test_the_pieces_joined_are_the_whole_decoded_at_once(ids: list[int], step: int):
    stream = Detokenizer(TOKENIZER)
    pieces = [stream.add(ids[start : start + step]) for start in range(0, len(ids), step)]
    assert "".join(pieces) + stream.finish() == TOKENIZER.decode(ids, skip_special_tokens=True)


@fuzz
@given(st.text(max_size=20).filter(lambda words: "｜" not in words))  # spells no special token
def test_text_goes_round_without_half_a_character(words: str):
    stream = Detokenizer(TOKENIZER)
    ids = TOKENIZER.encode(words, add_special_tokens=False).ids
    pieces = [stream.add([token]) for token in ids]
    assert "".join(pieces) == words
    assert all("\ufffd" not in piece for piece in pieces) or "\ufffd" in words
    assert stream.finish() == ""


def test_a_character_comes_with_its_last_byte():
    stream = Detokenizer(TOKENIZER)
    ids = TOKENIZER.encode("€", add_special_tokens=False).ids
    assert [stream.add([token]) for token in ids] == ["", "", "€"]


def test_an_unfinished_character_shows_at_the_end():
    stream = Detokenizer(TOKENIZER)
    first, *_ = TOKENIZER.encode("€", add_special_tokens=False).ids
    assert stream.add([first]) == ""
    assert stream.finish() == "\ufffd"


def test_special_tokens_do_not_show_and_thinking_does():
    stream = Detokenizer(TOKENIZER)
    names = ("<｜begin▁of▁sentence｜>", "<think>", "</think>", "<｜end▁of▁sentence｜>")
    assert stream.add([TOKENIZER.token_to_id(name) for name in names]) == "<think></think>"


@pytest.mark.parametrize("token", [VOCAB_SIZE, VOCAB_SIZE + 10**6])
def test_an_id_without_a_token_is_silent(token: int):
    assert Detokenizer(TOKENIZER).add([token]) == ""
