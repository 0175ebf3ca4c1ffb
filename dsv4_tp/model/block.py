"""One layer, and the MTP stage, which is a layer with a way in and out of its own."""

from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn

from dsv4_tp.core import Part
from dsv4_tp.model.attention import Attention
from dsv4_tp.model.cache import LayerCache
from dsv4_tp.model.division import Division, Undivided
from dsv4_tp.model.fused import Graphs, traced
from dsv4_tp.model.hyper_connections import HyperConnection, HyperHead
from dsv4_tp.model.layers import AllSum, linear
from dsv4_tp.model.mixing import Mix, Mixing
from dsv4_tp.model.moe import MoE
from dsv4_tp.model.rope import Rope
from dsv4_tp.modelspec import ModelSpec


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

    def bundle(self, *, repeats: bool) -> None:
        """See `Model.bundle`."""
        self.attn.bundle()
        self.ffn.bundle()
        self.graphs, self.attn.graphs = (Graphs() if repeats else None for _ in range(2))

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
        return self.hc_attn(streams, self.attn_norm)

    @traced
    def _feed(
        self, x: mx.array, streams: mx.array, mix: tuple[mx.array, ...], ids: mx.array
    ) -> tuple[mx.array, mx.array, tuple[mx.array, ...]]:
        """With attention's answer x: what the experts make of it, the streams, the way back."""
        streams = self.hc_attn.write_back(x, streams, Mix(*mix))
        x, mix = self.hc_ffn(streams, self.ffn_norm)
        return self.ffn(x, ids), streams, mix

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
