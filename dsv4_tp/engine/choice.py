"""One token, chosen by the whole team: the packets of `sampling` sent over its collectives."""

import mlx.core as mx
import numpy as np

from dsv4_tp.core import Sampling
from dsv4_tp.engine import sampling as rules
from dsv4_tp.engine.team import Team
from dsv4_tp.errors import RankFailure


def choose_together(
    team: Team,
    logits: mx.array,
    *,
    sampling: Sampling,
    position: int,
    command: int,
    caches: list[mx.array],
) -> tuple[int, int]:
    """The token at `position`, and the highest command number that every rank has received.

    One collective; a second one where the nucleus is wider than what the ranks send.

    Args:
        team: the ranks.
        logits: of this rank's vocabulary rows, float32 [len(span)].
        sampling: how the token is chosen.
        position: of the chosen token in its sequence.
        command: the highest command number this rank has received.
        caches: evaluated with the logits, so that no graph outlives its step.

    Raises:
        RankFailure: no logit is a number.
    """
    span, size = team.span, team.vocab_size
    scores = rules.scored(logits, span=span, vocab_size=size, sampling=sampling, position=position)
    packet = rules.packet(logits, scores, span=span, sampling=sampling, command=command)
    packets = team.collectives.gather(packet)
    mx.eval(packets, caches)
    exchange = rules.read_packets(np.array(packets, dtype=np.int32), team.vocab, sampling)
    token = rules.choose(exchange, sampling)
    if token is None:
        rows = np.array(team.whole(mx.stack([logits, scores])), dtype=np.float32)
        token = rules.choose(rules.with_everything(exchange, rows), sampling)
    if token is None:
        raise RankFailure(f"no logit of the token at position {position} is a number")
    return token, exchange.command
