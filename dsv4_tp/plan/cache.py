"""What a rank's caches hold, in bytes, after a number of tokens of one sequence.

Follows `model/cache.py` array by array, to the byte. Every rank holds all of it: one row per
token, key and value at once, serves all heads.
"""

from collections import Counter

from dsv4_tp.core import DType
from dsv4_tp.modelspec import ModelSpec

F32_BYTES = 4
_LONGEST_WINDOW = 128  # tokens that a pooled row covers at most


def most_cache_bytes(spec: ModelSpec, context: int, dtype: DType) -> int:
    """The most that the caches hold while a sequence grows to `context` tokens."""
    # Windows that are open weigh more than the rows they become, so the last token is not the
    # peak; each of the last windows' phases is.
    phases = range(max(1, context - _LONGEST_WINDOW + 1), context + 1)
    return max(cache_bytes(spec, tokens, dtype) for tokens in phases)


def cache_bytes(spec: ModelSpec, tokens: int, dtype: DType) -> int:
    """What all layers hold after `tokens` tokens, their activations being `dtype`."""
    layers = Counter(spec.compress_ratios)
    return sum(count * _layer(spec, ratio, tokens, dtype) for ratio, count in layers.items())


def _layer(spec: ModelSpec, ratio: int, tokens: int, dtype: DType) -> int:
    held = _window(spec, tokens, dtype)
    if ratio:
        held += _pool(ratio, spec.head_dim, tokens, dtype)
    if ratio == 4:
        held += _pool(ratio, spec.index_head_dim, tokens, dtype)
    return held


def _window(spec: ModelSpec, tokens: int, dtype: DType) -> int:
    """The rows before the next token that it sees beside its own."""
    return min(tokens, spec.sliding_window - 1) * spec.head_dim * dtype_bytes(dtype)


def _pool(ratio: int, head: int, tokens: int, dtype: DType) -> int:
    """A row for each complete window; kv and score of the tokens in the open one, in float32.

    Where windows overlap, at ratio 4, the last complete one is kept as well.
    """
    rows, open_tokens = divmod(tokens, ratio)
    last_tokens = ratio if ratio == 4 and rows else 0
    per_token = 2 * pool_width(ratio, head) * F32_BYTES
    return rows * head * dtype_bytes(dtype) + (open_tokens + last_tokens) * per_token


def pool_width(ratio: int, head: int) -> int:
    """The channels of a token in a compressor whose rows are `head` wide."""
    return 2 * head if ratio == 4 else head


def dtype_bytes(dtype: DType) -> int:
    """Of one number."""
    return F32_BYTES if dtype is DType.FLOAT32 else 2
