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
from dsv4_tp.model.rows import Starts
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

    def __call__(self, x: mx.array, starts: Starts, pool: Pool, rope: Rope) -> None:
        """Appends the tokens x [B, L, D] at positions `starts`, and the rows they complete."""
        precise = x.astype(mx.float32)
        score = self.wgate(precise) + self._position_bias(starts, x.shape[1])
        tokens = mx.concatenate([self.wkv(precise), score], axis=-1)
        windows = self._windows(tokens, starts, pool)
        pool.tail.write(starts, tokens)
        if windows is None:
            return
        rows = self.norm(self._pooled(windows).astype(x.dtype))
        firsts = tuple(map(pool.complete, starts))
        # A row stands at the position of its window's first token.
        pool.write(starts, rope(rows, firsts, stride=self.ratio))

    def _position_bias(self, starts: Starts, length: int) -> mx.array:
        """`ape` by the tokens' places in their windows, [1 or B, L, width]."""
        firsts = mx.array([start % self.ratio for start in starts])
        return self.ape[(firsts[:, None] + mx.arange(length)) % self.ratio]

    def _windows(self, tokens: mx.array, starts: Starts, pool: Pool) -> mx.array | None:
        """The windows [B, n, ratio, 2 * width] that end within the tokens [B, L, 2 * width].

        With overlap the first is one that was complete before. None if none ends; of a sequence
        that completes one less than another, the last is not to be relied on.
        """
        ratio, length = self.ratio, tokens.shape[1]
        ends = (pool.complete(start + length) - pool.complete(start) for start in starts)
        if not (count := max(ends)):
            return None
        count += self.overlaps
        earlier = min(pool.reach, max(starts))
        before = pool.tail.read(starts, earlier)
        joined = tokens if before is None else mx.concatenate([before, tokens], axis=1)
        firsts = [pool.complete(start) * ratio - ratio * self.overlaps for start in starts]
        slots = _from(
            joined, [f - (s - earlier) for f, s in zip(firsts, starts, strict=True)], count * ratio
        )
        if min(firsts) < 0:
            slots = self._without_negative(slots, firsts)
        return slots.reshape(slots.shape[0], count, ratio, -1)

    def _without_negative(self, slots: mx.array, firsts: list[int]) -> mx.array:
        """The same tokens [B, n, 2 * width], but those before position 0 weigh nothing."""
        positions = mx.array(firsts)[:, None] + mx.arange(slots.shape[1])
        width = slots.shape[-1] // 2
        nothing = mx.array([0.0] * width + [-mx.inf] * width)
        return mx.where((positions < 0)[..., None], nothing, slots)

    def _pooled(self, windows: mx.array) -> mx.array:
        """Windows [B, n, ratio, 2 * width] -> rows [B, n, head], one less where they overlap."""
        kv, score = mx.split(windows, 2, axis=-1)
        if self.overlaps:
            kv, score = self._with_previous(kv), self._with_previous(score)
        return (mx.softmax(score, axis=2) * kv).sum(axis=2)

    def _with_previous(self, windows: mx.array) -> mx.array:
        """Puts the window before each window into its slots: [B, n + 1, 4, 2c] -> [B, n, 8, c]."""
        previous, own = windows[:, :-1, :, : self.head], windows[:, 1:, :, self.head :]
        return mx.concatenate([previous, own], axis=2)


def _from(tokens: mx.array, firsts: list[int], count: int) -> mx.array:
    """`count` rows of tokens [B, L, width] from `firsts` on; beyond either end, any."""
    first = firsts[0]
    if len(set(firsts)) == 1 and first >= 0 and first + count <= tokens.shape[1]:
        return tokens[:, first : first + count]
    numbers = mx.array(firsts)[:, None, None] + mx.arange(count)[:, None]
    return mx.take_along_axis(tokens, mx.clip(numbers, 0, tokens.shape[1] - 1), axis=1)
