"""Sequences that share a step, and tokens that were taken back, against each sequence alone.

With rows as the model was trained to see them, a number whose last bit differs may be rounded to
the next code. In this model that moves a logit less than a row that is wrong.
"""

import mlx.core as mx
import numpy as np
import pytest

from dsv4_tp import demo
from dsv4_tp.core import CacheRows, DType
from dsv4_tp.model import Cache, Model, context, indexer
from dsv4_tp.parallel import load_rank
from dsv4_tp.rules import REWIND

LENGTHS = (1, 3, 30, 127, 142)
MORE = 12


@pytest.fixture(
    scope="module",
    params=[CacheRows.EXACT, pytest.param(CacheRows.TRAINED, marks=pytest.mark.slow)],
)
def model(request: pytest.FixtureRequest) -> Model:
    """The demo model, since its indexer chooses; in float32."""
    return load_rank(demo.path(), None, dtype=DType.FLOAT32, cache_rows=request.param).model


def feed(model: Model, ids: np.ndarray, cache: Cache) -> np.ndarray:
    """Logits [B, L, V] of ids [B, L] appended to the cache."""
    logits = model(mx.array(ids.astype(np.int32)), cache)
    mx.eval(logits, cache.arrays())
    return np.array(logits)


def near(model: Model, found: np.ndarray, wanted: np.ndarray) -> bool:
    limit = 1e-5 if model.cache_rows is CacheRows.EXACT else 1e-2
    return float(np.abs(found - wanted).max() / wanted.std()) <= limit


@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_each_of_a_batch_is_as_it_is_alone(model: Model, step: int) -> None:
    rng = np.random.default_rng(step)
    texts = [rng.integers(3, 600, length + MORE) for length in LENGTHS]
    alone = [feed(model, text[None], model.make_cache())[0] for text in texts]
    caches = [model.make_cache() for _ in texts]
    for text, length, cache in zip(texts, LENGTHS, caches, strict=True):
        feed(model, text[None, :length], cache)
    together = Cache.merged(caches)
    for at in range(0, MORE, step):
        rows = [text[n + at : n + at + step] for text, n in zip(texts, LENGTHS, strict=True)]
        logits = feed(model, np.stack(rows), together)
        for row, whole, length in zip(logits, alone, LENGTHS, strict=True):
            assert near(model, row, whole[length + at : length + at + step])
    last = together.of(3)
    assert last.positions == (LENGTHS[3] + MORE,)


def test_tokens_that_were_taken_back_leave_no_trace(model: Model) -> None:
    """As speculation does it: some tokens are fed, some of them turn out to be right."""
    rng = np.random.default_rng(0)
    text = rng.integers(3, 600, 260)
    whole = feed(model, text[None], model.make_cache())[0]
    cache, at = model.make_cache(), 130
    feed(model, text[None, :at], cache)
    while at < len(text) - REWIND:
        count = int(rng.integers(1, REWIND + 1))
        right = int(rng.integers(0, count + 1))
        guess = np.concatenate([text[at : at + right], rng.integers(3, 600, count - right)])
        logits = feed(model, guess[None], cache)[0]
        assert right == 0 or near(model, logits[:right], whole[at : at + right])
        cache.rewind([count - right])
        at += right
        assert cache.positions == (at,)


@pytest.mark.parametrize("most", [1, 7])
def test_runs_of_any_length_read_the_same(
    model: Model, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    text = np.random.default_rng(most).integers(3, 600, 150)
    whole = feed(model, text[None], model.make_cache())[0]
    monkeypatch.setattr(context, "run_length", lambda length, _: min(length, most))
    monkeypatch.setattr(indexer, "run_length", lambda length, _: min(length, 5))
    assert near(model, feed(model, text[None], model.make_cache())[0], whole)
