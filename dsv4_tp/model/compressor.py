"""Compressor: pools every `ratio` tokens into one row, by a softmax per channel.

Ratio 4 overlaps: a row pools the four tokens of its window with the second half of their
channels and the four before them with the first half. Ratio 128 does not.
All in float32; follows Compressor of the reference.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from dsv4_tp.model.cache import Pool
from dsv4_tp.model.layers import SideBySide, linear
from dsv4_tp.model.rope import Rope
from dsv4_tp.model.rows import Starts, alike, joined, parted
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

    def __call__(self, x: mx.array, starts: Starts, pools: Sequence[Pool], rope: Rope) -> None:
        """Appends the tokens x [B, L, D] at positions `starts`, and the rows they complete.

        There is a pool for each sequence, or one for all of them, which then stand alike.
        """
        precise = x.astype(mx.float32)
        score = self.wgate(precise) + self.by_place(self.ape, starts, x.shape[1])
        tokens = mx.concatenate([self.wkv(precise), score], axis=-1)
        self.append(tokens, starts, pools, rope, x.dtype)

    def append(
        self, tokens: mx.array, starts: Starts, pools: Sequence[Pool], rope: Rope, dtype: mx.Dtype
    ) -> None:
        """The same, of the tokens' keys and scores [B, L, 2 * width]; rows are of `dtype`."""
        ready: list[tuple[mx.array, int, Pool]] = []
        for pool, start, own in zip(pools, starts, parted(tokens, len(pools)), strict=False):
            windows = self._windows(own, start, pool)
            pool.tail.write(start, own)
            ready += [] if windows is None else [(windows, pool.complete(start), pool)]
        for places in alike(windows.shape[1] for windows, _, _ in ready):
            group = [ready[place] for place in places]
            windows = joined([windows for windows, _, _ in group])
            rows = self.norm(self._pooled(windows).astype(dtype))
            # A row stands at the position of its window's first token.
            rows = rope(rows, tuple(number for _, number, _ in group), stride=self.ratio)
            held = parted(pools[0].form.encode(rows), len(group))
            for (_, number, pool), own in zip(group, held, strict=True):
                pool.rows.write(number, own)

    def by_place(self, table: mx.array, starts: Starts, length: int) -> mx.array:
        """Rows of a table [ratio, any] by the tokens' places in their windows, [1 or B, L, any]."""
        firsts = starts[:1] if len(set(starts)) == 1 else starts
        places = (np.array(firsts)[:, None] + np.arange(length)) % self.ratio
        if places.size == 1:
            place = int(places.item())
            return table[place : place + 1]
        return table[mx.array(places)]

    def _windows(self, tokens: mx.array, start: int, pool: Pool) -> mx.array | None:
        """The windows [B, n, ratio, 2 * width] that end within the tokens [B, L, 2 * width].

        With overlap the first is one that was complete before. None if none ends.
        """
        ratio, length = self.ratio, tokens.shape[1]
        count = pool.complete(start + length) - pool.complete(start)
        if not count:
            return None
        count += self.overlaps
        first = pool.complete(start) * ratio - ratio * self.overlaps
        before = pool.tail.read(start, start - max(first, 0))
        slots = tokens if before is None else mx.concatenate([before, tokens], axis=1)
        slots = slots[:, : count * ratio - max(-first, 0)]
        if first < 0:
            slots = mx.concatenate([self._nothing(slots), slots], axis=1)
        return slots.reshape(slots.shape[0], count, ratio, -1)

    def _nothing(self, like: mx.array) -> mx.array:
        """A window before position 0: its tokens weigh nothing."""
        width = like.shape[-1] // 2
        token = mx.array([0.0] * width + [-mx.inf] * width)
        return mx.broadcast_to(token, (like.shape[0], self.ratio, 2 * width))

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


class Bundled:
    """The products of compressors of one ratio that meet the same tokens, as one."""

    def __init__(self, compressors: Sequence[Compressor], product: nn.Module) -> None:
        self.compressors, self.product = compressors, product
        # For keys and scores of all at once; nothing is added to keys.
        biases = [part for it in compressors for part in (mx.zeros_like(it.ape), it.ape)]
        self.bias = mx.concatenate(biases, axis=-1)
        self.cuts = list(accumulate(2 * it.ape.shape[-1] for it in compressors))[:-1]
        mx.eval(self.bias)

    @classmethod
    def of(cls, compressors: Sequence[Compressor]) -> "Bundled | None":
        """None where their matrices are of several formats."""
        each = SideBySide.of(*(matrix for it in compressors for matrix in (it.wkv, it.wgate)))
        return cls(compressors, each.matrix) if each is not None else None

    def __call__(
        self, x: mx.array, starts: Starts, pools: Sequence[Sequence[Pool]], rope: Rope
    ) -> None:
        """As each of the compressors, with its pools."""
        whole = cast(mx.array, self.product(x.astype(mx.float32)))
        whole = whole + self.compressors[0].by_place(self.bias, starts, x.shape[1])
        tokens = mx.split(whole, self.cuts, axis=-1)
        for each, own, its in zip(self.compressors, tokens, pools, strict=True):
            each.append(own, starts, its, rope, x.dtype)
