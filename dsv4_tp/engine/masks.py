"""What is allowed: ids that may not be chosen have a logit of -inf, each rank for its own ids."""

from collections.abc import Sequence

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from dsv4_tp.core import Span
from dsv4_tp.engine.draws import Draw


def masked(logits: mx.array, draws: Sequence[Draw], span: Span) -> mx.array:
    """The logits [B, len(span)], -inf where a row's draw does not allow the id."""
    if all(draw.allowed is None for draw in draws):
        return logits
    kept = np.ones(logits.shape, dtype=bool)
    for row, draw in enumerate(draws):
        if draw.allowed is not None:
            kept[row] = _bits(draw.allowed, span)
    return mx.where(mx.array(kept), logits, -mx.inf)


def packed(ids: Sequence[int]) -> bytes:
    """What `Draw.allowed` is where these ids are allowed and no others."""
    bits = np.zeros(max(ids, default=-1) + 1, dtype=np.uint8)
    bits[list(ids)] = 1
    return np.packbits(bits, bitorder="little").tobytes()


def _bits(allowed: bytes, span: Span) -> NDArray[np.uint8]:
    """Of each id of the span; what lies beyond the bits is not allowed."""
    found = np.frombuffer(allowed, dtype=np.uint8)
    return np.unpackbits(found, count=span.stop, bitorder="little")[span.start :]
