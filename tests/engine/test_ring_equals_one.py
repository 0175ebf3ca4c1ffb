"""N processes on a real ring say what one process says, through prefill and up to 300 steps."""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from dsv4_tp.core import DType
from dsv4_tp.engine import Team
from dsv4_tp.modelspec import read_spec
from dsv4_tp.parallel import load_rank
from tests.engine.jobs import ANSWER, WAYS, measurements, random_ids
from tests.engine.ring import run_ranks
from tests.model.golden import ROOT

pytestmark = pytest.mark.ranks

PLAIN = "public/a6_odd_scalars"  # all kinds of layers
# Bytes and how many: greedy and drawn, top-k 7, log-probabilities, nuclei, all that there is.
PACKETS = [
    [4 + 8, 2 * ANSWER],
    [4 + 4 + 7 * 12, ANSWER],
    [4 + 8 + 8 + 20 * 8, ANSWER],
    [4 + 4 + 64 * 12, 2 * ANSWER],
    [4 + 4 + 64 * 12 + 4 + 64 * 4 + 5 * 8, ANSWER],
]
OFFICIAL = "layouts/a_official_fp8_fp4"


@pytest.fixture(scope="module")
def one():
    """What one rank says of a model, by its folder."""
    known: dict[tuple[str, int], dict[str, np.ndarray]] = {}

    def measured(folder: str, steps: int) -> dict[str, np.ndarray]:
        if (folder, steps) not in known:
            model = load_rank(ROOT / folder, None, dtype=DType.FLOAT32).model
            known[folder, steps] = measurements(model, Team.of_one(model.part), steps)
        return known[folder, steps]

    return measured


def off(got: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, in standard deviations of the expected logits."""
    return float(np.abs(got - expected).max() / expected.std())


@pytest.mark.parametrize(
    ("size", "steps", "how"),
    [
        pytest.param(2, 300, {"folder": PLAIN, "split": "width"}, marks=pytest.mark.slow),
        (3, 20, {"folder": PLAIN, "split": "whole"}),
        pytest.param(4, 300, {"folder": PLAIN, "split": "width"}, marks=pytest.mark.slow),
        (2, 10, {"folder": OFFICIAL, "split": "whole", "weights": [3, 5]}),
        (2, 20, {"folder": PLAIN, "attention": "whole"}),
    ],
    ids=["two", "three", "four", "official-3:5", "attention whole"],
)
def test_ring_equals_one(tmp_path: Path, one, size, steps, how):
    run_ranks("measure", size, tmp_path, deadline_s=200, steps=steps, **how)
    expected = one(how["folder"], steps)
    sums = 1 if how.get("attention") == "whole" else 2
    per_token = sums * read_spec(ROOT / how["folder"]).num_hidden_layers + 1
    # Only there the vocabulary is wider than the packets, and the flat choice needs one more.
    wide = how["folder"] == OFFICIAL
    each = [per_token + (wide and name == "flat") for name in WAYS]
    decode = [[(ANSWER - 1) * collectives, ANSWER - 1] for collectives in each]
    waits: set[int] = set()
    for rank in range(size):
        got = np.load(tmp_path / f"{rank}.npz")
        assert off(got["logits"], expected["logits"]) <= 1e-5
        np.testing.assert_array_equal(*(said["logits"].argmax(-1) for said in (got, expected)))
        np.testing.assert_array_equal(got["decode"], decode)
        np.testing.assert_array_equal(got["packets"], PACKETS)
        waits.add(int(got["waits"]))
        # Each layer was begun when it was built.
        assert got["calls"] > read_spec(ROOT / how["folder"]).num_hidden_layers * got["waits"] / 2
    # They have waited for each other equally often, in every step, and none still does.
    assert len(waits) == 1
    assert min(waits) > 2 * ANSWER
    assert min(waits) % 2 == 0
    lead = np.load(tmp_path / "0.npz")
    np.testing.assert_allclose(lead["nll"], expected["nll"], atol=1e-6)
    np.testing.assert_allclose(lead["likely"], expected["likely"], atol=1e-4)
    for name in WAYS:
        assert lead[name].tolist() == expected[name].tolist()


def test_a_rank_that_drops_its_sums_is_noticed(tmp_path: Path, one):
    run_ranks("measure", 2, tmp_path, folder=PLAIN, steps=2, deaf=1)
    got = np.load(tmp_path / "0.npz")["logits"]
    assert np.abs(got - one(PLAIN, 300)["logits"][: len(got)]).max() > 1e-2


@pytest.mark.parametrize("weights", [[1, 1], [3, 5], [2, 1, 1]], ids=str)
def test_a_prompt_in_halves_is_the_same(tmp_path: Path, weights: list[int]) -> None:
    folder, length = "public/a1_flash_mini", 301
    run_ranks("halved", len(weights), tmp_path, folder=folder, length=length, weights=weights)
    model = load_rank(ROOT / folder, None, dtype=DType.FLOAT32).model
    expected = np.array(model(mx.array(random_ids(length, model.spec.vocab_size))))
    for rank in range(len(weights)):
        got = np.load(tmp_path / f"{rank}.npz")
        assert off(got["logits"], expected) <= 1e-5
        assert got["sums"] == 4 * len(model.layers) + 1  # the head's logits too
