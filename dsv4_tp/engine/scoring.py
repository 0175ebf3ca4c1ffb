"""Teacher-forced scoring: how likely a model finds given rows, without gathering its logits.

The head is split by vocabulary, so each rank sends the log-sum-exp of its logits and the
target's logit for every position; every rank then holds the same negative log-likelihoods.
Whole logits go round only if they are asked for.
"""

from collections.abc import Iterator

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from dsv4_tp.core import ScoreEvent, ScoreRequest, Span
from dsv4_tp.engine.refusal import Limits, refusal
from dsv4_tp.engine.team import Team
from dsv4_tp.errors import RequestError
from dsv4_tp.model import Model

PIECE_TOKENS = 512
# Float32 logits [B, count, vocab] of one exchange; asked-for logits must fit in a message.
_LOGITS_BYTES = 1 << 27
_MESSAGE_BYTES = 1 << 23


def score_rows(
    model: Model,
    request: ScoreRequest,
    *,
    team: Team | None = None,
    piece_tokens: int = PIECE_TOKENS,
) -> Iterator[ScoreEvent]:
    """Scores the rows piece by piece; every event is one piece, the last one carries `nll`.

    `nll` is the mean over each row's ids but the first, in nats per token. Only rank 0's events
    carry logits. All ranks must take every event.

    Args:
        model: this rank's model.
        request: rows [B, L], the tokens fed at a time (0: at most `piece_tokens`).
        team: the ranks that score together; None if the model is whole.
        piece_tokens: bounds memory where the request does not say how to cut.

    Raises:
        RequestError: the model cannot score such rows.
    """
    error = refusal(request, Limits.of(model.spec))
    if error:
        raise RequestError(error)
    return _score(model, request, team or Team.of_one(model.part), request.chunk or piece_tokens)


def _score(model: Model, request: ScoreRequest, team: Team, chunk: int) -> Iterator[ScoreEvent]:
    ids = np.array(request.rows, dtype=np.int32)
    length = ids.shape[1]
    nll = np.zeros(len(ids))
    for start, logits in _logits(model, team, ids, chunk, _most_positions(model, request)):
        count = logits.shape[1]
        nll += _nll(team, logits, ids[:, start + 1 : start + 1 + count])
        last = start + count == length
        yield ScoreEvent(
            request.id,
            start,
            count=count,
            logits=_whole_logits(team, logits) if request.want_logits else b"",
            nll=tuple((nll / (length - 1)).tolist()) if last else (),
            last=last,
        )


def _logits(
    model: Model, team: Team, ids: NDArray[np.int32], chunk: int, most: int
) -> Iterator[tuple[int, mx.array]]:
    """(start, this rank's logits [B, at most `most`, rows]) over all positions."""
    cache = model.make_cache()
    for start in range(0, ids.shape[1], chunk):
        streams = model.streams(mx.array(ids[:, start : start + chunk]), cache)
        team.collectives.evaluate(streams, cache.arrays())
        for offset in range(0, streams.shape[1], most):
            yield start + offset, model.logits(streams[:, offset : offset + most])


def _most_positions(model: Model, request: ScoreRequest) -> int:
    position_bytes = 4 * len(request.rows) * model.spec.vocab_size
    budget_bytes = _MESSAGE_BYTES if request.want_logits else _LOGITS_BYTES
    return max(1, budget_bytes // position_bytes)


def _whole_logits(team: Team, logits: mx.array) -> bytes:
    whole = team.whole(logits)
    team.collectives.evaluate(whole)
    return np.array(whole, dtype=np.float32).tobytes() if team.leads else b""


def _nll(team: Team, logits: mx.array, targets: NDArray[np.int32]) -> NDArray[np.float64]:
    """The rows' summed negative log-likelihood of targets [B, n], float64 [B].

    There may be one target less than there are positions: the last id has none after it.
    """
    terms = _terms(logits[:, : targets.shape[1]], mx.array(targets), team.span)
    gathered = team.collectives.gather(terms).transpose(1, 0, 2, 3)
    team.collectives.evaluate(gathered)
    tops, masses, hits = np.array(gathered, dtype=np.float64)  # [ranks, B, n] each
    top = tops.max(axis=0)
    log_sum = top + np.log((masses * np.exp(tops - top)).sum(axis=0))
    return (log_sum - hits.sum(axis=0)).sum(axis=-1)


def _terms(logits: mx.array, targets: mx.array, span: Span) -> mx.array:
    """Of each position: highest logit, sum of exp beside it, target's logit if held; [3, B, n]."""
    if not len(span):
        nothing = mx.zeros(targets.shape)
        return mx.stack([nothing - np.inf, nothing, nothing])
    top = logits.max(axis=-1)
    mass = mx.exp(logits - top[..., None]).sum(axis=-1)
    held = (targets >= span.start) & (targets < span.stop)
    row = mx.where(held, targets - span.start, 0)
    hit = mx.take_along_axis(logits, row[..., None], axis=-1)[..., 0]
    return mx.stack([top, mass, mx.where(held, hit, 0)])
