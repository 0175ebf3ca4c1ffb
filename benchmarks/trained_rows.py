"""What rows held as trained cost in bytes, and what they change in the text of the demo model.

    python -m benchmarks.trained_rows             a table
    python -m benchmarks.trained_rows --json      the same as one JSON object

Text that the demo model was not trained on, in float32 with packed weights written out, fed to the
same weights twice: with exact rows, and with trained ones. The demo model's rows were not rounded
in its training, as those of the released models were: it shows what the rounding does to a model
that never met it.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import cast

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from benchmarks.synthetic import CONFIGS
from dsv4_tp import demo
from dsv4_tp.config.environment import restart_with_preloads
from dsv4_tp.core import CacheRows, DType
from dsv4_tp.model import Model
from dsv4_tp.modelspec import read_spec
from dsv4_tp.plan import cache_bytes
from examples.demo_model import evaluate, measures

LENGTHS = (512,) * 12 + (1024,) * 2
PROMPTS, TOKENS = 8, 64  # continued greedily
QUESTIONS, DISTANCES = 40, (300, 1000)
_CHUNK = 128
_SMALL, _LARGE = 8 << 10, 128 << 10

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes of a whole model's caches for each token, between 8K and 128K tokens, in bfloat16."""

    model: str
    exact: float
    trained: float


@dataclass(frozen=True, slots=True)
class Effect:
    """Trained rows beside exact ones; distances are in standard deviations of the logits."""

    tokens: int
    mean_distance: float
    max_distance: float
    same_likeliest: float  # share of tokens after which the likeliest next one is the same
    perplexity_exact: float
    perplexity_trained: float
    greedy_tokens: int
    greedy_same: float  # share of them written alike before the first that differs
    retrieval_exact: dict[int, float]  # share of answers found, by tokens between
    retrieval_trained: dict[int, float]


def size_of(model: str) -> Size:
    """What a token of context takes."""
    spec = read_spec(CONFIGS / f"deepseek-v4-{model}.json")
    exact, trained = (
        cache_bytes(spec, _LARGE, DType.BFLOAT16, rows)
        - cache_bytes(spec, _SMALL, DType.BFLOAT16, rows)
        for rows in (CacheRows.EXACT, CacheRows.TRAINED)
    )
    return Size(model, exact / (_LARGE - _SMALL), trained / (_LARGE - _SMALL))


def effect(
    model: Model, lengths: Sequence[int], *, prompts: int, tokens: int, questions: int
) -> Effect:
    """What changes in so much text: sequences of `lengths`, greedy tokens, answers."""
    texts = evaluate.sequences(lengths)
    pairs = [tuple(_logits(model, ids, rows) for rows in CacheRows) for ids in texts]
    exact, trained = (np.concatenate(side) for side in zip(*pairs, strict=True))
    following = np.concatenate([ids[1:] for ids in texts])
    apart = np.abs(exact - trained) / exact.std()
    found = {rows: _retrieval(model, questions, rows) for rows in CacheRows}
    return Effect(
        tokens=len(following),
        mean_distance=float(apart.mean()),
        max_distance=float(apart.max()),
        same_likeliest=float((exact.argmax(-1) == trained.argmax(-1)).mean()),
        perplexity_exact=_perplexity(exact, following),
        perplexity_trained=_perplexity(trained, following),
        greedy_tokens=prompts * tokens,
        greedy_same=fmean(_alike(model, ids, tokens) for ids in evaluate.prompts(prompts)),
        retrieval_exact=found[CacheRows.EXACT],
        retrieval_trained=found[CacheRows.TRAINED],
    )


def _logits(model: Model, ids: Sequence[int], rows: CacheRows) -> Logits:
    """After each token but the last, [L - 1, V]."""
    model.cache_rows = rows
    cache, pieces = model.make_cache(), list[Logits]()
    for first in range(0, len(ids) - 1, _CHUNK):
        piece = model(mx.array([ids[first : min(first + _CHUNK, len(ids) - 1)]]), cache)
        mx.eval(piece, cache.arrays())
        pieces.append(np.array(piece[0], dtype=np.float32))
    return np.concatenate(pieces)


def _perplexity(logits: Logits, following: npt.NDArray[np.int_]) -> float:
    highest = logits.max(-1)
    total = highest + np.log(np.exp(logits - highest[:, None]).sum(-1))
    return float(np.exp((total - logits[np.arange(len(following)), following]).mean()))


def _alike(model: Model, prompt: Sequence[int], tokens: int) -> float:
    """The share of greedy tokens before the first that differs."""
    exact, trained = (_greedy(model, prompt, tokens, rows) for rows in CacheRows)
    differ = [one != other for one, other in zip(exact, trained, strict=True)]
    return ([*differ, True].index(True)) / tokens


def _greedy(model: Model, prompt: Sequence[int], tokens: int, rows: CacheRows) -> list[int]:
    model.cache_rows = rows
    cache, written = model.make_cache(), list[int]()
    step = mx.array([list(prompt)])
    for _ in range(tokens):
        step = mx.argmax(model(step, cache)[:, -1:], axis=-1)
        mx.eval(step, cache.arrays())
        written.append(cast(int, step.item()))
    return written


def _retrieval(model: Model, questions: int, rows: CacheRows) -> dict[int, float]:
    model.cache_rows = rows
    return {
        distance: measures.retrieval(model, evaluate.questions(questions, distance))
        for distance in DISTANCES
    }


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description="Measure rows held as trained.")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    restart_with_preloads("benchmarks.trained_rows")
    sizes = [size_of(model) for model in ("flash", "pro")]
    model = evaluate.load(demo.path())
    found = effect(model, LENGTHS, prompts=PROMPTS, tokens=TOKENS, questions=QUESTIONS)
    if given.json:
        print(json.dumps({"sizes": [asdict(size) for size in sizes], "effect": asdict(found)}))
        return
    for size in sizes:
        share = size.trained / size.exact
        print(f"{size.model}: {size.trained:.0f} bytes per token of {size.exact:.0f}, {share:.3f}")
    for name, value in asdict(found).items():
        print(f"{name.replace('_', ' ')}: {value}")


if __name__ == "__main__":
    main()
