"""Soak: what is drawn with drafts is distributed as the model's own softmax says.

    python -m tests.soak.chances [CASES]

A case is one place in a held-out text, where the demo model's MTP stage has another distribution
than the model. It is gone on from with many seeds at temperature 1 and depth 2, by the passes of
the engine. The first two and the first three tokens are held against the exact probabilities, from
the softmax of the model fed with what comes before, by chi-square: what is expected less than five
times counts as one. p must be above 0.001. In the control a wrong draft is taken all the same one
time in ten; p must then be below. A case is one line of results/chances.csv; ends with 1 if any is
not so.

Also in a line, for the 64 tokens of the text: how often the first draft is right with the noise
that chooses the token, beside what rejection sampling would accept, 1 - d, and what decision 0017
promises at least, (1 - d) / (1 + d); d is the total variation distance at each of them.
"""

import random
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import sqrt
from pathlib import Path
from statistics import NormalDist

import mlx.core as mx
import numpy as np

from dsv4_tp import demo
from dsv4_tp.config.environment import restart_with_preloads
from dsv4_tp.core import DType, Sampling
from dsv4_tp.engine import Team
from dsv4_tp.engine import sampling as rules
from dsv4_tp.engine.draws import Draw, draw_of
from dsv4_tp.engine.passes import Passes
from dsv4_tp.engine.steps import Row
from dsv4_tp.model import Cache, Model
from dsv4_tp.parallel import load_rank
from examples.demo_model.measures import plain
from tests.engine.drive import request
from tests.soak.lines import DIFFERENT, soak
from tests.soak.traffic import held_out

RESULTS = Path(__file__).parent / "results" / "chances.csv"
COLUMNS = (
    *("case", "outcome", "text", "at", "seeds", "cells_of_two", "p_of_two"),
    *("cells_of_three", "p_of_three", "control_seeds", "control_p"),
    *("draft_right", "rejection_accepts", "at_least"),
)
PLACES = ((16, 36), (14, 22), (24, 22))  # held-out text, and how much of it is given
SEEDS, CONTROL_SEEDS = 4000, 2000
BIAS = 0.1
LEAST_P, LEAST_COUNT = 0.001, 5
DEPTH, BATCH = 2, 64

Text = tuple[int, ...]


def run_case(case: int, seeds: int = SEEDS, control: int = CONTROL_SEEDS) -> dict[str, object]:
    """One line of the results."""
    model = plain(load_rank(demo.path(), None, dtype=DType.FLOAT32, mtp=True).model)
    text, at = PLACES[case % len(PLACES)]
    place, first = Place(model, held_out(text, 64)[:at]), case * seeds
    texts = drawn(place, range(first, first + seeds))
    (two, p_two), (three, p_three) = (fit(texts, exact(place, length, seeds)) for length in (2, 3))
    with biased(random.Random(case)):
        wrong = drawn(place, range(first, first + control))
    _, control_p = fit(wrong, exact(place, 2, control))
    as_said = min(p_two, p_three) > LEAST_P > control_p
    right, accepts, least = agreement(model, held_out(text, 64))
    return {
        "case": case,
        "outcome": "equal" if as_said else DIFFERENT,
        "text": text,
        "at": at,
        "seeds": seeds,
        "cells_of_two": two,
        "p_of_two": f"{p_two:.3f}",
        "cells_of_three": three,
        "p_of_three": f"{p_three:.3f}",
        "control_seeds": control,
        "control_p": f"{control_p:.1e}",
        "draft_right": f"{right:.3f}",
        "rejection_accepts": f"{accepts:.3f}",
        "at_least": f"{least:.3f}",
    }


class Place:
    """The model after all but the last token of a prompt, from where many texts go on."""

    def __init__(self, model: Model, prompt: Sequence[int]) -> None:
        self.prompt, self.model = tuple(prompt), model
        self.passes = Passes(model, Team.of_one(model.part))
        self.before = model.make_cache()
        streams = self.passes.feed([self.prompt[:-1]], self.before)
        self.passes.settle(streams, [self.prompt[1:]], self.before)
        mx.eval(self.before.arrays())

    def caches(self, count: int) -> Cache:
        """A batch of so many that stand here, each with a memory of its own."""
        return Cache.merged([self.before.copy() for _ in range(count)])


def drawn(place: Place, seeds: range) -> list[Text]:
    """What is gone on with for each seed, with drafts; at least three tokens of each."""
    return [
        text
        for first in range(seeds.start, seeds.stop, BATCH)
        for text in _drawn(place, range(first, min(first + BATCH, seeds.stop)))
    ]


