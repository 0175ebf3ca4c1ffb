"""The whole model: embedding, layers, head, and the MTP stages that predict one token further."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn

from dsv4_tp.core import CacheRows, Part
from dsv4_tp.model.attention import Attention
from dsv4_tp.model.cache import Cache, LayerCache, make_cache
from dsv4_tp.model.division import Division, Undivided
from dsv4_tp.model.fused import Graphs, traced
from dsv4_tp.model.hyper_connections import HyperConnection, HyperHead
from dsv4_tp.model.layers import AllSum, identity, linear
from dsv4_tp.model.mixing import Mix, Mixing
from dsv4_tp.model.moe import MoE
from dsv4_tp.model.rope import Rope
from dsv4_tp.model.routines import Routines
from dsv4_tp.modelspec import ModelSpec

Begin = Callable[..., None]  # has arrays, or lists of them, computed while more is built


class Sums(NamedTuple):
    """What adds up the shares of all parts, of each kind."""

    attention: AllSum
    experts: AllSum


class Read(NamedTuple):
    """A layer between its attention and its experts."""

    x: mx.array  # attention's answer, the sum of all parts' [B, L, D]
    streams: mx.array  # those that it has yet to return to
    mix: tuple[mx.array, ...]  # and how


class Block(nn.Module):
    """One layer: attention, then experts, each between its hyper-connections."""

    def __init__(
        self,
        spec: ModelSpec,
        part: Part,
        *,
        ratio: int,
        hashed: bool,
        rope: Rope,
        sums: Sums,
        mixing: Mixing,
        division: Division,
    ) -> None:
        super().__init__()
        self.attn_sum, self.ffn_sum = sums
        self.hc_attn, self.hc_ffn = (HyperConnection(spec, mixing) for _ in range(2))
        self.attn_norm = nn.RMSNorm(spec.hidden_size, eps=spec.rms_norm_eps)
        self.ffn_norm = nn.RMSNorm(spec.hidden_size, eps=spec.rms_norm_eps)
        self.attn = Attention(spec, ratio, part, rope, division)
        self.ffn = MoE(spec, part, hashed=hashed)
        self.graphs: Graphs | None = None

    def bundle(self) -> None:
        """See `Model.bundle`."""
        self.attn.bundle()
        self.ffn.bundle()
        self.graphs = Graphs()

    def __call__(self, streams: mx.array, ids: mx.array, cache: LayerCache) -> mx.array:
        """Streams [B, L, hc_mult, D] of the tokens ids [B, L] -> the layer's streams."""
        return self.feed(self.attend(streams, cache), ids)

    def attend(self, streams: mx.array, cache: LayerCache) -> Read:
        """What heads read, for the streams [B, L, hc_mult, D] of tokens appended to the cache."""
        x, mix = self._enter(streams)
        return Read(self.attn_sum(self.attn(x, cache)), streams, mix)

    def feed(self, read: Read, ids: mx.array) -> mx.array:
        """The layer's streams, when experts had what was read for the tokens ids [B, L]."""
        x, streams, mix = self._feed(*read, ids)
        return self._leave(self.ffn_sum(x), streams, mix)

    @traced
    def _enter(self, streams: mx.array) -> tuple[mx.array, tuple[mx.array, ...]]:
        """What attention is asked, [B, L, D], and how its answer returns to the streams."""
        x, mix = self.hc_attn(streams)
        return self.attn_norm(x), mix

    @traced
    def _feed(
        self, x: mx.array, streams: mx.array, mix: tuple[mx.array, ...], ids: mx.array
    ) -> tuple[mx.array, mx.array, tuple[mx.array, ...]]:
        """With attention's answer x: what the experts make of it, the streams, the way back."""
        streams = self.hc_attn.write_back(x, streams, Mix(*mix))
        x, mix = self.hc_ffn(streams)
        return self.ffn(self.ffn_norm(x), ids), streams, mix

    @traced
    def _leave(self, x: mx.array, streams: mx.array, mix: tuple[mx.array, ...]) -> mx.array:
        """The streams with the experts' answer x."""
        return self.hc_ffn.write_back(x, streams, Mix(*mix))


class MTPStage(Block):
    """Predicts the token after the next from a token's streams and the next token.

    Its block is a window-only layer with a cache of its own; embedding and head are the model's.
    """

    def __init__(
        self, spec: ModelSpec, part: Part, *, rope: Rope, sums: Sums, mixing: Mixing
    ) -> None:
        super().__init__(
            spec,
            part,
            ratio=0,
            hashed=False,
            rope=rope,
            sums=sums,
            mixing=mixing,
            division=Undivided(),
        )
        size = spec.hidden_size
        self.e_proj, self.h_proj = linear(size, size), linear(size, size)
        self.enorm = nn.RMSNorm(size, eps=spec.rms_norm_eps)
        self.hnorm = nn.RMSNorm(size, eps=spec.rms_norm_eps)
        self.norm = nn.RMSNorm(size, eps=spec.rms_norm_eps)
        self.hc_head = HyperHead(spec)

    def note(self, joined: mx.array, cache: LayerCache) -> None:
        """Appends tokens to the memory, and computes nothing else of them."""
        x, _ = self._enter(joined)
        self.attn.note(x, cache)

    def joined(self, streams: mx.array, embedded: mx.array) -> mx.array:
        """Streams [B, L, hc_mult, D] and next tokens' embeddings [B, L, D] -> the block's input."""
        return self.e_proj(self.enorm(embedded))[..., None, :] + self.h_proj(self.hnorm(streams))


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
        mixing, turning = routines or Routines.plain(spec)
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
        on a GPU repeats what it has built, with the weights as they were then.
        """
        for block in (*self.layers, *(self.mtp if self.drafts else ())):
            block.bundle()

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
