"""The measures can fail: each on something small whose figure is known."""

import math
import subprocess
import sys
from dataclasses import fields, replace

import mlx.core as mx
import numpy as np
import pytest
from click.testing import CliRunner

from dsv4_tp import demo
from dsv4_tp.core import DType
from dsv4_tp.model import Cache, Model
from dsv4_tp.parallel import load_rank
from examples.demo_model import evaluate, tokenizer
from examples.demo_model.card import Figures, card, retrieval_rows, rows, write_card
from examples.demo_model.initial import initialise
from examples.demo_model.measures import (
    Question,
    acceptance,
    index_topk,
    perplexity,
    plain,
    retrieval,
    unigram_perplexity,
)
from tests.demo_model.small import SMALL

WORDS = SMALL.vocab_size
TOKENIZER = tokenizer.load()
FIGURES = Figures(
    perplexity=2.0,
    perplexity_master=1.97,
    perplexity_unigram=90.0,
    perplexity_of={"stories": 1.5, "sums": 3.25},
    retrieval={"50": 0.99, "300": 0.9, "1000": 0.41},
    retrieval_chat={"50": 0.98, "300": 0.91, "1000": 0.42},
    retrieval_topk_1={"50": 0.21, "300": 0.07, "1000": 0.03},
    acceptance=0.67,
    parameters=9_292_466,
    weight_bytes=7_757_432,
    held_out_tokens=40_960,
    questions=100,
    drafts=2560,
    training_hours=1.6,
)


class Counting:
    """Says t + 1 after t, and drafts t + 1 after t unless t is among `wrong`.

    A token is its own stream. `read` and `drafted_after` have a list for each memory made, of what
    was put into it.
    """

    def __init__(self, wrong=()):
        self.wrong, self.read, self.drafted_after = wrong, [], []

    def make_cache(self):
        return self.noting(self.read)

    def make_mtp_cache(self):
        return self.noting(self.drafted_after)

    def noting(self, where):
        cache = Cache([])
        cache.notes = []
        where.append(cache.notes)
        return cache

    def streams(self, ids, cache):
        cache.notes += ids[0].tolist()
        return ids[..., None, None]

    def logits(self, streams):
        return mx.eye(WORDS)[streams[..., 0, 0] + 1]

    def mtp_logits(self, streams, next_ids, cache):
        assert next_ids.tolist() == (streams[..., 0, 0] + 1).tolist()
        cache.notes += next_ids[0].tolist()
        return mx.eye(WORDS)[mx.array([[t + 1 + (t in self.wrong) for t in next_ids[0].tolist()]])]


@pytest.fixture(scope="module")
def untrained():
    model = Model(SMALL, mtp=True)
    initialise(model, SMALL, seed=5, token_counts=[1] * WORDS)
    return model


def some_ids(count, seed=0):
    return np.random.default_rng(seed).integers(0, WORDS, count).tolist()


def greedy(model, prompt, count):
    cache, step, written = model.make_cache(), prompt, []
    for _ in range(count):
        written.append(int(model(mx.array([step]), cache)[0, -1].argmax()))
        step = written[-1:]
    return written


# Perplexity


def test_a_model_that_knows_nothing_is_as_perplexed_as_it_has_words(untrained):
    head = untrained.head.weight
    untrained.head.weight = mx.zeros_like(head)
    try:
        assert perplexity(untrained, [some_ids(40), some_ids(3)]) == pytest.approx(WORDS, rel=1e-5)
    finally:
        untrained.head.weight = head
    # Surer of itself, and as ignorant.
    assert perplexity(untrained, [some_ids(200)]) > WORDS


def test_perplexity_counts_every_token_but_the_first():
    """exp(1) for each right word in the softmax, 1 for the others."""
    total = math.e + WORDS - 1
    right, wrong = total / math.e, total
    assert perplexity(Counting(), [[3, 4, 5]]) == pytest.approx(right, rel=1e-5)
    assert perplexity(Counting(), [[9, 3, 4], [3, 4]]) == pytest.approx(
        (wrong * right * right) ** (1 / 3), rel=1e-5
    )


def test_feeding_in_pieces_changes_nothing(untrained):
    ids = some_ids(300)
    logits = untrained(mx.array([ids[:-1]]))[0]
    nats = mx.logsumexp(logits, axis=-1) - logits[mx.arange(299), mx.array(ids[1:])]
    assert perplexity(untrained, [ids]) == pytest.approx(math.exp(nats.mean().item()), rel=1e-4)


def test_unigram_perplexity_by_hand():
    training = [[0, 0], [0, 1]]  # with one more of each: 4 and 2 of 6
    assert unigram_perplexity(training, [[1, 0, 1], [1, 0]], 2) == pytest.approx(
        (3 / 2 * 3 * 3 / 2) ** (1 / 3)
    )
    assert unigram_perplexity(training, [[0, 2]], 3) == pytest.approx(7)  # never seen in training


# Retrieval


def test_an_answer_counts_only_if_all_of_it_is_right():
    asked = [
        Question([1, 2], [3, 4]),
        Question([1, 2], [3, 5]),
        Question([1, 2], [4, 5]),
        Question([2], [3]),
    ]
    assert retrieval(Counting(), asked) == 0.5
    assert retrieval(Counting(), asked[1:3]) == 0


def test_one_pass_finds_what_greedy_decoding_writes(untrained):
    prompt = some_ids(150)
    written = greedy(untrained, prompt, 5)
    assert retrieval(untrained, [Question(prompt, written)]) == 1
    for place in range(5):
        other = [token + (number == place) for number, token in enumerate(written)]
        assert retrieval(untrained, [Question(prompt, other)]) == 0


def test_an_untrained_model_finds_nothing(untrained):
    assert retrieval(untrained, evaluate.questions(5, 50)) == 0


