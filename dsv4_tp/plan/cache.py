"""What a rank's caches hold, in bytes, after a number of tokens of one sequence.

Follows `model/cache.py` array by array, to the byte. Every rank holds all of it: one row per
token, key and value at once, serves all heads.
"""

from collections import Counter

from dsv4_tp.core import DType
from dsv4_tp.modelspec import ModelSpec
from dsv4_tp.rules import REWIND, capacity, reach

F32_BYTES = 4


def cache_bytes(spec: ModelSpec, tokens: int, dtype: DType) -> int:
    """What all layers hold after `tokens` tokens, their activations being `dtype`."""
    layers = Counter(spec.compress_ratios) if tokens else Counter[int]()
    return sum(count * _layer(spec, ratio, tokens, dtype) for ratio, count in layers.items())


def _layer(spec: ModelSpec, ratio: int, tokens: int, dtype: DType) -> int:
    held = _window(spec, dtype)
    if ratio:
        held += _tail(ratio, spec.head_dim) + pool_rows(ratio, spec.head_dim, tokens, dtype)
    if ratio == 4:
        head = spec.index_head_dim
        held += _tail(ratio, head) + pool_rows(ratio, head, tokens, dtype)
    return held


def _window(spec: ModelSpec, dtype: DType) -> int:
    """The rows before the next token that it sees beside its own, and those to rewind by."""
    return (spec.sliding_window - 1 + REWIND) * spec.head_dim * dtype_bytes(dtype)


def _tail(ratio: int, head: int) -> int:
    """kv and score, in float32, of the tokens that further rows may need."""
    return (reach(ratio) + REWIND) * 2 * pool_width(ratio, head) * F32_BYTES


def pool_rows(ratio: int, head: int, tokens: int, dtype: DType) -> int:
    """A row for each complete window, and the room that the pool has grown by."""
    return capacity(tokens // ratio) * head * dtype_bytes(dtype)


def pool_width(ratio: int, head: int) -> int:
    """The channels of a token in a compressor whose rows are `head` wide."""
    return 2 * head if ratio == 4 else head


def dtype_bytes(dtype: DType) -> int:
    """Of one number."""
    return F32_BYTES if dtype is DType.FLOAT32 else 2
