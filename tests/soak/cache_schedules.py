"""Soak: after any schedule, the caches are those of the tokens that survived it.

    python -m tests.soak.cache_schedules [CASES]

A schedule appends chunks of 1 to 4,096 tokens to a batch, takes tokens back, saves, restores, parts
the batch and joins it again. Each case is one line of results/cache_schedules.csv, and its number
is its seed: a run goes on after the last line, so it may be interrupted at any time.

Of each case a schedule is run on one layer of each kind, with projections that treat a row alike in
every chunk: the memory must have the bits of one that was given all tokens at once. Another is run
on a small random model, and the logits of every token that survived must be those of one call to
within 1e-5 of their standard deviation, in float32. Ends with 1 if a case fails either.
"""

import random
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np

from dsv4_tp.model import Model
from dsv4_tp.rules import REWIND
from tests.model.test_cache import RATIOS, Batch, differences, follow, run_schedule
from tests.model.tiny import tiny_model
from tests.parallel.small_model import CHANGES
from tests.soak.lines import DIFFERENT, soak

RESULTS = Path(__file__).parent / "results" / "cache_schedules.csv"
COLUMNS = ("case", "outcome", "arrays_off", "distance_std", "lengths", "schedule")
TOLERANCE = 1e-5
SEQUENCES, STEPS = 3, 12
# One layer of each kind; an indexer that is quick, and chooses from the tenth window on.
MODEL = CHANGES | {"index_n_heads": 2, "index_head_dim": 16, "index_topk": 10}
VOCAB = 80


def random_schedule(rng: random.Random) -> list[tuple]:
    """Up to a dozen steps, as `Batch` has them; the last tells what the others left."""
    steps = [random_step(rng) for _ in range(rng.randint(1, STEPS))]
    return [*steps, ("append", rng.randint(1, 3))]


def random_step(rng: random.Random) -> tuple:
    """One of them, most often more tokens."""
    match rng.choice(["append", "append", "append", "rewind", "part_and_join", "save", "restore"]):
        case "append":
            return "append", random_length(rng)
        case "rewind":
            return "rewind", [rng.randint(0, REWIND) for _ in range(SEQUENCES)]
        case "part_and_join":
            order = [rng.randrange(SEQUENCES) for _ in range(rng.randint(1, SEQUENCES))]
            return "part_and_join", order
        case "restore":
            return "restore", rng.randrange(4)
        case name:
            return (name,)


def random_length(rng: random.Random) -> int:
    """Of a chunk: mostly short, at times about a border of windows, seldom long."""
    border = rng.choice([127, 128, 129, 255, 256, 257])
    long = rng.choice([rng.randint(300, 1500), rng.randint(1500, 4096), 4096])
    return rng.choices([1, rng.randint(2, 40), border, long], [10, 10, 4, 1])[0]


class Whole:
    """The memory of a model, fed as `Layer` is."""

    def __init__(self, model: Model) -> None:
        self.model, self.cache = model, model.make_cache()

    def append(self, ids: np.ndarray) -> np.ndarray:
        """Logits [B, L, V] of ids [B, L]."""
        logits = self.model(mx.array(ids.astype(np.int32)), self.cache)
        mx.eval(logits, self.cache.arrays())
        return np.array(logits)

    @property
    def rewindable(self) -> tuple[int, ...]:
        return self.cache[0].rewindable


class ModelBatch(Batch):
    """Its tokens are rows of an id and the logits that were given at it."""

    def append(self, rng: np.random.Generator, count: int) -> None:
        ids = rng.integers(0, VOCAB, (len(self.tokens), count))
        rows = np.concatenate([ids[..., None], self.layer.append(ids)], axis=2)
        self.tokens = [np.concatenate(pair) for pair in zip(self.tokens, rows, strict=True)]


def arrays_off(lengths: list[int], schedule: list[tuple], case: int) -> int:
    """How many arrays of the layers' memories have other bits than the straight run's."""
    off = 0
    for ratio in RATIOS:
        batch = run_schedule(ratio, lengths, schedule, case)
        for number, tokens in enumerate(batch.tokens):
            off += differences(ratio, batch.layer.cache.of(number), tokens)
    return off


def distance(lengths: list[int], schedule: list[tuple], case: int) -> float:
    """The largest difference of a surviving token's logits, in their standard deviations."""
    model = tiny_model(case, **MODEL)
    alone = [ModelBatch(Whole(model), [np.zeros((0, 1 + VOCAB))]) for _ in lengths]
    batch = follow(alone, lengths, schedule, case)
    return max(off_alone(model, rows) for rows in batch.tokens)


def off_alone(model: Model, rows: np.ndarray) -> float:
    """The same of one sequence, against one call with all its tokens."""
    (straight,) = Whole(model).append(rows[None, :, 0])
    return float(np.abs(rows[:, 1:] - straight).max() / straight.std())


def run_case(case: int) -> dict[str, object]:
    """One line of the results."""
    rng = random.Random(case)
    starts = [1, 2, 3, 5, 15, 16, 23, 127, 128, 130, 259]
    lengths = [rng.choice(starts) for _ in range(rng.randint(1, SEQUENCES))]
    schedule = random_schedule(rng)
    arrays, logits = arrays_off(lengths, schedule, case), distance(lengths, schedule, case)
    equal = not arrays and logits <= TOLERANCE
    return {
        "case": case,
        "outcome": "equal" if equal else DIFFERENT,
        "arrays_off": arrays,
        "distance_std": f"{logits:.2e}",
        "lengths": lengths,
        "schedule": schedule,
    }


if __name__ == "__main__":
    sys.exit(soak(RESULTS, COLUMNS, run_case))
