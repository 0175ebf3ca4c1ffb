"""The arithmetic between the streams and a sublayer, by MLX's own operations.

It is the reference of every quicker way. All in float32. Follows hc_pre and hc_post of the
reference.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import mlx.core as mx

from dsv4_tp.model.fused import fused
from dsv4_tp.modelspec import ModelSpec


class Mix(NamedTuple):
    """How one sublayer's output returns to the streams."""

    post: mx.array  # [B, L, n]
    comb: mx.array  # [B, L, n, n]: stream j goes to stream k with weight comb[j, k]


class Norm(NamedTuple):
    """Of what a sublayer is given."""

    weight: mx.array  # [D]
    eps: float


class Mixing(Protocol):
    """A way to do it."""

    def collapse(
        self, streams: mx.array, scores: mx.array, scale: mx.array, base: mx.array, norm: Norm
    ) -> tuple[mx.array, Mix]:
        """The sublayer's input [B, L, D], normed, in the streams' dtype, and how to write back.

        Args:
            streams: [B, L, n, D].
            scores: float32 [B, L, (2 + n) * n]: for reading, for writing, for mixing.
            scale: float32 [3], of each kind of scores.
            base: float32 [(2 + n) * n], added to the scaled scores.
            norm: RMSNorm's.
        """
        ...

    def write_back(self, x: mx.array, streams: mx.array, mix: Mix) -> mx.array:
        """The new streams: x [B, L, D] spread over them, plus the old ones mixed by `comb`."""
        ...


@dataclass(frozen=True, slots=True)
class PlainMixing:
    """By operations that every backend has."""

    n: int
    iters: int
    eps: float

    @classmethod
    def of(cls, spec: ModelSpec) -> "PlainMixing":
        """That of a model."""
        return cls(spec.hc_mult, spec.hc_sinkhorn_iters, spec.hc_eps)

    def collapse(
        self, streams: mx.array, scores: mx.array, scale: mx.array, base: mx.array, norm: Norm
    ) -> tuple[mx.array, Mix]:
        """See Mixing."""
        n = self.n
        pre, post, comb = mx.split(scores, [n, 2 * n], axis=-1)
        base_pre, base_post, base_comb = mx.split(base, [n, 2 * n])
        pre = mx.sigmoid(pre * scale[0] + base_pre) + self.eps
        post = 2 * mx.sigmoid(post * scale[1] + base_post)
        comb = (comb * scale[2] + base_comb).reshape(*comb.shape[:-1], n, n)
        comb = sinkhorn(comb, iters=self.iters, eps=self.eps)
        return mx.fast.rms_norm(weighted_sum(streams, pre), *norm), Mix(post, comb)

    def write_back(self, x: mx.array, streams: mx.array, mix: Mix) -> mx.array:
        """See Mixing."""
        return _spread(x, streams, mix.post, mix.comb)


@fused
def sinkhorn(scores: mx.array, *, iters: int, eps: float) -> mx.array:
    """[..., n, n] -> nearly doubly stochastic: softmax by rows, then columns and rows in turn.

    Ends with the columns; every division but the softmax has `eps` in its denominator.
    """
    comb = mx.softmax(scores, axis=-1) + eps
    comb = comb / (comb.sum(axis=-2, keepdims=True) + eps)
    for _ in range(iters - 1):
        comb = comb / (comb.sum(axis=-1, keepdims=True) + eps)
        comb = comb / (comb.sum(axis=-2, keepdims=True) + eps)
    return comb


@fused
def weighted_sum(streams: mx.array, weights: mx.array) -> mx.array:
    """[B, L, n, D] with weights [B, L, n] -> [B, L, D] in the streams' dtype."""
    total = weights[..., None, :] @ streams.astype(mx.float32)
    return total.squeeze(-2).astype(streams.dtype)


@fused
def _spread(x: mx.array, streams: mx.array, post: mx.array, comb: mx.array) -> mx.array:
    # The sum runs over comb's first axis; the transpose is the classic mistake.
    mixed = comb.swapaxes(-1, -2) @ streams.astype(mx.float32)
    spread = post[..., None] * x[..., None, :].astype(mx.float32)
    return (spread + mixed).astype(streams.dtype)
