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
from dsv4_tp.model.context import Context
from dsv4_tp.model.indexer import Indexer
from dsv4_tp.model.layers import GroupedLinear, linear
from dsv4_tp.model.rope import Rope
from dsv4_tp.model.rows import Starts
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
        starts = cache.starts(x.shape[0])
        window = cache.extend(self._keys(x, starts))
        q_latent = self.q_norm(self.wq_a(x))
        if self.ratio:
            self.compressor(x, starts, cache.pool, self.rope)
        if self.ratio == 4:
            self.indexer.compressor(x, starts, cache.index_pool, self.rope)
        if not self.heads:
            return mx.zeros((*x.shape[:2], self.hidden), dtype=x.dtype)
        queries = self._queries(q_latent, starts)
        rows = cache.pool.read(starts, x.shape[1]) if self.ratio else None
        form = cache.forms.attention
        context = Context(window, rows, form, starts, x.shape[1], self.window, self.ratio)
        if self.ratio == 4 and rows is not None and rows.shape[1] > self.indexer.topk:
            return self._project(self._read_picked(queries, x, q_latent, context, cache), starts)
        return self._project(self._read_all(queries, context), starts)

    def note(self, x: mx.array, cache: LayerCache) -> None:
        """Appends tokens x [B, L, D] to the cache of a layer that does not compress."""
        assert not self.ratio, "the rows of a pool need more than that"
        cache.extend(self._keys(x, cache.starts(x.shape[0])))

    def _keys(self, x: mx.array, starts: Starts) -> mx.array:
        """Keys, which are the values too, [B, L, head]."""
        return self.rope(self.kv_norm(self.wkv(x)), starts)

    def _read_all(self, q: mx.array, context: Context) -> mx.array:
        """What each query reads of all rows it may see, [B, H, L, head]."""
        rows = 0 if context.rows is None else context.rows.shape[1]
        query_bytes = 4 * q.shape[0] * self.heads * (2 * self.window + rows)
        pieces = [
            context.read_all(q[:, :, first:last], first, self.attn_sink)
            for first, last in context.runs(query_bytes)
        ]
        return _joined(pieces)

    def _read_picked(
        self, q: mx.array, x: mx.array, q_latent: mx.array, context: Context, cache: LayerCache
    ) -> mx.array:
        """The same of the pooled rows that the indexer picks for each."""
        index_rows = cache.index_pool.read(context.starts, context.length)
        assert index_rows is not None
        topk = self.indexer.topk
        own = topk * self.head + self.heads * (topk + 2 * self.window)
        query_bytes = 4 * q.shape[0] * (own + index_rows.shape[1])
        pieces: list[mx.array] = []
        for first, last in context.runs(query_bytes):
            run, starts = slice(first, last), tuple(start + first for start in context.starts)
            picked = self.indexer(
                x[:, run],
                q_latent[:, run],
                starts,
                index_rows,
                form=cache.index_pool.form,
                rope=self.rope,
            )
            pieces.append(context.read_picked(q[:, :, run], first, picked, self.attn_sink))
        return _joined(pieces)

    def _queries(self, q_latent: mx.array, starts: Starts) -> mx.array:
        """[B, H, L, head], each head normalised without a weight."""
        batch, length, _ = q_latent.shape
        q = self.wq_b(q_latent).reshape(batch, length, self.heads, self.head)
        return self.rope(mx.fast.rms_norm(q, None, self.eps).swapaxes(1, 2), starts)

    def _project(self, o: mx.array, starts: Starts) -> mx.array:
        """Heads [B, H, L, head] -> [B, L, D] through their output groups."""
        batch, _, length, _ = o.shape
        o = self.rope(o, starts, inverse=True)
        latents: list[mx.array] = []
        first = 0
        for run, wo_a in zip(self._runs, self.wo_a, strict=True):
            heads = o[:, first : first + run.groups * run.heads]
            first += run.groups * run.heads
            grouped = heads.reshape(batch, run.groups, run.heads, length, self.head)
            latents.append(wo_a(grouped.swapaxes(2, 3).flatten(-2)))
        latent = mx.concatenate(latents, axis=1).swapaxes(1, 2)  # [B, L, groups, o_lora_rank]
        return self.wo_b(latent.flatten(-2))


def _joined(pieces: list[mx.array]) -> mx.array:
    return pieces[0] if len(pieces) == 1 else mx.concatenate(pieces, axis=2)
