"""What a rank reads from its memory for one decode step, in bytes: the least it can take.

Weights are read once, however many sequences share the step: all of them but the embedding, of
which a row is looked up, and of the routed experts those that some sequence chose. Which these are
is chance; they are counted as if every choice were independent and all experts alike. Of the
caches each sequence reads its window, and the rows that pools have or that are picked of them.
Activations and writes are left out, as they are small, but for what indexers make of all rows: a
score for each of their heads, written and read. Behind many tokens these are as large as the rows.
"""

from collections.abc import Mapping

from dsv4_tp.core import CacheRows, DType
from dsv4_tp.modelspec import ModelSpec
from dsv4_tp.plan.cache import dtype_bytes
from dsv4_tp.rules import index_row_bytes, row_bytes

_EXPERTS, _EMBED = "experts", "embed"  # kinds of the sharding table


def step_reads(
    kinds: Mapping[str, int],
    spec: ModelSpec,
    dtype: DType,
    rows: CacheRows,
    *,
    batch: int,
    context: int,
    drafts: int = 0,
) -> dict[str, int]:
    """What a rank reads for a step of `batch` sequences that have `context` tokens each, by kind.

    `kinds` are the bytes of its weights by the kinds of the sharding table; those of the caches
    follow them. With `drafts` behind each sequence that many more tokens choose experts.
    """
    weights = {kind: size for kind, size in kinds.items() if kind != _EMBED}
    if _EXPERTS in weights:
        chosen = touched_experts(spec, batch * (1 + drafts))
        weights[_EXPERTS] = round(weights[_EXPERTS] * chosen)
    caches = _cache_bytes(spec, dtype, rows, context)
    return {**weights, **{kind: batch * size for kind, size in caches.items()}}


def touched_experts(spec: ModelSpec, batch: int) -> float:
    """The share of a layer's routed experts that at least one of so many tokens is sent to."""
    return 1 - (1 - spec.num_experts_per_tok / spec.n_routed_experts) ** batch


def _cache_bytes(spec: ModelSpec, dtype: DType, rows: CacheRows, context: int) -> dict[str, int]:
    """Of one sequence, by all layers: rows attended to, rows scored, and scores of each head."""
    number = dtype_bytes(dtype)
    counts = [rows_read(spec, ratio, context) for ratio in spec.compress_ratios]
    held, indexed = (sum(column) for column in zip(*counts, strict=True))
    return {
        "cached rows": held * row_bytes(spec, rows, number),
        "rows of indexers": indexed * index_row_bytes(spec, rows, number),
        "scores of indexers": indexed * spec.index_n_heads * 2 * number,
    }


def rows_read(spec: ModelSpec, ratio: int, context: int) -> tuple[int, int]:
    """What a token behind `context` others reads of one layer: rows attended to, rows scored."""
    window = min(context, spec.sliding_window)
    pooled = context // ratio if ratio else 0
    if ratio != 4 or pooled <= spec.index_topk:
        return window + pooled, 0
    return window + spec.index_topk, pooled
