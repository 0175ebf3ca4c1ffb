"""Choosing a token from logits that are spread over the ranks by vocabulary.

Every rank sends its best candidates in one packet, and every rank chooses the same token from
the same packets. The token is the argmax of logit + T * noise, the noise being a function of
(seed, position, id) only: so it does not depend on the number of ranks, and a request can be
replayed. Knows arrays and settings; no group, no model.

A packet is int32 `[2 + 3K]`: the highest command number the rank has received; the mass of its
logits (see `Exchange`); the logits, the scores and the ids of its K best candidates. Floats
travel as their bits. K is 1, or 64 where top-k or top-p cut the vocabulary.
"""

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from dsv4_tp.core import Sampling, Span

CANDIDATES = 64
_NO_ID = 2**31 - 1
# Cumulated masses closer than rounding counts as equal, or the cut would depend on the split.
_SLACK = 1e-5


@dataclass(frozen=True, slots=True)
class Exchange:
    """What all ranks know after the packets went round, candidates from the highest logit on.

    Equal logits are in the order of their ids. Candidates with a logit above `bound` are surely
    the first of the whole vocabulary; others may have equals that no rank sent.
    """

    command: int  # the highest number every rank has received
    mass: float  # sum over the vocabulary of exp((logit - highest logit) / T)
    logits: NDArray[np.float32]
    scores: NDArray[np.float32]
    ids: NDArray[np.int32]
    bound: float


def is_cut(sampling: Sampling) -> bool:
    """Whether top-k or top-p restrict which ids may be chosen."""
    return sampling.temperature > 0 and (sampling.top_k > 0 or sampling.top_p < 1)


def noise(vocab_size: int, *, seed: int, position: int) -> mx.array:
    """Gumbel noise of every id for the token at `position`, float32 [V]."""
    # All bits of both numbers must matter to MLX's 64-bit seed.
    digest = hashlib.sha256(struct.pack("<QQ", seed, position)).digest()
    return mx.random.gumbel([vocab_size], key=mx.random.key(int.from_bytes(digest[:8], "little")))


def scored(
    logits: mx.array, *, span: Span, vocab_size: int, sampling: Sampling, position: int
) -> mx.array:
    """What the choice maximises, float32 [len(span)]: the logits, with noise unless greedy."""
    if sampling.temperature == 0:
        return logits
    # The noise of the whole vocabulary is made on every rank, so that an id's does not depend
    # on the split. Scaling it rather than the logits cannot overflow at a small temperature.
    whole = noise(vocab_size, seed=sampling.seed, position=position)
    return logits + sampling.temperature * whole[span.start : span.stop]


def packet(
    logits: mx.array, scores: mx.array, *, span: Span, sampling: Sampling, command: int
) -> mx.array:
    """What this rank sends, int32 [2 + 3K].

    Args:
        logits: of this rank's ids, float32 [len(span)]; may be empty.
        scores: by `scored`, likewise.
        span: this rank's ids.
        sampling: how the token is chosen.
        command: the highest command number this rank has received.
    """
    count = CANDIDATES if is_cut(sampling) else 1
    best = _best(logits if is_cut(sampling) else scores, min(count, len(span)))
    parts = [
        mx.array([command], dtype=mx.int32),
        _mass(logits, sampling).view(mx.int32),
        _padded(logits[best], count, -np.inf).view(mx.int32),
        _padded(scores[best], count, -np.inf).view(mx.int32),
        _padded(best.astype(mx.int32) + span.start, count, _NO_ID),
    ]
    return mx.concatenate(parts)


