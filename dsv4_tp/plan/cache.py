"""What a rank's caches hold, in bytes, after a number of tokens of one sequence.

Follows `model/cache.py` array by array, to the byte. Every rank holds all of it: one row per
token, key and value at once, serves all heads.
"""

from collections import Counter

from dsv4_tp.config import MOST_DRAFTS
from dsv4_tp.core import CacheRows, DType
from dsv4_tp.modelspec import ModelSpec
from dsv4_tp.rules import REWIND, capacity, index_row_bytes, reach, row_bytes

F32_BYTES = 4
_MODEST_TOKENS = 8192  # of a conversation


def cache_bytes(
    spec: ModelSpec,
    tokens: int,
    dtype: DType,
    rows: CacheRows = CacheRows.EXACT,
    *,
    mtp: bool = False,
) -> int:
    """What all layers hold after `tokens` tokens: `rows`, of activations of `dtype`.

    With the MTP stage, which is a layer of a window, and with drafts behind them if `mtp`.
    """
    tokens += MOST_DRAFTS if mtp and tokens else 0
    ratios = (*spec.compress_ratios, 0) if mtp else spec.compress_ratios
    number = dtype_bytes(dtype)
    sizes = row_bytes(spec, rows, number), index_row_bytes(spec, rows, number)
    layers = Counter(ratios if tokens else ())
    return sum(count * _layer(spec, ratio, tokens, sizes) for ratio, count in layers.items())


def room_bytes(
    spec: ModelSpec,
    context: int,
    batch: int,
    dtype: DType,
    rows: CacheRows = CacheRows.EXACT,
    *,
    mtp: bool = False,
) -> int:
    """For the caches of `batch` sequences: one of the whole context, the others modest ones."""
    others = (batch - 1) * cache_bytes(spec, min(context, _MODEST_TOKENS), dtype, rows, mtp=mtp)
    return cache_bytes(spec, context, dtype, rows, mtp=mtp) + others


def _layer(spec: ModelSpec, ratio: int, tokens: int, sizes: tuple[int, int]) -> int:
    """`sizes` are the bytes of an attention row and of an index row."""
    row, index_row = sizes
    held = _window(spec) * row
    if ratio:
        held += _tail(ratio, spec.head_dim) + pool_rows(ratio, tokens) * row
    if ratio == 4:
        held += _tail(ratio, spec.index_head_dim) + pool_rows(ratio, tokens) * index_row
    return held


def _window(spec: ModelSpec) -> int:
    """The rows before the next token that it sees beside its own, and those to rewind by."""
    return spec.sliding_window - 1 + REWIND


def _tail(ratio: int, head: int) -> int:
    """kv and score, in float32, of the tokens that further rows may need."""
    return (reach(ratio) + REWIND) * 2 * pool_width(ratio, head) * F32_BYTES


def pool_rows(ratio: int, tokens: int) -> int:
    """A row for each complete window, and the room that the pool has grown by."""
    return capacity(tokens // ratio)


def pool_width(ratio: int, head: int) -> int:
    """The channels of a token in a compressor whose rows are `head` wide."""
    return 2 * head if ratio == 4 else head


def dtype_bytes(dtype: DType) -> int:
    """Of one number."""
    return F32_BYTES if dtype is DType.FLOAT32 else 2
