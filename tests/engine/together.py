"""Ranks that choose together without processes, and the same choice said plainly."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import mlx.core as mx
import numpy as np

from dsv4_tp.core import Span
from dsv4_tp.engine import sampling as rules
from dsv4_tp.engine.choice import choose_together
from dsv4_tp.engine.collectives import Collectives, Group, Ledger
from dsv4_tp.engine.draws import Choice, Draw
from dsv4_tp.engine.team import Team

COMMAND = 7  # of rank 0; each further rank has received one more


class Unheard(Exception):
    """The other ranks have not said their part yet."""


class Replayed(Collectives):
    """One rank's collectives, of which the first so many have been heard of all ranks."""

    def __init__(self, rank: int, size: int, heard: list[mx.array]) -> None:
        super().__init__(Group(rank, size))
        self.heard, self.calls = heard, 0
        self.said: mx.array | None = None

    def gather(self, x: mx.array) -> mx.array:
        self.ledger.note("all_gather", x)
        self.calls += 1
        if self.calls <= len(self.heard):
            return self.heard[self.calls - 1]
        mx.eval(x)
        self.said = x
        raise Unheard


@dataclass(frozen=True)
class Together:
    """What the ranks chose, by rank, and what each one sent."""

    choices: list[list[Choice]]
    agreed: list[list[int]]
    ledgers: list[Ledger]


def spans_of(vocab_size: int, cuts: Sequence[int]) -> list[Span]:
    borders = [0, *sorted(min(cut, vocab_size) for cut in cuts), vocab_size]
    return [Span(a, b) for a, b in pairwise(borders)]


def together(rows: np.ndarray, draws: Sequence[Draw], spans: Sequence[Span]) -> Together:
    """Every rank chooses from its columns of rows [B, V]; what one says, all hear."""
    heard: list[mx.array] = []
    while True:
        ranks = [Replayed(rank, len(spans), heard) for rank in range(len(spans))]
        results = [_attempt(rank, rows, draws, spans) for rank in ranks]
        done = [result for result in results if result is not None]
        if done:
            assert len(done) == len(spans), "some ranks want to hear more than others"
            choices, agreed = zip(*done, strict=True)
            return Together(list(choices), list(agreed), [rank.ledger for rank in ranks])
        heard.append(mx.stack([rank.said for rank in ranks]))


def _attempt(
    rank: Replayed, rows: np.ndarray, draws: Sequence[Draw], spans: Sequence[Span]
) -> tuple[list[Choice], list[int]] | None:
    span = spans[rank.rank]
    logits = mx.array(np.ascontiguousarray(rows[:, span.start : span.stop]))
    team = Team(rank, tuple(spans))
    try:
        return choose_together(team, logits, draws, least=[COMMAND + rank.rank], caches=[])
    except Unheard:
        return None


def chosen(rows: np.ndarray, draws: Sequence[Draw], spans: Sequence[Span]) -> list[Choice]:
    """What all ranks chose, which must be the same."""
    choices = together(rows, draws, spans).choices
    assert all(each == choices[0] for each in choices)
    return choices[0]


def plainly_chosen(row: np.ndarray, draw: Draw) -> Choice:
    """The same choice, said in the shortest way over the whole vocabulary."""
    wish, logits = draw.sampling, plainly_changed(row, draw)
    if logits.max() == -np.inf:
        return Choice(None)
    scores = logits
    if wish.temperature > 0:
        noise = np.array(rules.noise(len(row), seed=wish.seed, position=draw.position))
        scores = logits + np.float32(wish.temperature) * noise
    likely = plain_filter(logits, draw)
    best = scores[likely].max()
    return plain_choice(row, int(min(likely[scores[likely] == best])), wish.logprobs)


def plainly_changed(row: np.ndarray, draw: Draw) -> np.ndarray:
    """The logits with bias and penalties, id by id in float32; -inf where not allowed."""
    wish, history = draw.sampling, draw.history
    logits, factor = row.copy(), np.float32(wish.repetition_penalty)
    for token, bias in wish.logit_bias:
        logits[token] += np.float32(bias)
    for token in {*history.prompt, *history.generated}:
        logits[token] = logits[token] / factor if logits[token] > 0 else logits[token] * factor
    for token in set(history.generated):
        count = history.generated.count(token)
        logits[token] -= np.float32(wish.presence_penalty + wish.frequency_penalty * count)
    for token in range(len(row)) if draw.allowed is not None else ():
        if token // 8 >= len(draw.allowed) or not draw.allowed[token // 8] >> token % 8 & 1:
            logits[token] = -np.inf
    return logits


def plain_filter(logits: np.ndarray, draw: Draw) -> np.ndarray:
    """The ids that may be chosen."""
    wish, wide = draw.sampling, logits.astype(np.float64)
    order = np.lexsort((np.arange(len(wide)), -wide))
    if wish.temperature == 0:
        return order
    order = order[: wish.top_k or len(order)]
    weights = np.exp((wide[order] - wide.max()) / wish.temperature)
    inside = np.cumsum(weights) - weights < (wish.top_p - 1e-5) * weights.sum()
    inside |= wish.top_p == 1
    inside &= weights >= wish.min_p
    inside[0] = True
    return order[inside]


def plain_choice(row: np.ndarray, token: int, count: int | None) -> Choice:
    """The token with log-probabilities of the model's own distribution, where asked."""
    if count is None:
        return Choice(token)
    wide = row.astype(np.float64)
    logprobs = wide - wide.max() - np.log(np.exp(wide - wide.max()).sum())
    order = np.lexsort((np.arange(len(row)), -wide))[:count]
    likely = [each for each in order.tolist() if wide[each] > -np.inf]
    top = tuple((each, float(logprobs[each])) for each in likely)
    return Choice(token, float(logprobs[token]), top)
