"""Compressor: pools every `ratio` tokens into one row, by a softmax per channel.

Ratio 4 overlaps: a row pools the four tokens of its window with the second half of their
channels and the four before them with the first half. Ratio 128 does not.
All in float32; follows Compressor of the reference.
"""

import mlx.core as mx
import mlx.nn as nn

from dsv4_tp.model.cache import Pool
from dsv4_tp.model.layers import linear
from dsv4_tp.model.rope import Rope
from dsv4_tp.modelspec import ModelSpec


class Compressor(nn.Module):
    """The rows of one layer's pool (head_dim wide), or of its indexer's (index_head_dim)."""

    def __init__(self, spec: ModelSpec, ratio: int, head: int) -> None:
        super().__init__()
        self.ratio, self.head = ratio, head
        self.overlaps = ratio == 4
        width = 2 * head if self.overlaps else head
        self.ape = mx.zeros((ratio, width))
        self.wkv = linear(spec.hidden_size, width)
        self.wgate = linear(spec.hidden_size, width)
        self.norm = nn.RMSNorm(head, eps=spec.rms_norm_eps)

    def __call__(self, x: mx.array, start: int, pool: Pool, rope: Rope) -> None:
        """Appends the tokens x [B, L, D] at position `start`, and the rows they complete."""
        precise = x.astype(mx.float32)
        kv, score = self.wkv(precise), self.wgate(precise)
        score = score + self._position_bias(start, x.shape[1])
        windows = self._complete_windows(kv, score, pool)
        if windows is None:
            return
        first = pool.length
        rows = self.norm(_pooled(*windows).astype(x.dtype))
        # A row stands at the position of its window's first token.
        pool.append(rope(rows, first, stride=self.ratio))

    def _position_bias(self, start: int, length: int) -> mx.array:
        """`ape` by the token's place in its window, [L, width]."""
        return self.ape[mx.arange(start, start + length) % self.ratio]

    def _complete_windows(
        self, kv: mx.array, score: mx.array, pool: Pool
    ) -> tuple[mx.array, mx.array] | None:
        """The slots [B, n, slots, head] of n completed windows, kv and score; None if n is 0."""
        if pool.open_kv is not None and pool.open_score is not None:
            kv = mx.concatenate([pool.open_kv, kv], axis=1)
            score = mx.concatenate([pool.open_score, score], axis=1)
        count = kv.shape[1] // self.ratio
        done = count * self.ratio
        pool.open_kv, pool.open_score = kv[:, done:], score[:, done:]
        if count == 0:
            return None
        shape = (kv.shape[0], count, self.ratio, kv.shape[-1])
        kv, score = kv[:, :done].reshape(shape), score[:, :done].reshape(shape)
        return self._overlapped(kv, score, pool) if self.overlaps else (kv, score)

    def _overlapped(self, kv: mx.array, score: mx.array, pool: Pool) -> tuple[mx.array, mx.array]:
        """Puts the window before each window into its slots: [B, n, 4, 2c] -> [B, n, 8, c]."""
        last_kv = mx.zeros_like(kv[:, 0]) if pool.last_kv is None else pool.last_kv
        nothing = mx.full(score[:, 0].shape, -mx.inf)
        last_score = nothing if pool.last_score is None else pool.last_score
        pool.last_kv, pool.last_score = kv[:, -1], score[:, -1]
        return self._with_previous(kv, last_kv), self._with_previous(score, last_score)

    def _with_previous(self, windows: mx.array, last: mx.array) -> mx.array:
        previous = mx.concatenate([last[:, None], windows[:, :-1]], axis=1)
        return mx.concatenate([previous[..., : self.head], windows[..., self.head :]], axis=2)


def _pooled(kv: mx.array, score: mx.array) -> mx.array:
    """[B, n, slots, head] -> [B, n, head]; the softmax runs over the slots of each channel."""
    return (mx.softmax(score, axis=2) * kv).sum(axis=2)
