"""Manifold-constrained hyper-connections: the residual is `hc_mult` streams, not one.

A sublayer reads a weighted sum of the streams (`pre`), and its output is written back to every
stream (`post`) beside a mix of the streams themselves (`comb`, doubly stochastic by Sinkhorn).
All in float32. Follows hc_pre, hc_post and hc_head of the reference.
"""

from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn

from dsv4_tp.modelspec import ModelSpec


class Mix(NamedTuple):
    """How one sublayer's output returns to the streams."""

    post: mx.array  # [B, L, n]
    comb: mx.array  # [B, L, n, n]: stream j goes to stream k with weight comb[j, k]


class HyperConnection(nn.Module):
    """The mixing weights of one sublayer, computed from the streams themselves."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        n = spec.hc_mult
        self.n = n
        self.sinkhorn_iters = spec.hc_sinkhorn_iters
        self.eps, self.norm_eps = spec.hc_eps, spec.rms_norm_eps
        self.fn = mx.zeros(((2 + n) * n, n * spec.hidden_size))
        self.base = mx.zeros(((2 + n) * n,))
        self.scale = mx.zeros((3,))

    def __call__(self, streams: mx.array) -> tuple[mx.array, Mix]:
        """Streams [B, L, n, D] -> the sublayer's input [B, L, D] and how to write back."""
        n = self.n
        pre, post, comb = mx.split(_project(streams, self.fn, self.norm_eps), [n, 2 * n], axis=-1)
        base_pre, base_post, base_comb = mx.split(self.base, [n, 2 * n])
        pre = mx.sigmoid(pre * self.scale[0] + base_pre) + self.eps
        post = 2 * mx.sigmoid(post * self.scale[1] + base_post)
        comb = (comb * self.scale[2] + base_comb).reshape(*comb.shape[:-1], n, n)
        comb = sinkhorn(comb, iters=self.sinkhorn_iters, eps=self.eps)
        return _weighted_sum(streams, pre), Mix(post, comb)


class HyperHead(nn.Module):
    """Collapses the streams into the one vector the output head reads."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        n = spec.hc_mult
        self.eps, self.norm_eps = spec.hc_eps, spec.rms_norm_eps
        self.fn = mx.zeros((n, n * spec.hidden_size))
        self.base = mx.zeros((n,))
        self.scale = mx.zeros((1,))

    def __call__(self, streams: mx.array) -> mx.array:
        """[B, L, n, D] -> [B, L, D]."""
        mix = _project(streams, self.fn, self.norm_eps)
        return _weighted_sum(streams, mx.sigmoid(mix * self.scale + self.base) + self.eps)


def write_back(x: mx.array, streams: mx.array, mix: Mix) -> mx.array:
    """The new streams: x [B, L, D] spread over them, plus the old ones mixed by comb's columns."""
    # The sum runs over comb's first axis; the transpose is the classic mistake.
    mixed = mix.comb.swapaxes(-1, -2) @ streams.astype(mx.float32)
    spread = mix.post[..., None] * x[..., None, :].astype(mx.float32)
    return (spread + mixed).astype(streams.dtype)


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


def _project(streams: mx.array, fn: mx.array, eps: float) -> mx.array:
    """All streams of a token as one vector, normalised without a weight, times fn."""
    flat = streams.flatten(-2).astype(mx.float32)
    return mx.fast.rms_norm(flat, None, eps) @ fn.T


def _weighted_sum(streams: mx.array, weights: mx.array) -> mx.array:
    """[B, L, n, D] with weights [B, L, n] -> [B, L, D] in the streams' dtype."""
    total = weights[..., None, :] @ streams.astype(mx.float32)
    return total.squeeze(-2).astype(streams.dtype)
