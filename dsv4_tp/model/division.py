"""Work on a call's tokens that the parts of a model divide, where otherwise all would do all of it.

What such work finds of a token is the same on every part. So each does some of the tokens, and
tells the others what it found.
"""

from typing import Protocol

import mlx.core as mx

from dsv4_tp.core import Span


class Division(Protocol):
    """Which tokens are whose."""

    def span(self, length: int) -> Span:
        """Of a call's `length` tokens those that this part works on; of few all."""
        ...

    def whole(self, mine: mx.array, length: int) -> mx.array:
        """Of all tokens [B, length, k] what parts found; `mine` [B, l, k] is of this part's span.

        Integers. All parts call it at the same places, with the same `length`.
        """
        ...


class Undivided:
    """One part does everything."""

    def span(self, length: int) -> Span:
        """All tokens."""
        return Span(0, length)

    def whole(self, mine: mx.array, length: int) -> mx.array:
        """That is all there is."""
        assert mine.shape[1] == length, f"{mine.shape[1]} of {length} tokens"
        return mine