def read_packets(packets: NDArray[np.int32], spans: Sequence[Span], sampling: Sampling) -> Exchange:
    """Packets [ranks, 2 + 3K] of ranks that hold these spans -> what they say together."""
    floats = packets.view(np.float32)
    count = (packets.shape[1] - 2) // 3
    logits, scores = floats[:, 2 : 2 + count], floats[:, 2 + count : 2 + 2 * count]
    partial = [rank for rank, span in enumerate(spans) if len(span) > count]
    exchange = Exchange(
        command=int(packets[:, 0].min()),
        mass=_joined_mass(floats[:, 1], logits.max(axis=1), sampling),
        logits=logits.ravel(),
        scores=scores.ravel(),
        ids=packets[:, 2 + 2 * count :].ravel(),
        bound=max((float(logits[rank].min()) for rank in partial), default=-np.inf),
    )
    return _in_order(exchange)


def with_everything(exchange: Exchange, rows: NDArray[np.float32]) -> Exchange:
    """The exchange with logits and scores [2, V] of the whole vocabulary as candidates."""
    ids = np.arange(rows.shape[1], dtype=np.int32)
    return _in_order(replace(exchange, logits=rows[0], scores=rows[1], ids=ids, bound=-np.inf))


def choose(exchange: Exchange, sampling: Sampling) -> int | None:
    """The token; None if the candidates do not tell it, or their scores are no numbers.

    Ties go to the lowest id. Temperature, then top-k, then top-p among what top-k left.
    """
    count = _kept(exchange, sampling) if is_cut(sampling) else len(exchange.ids)
    if count is None:
        return None
    scores, ids = exchange.scores[:count], exchange.ids[:count]
    best = scores.max()
    return int(ids[scores == best].min()) if np.isfinite(best) else None


def _kept(exchange: Exchange, sampling: Sampling) -> int | None:
    """How many candidates may be chosen; None if more than are sure."""
    sure = int(np.count_nonzero(exchange.logits > exchange.bound))
    limit = sampling.top_k or len(exchange.ids)
    if sampling.top_k > sure and exchange.bound > -np.inf:
        return None
    if sampling.top_p < 1:
        limit = min(limit, _nucleus(exchange, sampling))
    return limit if limit <= sure or exchange.bound == -np.inf else None


def _nucleus(exchange: Exchange, sampling: Sampling) -> int:
    """How many candidates it takes to hold top_p of the mass that top-k left."""
    steps = (exchange.logits - exchange.logits[0]).astype(np.float64) / sampling.temperature
    weights = np.exp(steps)
    total = weights[: sampling.top_k].sum() if sampling.top_k else exchange.mass
    before = np.cumsum(weights) - weights
    return max(1, int(np.searchsorted(before, (sampling.top_p - _SLACK) * total)))


def _in_order(exchange: Exchange) -> Exchange:
    held = np.flatnonzero(exchange.ids != _NO_ID)
    order = held[np.lexsort((exchange.ids[held], -exchange.logits[held]))]
    return replace(
        exchange,
        logits=exchange.logits[order],
        scores=exchange.scores[order],
        ids=exchange.ids[order],
    )


def _joined_mass(
    masses: NDArray[np.float32], tops: NDArray[np.float32], sampling: Sampling
) -> float:
    """The mass of all ranks, from each one's mass relative to its own highest logit."""
    if not is_cut(sampling):
        return 0.0
    steps = (tops - tops.max()).astype(np.float64) / sampling.temperature
    return float((masses * np.exp(steps)).sum())


def _mass(logits: mx.array, sampling: Sampling) -> mx.array:
    """This rank's mass relative to its own highest logit, float32 [1]."""
    if not is_cut(sampling) or logits.size == 0:
        return mx.zeros([1])
    return mx.exp((logits - logits.max()) / sampling.temperature).sum(keepdims=True)


def _best(values: mx.array, count: int) -> mx.array:
    """The indices of the `count` highest values, in any order."""
    if count == values.size:
        return mx.arange(count)
    if count == 1:
        return mx.argmax(values, keepdims=True)  # the lowest index of equals
    return mx.argpartition(-values, kth=count - 1)[:count]


def _padded(x: mx.array, count: int, fill: float) -> mx.array:
    return mx.concatenate([x, mx.full([count - x.size], fill, dtype=x.dtype)])
