"""The shipped model makes sense: what it predicts, finds and drafts, as its card says.

Few and short texts, for a CPU that multiplies slowly; the card has the figures of many.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from dsv4_tp import demo
from dsv4_tp.core import DType, ExpertSplit
from dsv4_tp.model import Model
from dsv4_tp.model.indexer import Indexer
from dsv4_tp.parallel import load_rank
from dsv4_tp.text import Text
from examples.demo_model import evaluate
from examples.demo_model.card import CARD, FIGURES, Figures, card
from examples.demo_model.export import MASTER_CONFIG, write_model
from examples.demo_model.measures import (
    Question,
    acceptance,
    index_topk,
    perplexity,
    plain,
    retrieval,
    unigram_perplexity,
)
from examples.demo_model.settings import CONFIG
from tests.parallel.team import on_ranks

QUESTION = Path(__file__).parents[2] / "examples/demo_model/prompts/question.txt"
TEXTS = evaluate.sequences([200] * 4)
QUESTIONS = {50: 10, 100: 20, 300: 5}  # how many at each distance
# The window wraps three times after the prompt, and a row of 128 tokens is completed.
PROMPT, TOKENS = 60, 110


def load(model_dir: Path) -> Model:
    return load_rank(model_dir, None, dtype=DType.FLOAT32, mtp=True).model


@pytest.fixture(scope="module")
def packed() -> Model:
    """As it is shipped, multiplied as FP8 and FP4."""
    return load(demo.path())


@pytest.fixture(scope="module")
def model(packed: Model, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Exported again, all in bf16: the same numbers, and on a CPU the faster ones."""
    model_dir = tmp_path_factory.mktemp("bf16")
    write_model(plain(packed), MASTER_CONFIG, model_dir)
    return load(model_dir)


@pytest.fixture(scope="module")
def surprise(model: Model) -> float:
    return perplexity(model, TEXTS)


@contextmanager
def changed(matrix: nn.Module, weight: mx.array) -> Iterator[None]:
    """Within, the matrix has another weight."""
    before, matrix.weight = matrix.weight, weight
    try:
        yield
    finally:
        matrix.weight = before


def found(model: Model, distance: int) -> float:
    return retrieval(model, evaluate.questions(QUESTIONS[distance], distance))


def test_it_predicts_far_better_than_the_frequencies_of_words(surprise: float):
    training = evaluate.sequences([512] * 50, split="train")
    assert 5 * surprise <= unigram_perplexity(training, TEXTS, CONFIG["vocab_size"])


@pytest.mark.slow
def test_fp8_and_fp4_predict_as_bf16_does(packed: Model, surprise: float):
    """Each of their numbers is one of bf16's, so nothing may be lost but the last bits of sums."""
    assert perplexity(packed, TEXTS) == pytest.approx(surprise, rel=1e-3)


def test_halves_of_bytes_taken_the_wrong_way_round_would_be_noticed(model: Model, surprise: float):
    """The mistake to fear with FP4: all that is checked of sizes and scales still fits."""
    w2 = model.layers[0].ffn.experts.w2
    pairs = w2.weight.reshape(*w2.weight.shape[:-1], -1, 2)
    with changed(w2, pairs[..., ::-1].reshape(w2.weight.shape)):
        assert perplexity(model, TEXTS) > 1.1 * surprise


@pytest.mark.parametrize(
    "distance", [*(pytest.param(few, marks=pytest.mark.slow) for few in (50, 100)), 300]
)
def test_it_finds_what_stands_far_back(model: Model, distance: int):
    assert found(model, distance) >= 0.9


@pytest.mark.slow
def test_it_finds_nothing_in_the_latest_rows(model: Model, monkeypatch: pytest.MonkeyPatch):
    """What the indexer chooses matters: as many rows, but the last ones, hold no answer."""

    right = Indexer.scores

    def by_age(self: Indexer, asked: object, rows: mx.array):
        return mx.broadcast_to(mx.arange(rows.shape[1]), right(self, asked, rows).shape)

    monkeypatch.setattr(Indexer, "scores", by_age)
    assert found(model, 300) <= 0.3


def test_one_row_predicts_worse_than_sixteen(model: Model, surprise: float):
    with index_topk(model, 1):
        assert perplexity(model, TEXTS) > 1.005 * surprise


@pytest.mark.slow
def test_it_finds_nothing_beyond_its_window_without_the_pool(model: Model):
    """The values it finds come through the rows of four tokens, not by another way."""
    wkv = model.layers[1].attn.compressor.wkv
    with changed(wkv, mx.zeros_like(wkv.weight)):
        assert found(model, 100) <= 0.3


def test_it_answers_the_question_of_make_demo(model: Model):
    asked = QUESTION.read_text(encoding="utf-8").removesuffix("\n")
    prompt = Text.load(demo.path()).prompt_ids(asked)
    answer = evaluate.ids("The code of the red door is 4182.")
    assert retrieval(model, [Question(prompt, answer)]) == 1


def test_its_drafts_are_accepted(model: Model):
    assert acceptance(model, evaluate.prompts(3), 32) >= 0.6


@pytest.mark.slow
def test_drafts_are_those_of_reading_all_tokens_anew(model: Model):
    (prompt,), tokens = evaluate.prompts(1), 12
    written = greedy(model, prompt, tokens + 1)
    hits = 0
    for count in range(1, tokens + 1):
        known = prompt + written[:count]
        streams = model.streams(mx.array([known[:-1]]), model.make_cache())
        logits = model.mtp_logits(streams, mx.array([known[1:]]), model.make_mtp_cache())
        hits += int(logits[0, -1].argmax()) == written[count]
    assert hits > 0
    assert acceptance(model, [prompt], tokens) == hits / tokens


def greedy(model: Model, prompt: list[int], count: int) -> list[int]:
    cache, step, written = model.make_cache(), prompt, []
    for _ in range(count):
        logits = model(mx.array([step]), cache)
        mx.eval(logits, cache.arrays())
        written.append(int(logits[0, -1].argmax()))
        step = written[-1:]
    return written


@pytest.mark.parametrize(
    "split", [ExpertSplit.WIDTH, pytest.param(ExpertSplit.WHOLE, marks=pytest.mark.slow)]
)
def test_two_ranks_write_the_same_text_as_one(packed: Model, split: ExpertSplit):
    """The ranks read what the one wrote, so that a difference is not followed by others."""
    prompt = evaluate.of_kinds(1)["stories"][0][:PROMPT]
    written = greedy(packed, prompt, TOKENS)

    def last_logits(rank: Model) -> np.ndarray:
        cache, logits = rank.make_cache(), []
        for step in (prompt, *([token] for token in written[:-1])):
            logits.append(rank(mx.array([step]), cache)[:, -1])
            mx.eval(logits[-1], cache.arrays())
        return np.concatenate(logits)

    parts = on_ranks(demo.path(), [1, 1], split, last_logits)
    assert np.concatenate(parts, axis=-1).argmax(axis=-1).tolist() == written
    assert len(set(written)) > 10  # not one word again and again


def test_the_card_has_the_figures_of_its_file():
    figures = Figures.read(demo.path() / FIGURES)
    assert (demo.path() / CARD).read_text(encoding="utf-8") == card(figures)
