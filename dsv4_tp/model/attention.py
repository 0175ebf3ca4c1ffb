"""Attention over one shared row per token that is both key and value.

A query sees the last `sliding_window` rows and, in layers that compress, pooled rows: all of
them (ratio 128) or those the indexer picks (ratio 4). A learned sink per head takes part in the
softmax without a value. The output is turned back by the query's position and leaves through
one projection per output group (`wo_a`), then `wo_b`. Follows Attention of the reference.
"""

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn

from dsv4_tp.core import Part
from dsv4_tp.model.cache import LayerCache, Memory
from dsv4_tp.model.compressor import Bundled, Compressor
from dsv4_tp.model.context import Context, runs
from dsv4_tp.model.division import Division
from dsv4_tp.model.fused import Graphs, traced
from dsv4_tp.model.indexer import Indexer
from dsv4_tp.model.layers import GroupedLinear, SideBySide, identity, linear
from dsv4_tp.model.rope import Rope
from dsv4_tp.model.rows import Starts, alike, joined, parted
from dsv4_tp.modelspec import ModelSpec
from dsv4_tp.rules import head_runs


class Attention(nn.Module):
    """The attention of one layer with the heads of `part`; their outputs are partial sums."""

    def __init__(
        self, spec: ModelSpec, ratio: int, part: Part, rope: Rope, division: Division
    ) -> None:
        super().__init__()
        self.division = division
        self.ratio, self.heads = ratio, len(part.heads)
        self.head, self.window = spec.head_dim, spec.sliding_window
        self.few = spec.index_topk  # pooled rows of sequences that may be copied to one array
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
        self._latents: SideBySide | None = None
        self._compressing: Bundled | None = None
        self.graphs: Graphs | None = None

    def bundle(self) -> None:
        """Lays matrices side by side that meet the same tokens; see `Model.bundle`."""
        self._latents = SideBySide.of(self.wq_a, self.wkv)
        if self.ratio:
            self._compressing = Bundled.of(self._compressors)

    @property
    def _compressors(self) -> list[Compressor]:
        return [self.compressor, *([self.indexer.compressor] if self.ratio == 4 else [])]

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
        starts, length = cache.starts(x.shape[0]), x.shape[1]
        turns = (self.rope.turns(length, starts), self.rope.turns(length, starts, heads=True))
        keys, q_latent, queries = self._asked(x, *turns)
        windows = cache.extend(keys)
        if self.ratio:
            self._compress(x, starts, cache)
        contexts = [
            self._context(memory, window, length)
            for memory, window in zip(cache.memories, windows, strict=True)
        ]
        picks = self._picks(x, q_latent, contexts)
        if not self.heads:
            return mx.zeros((*x.shape[:2], self.hidden), dtype=x.dtype)
        if length == 1:
            contexts = list(map(_with, contexts, picks))
            picks = [None] * len(picks)
        pieces = [
            self._read(queries[:, first:last], picks, contexts, first)
            for first, last in runs(length, self.window, self._bytes(contexts, x.shape[0]))
        ]
        back = self.rope.turns(length, starts, heads=True, inverse=True)
        return self._project(joined(pieces, axis=1), back)

    def note(self, x: mx.array, cache: LayerCache) -> None:
        """Appends tokens x [B, L, D] to the cache of a layer that does not compress."""
        assert not self.ratio, "the rows of a pool need more than that"
        turns = self.rope.turns(x.shape[1], cache.starts(x.shape[0]))
        cache.extend(self._keys(self.wkv(x), turns))

    @traced
    def _asked(
        self, x: mx.array, turns: mx.array, of_heads: mx.array
    ) -> tuple[mx.array, mx.array, mx.array]:
        """Keys [B, L, head], the queries' latent [B, L, q_lora_rank], queries [B, L, H, head]."""
        q_latent, keys = self._projected(x)
        q_latent = self.q_norm(q_latent)
        return self._keys(keys, turns), q_latent, self._queries(q_latent, of_heads)

    def _projected(self, x: mx.array) -> tuple[mx.array, mx.array]:
        """The queries' latent and the keys of tokens x [B, L, D], before their norms."""
        if self._latents is None:
            return self.wq_a(x), self.wkv(x)
        q_latent, keys = self._latents(x)
        return q_latent, keys

    def _keys(self, projected: mx.array, turns: mx.array) -> mx.array:
        """Keys, which are the values too, [B, L, head]."""
        return self.rope.turning.normed(projected, self.kv_norm.weight, self.eps, turns)

    def _compress(self, x: mx.array, starts: Starts, cache: LayerCache) -> None:
        """Appends tokens x [B, L, D] to the pools."""
        pools = [cache.pools, cache.index_pools] if self.ratio == 4 else [cache.pools]
        if self._compressing is not None:
            self._compressing(x, starts, pools, self.rope)
            return
        for compressor, its in zip(self._compressors, pools, strict=True):
            compressor(x, starts, its, self.rope)

    def _context(self, memory: Memory, window: mx.array, length: int) -> Context:
        """What the last `length` tokens of a memory may read."""
        rows = index_rows = None
        start = memory.position - length
        if self.ratio:
            rows = memory.pools[0].read(start, length)
        if self.ratio == 4 and rows is not None and rows.shape[1] > self.indexer.topk:
            index_rows = memory.pools[1].read(start, length)
        return Context(
            window, rows, index_rows, memory.forms, start, length, self.window, self.ratio
        )

    def _bytes(self, contexts: Sequence[Context], batch: int) -> int:
        """Of the arrays that one token's queries need in all sequences."""
        return sum(map(self._query_bytes, contexts)) * batch // len(contexts)

    def _query_bytes(self, context: Context) -> int:
        """The same in one sequence."""
        if context.index_rows is not None:
            topk = self.indexer.topk
            own = topk * self.head + self.heads * (topk + 2 * self.window)
            return 4 * (own + context.index_rows.shape[1])
        rows = 0 if context.rows is None else context.rows.shape[1]
        return 4 * self.heads * (2 * self.window + rows)

    def _picks(
        self, x: mx.array, q_latent: mx.array, contexts: Sequence[Context]
    ) -> list[mx.array | None]:
        """By context, which pooled rows [B, L, topk] its tokens read; None: all there are.

        All parts would pick the same, so each picks for some of the tokens.
        """
        if all(context.index_rows is None for context in contexts):
            return [None] * len(contexts)
        length = x.shape[1]
        mine = self.division.span(length)
        pieces = [
            self._picks_of(slice(mine.start + first, mine.start + last), x, q_latent, contexts)
            for first, last in runs(len(mine), self.window, self._bytes(contexts, x.shape[0]))
        ]
        found = [[own for own in of_one if own is not None] for of_one in zip(*pieces, strict=True)]
        return [self.division.whole(joined(own, axis=1), length) if own else None for own in found]

    def _picks_of(
        self, run: slice, x: mx.array, q_latent: mx.array, contexts: Sequence[Context]
    ) -> list[mx.array | None]:
        """The same for a run of the tokens."""
        starts = tuple(context.start + run.start for context in contexts)
        form = contexts[0].forms.index
        asked = self.indexer.asked(x[:, run], q_latent[:, run], starts, form=form, rope=self.rope)
        # Not views of the numbers of all rows, which would last as long; of one token they do not.
        own = mx.contiguous if run.stop - run.start > 1 else identity
        each = zip(asked.parted(len(contexts)), starts, contexts, strict=True)
        return [
            None if (rows := context.index_rows) is None else own(self.indexer(asks, start, rows))
            for asks, start, context in each
        ]

    def _read(
        self, q: mx.array, picks: Sequence[mx.array | None], contexts: list[Context], first: int
    ) -> mx.array:
        """What the queries q [B, l, H, head] from the call's token `first` on read, likewise."""
        done: dict[int, mx.array] = {}
        queries = parted(q, len(contexts))
        for places in alike(context.kind(self.few) for context in contexts):
            context = Context.together([contexts[place] for place in places])
            own, picked = joined([queries[place] for place in places]), picks[places[0]]
            if picked is None:
                out = context.read_all(own, first, self.attn_sink)
            else:
                picked = picked[:, first : first + q.shape[1]]
                out = context.read_picked(own, first, picked, self.attn_sink)
            done.update(zip(places, parted(out, len(places)), strict=True))
        return joined([done[place] for place in range(len(contexts))])

    def _queries(self, q_latent: mx.array, turns: mx.array) -> mx.array:
        """[B, L, H, head], each head normalised without a weight."""
        shape = (*q_latent.shape[:2], self.heads, self.head)
        if not self.heads:
            return mx.zeros(shape, dtype=q_latent.dtype)
        return self.rope.turning.normed(self.wq_b(q_latent).reshape(shape), None, self.eps, turns)

    @traced
    def _project(self, o: mx.array, back: mx.array) -> mx.array:
        """Heads [B, L, H, head] -> [B, L, D] through their output groups."""
        batch, length, _, _ = o.shape
        o = self.rope.turning.turned(o, back)
        latents: list[mx.array] = []
        first = 0
        for run, wo_a in zip(self._runs, self.wo_a, strict=True):
            heads = o[:, :, first : first + run.groups * run.heads]
            first += run.groups * run.heads
            grouped = heads.reshape(batch, length, run.groups, -1).swapaxes(1, 2)
            latents.append(wo_a(grouped))  # [B, groups, L, o_lora_rank]
        return self.wo_b(joined(latents, axis=1).swapaxes(1, 2).flatten(-2))


def _with(context: Context, picked: mx.array | None) -> Context:
    """What a single token reads: of many pooled rows only those that are picked."""
    return context if picked is None else context.picked(picked)
