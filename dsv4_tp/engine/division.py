"""What of a model's work is shared out over ranks, and what not: look-ups, attention."""

from collections.abc import Sequence

import mlx.core as mx

from dsv4_tp.config import LONG_CHUNK
from dsv4_tp.core import AttentionSplit, Part, Span
from dsv4_tp.engine.collectives import Collectives
from dsv4_tp.model import AllSum
from dsv4_tp.rules import attention_of

LEAST_TOKENS = 64  # of a call; for fewer a collective would cost more than it saves
HALVES_FROM = LONG_CHUNK  # tokens of a call; experts read what they hold for each half


def attention_sum(collectives: Collectives, parts: Sequence[Part]) -> AllSum:
    """Of ranks with these parts, by rank: nothing is added up where each computes all of it."""
    whole = attention_of(parts) is AttentionSplit.WHOLE
    return collectives.alike if whole else collectives.all_sum


class TokenShares:
    """Tokens of a long call divided over ranks, in proportion to what else each has to do.

    The `model.Division` of the ranks of one model.
    """

    def __init__(self, collectives: Collectives, parts: Sequence[Part]) -> None:
        """`parts` by rank: a rank with more attention heads is a faster one, and gets more."""
        self._collectives = collectives
        self._weights = [1 + len(part.heads) for part in parts]

    def span(self, length: int) -> Span:
        """Of a call's `length` tokens those of this rank, one at least; all of a short one."""
        if not self._divides(length):
            return Span(0, length)
        rank, rest = self._collectives.rank, length - self._collectives.size
        ahead = (sum(self._weights[:stop]) for stop in (rank, rank + 1))
        total = sum(self._weights)
        return Span(*(stop + rest * weight // total for stop, weight in enumerate(ahead, rank)))

    def whole(self, mine: mx.array, length: int) -> mx.array:
        """What all ranks found [B, length, k], in integers; `mine` [B, l, k] is of its span.

        By a sum to which each rank adds zeros for the others' tokens. Over RDMA that takes less
        time than gathering pieces, of which there may also be unequal ones.
        """
        if not self._divides(length):
            return mine
        span = self.span(length)
        padded = mx.pad(mine, [(0, 0), (span.start, length - span.stop), (0, 0)])
        return self._collectives.put_together(padded)

    def _divides(self, length: int) -> bool:
        return self._collectives.size > 1 and length >= LEAST_TOKENS
