"""The prompts of `make demo` ask what its page says they ask."""

from pathlib import Path

import pytest

from dsv4_tp import demo
from dsv4_tp.modelspec import read_spec
from dsv4_tp.text import Text

FOLDER = Path(__file__).parents[2] / "examples/demo_model/prompts"
ANSWER = "4182"
PUNCTUATION = set(' .,:?"0123456789')


@pytest.fixture(scope="module")
def text() -> Text:
    return Text.load(demo.path())


def prompt(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8").removesuffix("\n")


def length(text: Text, words: str) -> int:
    return len(text.tokenizer.encode(words, add_special_tokens=False).ids)


@pytest.mark.parametrize("name", ["story.txt", "question.txt"])
def test_they_are_written_in_the_models_words(text: Text, name: str):
    """A word it does not know would be spelled in bytes."""
    decode = text.tokenizer.decode
    pieces = {decode([token], skip_special_tokens=False) for token in text.prompt_ids(prompt(name))}
    assert {piece for piece in pieces if len(piece) == 1} <= PUNCTUATION


def test_the_fact_is_in_the_middle_and_far_outside_the_window(text: Text):
    words = prompt("question.txt")
    before, after = words.split(ANSWER)  # stated once
    assert before.endswith("The code of the red door is ")
    assert after.endswith(" What is the code of the red door?<｜Assistant｜></think>")
    assert length(text, before) > 100
    assert length(text, after) >= 300
    spec = read_spec(demo.path())
    assert spec.sliding_window + 4 * spec.index_topk < 300


def test_other_facts_of_its_kind_are_on_both_sides():
    before, after = prompt("question.txt").split(ANSWER)
    assert before.count("The code of the ") > 3
    assert after.count("The code of the ") > 3
