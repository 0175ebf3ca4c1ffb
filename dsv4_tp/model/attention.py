"""Attention over one shared row per token that is both key and value.

A query sees the last `sliding_window` rows and, in layers that compress, pooled rows: all of
them (ratio 128) or those the indexer picks (ratio 4). A learned sink per head takes part in the
softmax without a value. The output is turned back by the query's position and leaves through
one projection per output group (`wo_a`), then `wo_b`. Follows Attention of the reference.
"""

import mlx.core as mx
import mlx.nn as nn

from dsv4_tp.core import Part
from dsv4_tp.model.cache import LayerCache
from dsv4_tp.model.compressor import Compressor
from dsv4_tp.model.indexer import Indexer, visible
from dsv4_tp.model.layers import GroupedLinear, linear
from dsv4_tp.model.rope import Rope
from dsv4_tp.modelspec import ModelSpec
from dsv4_tp.rules import head_runs


class Attention(nn.Module):
    """The attention of one layer with the heads of `part`; their outputs are partial sums."""

    def __init__(self, spec: ModelSpec, ratio: int, part: Part, rope: Rope) -> None:
        super().__init__()
        self.ratio, self.heads = ratio, len(part.heads)
        self.head, self.window = spec.head_dim, spec.sliding_window
        self.hidden, self.eps = spec.hidden_size, spec.rms_norm_eps
        self.rope = rope
        self.wkv = linear(spec.hidden_size, self.head)
        self.kv_norm = nn.RMSNorm(self.head, eps=self.eps)
        self.wq_a = linear(spec.hidden_size, spec.q_lora_rank)
        self.q_norm = nn.RMSNorm(spec.q_lora_rank, eps=self.eps)
        if self.heads:
            self._build_heads(spec, part)
        if ratio:
            self.compressor = Compressor(spec, ratio, self.head)
        if ratio == 4:
            self.indexer = Indexer(spec)

    def _build_heads(self, spec: ModelSpec, part: Part) -> None:
        self._runs = head_runs(part.heads, spec)
        self.wq_b = linear(spec.q_lora_rank, self.heads * self.head)
        self.attn_sink = mx.zeros((self.heads,))
        self.wo_a = [
            GroupedLinear(run.heads * self.head, spec.o_lora_rank, run.groups) for run in self._runs
        ]
        groups = sum(run.groups for run in self._runs)
        self.wo_b = linear(groups * spec.o_lora_rank, spec.hidden_size)

    def __call__(self, x: mx.array, cache: LayerCache) -> mx.array:
        """Tokens x [B, L, D] appended to the cache -> this part's share of [B, L, D]."""
        start = cache.offset
        window = cache.extend(self.rope(self.kv_norm(self.wkv(x)), start))
        q_latent = self.q_norm(self.wq_a(x))
        picked = None
        if self.ratio:
            self.compressor(x, start, cache.pool, self.rope)
        if self.ratio == 4:
            picked = self.indexer(x, q_latent, start, cache.index_pool, self.rope)
        if not self.heads:
            return mx.zeros((*x.shape[:2], self.hidden), dtype=x.dtype)
        keys, mask = self._keys(window, cache.pool.rows, picked, start, x.shape[1])
        return self._project(self._attend(self._queries(q_latent, start), keys, mask), start)

    def _queries(self, q_latent: mx.array, start: int) -> mx.array:
        """[B, H, L, head], each head normalised without a weight."""
        batch, length, _ = q_latent.shape
        q = self.wq_b(q_latent).reshape(batch, length, self.heads, self.head)
        return self.rope(mx.fast.rms_norm(q, None, self.eps).swapaxes(1, 2), start)

    def _keys(
        self,
        window: mx.array,
        rows: mx.array | None,
        picked: mx.array | None,
        start: int,
        length: int,
    ) -> tuple[mx.array, mx.array | None]:
        """All rows the chunk may read, [B, K, head], and who sees what, [1 or B, L, K]."""
        if length == 1:
            # One token sees its whole window and every complete row; only a choice narrows it.
            return _joined(window, _gathered(rows, picked)), None
        mask = _window_mask(window.shape[1], length, self.window)[None]
        if rows is None:
            return window, mask
        seen = visible(start, length, rows.shape[1], ratio=self.ratio)[None]
        if picked is not None:
            seen = seen & _chosen(picked, rows.shape[1])
        mask = mx.broadcast_to(mask, (seen.shape[0], *mask.shape[1:]))
        return _joined(window, rows), mx.concatenate([mask, seen], axis=-1)

    def _attend(self, q: mx.array, keys: mx.array, mask: mx.array | None) -> mx.array:
        """[B, H, L, head]: softmax with sinks, in float32 as scores in bf16 lose choices."""
        shared = keys[:, None].astype(mx.float32)
        out = mx.fast.scaled_dot_product_attention(
            q.astype(mx.float32),
            shared,
            shared,
            scale=self.head**-0.5,
            mask=None if mask is None else mask[:, None],
            sinks=self.attn_sink,
        )
        return out.astype(q.dtype)

    def _project(self, o: mx.array, start: int) -> mx.array:
        """Heads [B, H, L, head] -> [B, L, D] through their output groups."""
        batch, _, length, _ = o.shape
        o = self.rope(o, start, inverse=True)
        latents: list[mx.array] = []
        first = 0
        for run, wo_a in zip(self._runs, self.wo_a, strict=True):
            heads = o[:, first : first + run.groups * run.heads]
            first += run.groups * run.heads
            grouped = heads.reshape(batch, run.groups, run.heads, length, self.head)
            latents.append(wo_a(grouped.swapaxes(2, 3).flatten(-2)))
        latent = mx.concatenate(latents, axis=1).swapaxes(1, 2)  # [B, L, groups, o_lora_rank]
        return self.wo_b(latent.flatten(-2))


def _window_mask(rows: int, length: int, window: int) -> mx.array:
    """[L, rows]: the rows end with the chunk's own; a query sees `window` of them up to itself."""
    queries = mx.arange(rows - length, rows)[:, None]
    keys = mx.arange(rows)
    return (keys <= queries) & (keys > queries - window)


def _gathered(rows: mx.array | None, picked: mx.array | None) -> mx.array | None:
    """The picked rows [B, topk, head] of one query each."""
    if rows is None or picked is None:
        return rows
    return mx.take_along_axis(rows, picked.swapaxes(1, 2), axis=1)


def _chosen(picked: mx.array, rows: int) -> mx.array:
    """Row numbers [B, L, topk] -> [B, L, rows], true where picked."""
    nothing = mx.zeros((*picked.shape[:2], rows), dtype=mx.bool_)
    return mx.put_along_axis(nothing, picked, mx.array(True), axis=-1)


def _joined(window: mx.array, rows: mx.array | None) -> mx.array:
    return window if rows is None else mx.concatenate([window, rows], axis=1)
