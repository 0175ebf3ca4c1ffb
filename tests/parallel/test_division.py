"""In a long prompt each rank looks up rows for its share of the tokens, and all read the same."""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from dsv4_tp.core import ExpertSplit
from dsv4_tp.model import AllSum, Model
from dsv4_tp.model.indexer import Indexer
from tests.parallel.small_model import write_small_model
from tests.parallel.team import on_ranks

LENGTH = 256
WIDTH = ExpertSplit.WIDTH


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_model(tmp_path_factory.mktemp("small"))


def prefill(model: Model) -> np.ndarray:
    ids = mx.random.randint(1, model.spec.vocab_size, (1, LENGTH), key=mx.random.key(5))
    return np.array(model(ids, model.make_cache()))


def counted(model: Model) -> list[int]:
    """Of how many tokens at a time its one indexer looks something up."""
    asked = Indexer.asked
    counts: list[int] = []

    def told(self: Indexer, x: mx.array, *given: object, **named: object):
        counts.append(x.shape[1])
        return asked(self, x, *given, **named)

    for layer in model.layers:
        if layer.attn.ratio == 4:
            layer.attn.indexer.asked = told.__get__(layer.attn.indexer)
    prefill(model)
    return counts


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_each_rank_looks_up_its_share(model_dir: Path, ranks: int):
    for counts in on_ranks(model_dir, [1] * ranks, WIDTH, counted):
        assert LENGTH / ranks * 0.95 <= sum(counts) <= LENGTH / ranks * 1.05


def test_a_rank_that_keeps_its_finds_to_itself_is_noticed(model_dir: Path):
    (one,) = on_ranks(model_dir, [1], WIDTH, prefill)

    def silent(rank: int, all_sum: AllSum) -> AllSum:
        def without_numbers(x: mx.array) -> mx.array:
            kept = rank == 1 and not mx.issubdtype(x.dtype, mx.floating)
            return all_sum(mx.zeros_like(x) if kept else x)

        return without_numbers

    def distance(parts: list[np.ndarray]) -> float:
        return float(np.abs(np.concatenate(parts, axis=-1) - one).max() / one.std())

    assert distance(on_ranks(model_dir, [1, 1], WIDTH, prefill)) <= 1e-5
    assert distance(on_ranks(model_dir, [1, 1], WIDTH, prefill, change=silent)) > 1e-2