def _drawn(place: Place, seeds: range) -> list[Text]:
    """By the passes of the engine's own steps."""
    passes, cache = place.passes, place.caches(len(seeds))
    asked = [
        request("", place.prompt, DEPTH + 2, sampling=Sampling(temperature=1, seed=seed))
        for seed in seeds
    ]
    texts: list[Text] = [() for _ in asked]
    drafts: list[Text] = [() for _ in asked]
    while min(map(len, texts)) < DEPTH + 1:
        rows = [Row(*each) for each in zip(asked, texts, drafts, strict=True)]
        fed = [((place.prompt + row.tokens)[-1], *row.drafts) for row in rows]
        streams = passes.feed(fed, cache)
        at = [(row, column) for row, ids in enumerate(fed) for column in range(len(ids))]
        draws = [
            draw_of(rows[row].request, rows[row].tokens + rows[row].drafts[:column])
            for row, column in at
        ]
        choices, _ = passes.choose(streams, at, draws, least=(), cache=cache)
        rest = iter(choices)
        told = [
            row.told([next(rest).token for _ in ids]) for row, ids in zip(rows, fed, strict=True)
        ]
        passes.settle(streams, told, cache)
        texts = [text + more for text, more in zip(texts, told, strict=True)]

        def draw(row: int, more: Text, texts: Sequence[Text] = texts) -> Draw:
            return draw_of(asked[row], texts[row] + more)

        drafts = passes.draft(streams, told, cache, counts=[DEPTH] * len(rows), draw=draw)
    return texts


@contextmanager
def biased(rng: random.Random, bias: float = BIAS) -> Iterator[None]:
    """Wrong drafts are taken all the same, so often."""
    told = Row.told

    def generous(row: Row, chosen: Sequence[int | None]) -> Text:
        taken = list(chosen)
        for place, draft in enumerate(row.drafts):
            taken[place] = draft if rng.random() < bias else taken[place]
        return told(row, taken)

    Row.told = generous
    try:
        yield
    finally:
        Row.told = told


def exact(place: Place, length: int, seeds: int) -> dict[Text, float]:
    """Of all texts of this length that are likely enough to be counted, the probability."""
    likely: dict[Text, float] = {(): 1.0}
    for _ in range(length):
        ids = mx.array([(place.prompt[-1], *text) for text in likely])
        chances = softmax(place.model(ids, place.caches(len(likely)))[:, -1])
        shares = chances * np.array(list(likely.values()))[:, None]
        likely = {
            (*text, int(token)): float(share[token])
            for text, share in zip(likely, shares, strict=True)
            for token in np.flatnonzero(share * seeds >= LEAST_COUNT)
        }
    return likely


def softmax(logits: mx.array) -> np.ndarray:
    """Along the last axis, in float64."""
    wide = np.array(logits).astype(np.float64)
    weights = np.exp(wide - wide.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def fit(texts: Sequence[Text], chances: Mapping[Text, float]) -> tuple[int, float]:
    """How many texts are told apart, and the p of these counts; all others are one more cell."""
    length = len(next(iter(chances)))
    counts = Counter(text[:length] for text in texts)
    cells = [(counts[text], len(texts) * chance) for text, chance in chances.items()]
    rest = len(texts) - sum(expected for _, expected in cells)
    cells.append((len(texts) - sum(count for count, _ in cells), rest))
    if rest < LEAST_COUNT:  # too few for a cell of their own
        cells[-2:] = [tuple(map(sum, zip(*cells[-2:], strict=True)))]
    square = sum((count - expected) ** 2 / expected for count, expected in cells)
    return len(cells), tail(square, len(cells) - 1)


def tail(square: float, freedom: int) -> float:
    """The chance of a greater chi-square, by Wilson and Hilferty."""
    spread = 2 / (9 * freedom)
    return 1 - NormalDist(1 - spread, sqrt(spread)).cdf((square / freedom) ** (1 / 3))


def agreement(model: Model, ids: Sequence[int], seeds: int = 400) -> tuple[float, float, float]:
    """Means over a text's tokens: a draft is right, rejection would accept it, the promise."""
    cache, given = model.make_cache(), mx.array([ids])
    streams = model.streams(given, cache)
    chosen = np.array(model.logits(streams))[0, 1:]
    drafts = np.array(model.mtp_logits(streams[:, :-1], given[:, 1:], cache))[0]
    apart = np.abs(softmax(chosen) - softmax(drafts)).sum(-1) / 2
    noises = (np.array(rules.noise(chosen.shape[1], seed=s, position=0)) for s in range(seeds))
    right = [np.argmax(chosen + n, -1) == np.argmax(drafts + n, -1) for n in noises]
    means = np.mean(right), (1 - apart).mean(), ((1 - apart) / (1 + apart)).mean()
    return tuple(map(float, means))


if __name__ == "__main__":
    restart_with_preloads("tests.soak.chances")
    sys.exit(soak(RESULTS, COLUMNS, run_case, cases=len(PLACES)))
