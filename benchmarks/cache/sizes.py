"""Bytes that the caches of a whole model hold."""

from collections import Counter
from dataclasses import dataclass

import mlx.core as mx

from benchmarks.cache.layers import filled, real_spec, rows
from dsv4_tp.modelspec import ModelSpec

SMALL = 8 << 10
THEORY_BYTES = {"flash": 6_880, "pro": 9_848}  # per token in bfloat16, of rows alone


@dataclass(frozen=True, slots=True)
class Size:
    """The memory of a whole model, all its layers counted."""

    model: str
    bytes_per_token: float  # between 8K and more
    over_theory: float
    fixed_bytes: int
    most_bytes: int  # at the longest context
    most_theory_bytes: int
    growth_peak: float  # the most that is held while a pool grows, over what it then is

    def __str__(self) -> str:
        return (
            f"{self.model}: {self.bytes_per_token:.0f} bytes per token, "
            f"{self.over_theory:.3f} of theory; {self.fixed_bytes / 1e6:.1f} MB fixed; "
            f"at 1M tokens {self.most_bytes / 1e9:.2f} GB, "
            f"theory {self.most_theory_bytes / 1e9:.2f}; {self.growth_peak:.2f} while a pool grows"
        )


def size_of(model: str, *, large: int = 128 << 10, most: int = 1 << 20) -> Size:
    """What the caches of the whole model take at 8K, `large` and `most` tokens."""
    spec = real_spec(model)
    small_bytes, large_bytes, most_bytes = (
        _model_bytes(spec, tokens) for tokens in (SMALL, large, most)
    )
    per_token = (large_bytes - small_bytes) / (large - SMALL)
    theory = THEORY_BYTES[model]
    return Size(
        model,
        per_token,
        per_token / theory,
        round(small_bytes - per_token * SMALL),
        most_bytes,
        theory * most,
        _growth_peak(spec),
    )


def _model_bytes(spec: ModelSpec, tokens: int) -> int:
    counts = Counter(spec.compress_ratios)
    return sum(count * filled(spec, ratio, tokens).nbytes for ratio, count in counts.items())


def _growth_peak(spec: ModelSpec) -> float:
    """Of all layers at 64K tokens, of which one's widest pool grows."""
    start = 64 << 10
    cache = filled(spec, 4, start)
    mx.clear_cache()
    others, extra = mx.get_active_memory() - cache.nbytes, 0
    for first in range(start, start + 4096, 128):
        mx.reset_peak_memory()
        (pool,) = cache.pools
        pool.rows.write(pool.complete(first), rows(32, spec.head_dim))
        mx.eval(cache.state)
        extra = max(extra, mx.get_peak_memory() - others - cache.nbytes)
    return 1 + extra / _model_bytes(spec, start)
