"""The whole model: embedding, layers, head, and the MTP stages that predict one token further."""

from collections.abc import Callable
from functools import partial
from typing import TypedDict

import mlx.core as mx
import mlx.nn as nn

from dsv4_tp.core import CacheRows, Part
from dsv4_tp.model.block import Block, MTPStage, Read, Sums
from dsv4_tp.model.cache import Cache, make_cache
from dsv4_tp.model.division import Division, Undivided
from dsv4_tp.model.hyper_connections import HyperHead
from dsv4_tp.model.layers import AllSum, identity, linear
from dsv4_tp.model.rope import Rope
from dsv4_tp.model.routines import Routines
from dsv4_tp.modelspec import ModelSpec

Begin = Callable[..., None]  # has arrays, or lists of them, computed while more is built


class How(TypedDict, total=False):
    """How a `Model` is built, beside what of which model it is."""

    all_sum: AllSum
    attn_sum: AllSum | None
    begin: Begin | None
    halves_from: int | None
    cache_rows: CacheRows
    routines: Routines | None
    division: Division | None


class Model(nn.Module):
    """DeepSeek-V4 on one device, or one part of it whose shares `all_sum` adds up.

    Args:
        spec: the model's numbers.
        part: what this device holds; None for everything.
        all_sum: adds up the parts' outputs, twice per layer.
        attn_sum: does that for attention; None for `all_sum`. Parts with all heads need none.
        begin: told of each layer's arrays when it is built; None: nothing is computed before it is
            asked for.
        halves_from: so many tokens of a call are done in two halves, so that the one is computed
            while the parts add up the other; None: none are.
        mtp: build the MTP stages too.
        cache_rows: how the caches that it makes hold their rows.
        routines: how it does what lies between its products; None for MLX's own operations.
        division: which tokens this device looks up rows for; None for all.
    """

    def __init__(
        self,
        spec: ModelSpec,
        part: Part | None = None,
        *,
        all_sum: AllSum = identity,
        attn_sum: AllSum | None = None,
        begin: Begin | None = None,
        halves_from: int | None = None,
        mtp: bool = False,
        cache_rows: CacheRows = CacheRows.EXACT,
        routines: Routines | None = None,
        division: Division | None = None,
    ) -> None:
        super().__init__()
        part = part or spec.whole
        plain = Routines.plain(spec)
        mixing, turning = routines = routines or plain
        self._is_plain = routines == plain
        self.spec, self.part, self.cache_rows = spec, part, cache_rows
        self._begin, self._halves_from = begin or _later, halves_from
        sums = Sums(attn_sum or all_sum, all_sum)
        ropes = [Rope(spec, compressed=pooled, turning=turning) for pooled in (False, True)]
        self.embed = nn.Embedding(spec.vocab_size, spec.hidden_size)
        build = partial(
            Block, spec, part, sums=sums, mixing=mixing, division=division or Undivided()
        )
        self.layers = [
            build(ratio=ratio, hashed=layer < spec.num_hash_layers, rope=ropes[ratio > 0])
            for layer, ratio in enumerate(spec.compress_ratios)
        ]
        self.norm = nn.RMSNorm(spec.hidden_size, eps=spec.rms_norm_eps)
        self.hc_head = HyperHead(spec)
        if len(part.vocab):
            self.head = linear(spec.hidden_size, len(part.vocab))
        if mtp:
            self.mtp = [
                MTPStage(spec, part, rope=ropes[0], sums=sums, mixing=mixing)
                for _ in range(spec.num_nextn_predict_layers)
            ]

    def bundle(self) -> None:
        """Makes one product of those whose matrices meet the same tokens and are of one format.

        The matrices become views of others, so they must have the values they are to keep. From now
        on a GPU repeats what it has built, with the weights as they were then; but not with kernels
        of our own, which were not tried in that.
        """
        for block in (*self.layers, *(self.mtp if self.drafts else ())):
            block.bundle(repeats=self._is_plain)

    @property
    def drafts(self) -> bool:
        """Whether it has an MTP stage."""
        return "mtp" in self and bool(self.mtp)

    def make_cache(self) -> Cache:
        """An empty memory for one batch of sequences: the layers', then the first MTP stage's."""
        ratios = [*self.spec.compress_ratios, *([0] if self.drafts else [])]
        return make_cache(self.spec, ratios, self.cache_rows)

    def make_mtp_cache(self) -> Cache:
        """An empty memory for the first MTP stage alone."""
        return make_cache(self.spec, [0], self.cache_rows)

    def __call__(self, ids: mx.array, cache: Cache | None = None) -> mx.array:
        """Appends ids [B, L] to the cache -> float32 logits [B, L, rows of head held]."""
        return self.logits(self.streams(ids, cache or self.make_cache()))

    def streams(self, ids: mx.array, cache: Cache) -> mx.array:
        """Appends ids [B, L] to the cache -> the last layer's streams [B, L, hc_mult, D]."""
        if self._halves_from and ids.shape[1] >= self._halves_from:
            return self._in_halves(ids, cache)
        streams = self.embedded(ids)
        for layer, layer_cache in zip(self.layers, cache[: len(self.layers)], strict=True):
            streams = layer(streams, ids, layer_cache)
            self._begin(streams, layer_cache.state)
        return streams

    def _in_halves(self, ids: mx.array, cache: Cache) -> mx.array:
        """The same, each step of a layer for one half of the tokens, then for the other.

        The sum of the one is under way while the other is computed: nothing needs both.
        """
        halves = mx.split(ids, [ids.shape[1] // 2], axis=1)
        streams = [self.embedded(own) for own in halves]
        for layer, layer_cache in zip(self.layers, cache[: len(self.layers)], strict=True):
            reads: list[Read] = []
            for own in streams:
                reads.append(layer.attend(own, layer_cache))
                self._begin(reads[-1].x, layer_cache.state)
            streams.clear()
            for read, own in zip(reads, halves, strict=True):
                streams.append(layer.feed(read, own))
                self._begin(streams[-1])
        return mx.concatenate(streams, axis=1)

    def embedded(self, ids: mx.array) -> mx.array:
        """ids [B, L] -> every stream a copy of the embedding, [B, L, hc_mult, D]."""
        return mx.repeat(self._embed(ids)[..., None, :], self.spec.hc_mult, axis=-2)

    def logits(self, streams: mx.array) -> mx.array:
        """Streams [B, L, hc_mult, D] -> float32 logits [B, L, rows of head held]."""
        return self._head(self.norm(self.hc_head(streams)))

    def mtp_streams(self, streams: mx.array, next_ids: mx.array, cache: Cache) -> mx.array:
        """The first MTP stage's own streams [B, L, hc_mult, D] of the tokens before `next_ids`.

        With the token that `mtp_head` makes of them they can be given back, to look further ahead.

        Args:
            streams: of the tokens before next_ids, by `streams`, [B, L, hc_mult, D].
            next_ids: the tokens that followed, [B, L].
            cache: by `make_cache` or `make_mtp_cache`; the tokens are appended to the stage's.
        """
        return self._stage(self._joined(streams, next_ids), next_ids, cache[-1])

    def mtp_note(self, streams: mx.array, next_ids: mx.array, cache: Cache) -> None:
        """Appends what `mtp_streams` would, for a fraction of the work."""
        self._stage.note(self._joined(streams, next_ids), cache[-1])

    def mtp_head(self, streams: mx.array) -> mx.array:
        """The stage's streams [B, L, hc_mult, D] -> float32 logits [B, L, rows of head held]."""
        return self._head(self._stage.norm(self._stage.hc_head(streams)))

    def mtp_logits(self, streams: mx.array, next_ids: mx.array, cache: Cache) -> mx.array:
        """The logits for the tokens after `next_ids` [B, L]; arguments as of `mtp_streams`."""
        return self.mtp_head(self.mtp_streams(streams, next_ids, cache))

    @property
    def _stage(self) -> MTPStage:
        return self.mtp[0]

    def _joined(self, streams: mx.array, next_ids: mx.array) -> mx.array:
        return self._stage.joined(streams, self._embed(next_ids))

    def _embed(self, ids: mx.array) -> mx.array:
        """ids [B, L] -> [B, L, D] in the dtype of activations."""
        # From mxfp4 and mxfp8 the values come in bfloat16, whatever the model is held in.
        return self.embed(ids).astype(self.norm.weight.dtype)

    def _head(self, x: mx.array) -> mx.array:
        if "head" not in self:
            return mx.zeros((*x.shape[:2], 0), dtype=mx.float32)
        return self.head(x.astype(mx.float32))


def _later(*_: object) -> None:
    """Nothing is begun."""
