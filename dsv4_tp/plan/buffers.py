"""How much memory a rank needs for a moment, beside its weights and caches: an upper bound.

A prompt is fed in chunks. What lives through a whole chunk:

    kept       what slices in the caches keep alive: a chunk's rows and open windows, all layers
    streams    the residual, before and after a layer
    growing    a pool's old place, while its rows are copied to the next
    turns      the latest of both rotary tables, a complex number for each pair of channels

On top of it the larger of two stages that look back over the context, in runs of l queries,

    indexing   matches of the indexer's heads with pooled rows, and the rows' scores [l, rows];
               the numbers of the rows that are picked, of all queries
    attending  scores [heads, l, keys] in float32, as they come, with the sinks, after the softmax;
               of layers that pick rows, also those of each query [l, topk, head_dim]; two runs'

and the largest of the others; for MLX allocates ahead of what it frees, so that neighbours overlap,
such as all stages of one attention.

    mixing     hyper-connections: the streams in float32, several times
    pooling    a compressor: keys, scores and windows in float32
    experts    a row for each token and chosen expert, and the channels between
    logits     of the whole vocabulary, a few times

A run is as long as its arrays stay small (`rules/memory.py`), so a long context costs little more
than a short one. The factors were counted in the model's code and hold against
`mx.get_peak_memory()` on the CPU backend (tests/plan). A GPU runs ahead of its deallocations, so on
a Mac the figures still have to be seen.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dsv4_tp.core import CacheRows, DType, Part
from dsv4_tp.modelspec import ModelSpec
from dsv4_tp.plan.cache import F32_BYTES, dtype_bytes, pool_rows, pool_width
from dsv4_tp.rules import RUN_BYTES, TURNS, row_bytes, run_length


@dataclass(frozen=True, slots=True)
class Buffers:
    """The buffers of a rank that is fed `chunk` tokens at a time, up to `context` tokens."""

    spec: ModelSpec
    part: Part
    dtype: DType
    context: int
    chunk: int
    rows: CacheRows = CacheRows.EXACT

    @property
    def total(self) -> int:
        """Bytes at the worst moment."""
        others = max(self._pooling(), self._mixing(), self._experts(), self._logits())
        neighbours = self._lasting() + self._back(max) + others
        return self._streams() + max(self.attention, neighbours)

    @property
    def attention(self) -> int:
        """Bytes at the worst moment of a layer's attention."""
        return self._lasting() + self._back(sum) + self._pooling()

    def _lasting(self) -> int:
        return self._kept() + self._growing() + self._turns()

    def _back(self, both: Callable[[Sequence[int]], int]) -> int:
        """Of the two stages that look back over the context, in the worst layer."""
        ratios = set(self.spec.compress_ratios)
        return max(both((self._indexing(ratio), self._attending(ratio))) for ratio in ratios)

    @property
    def _length(self) -> int:
        return min(self.chunk, self.context)

    @property
    def _most(self) -> int:
        """Tokens of a run, at most."""
        return min(self._length, self.spec.sliding_window)

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
        window = (2 * spec.sliding_window + self._length) * spec.head_dim * self._act
        return window + 2 * (self._length + 2 * ratio) * self._pool_widths(ratio) * F32_BYTES

    def _turns(self) -> int:
        return 2 * TURNS * self._length * self.spec.qk_rope_head_dim * F32_BYTES

    def _growing(self) -> int:
        ratios = (ratio for ratio in set(self.spec.compress_ratios) if ratio)
        most = max((pool_rows(ratio, self.context) for ratio in ratios), default=0)
        return most * row_bytes(self.spec, self.rows, self._act)

    def _pool_widths(self, ratio: int) -> int:
        """Channels of a token in the compressors of a layer."""
        own = pool_width(ratio, self.spec.head_dim) if ratio else 0
        return own + (pool_width(ratio, self.spec.index_head_dim) if ratio == 4 else 0)

    def _streams(self) -> int:
        return 2 * self._hidden * self.spec.hc_mult * self._act

    def _mixing(self) -> int:
        copies = 8 if self._casts else 5
        return copies * self._hidden * self.spec.hc_mult * F32_BYTES

    def _pooling(self) -> int:
        return max(map(self._pooling_by, self.spec.compress_ratios))

    def _pooling_by(self, ratio: int) -> int:
        """kv, score, score with its position, both again by windows of twice the slots, softmax."""
        width = self._pool_widths(ratio)
        return (10 * (self._length + ratio) * width + 2 * self._hidden) * F32_BYTES

    def _rows(self, ratio: int) -> int:
        return self.context // ratio if ratio else 0

    @property
    def _picking(self) -> int:
        """Queries of a run that read rows of their own, at most: the more rows, the fewer."""
        spec, heads = self.spec, len(self.part.heads)
        keys = spec.index_topk + 2 * spec.sliding_window
        values = spec.index_topk * spec.head_dim + heads * keys
        return run_length(self._most, F32_BYTES * values)

    def _indexing(self, ratio: int) -> int:
        spec, rows = self.spec, self._rows(ratio)
        if ratio != 4 or rows <= spec.index_topk:
            return 0
        run = self._picking
        queries = 3 * spec.index_n_heads * self._length * spec.index_head_dim
        row_bytes = F32_BYTES * spec.index_n_heads * run
        matches = 2 * min(rows * row_bytes, max(RUN_BYTES, row_bytes))
        scores = min(run * rows * F32_BYTES, max(RUN_BYTES, rows * F32_BYTES))
        numbers = 3 * self._length * spec.index_topk
        return (queries + numbers) * F32_BYTES + matches + 6 * scores

    def _attending(self, ratio: int) -> int:
        spec, heads = self.spec, len(self.part.heads)
        if not heads:
            return 0
        window, rows = spec.sliding_window, self._rows(ratio)
        seen = min(rows, spec.index_topk) if ratio == 4 else rows
        scores = self._scores(seen)
        read = 3 * scores + 3 * scores // heads  # and masks, for all heads at once
        if seen < rows:
            read = max(read, self._picked())
        if min(self._most, self._picking) < self._length:
            read *= 2  # the next run's come before this one's are gone
        queries = 5 * heads * self._length * spec.head_dim
        latents = 3 * self._length * spec.o_groups * spec.o_lora_rank
        shared = 3 * (window + self._length + seen) * spec.head_dim
        return read + (queries + latents + shared) * F32_BYTES

    def _scores(self, rows: int) -> int:
        """Of a run over the window, its own rows and pooled ones: never less for more of them."""
        keys = self.spec.sliding_window + self._most + rows
        query = F32_BYTES * len(self.part.heads) * keys
        return min(self._most * query, max(RUN_BYTES, query))

    def _picked(self) -> int:
        """Of a run: scores six times, and the rows of each query as held and in float32."""
        spec, run, heads = self.spec, self._picking, len(self.part.heads)
        keys = spec.index_topk + spec.sliding_window + run
        values = 6 * heads * run * keys + 2 * run * spec.index_topk * spec.head_dim
        return F32_BYTES * values

    def _experts(self) -> int:
        spec, part = self.spec, self.part
        rows = self._length * (spec.num_experts_per_tok if len(part.experts) else 0)
        whole, inner = (6, 9) if self._casts else (4, 5)
        routed = rows * (whole * spec.hidden_size + inner * len(part.expert_width))
        shared = 5 * self._length * len(part.shared_width)
        return (routed + shared + 3 * self._hidden) * F32_BYTES

    def _logits(self) -> int:
        return 4 * self.spec.vocab_size * F32_BYTES
