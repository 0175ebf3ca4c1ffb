"""N ranks through the rule table compute what one rank computes: the heart of the matter.

The ranks are threads of this process; each loads its own part from the files. A long decode crosses
the borders of the window (16), of pooled pairs of windows (4) and, twice, of the long pool (128).
"""

from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from dsv4_tp.core import CacheRows, DType, ExpertSplit
from dsv4_tp.model import AllSum, Model
from dsv4_tp.parallel import load_rank
from tests.model.golden import share_alike
from tests.parallel.small_model import write_small_model
from tests.parallel.team import on_ranks
from tests.storage_files import FP4, RAGGED

PROMPT, STEPS = 100, 170
WIDTH, WHOLE = ExpertSplit.WIDTH, ExpertSplit.WHOLE


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_model(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def greedy(model_dir: Path) -> tuple[np.ndarray, np.ndarray]:
    """One rank's ids [1, PROMPT + STEPS] and the logits after each of them."""
    model = load_rank(model_dir, None, dtype=DType.FLOAT32).model
    ids = mx.random.randint(1, model.spec.vocab_size, (1, PROMPT), key=mx.random.key(3))
    cache, fed, logits = model.make_cache(), [ids], []
    for _ in range(STEPS + 1):
        logits.append(model(fed[-1], cache))
        fed.append(mx.argmax(logits[-1][:, -1:], axis=-1))
        mx.eval(logits[-1], fed[-1])
    return np.concatenate(fed[:-1], axis=1), np.concatenate(logits, axis=1)


def forced(ids: np.ndarray) -> Callable[[Model], np.ndarray]:
    """Feeds a prefill and then one id at a time; the logits of the words a rank holds."""

    def run(model: Model) -> np.ndarray:
        cache, logits = model.make_cache(), []
        for piece in (ids[:, :PROMPT], *np.split(ids[:, PROMPT:], ids.shape[1] - PROMPT, axis=1)):
            out = model(mx.array(piece), cache)
            mx.eval(out)
            logits.append(np.array(out))
        return np.concatenate(logits, axis=1)

    return run


def distance(parts: list[np.ndarray], one: np.ndarray) -> float:
    """The largest difference, in standard deviations of the logits."""
    return float(np.abs(np.concatenate(parts, axis=-1) - one).max() / one.std())


@pytest.mark.parametrize(
    ("shares", "split"),
    [
        ([1], WIDTH),
        ([1, 1], WIDTH),
        ([1, 1, 1], WIDTH),
        pytest.param([1] * 4, WIDTH, marks=pytest.mark.slow),
        ([1] * 8, WIDTH),
        ([3, 5], WHOLE),
        ([2, 3, 3], WIDTH),
    ],
    ids=lambda value: value if isinstance(value, str) else ":".join(map(str, value)),
)
def test_ranks_equal_one(
    model_dir: Path, greedy: tuple[np.ndarray, np.ndarray], shares: list[int], split: ExpertSplit
) -> None:
    most = PROMPT + (STEPS if len(shares) < 8 else 40)  # eight threads are slow
    ids, one = (array[:, :most] for array in greedy)
    parts = on_ranks(model_dir, shares, split, forced(ids))
    assert distance(parts, one) <= 1e-5
    chosen = np.concatenate(parts, axis=-1).argmax(axis=-1)
    assert np.array_equal(chosen[:, PROMPT - 1 : -1], ids[:, PROMPT:])


def test_eight_ranks_of_which_some_have_no_expert(
    model_dir: Path, greedy: tuple[np.ndarray, np.ndarray]
) -> None:
    ids, one = (array[:, : PROMPT + 20] for array in greedy)
    parts = on_ranks(model_dir, [1] * 8, WHOLE, forced(ids))
    assert distance(parts, one) <= 1e-5


@pytest.mark.parametrize("quantised", [FP4, RAGGED], ids=lambda path: path.name)
@pytest.mark.parametrize("split", ExpertSplit)
def test_quantised_ranks_equal_one(quantised: Path, split: ExpertSplit) -> None:
    ids = np.load(quantised / "expected.npz")["ids"][:1, : PROMPT + 10]
    (one,) = on_ranks(quantised, [1], split, forced(ids))
    parts = on_ranks(quantised, [3, 5], split, forced(ids))
    assert distance(parts, one) <= 1e-5


@pytest.mark.slow
def test_ranks_equal_one_with_rows_as_trained(
    model_dir: Path, greedy: tuple[np.ndarray, np.ndarray]
) -> None:
    """A sum in another order may round a number to the next code, so they are less close."""
    ids, exact = (array[:, : PROMPT + 100] for array in greedy)

    def trained(model: Model) -> np.ndarray:
        model.cache_rows = CacheRows.TRAINED
        return forced(ids)(model)

    (one,) = on_ranks(model_dir, [1], WIDTH, trained)
    parts = on_ranks(model_dir, [2, 3, 3], WIDTH, trained)
    assert share_alike(np.concatenate(parts, axis=-1), one) > 0.75
    assert share_alike(exact, one) < 0.25


def test_a_dropped_all_reduce_is_noticed(
    model_dir: Path, greedy: tuple[np.ndarray, np.ndarray]
) -> None:
    """The control of the tests above: one rank that keeps its own share goes far astray."""
    ids, one = (array[:, : PROMPT + 1] for array in greedy)

    def deaf(rank: int, all_sum: AllSum) -> AllSum:
        def own_share(x: mx.array) -> mx.array:
            all_sum(x)
            return x

        return own_share if rank == 1 else all_sum

    parts = on_ranks(model_dir, [1, 1], WIDTH, forced(ids), change=deaf)
    assert distance(parts, one) > 1e-2
