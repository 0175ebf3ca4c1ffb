"""How much memory a rank needs for a moment, beside its weights and caches: an upper bound.

A prompt is fed in chunks. What lives through a whole chunk:

    kept       what slices in the caches keep alive: a chunk's rows and open windows, all layers
    streams    the residual, before and after a layer

On top of it the larger of the two stages that look back over the context,

    indexing   matches of the indexer's heads with all pooled rows [heads, L, rows] in float32
    attending  scores [heads, L, rows] in float32: as they come, with the sinks, after the softmax

and the largest of the others; for MLX allocates ahead of what it frees, so that neighbours overlap.

    mixing     hyper-connections: the streams in float32, several times
    pooling    a compressor: keys, scores and windows in float32
    experts    a row for each token and chosen expert, and the channels between
    logits     a matrix that multiplies float32 is cast to it whole, and the head is the largest

`indexing` and `attending` grow with the chunk times the context, so they are what a long context
costs with the present attention; a smaller chunk makes both smaller. The factors were counted in
the model's code and hold against `mx.get_peak_memory()` on the CPU backend (tests/plan). A GPU runs
ahead of its deallocations, so on a Mac the figures still have to be seen.
"""

from dataclasses import dataclass

from dsv4_tp.core import DType, Part
from dsv4_tp.modelspec import ModelSpec
from dsv4_tp.plan.cache import F32_BYTES, dtype_bytes, pool_width


@dataclass(frozen=True, slots=True)
class Buffers:
    """The buffers of a rank that is fed `chunk` tokens at a time, up to `context` tokens."""

    spec: ModelSpec
    part: Part
    dtype: DType
    context: int
    chunk: int

    @property
    def total(self) -> int:
        """Bytes at the worst moment."""
        ratios = set(self.spec.compress_ratios)
        back = max(max(self._indexing(ratio), self._attending(ratio)) for ratio in ratios)
        pooling = max(map(self._pooling, ratios))
        others = max(pooling, self._mixing(), self._experts(), self._logits())
        return self._kept() + self._streams() + back + others

    @property
    def _length(self) -> int:
        return min(self.chunk, self.context)

    @property
    def _act(self) -> int:
        return dtype_bytes(self.dtype)

    @property
    def _casts(self) -> bool:
        """Whether what is computed in float32 has to be copied for it."""
        return self.dtype is not DType.FLOAT32

    @property
    def _hidden(self) -> int:
        return self._length * self.spec.hidden_size

    def _kept(self) -> int:
        return sum(self._kept_by(ratio) for ratio in self.spec.compress_ratios)

    def _kept_by(self, ratio: int) -> int:
        spec = self.spec
        window = (spec.sliding_window + self._length) * spec.head_dim * self._act
        return window + 2 * (self._length + ratio) * self._pool_widths(ratio) * F32_BYTES

    def _pool_widths(self, ratio: int) -> int:
        """Channels of a token in the compressors of a layer."""
        own = pool_width(ratio, self.spec.head_dim) if ratio else 0
        return own + (pool_width(ratio, self.spec.index_head_dim) if ratio == 4 else 0)

    def _streams(self) -> int:
        return 2 * self._hidden * self.spec.hc_mult * self._act

    def _mixing(self) -> int:
        copies = 8 if self._casts else 5
        return copies * self._hidden * self.spec.hc_mult * F32_BYTES

    def _pooling(self, ratio: int) -> int:
        """kv, score, score with its position, both again by windows of twice the slots, softmax."""
        width = self._pool_widths(ratio)
        matrices = 2 * self.spec.hidden_size * width if self._casts else 0
        return (10 * (self._length + ratio) * width + matrices + 2 * self._hidden) * F32_BYTES

    def _indexing(self, ratio: int) -> int:
        if ratio != 4:
            return 0
        spec, rows = self.spec, self.context // ratio
        queries = 3 * spec.index_n_heads * self._length * spec.index_head_dim
        keys = 3 * rows * spec.index_head_dim
        matches = (spec.index_n_heads + 4) * self._length * rows
        return (queries + keys + matches) * F32_BYTES

    def _attending(self, ratio: int) -> int:
        spec, heads = self.spec, len(self.part.heads)
        rows = self.context // ratio if ratio else 0
        keys = spec.sliding_window + self._length + rows
        scores = 3 * heads * self._length * (keys + 1)
        queries = 5 * heads * self._length * spec.head_dim
        latents = 3 * self._length * spec.o_groups * spec.o_lora_rank
        masks = self._length * (keys + 3 * rows)
        return (scores + queries + latents + masks + 3 * keys * spec.head_dim) * F32_BYTES

    def _experts(self) -> int:
        spec, part = self.spec, self.part
        rows = self._length * (spec.num_experts_per_tok if len(part.experts) else 0)
        whole, inner = (6, 9) if self._casts else (4, 5)
        routed = rows * (whole * spec.hidden_size + inner * len(part.expert_width))
        shared = 5 * self._length * len(part.shared_width)
        return (routed + shared + 3 * self._hidden) * F32_BYTES

    def _logits(self) -> int:
        head = len(self.part.vocab) * self.spec.hidden_size
        cast = head if self._casts else 0
        return (cast + 4 * self.spec.vocab_size) * F32_BYTES
