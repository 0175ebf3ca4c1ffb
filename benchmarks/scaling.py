"""Two ranks against one, on layers so wide that products take most of the time.

    python -m benchmarks.scaling          a table
    python -m benchmarks.scaling --json   the same as one JSON object

Random weights, three layers, one of each kind. `packed`: Flash's widths in DeepSeek's FP8 and FP4,
with 8 experts of which a token is sent to 6; MLX takes seconds for a token in these formats on a
CPU, so there are few. `plain`: about a quarter of Flash's widths in float32, and a long prompt.

One process, then a ring of two, in turns; each feeds a prompt and decodes some tokens. The time in
collectives is that from when a rank has its own share of a sum to when it has the sum: the way
there and back, and the wait for the other rank. On a CPU a process multiplies with one thread, so
that two ranks have twice the arithmetic of one, as two Macs have.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import mlx.core as mx

from benchmarks import synthetic
from benchmarks.beside import models
from benchmarks.rings import said_by_leader
from dsv4_tp.cli.tables import table
from dsv4_tp.core import DType, ExpertSplit
from dsv4_tp.engine import Collectives, TokenShares, join
from dsv4_tp.modelspec import read_spec
from dsv4_tp.parallel import load_rank
from dsv4_tp.plan import make_plan
from dsv4_tp.prepared import read_catalog

FLASH = "deepseek-v4-flash.json"
RATIOS, EXPERTS = (0, 4, 128), 8
_QUARTER = {
    "hidden_size": 1024,
    "head_dim": 256,
    "index_n_heads": 16,
    "moe_intermediate_size": 256,  # 1 MB a matrix: the cache of a core takes it, whole or shared
    "num_attention_heads": 32,
    "o_lora_rank": 256,
    "q_lora_rank": 512,
}


@dataclass(frozen=True, slots=True)
class Case:
    """A model, and how much it is fed."""

    prompt: int  # tokens
    tokens: int  # one by one, behind it
    rounds: int


CASES = {"packed": Case(8, 2, 3), "plain": Case(512, 32, 7)}


@dataclass(frozen=True, slots=True)
class Times:
    """Of one process, in seconds; of what is in collectives, too."""

    prefill_s: float
    decode_s: float
    prefill_sums_s: float = 0.0
    decode_sums_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Gain:
    """Of two ranks, over one: the median of the rounds, and how far they lie apart."""

    case: str
    what: str
    tokens: int
    speed_up: float
    lowest: float
    highest: float
    in_collectives: float  # of the two ranks' time


class Clock:
    """A sum, and how long this rank was in it."""

    def __init__(self, all_sum: Callable[[mx.array], mx.array]) -> None:
        self._all_sum = all_sum
        self.spent_s = 0.0

    def __call__(self, x: mx.array) -> mx.array:
        """The sum, computed."""
        mx.eval(x)
        began_s = time.perf_counter()
        total = self._all_sum(x)
        mx.eval(total)
        self.spent_s += time.perf_counter() - began_s
        return total


def timed(model_dir: Path, collectives: Collectives, case: Case) -> Times:
    """A prompt and some tokens by this rank's part."""
    count = case.prompt + case.tokens
    spec, shares = read_spec(model_dir), (1,) * collectives.size
    found = read_catalog(model_dir, spec, mtp=False)
    parts = make_plan(spec, found, shares, expert_split=ExpertSplit.WIDTH).parts
    clock = Clock(collectives.all_sum)
    model = load_rank(
        model_dir,
        parts[collectives.rank],
        dtype=DType.FLOAT32,
        all_sum=clock,
        division=TokenShares(collectives, parts),
    ).model
    ids = mx.random.randint(1, spec.vocab_size, (1, count), key=mx.random.key(1))

    def fed(*pieces: mx.array) -> tuple[float, float]:
        collectives.agree(0)  # all are here
        clock.spent_s, began_s = 0.0, time.perf_counter()
        for piece in pieces:
            mx.eval(model(piece, cache), cache.arrays())
        return time.perf_counter() - began_s, clock.spent_s

    cache = model.make_cache()
    fed(ids[:, :1])  # what is done once is not measured
    cache = model.make_cache()
    prefill_s, prefill_sums_s = fed(ids[:, : case.prompt])
    decode_s, decode_sums_s = fed(*mx.split(ids[:, case.prompt :], case.tokens, axis=1))
    return Times(prefill_s, decode_s, prefill_sums_s, decode_sums_s)


def gains(name: str, rounds: Sequence[tuple[Times, Times]]) -> list[Gain]:
    """What two ranks gain, of rounds of one process and of two."""
    found: list[Gain] = []
    for what, tokens in (("prefill", CASES[name].prompt), ("decode", CASES[name].tokens)):
        ratios = [getattr(one, f"{what}_s") / getattr(two, f"{what}_s") for one, two in rounds]
        lost = [getattr(two, f"{what}_sums_s") / getattr(two, f"{what}_s") for _, two in rounds]
        spread = median(ratios), min(ratios), max(ratios)
        found.append(Gain(name, what, tokens, *spread, median(lost)))
    return found


def measure() -> list[Gain]:
    """Of all cases, on models that are written for this, and gone afterwards."""
    return [gain for name in CASES for gain in _measured(name)]


def _measured(name: str) -> list[Gain]:
    with tempfile.TemporaryDirectory() as folder:
        write(name, model_dir := Path(folder) / "model")
        rounds = [
            (_of(1, name, model_dir), _of(2, name, model_dir)) for _ in range(CASES[name].rounds)
        ]
    return gains(name, rounds)


def write(name: str, model_dir: Path) -> None:
    """The case's model."""
    flash: Mapping[str, Any] = json.loads((synthetic.CONFIGS / FLASH).read_text())
    if name == "packed":
        config = synthetic.smaller(flash, RATIOS, EXPERTS, synthetic.DEFAULT_VOCAB)
        synthetic.write(model_dir, config, seed=0)
        return
    narrow = models.in_float32(flash) | _QUARTER
    models.write(model_dir, synthetic.smaller(narrow, RATIOS, EXPERTS, synthetic.DEFAULT_VOCAB))


def _of(ranks: int, name: str, model_dir: Path) -> Times:
    given = ("--rank", name, str(model_dir))
    return Times(**json.loads(said_by_leader("benchmarks.scaling", ranks, *given)))


def as_table(found: Sequence[Gain]) -> str:
    """A line for each."""
    rows = [
        [
            f"{gain.case}, {gain.what}",
            str(gain.tokens),
            f"{gain.speed_up:.2f}",
            f"{gain.lowest:.2f} to {gain.highest:.2f}",
            f"{gain.in_collectives:.1%}",
        ]
        for gain in found
    ]
    return table(["two ranks over one", "tokens", "speed-up", "rounds", "in collectives"], rows)


def main() -> None:
    """Measure and print; with --rank: be one."""
    parser = argparse.ArgumentParser(description="Measure what two ranks gain over one.")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--rank", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.rank:
        name, folder, rank, *addresses = given.rank
        collectives = join(addresses, rank=int(rank), deadline_s=60, facts={})
        found = timed(Path(folder), collectives, CASES[name])
        print(json.dumps(asdict(found)) if rank == "0" else "")
        return
    results = measure()
    print(json.dumps([asdict(each) for each in results]) if given.json else as_table(results))


if __name__ == "__main__":
    main()
