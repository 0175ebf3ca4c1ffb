"""Ranks that each compute all of the attention say what one rank says, and add up once a layer."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from dsv4_tp import demo
from dsv4_tp.core import AttentionSplit, ExpertSplit
from dsv4_tp.model import AllSum, Model, identity
from tests.model.golden import run_mtp
from tests.parallel.small_model import write_small_model
from tests.parallel.team import on_ranks
from tests.storage_files import FP4, RAGGED

PROMPT, STEPS = 100, 40  # across the border of the long pool, at 128
LAYERS = 3
WIDTH, EXPERTS = ExpertSplit.WIDTH, ExpertSplit.WHOLE
WHOLE = AttentionSplit.WHOLE


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_model(tmp_path_factory.mktemp("small"))


def fed(steps: int, vocab: int) -> Callable[[Model], np.ndarray]:
    """A prompt and then one id at a time; the logits of the words a rank holds."""
    ids = np.random.default_rng(3).integers(1, vocab, (1, PROMPT + steps), dtype=np.int32)

    def run(model: Model) -> np.ndarray:
        cache, logits = model.make_cache(), []
        for piece in (ids[:, :PROMPT], *np.split(ids[:, PROMPT:], steps, axis=1)):
            logits.append(model(mx.array(piece), cache))
            mx.eval(logits[-1])
        return np.concatenate(logits, axis=1)

    return run


@pytest.fixture(scope="module")
def one(model_dir: Path) -> np.ndarray:
    (logits,) = on_ranks(model_dir, [1], WIDTH, fed(STEPS, 80))
    return logits


def distance(parts: list[np.ndarray], one: np.ndarray) -> float:
    """The largest difference, in standard deviations of the logits."""
    return float(np.abs(np.concatenate(parts, axis=-1) - one).max() / one.std())


@pytest.mark.parametrize(
    ("shares", "split"),
    [([1, 1], WIDTH), ([1] * 3, EXPERTS), ([1] * 4, WIDTH), ([3, 5], EXPERTS), ([2, 3, 3], WIDTH)],
)
def test_ranks_equal_one(model_dir: Path, one: np.ndarray, shares: list[int], split: ExpertSplit):
    parts = on_ranks(model_dir, shares, split, fed(STEPS, 80), attention=WHOLE)
    assert distance(parts, one) <= 1e-5


@pytest.mark.parametrize("quantised", [FP4, RAGGED], ids=lambda path: path.name)
def test_quantised_ranks_equal_one(quantised: Path):
    (alone,) = on_ranks(quantised, [1], WIDTH, fed(10, 64))
    parts = on_ranks(quantised, [3, 5], WIDTH, fed(10, 64), attention=WHOLE)
    assert distance(parts, alone) <= 1e-5


def test_an_mtp_stage_equals_one():
    ids = np.random.default_rng(5).integers(3, 90, (1, 30), dtype=np.int32)

    def stage(model: Model) -> np.ndarray:
        return run_mtp(model, ids, [30])

    (alone,) = on_ranks(demo.path(), [1], WIDTH, stage, mtp=True)
    parts = on_ranks(demo.path(), [1, 1], WIDTH, stage, mtp=True, attention=WHOLE)
    assert distance(parts, alone) <= 1e-5


@pytest.mark.parametrize(("attention", "sums"), [(WHOLE, 1), (AttentionSplit.SPLIT, 2)])
def test_a_token_takes_so_many_sums_a_layer(model_dir: Path, attention: AttentionSplit, sums: int):
    counts: Counter[int] = Counter()

    def counted(rank: int, all_sum: AllSum) -> AllSum:
        def count(x: mx.array) -> mx.array:
            counts[rank] += x.shape[1] == 1  # of a single token
            return all_sum(x)

        return count

    on_ranks(model_dir, [1, 1], WIDTH, fed(4, 80), change=counted, attention=attention)
    assert counts == {0: 4 * sums * LAYERS, 1: 4 * sums * LAYERS}


def test_attention_that_is_added_up_anyway_is_noticed(model_dir: Path, one: np.ndarray):
    def summed(_: int, all_sum: AllSum) -> AllSum:
        return all_sum

    parts = on_ranks(model_dir, [1, 1], WIDTH, fed(1, 80), attention=WHOLE, alike=summed)
    assert distance(parts, one[:, : PROMPT + 1]) > 1e-2


def test_bits_that_differ_between_ranks_are_not_multiplied(model_dir: Path, one: np.ndarray):
    """As if rank 1 were another chip. What a rank sees of them is of their size, to the end."""

    def rounds_otherwise(rank: int, _: AllSum) -> AllSum:
        keys = iter(range(10_000))

        def other_bits(x: mx.array) -> mx.array:
            noise = mx.random.normal(x.shape, key=mx.random.key(next(keys)))
            return x * (1 + 1e-5 * noise)

        return other_bits if rank else identity

    parts = on_ranks(
        model_dir, [1, 1], WIDTH, fed(STEPS, 80), attention=WHOLE, alike=rounds_otherwise
    )
    assert 1e-6 < distance(parts, one) <= 1e-3
