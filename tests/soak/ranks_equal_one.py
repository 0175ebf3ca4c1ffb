"""Soak: random models over random shares must compute what one rank computes.

    python -m tests.soak.ranks_equal_one [CASES]

Each case is one line of results/ranks_equal_one.csv, and its number is its seed: a run goes on
after the last line, so it may be interrupted at any time. Ends with 1 if a case is off by more
than 1e-4 of the logits' standard deviation, in float32: some of these models amplify rounding a
little beyond the 1e-5 of the test suite, while a real mistake shows as 1e-2 or more.
"""

import random
import sys
import tempfile
from pathlib import Path

import mlx.core as mx
import numpy as np

from dsv4_tp.core import ExpertSplit
from dsv4_tp.errors import PlanError
from dsv4_tp.model import Model
from tests.parallel.small_model import write_small_model
from tests.parallel.team import on_ranks
from tests.soak.lines import DIFFERENT, soak

RESULTS = Path(__file__).parent / "results" / "ranks_equal_one.csv"
COLUMNS = ("case", "outcome", "distance_std", "shares", "split", "chunks", "changes")
TOLERANCE = 1e-4


def random_changes(rng: random.Random) -> dict[str, object]:
    """A config that no one would choose: what ranks share out is odd on purpose."""
    groups = rng.choice([2, 3, 4, 6])
    experts = rng.randint(3, 9)
    return {
        "o_groups": groups,
        "num_attention_heads": groups * rng.randint(1, 3),
        "n_routed_experts": experts,
        "num_experts_per_tok": rng.randint(1, min(3, experts)),
        "moe_intermediate_size": rng.choice([8, 12, 20]),
        "hc_mult": rng.randint(1, 4),
        "sliding_window": rng.randint(4, 20),
        "index_topk": rng.randint(2, 9),
        "compress_ratios": tuple(rng.choice([0, 4, 128]) for _ in range(3)),
        "scoring_func": rng.choice(["sqrtsoftplus", "sigmoid", "softmax"]),
        "vocab_size": rng.choice([48, 80, 100]),
    }


def logits_by(chunks: list[int], ids: np.ndarray, model: Model) -> np.ndarray:
    """Logits [1, L, words held] of ids [1, L] fed in these pieces."""
    cache, pieces = model.make_cache(), []
    for piece in np.split(ids, np.cumsum(chunks)[:-1], axis=1):
        logits = model(mx.array(piece), cache)
        mx.eval(logits, cache.arrays())
        pieces.append(np.array(logits))
    return np.concatenate(pieces, axis=1)


def run_case(case: int) -> dict[str, object]:
    """One line of the results."""
    rng = random.Random(case)
    changes = random_changes(rng)
    shares = [rng.randint(1, 5) for _ in range(rng.randint(2, 8))]
    split = rng.choice(list(ExpertSplit))
    chunks = [rng.randint(100, 160), *(rng.choice([1, 1, 1, 3, 5, 30]) for _ in range(12))]
    ids = np.random.default_rng(case).integers(0, int(str(changes["vocab_size"])), (1, sum(chunks)))
    line = {"case": case, "shares": shares, "split": split, "chunks": chunks, "changes": changes}
    with tempfile.TemporaryDirectory() as folder:
        model_dir = write_small_model(Path(folder), seed=case, **changes)

        def run(model: Model) -> np.ndarray:
            return logits_by(chunks, ids.astype(np.int32), model)

        (one,) = on_ranks(model_dir, [1], split, run)
        try:
            parts = on_ranks(model_dir, shares, split, run)
        except PlanError:
            return line | {"outcome": "refused", "distance_std": ""}
    distance = float(np.abs(np.concatenate(parts, axis=-1) - one).max() / one.std())
    outcome = "equal" if distance <= TOLERANCE else DIFFERENT
    return line | {"outcome": outcome, "distance_std": f"{distance:.2e}"}


if __name__ == "__main__":
    sys.exit(soak(RESULTS, COLUMNS, run_case))
