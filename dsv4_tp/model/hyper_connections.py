"""Manifold-constrained hyper-connections: the residual is `hc_mult` streams, not one.

A sublayer reads a weighted sum of the streams (`pre`), and its output is written back to every
stream (`post`) beside a mix of the streams themselves (`comb`, doubly stochastic by Sinkhorn).
Here are the weights, and the scores that the streams give; what is made of them is for `Mixing`.
All in float32. Follows hc_pre, hc_post and hc_head of the reference.
"""

import mlx.core as mx
import mlx.nn as nn

from dsv4_tp.model.mixing import Mix, Mixing, Norm, weighted_sum
from dsv4_tp.modelspec import ModelSpec


class HyperConnection(nn.Module):
    """The mixing weights of one sublayer, computed from the streams themselves."""

    def __init__(self, spec: ModelSpec, mixing: Mixing) -> None:
        super().__init__()
        n = spec.hc_mult
        self.mixing, self.norm_eps = mixing, spec.rms_norm_eps
        self.fn = mx.zeros(((2 + n) * n, n * spec.hidden_size))
        self.base = mx.zeros(((2 + n) * n,))
        self.scale = mx.zeros((3,))

    def __call__(self, streams: mx.array, norm: nn.RMSNorm) -> tuple[mx.array, Mix]:
        """Streams [B, L, n, D] -> the sublayer's input [B, L, D], normed, and how to write back."""
        scores = _project(streams, self.fn, self.norm_eps)
        return self.mixing.collapse(
            streams, scores, self.scale, self.base, Norm(norm.weight, norm.eps)
        )

    def write_back(self, x: mx.array, streams: mx.array, mix: Mix) -> mx.array:
        """The new streams, of the sublayer's output x [B, L, D] and what it was given."""
        return self.mixing.write_back(x, streams, mix)


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
        return weighted_sum(streams, mx.sigmoid(mix * self.scale + self.base) + self.eps)


def _project(streams: mx.array, fn: mx.array, eps: float) -> mx.array:
    """All streams of a token as one vector, normalised without a weight, times fn."""
    flat = streams.flatten(-2).astype(mx.float32)
    return mx.fast.rms_norm(flat, None, eps) @ fn.T