def test_index_topk_holds_within_only(untrained):
    ids = mx.array([some_ids(80)])
    before = untrained(ids)
    with index_topk(untrained, 1):
        within = untrained(ids)
        mx.eval(within)
    assert mx.abs(within - before).max() > 1e-3
    assert mx.array_equal(untrained(ids), before)


# MTP drafts


def test_acceptance_counts_the_drafts_that_are_chosen_next():
    # After 5 comes 6 at once; then 7, 8, 9, 10, 11 are compared with drafts made after 6 .. 10.
    model = Counting(wrong={6, 9})
    assert acceptance(model, [[3, 4, 5]], 5) == 3 / 5
    assert model.read == [[3, 4, 5, 6, 7, 8, 9, 10]]
    assert model.drafted_after == [[4, 5, 6, 7, 8, 9, 10]]


def test_acceptance_is_the_share_over_all_prompts():
    model = Counting(wrong={6, 9})
    assert acceptance(model, [[3, 4, 5], [20]], 5) == 8 / 10
    assert model.read == [[3, 4, 5, 6, 7, 8, 9, 10], [20, 21, 22, 23, 24, 25]]
    assert acceptance(Counting(wrong=range(WORDS)), [[3]], 4) == 0


# What is measured


def test_packed_weights_written_out_are_the_same_model():
    packed = load_rank(demo.path(), None, dtype=DType.FLOAT32, mtp=True).model
    written, ids = plain(packed), mx.array([some_ids(40)])
    one, other = packed(ids), written(ids)
    assert mx.abs(one - other).max() < 1e-3 * one.std()
    drafts = [
        model.mtp_logits(
            model.streams(ids[:, :-1], model.make_cache()), ids[:, 1:], model.make_mtp_cache()
        )
        for model in (packed, written)
    ]
    assert mx.abs(drafts[0] - drafts[1]).max() < 1e-3 * drafts[0].std()


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("distance", evaluate.DISTANCES)
def test_questions_ask_for_what_their_prompt_states(distance, chat):
    asked = evaluate.questions(4, distance, chat=chat)
    assert asked == evaluate.questions(4, distance, chat=chat)
    assert len({tuple(question.prompt) for question in asked}) == 4
    for question in asked:
        assert question.prompt[0] == TOKENIZER.token_to_id(tokenizer.BOS)
        assert distance < len(question.prompt) < distance + 80
        assert len(question.answer) <= 24
        told, answer = (TOKENIZER.decode(part) for part in (question.prompt, question.answer))
        assert told.count(answer.strip()) > 0


def held_out():
    kinds = evaluate.of_kinds(2)
    assert len(kinds) == 6
    documents = [text for texts in kinds.values() for text in texts]
    return [*evaluate.sequences([64] * 5), *evaluate.prompts(5), *documents]


def test_held_out_text_is_the_same_each_time_and_never_repeated():
    texts = held_out()
    assert texts == held_out()
    assert len({tuple(text) for text in texts}) == len(texts)
    assert evaluate.sequences([64], split="train")[0] not in texts


# The figures and the card


def test_figures_survive_their_file(tmp_path):
    FIGURES.write(tmp_path / "figures.json")
    assert Figures.read(tmp_path / "figures.json") == FIGURES


def test_figures_are_rounded():
    rounded = replace(FIGURES, perplexity=1.23456789, retrieval={"50": 2 / 3}).rounded()
    assert (rounded.perplexity, rounded.retrieval) == (1.2346, {"50": 0.6667})
    assert rounded.parameters == FIGURES.parameters


def missed(figures):
    return [line[0] for line in (*rows(figures), *retrieval_rows(figures)) if "MISSED" in line[-1]]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"perplexity_unigram": 9.9}, ["times below a unigram model"]),
        ({"perplexity_master": 1.94}, ["cost of FP8 and FP4"]),
        ({"retrieval": {"50": 1.0, "300": 0.89, "1000": 0.0}}, ["300"]),
        ({"acceptance": 0.59}, ["first MTP drafts accepted, greedy"]),
        ({"weight_bytes": 8_000_001}, ["MB of weights"]),
    ],
)
def test_a_target_that_was_missed_says_so(change, expected):
    assert missed(replace(FIGURES, **change)) == expected


def test_without_a_master_there_is_no_word_of_it():
    names = [line[0] for line in rows(replace(FIGURES, perplexity_master=None))]
    assert not [name for name in names if "master" in name or "cost" in name]


def other(value):
    if isinstance(value, dict):
        return {key: other(each) for key, each in value.items()}
    return value / 2 if isinstance(value, float) else value * 2


def test_every_figure_is_in_the_card():
    """A card of other figures is another card."""
    for field in fields(Figures):
        changed = replace(FIGURES, **{field.name: other(getattr(FIGURES, field.name))})
        assert card(changed) != card(FIGURES), field.name


def test_the_card_and_its_file_are_written_together(tmp_path):
    write_card(FIGURES, tmp_path)
    figures = Figures.read(tmp_path / "figures.json")
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == card(figures)
    assert "| perplexity | 2.000 |" in card(figures)
    assert "| 300 | 90% | 7% | 91% | 90% or more |" in card(figures)


# The command


def test_a_card_of_half_the_figures_is_refused(tmp_path):
    curve = tmp_path / "loss.csv"
    curve.touch()
    for others in ([], ["--quick", "--master", str(tmp_path)]):
        result = CliRunner().invoke(evaluate.main, ["--card", str(curve), *others])
        assert result.exit_code == 2
        assert "--master" in result.output


def test_a_folder_without_a_model_is_refused_in_one_line(tmp_path):
    command = [sys.executable, "-m", "examples.demo_model.evaluate", "--checkpoint", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "config.json" in done.stderr
