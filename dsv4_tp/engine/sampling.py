"""Choosing tokens from logits that are spread over the ranks by vocabulary: the rules.

In this order: bias and penalties (`penalties`), what is allowed (`masks`), temperature, top-k,
top-p among what top-k left, min-p. The token is then the argmax of logit + T * noise, the noise
being a function of (seed, position, id) only: so it does not depend on the number of ranks or on
who else is in the batch, and a request can be replayed.

Every rank sends its best candidates in one packet (`packets`), and every rank chooses the same
token from the same packets. Knows what was heard and settings; no group, no model.
"""

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from dsv4_tp.core import Span
from dsv4_tp.engine.draws import Choice, Draw

_LEAST_NOISE = -10.0  # less is only -inf, of a uniform number that was 0
_LEAST_TEMPERATURE = 1e-30  # float32 still divides by it
# Cumulated masses closer than rounding counts as equal, or the cut would depend on the split.
_SLACK = 1e-5


@dataclass(frozen=True, slots=True)
class Candidates:
    """Ids that may be the token of one row.

    Where the draw cuts, the highest logit comes first, equals in the order of their ids; the
    first `sure` of them are then also the first of the whole vocabulary.
    """

    ids: NDArray[np.int32]
    logits: NDArray[np.float32]  # with bias and penalties; empty unless the draw cuts
    scores: NDArray[np.float32]  # what the choice maximises
    raws: NDArray[np.float32]  # the model's own logits; empty unless log-probabilities are asked
    sure: int
    whole: bool = False  # nothing was left out

    def ordered(self, order: NDArray[np.integer], *, sure: int, whole: bool) -> "Candidates":
        """The same candidates in this order."""
        raws = self.raws[order] if self.raws.size else self.raws
        return Candidates(
            self.ids[order], self.logits[order], self.scores[order], raws, sure=sure, whole=whole
        )


@dataclass(frozen=True, slots=True)
class Heard:
    """What all ranks know of one row after the packets went round."""

    candidates: Candidates
    mass: float  # where the draw cuts: sum over all ids of exp((logit - highest logit) / T)
    log_sum: float = 0.0  # where asked: of the model's own logits, over all ids
    top: tuple[tuple[int, float], ...] = ()  # where asked: as in `Choice`


def noise(vocab_size: int, *, seed: int, position: int) -> mx.array:
    """Gumbel noise of every id for the token at `position`, float32 [V], finite."""
    # All bits of both numbers must matter to MLX's 64-bit seed.
    digest = hashlib.sha256(struct.pack("<QQ", seed, position)).digest()
    key = mx.random.key(int.from_bytes(digest[:8], "little"))
    return mx.maximum(mx.random.gumbel([vocab_size], key=key), _LEAST_NOISE)


def scored(logits: mx.array, draws: Sequence[Draw], *, span: Span, vocab_size: int) -> mx.array:
    """What the choice maximises, float32 [B, len(span)]: the logits, with noise unless greedy."""
    if all(draw.sampling.temperature == 0 for draw in draws):
        return logits
    # The noise of the whole vocabulary is made on every rank, so that an id's does not depend
    # on the split.
    rows = [_loudness(draw, vocab_size)[span.start : span.stop] for draw in draws]
    return logits + mx.stack(rows)


def mass(logits: mx.array, draw: Draw) -> mx.array:
    """Of one row [len(span)]: sum of exp((logit - this rank's highest) / T), float32 scalar."""
    if logits.size == 0:
        return mx.array(0.0)
    top = logits.max()
    steps = (logits - top) / _temperature(draw)
    return mx.where(top == -mx.inf, 0.0, mx.exp(steps).sum())


def joined_mass(masses: NDArray[np.float32], tops: NDArray[np.float32], draw: Draw) -> float:
    """The mass of all ranks, from each one's mass and its highest logit."""
    steps = (tops - tops.max()).astype(np.float64) / _temperature(draw)
    return float((masses * np.exp(steps)).sum())


def is_number(heard: Heard) -> bool:
    """Whether a token can be chosen at all: some logit is finite, and no sum over them is NaN."""
    best = heard.candidates.scores.max(initial=-np.inf)
    return bool(np.isfinite(best)) and not np.isnan([heard.mass, heard.log_sum]).any()


def is_wide(heard: Heard, draw: Draw) -> bool:
    """Whether more ids may be chosen than are sure, so that every logit must be known."""
    return is_number(heard) and kept(heard, draw) is None


def kept(heard: Heard, draw: Draw) -> int | None:
    """How many of the candidates may be chosen; None if more than are sure."""
    found = heard.candidates
    if not draw.cuts:
        return len(found.ids)
    sure, wish = found.sure, draw.sampling
    beyond = sure if found.whole else sure + 1  # at least so many, if all that are sure are kept
    if wish.top_k > sure and not found.whole:
        return None
    limit = wish.top_k or beyond
    steps = (found.logits[:sure] - found.logits[0]).astype(np.float64) / _temperature(draw)
    weights = np.exp(steps)
    total = weights[: wish.top_k].sum() if wish.top_k else heard.mass
    for count in (_nucleus(weights, total, wish.top_p), int((weights >= wish.min_p).sum())):
        limit = min(limit, count if count < sure else beyond)
    return max(1, limit) if limit <= sure or found.whole else None


def choose(heard: Heard, count: int, draw: Draw) -> Choice:
    """The best of the first `count` candidates; ties go to the lowest id."""
    found = heard.candidates
    scores, ids = found.scores[:count], found.ids[:count]
    best = scores.max()
    token = int(ids[scores == best].min())
    if draw.sampling.logprobs is None:
        return Choice(token)
    raw = float(found.raws[:count][ids == token][0])
    return Choice(token, raw - heard.log_sum, heard.top)


def _nucleus(weights: NDArray[np.float64], total: float, top_p: float) -> int:
    """How many of these it takes to hold top_p of the total; all if they don't."""
    if top_p == 1:
        return len(weights)
    before = np.cumsum(weights) - weights
    return max(1, int(np.searchsorted(before, (top_p - _SLACK) * total)))


def _loudness(draw: Draw, vocab_size: int) -> mx.array:
    """T * noise of every id, float32 [V]."""
    wish = draw.sampling
    if wish.temperature == 0:
        return mx.zeros([vocab_size])
    # Scaling this rather than the logits cannot overflow at a small temperature.
    return wish.temperature * noise(vocab_size, seed=wish.seed, position=draw.position)


def _temperature(draw: Draw) -> float:
    return max(draw.sampling.temperature, _LEAST_TEMPERATURE)
