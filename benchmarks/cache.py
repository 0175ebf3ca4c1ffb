"""What a context costs: bytes of memory for each token, and what a decoded token must touch.

    python -m benchmarks.cache             a table
    python -m benchmarks.cache --json      the same as one JSON object

One attention layer of each kind, with the real widths of Flash or Pro and random weights, in
bfloat16. Its memory is filled with random rows, as a prompt of that length would leave it; then
tokens are decoded. Bytes are those of the arrays held; times are given as ratios to the shortest
context of the same run.
"""

import argparse
import json
import time
from collections import Counter
from dataclasses import asdict, dataclass
from statistics import median
from typing import cast

import mlx.core as mx
from mlx.utils import tree_flatten  # pyright: ignore[reportUnknownVariableType]

from benchmarks.counts import operations
from benchmarks.synthetic import CONFIGS
from dsv4_tp.model.attention import Attention
from dsv4_tp.model.cache import LayerCache
from dsv4_tp.model.rope import Rope
from dsv4_tp.modelspec import ModelSpec, read_spec

RATIOS = (0, 128, 4)
CONTEXTS = (1 << 10, 8 << 10, 64 << 10, 256 << 10)
SMALL = 8 << 10
DECODED = 12
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


@dataclass(frozen=True, slots=True)
class Decode:
    """One token decoded by one layer."""

    ratio: int
    context: int
    time_ratio: float  # to the shortest context
    touched_bytes: int  # rows that it must read
    touched_ratio: float
    operations: int


def size_of(model: str, *, large: int = 128 << 10, most: int = 1 << 20) -> Size:
    """What the caches of the whole model take at 8K, `large` and `most` tokens."""
    spec = read_spec(CONFIGS / f"deepseek-v4-{model}.json")
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


def filled(spec: ModelSpec, ratio: int, tokens: int, *, chunk: int = 4096) -> LayerCache:
    """A layer's memory of `tokens` tokens of random rows."""
    cache = LayerCache(spec.sliding_window, ratio)
    heads = (spec.head_dim, spec.index_head_dim)
    for first in range(0, tokens, chunk):
        count = min(chunk, tokens - first)
        cache.extend(_rows(count, spec.head_dim))
        for pool, head in zip(cache.pools, heads, strict=False):
            width = 2 * head * (1 + pool.overlaps)
            pool.tail.write((first,), _rows(min(count, 512), width, mx.float32))
            done = pool.complete(first + count) - pool.complete(first)
            if done:
                pool.rows.write((pool.complete(first),), _rows(done, head))
        mx.eval(cache.state)
    return cache


def _rows(count: int, width: int, dtype: mx.Dtype = mx.bfloat16) -> mx.array:
    return mx.random.normal((1, count, width)).astype(dtype)


def _growth_peak(spec: ModelSpec) -> float:
    """Of all layers at 64K tokens, of which one's widest pool grows."""
    start = 64 << 10
    cache = filled(spec, 4, start)
    mx.clear_cache()
    others, extra = mx.get_active_memory() - cache.nbytes, 0
    for first in range(start, start + 4096, 128):
        mx.reset_peak_memory()
        cache.pool.rows.write((cache.pool.complete(first),), _rows(32, spec.head_dim))
        mx.eval(cache.state)
        extra = max(extra, mx.get_peak_memory() - others - cache.nbytes)
    return 1 + extra / _model_bytes(spec, start)


def decodes(model: str, ratio: int, contexts: tuple[int, ...]) -> list[Decode]:
    """A token decoded at each context by one layer of this kind."""
    spec = read_spec(CONFIGS / f"deepseek-v4-{model}.json")
    mx.random.seed(0)
    layer = _random(Attention(spec, ratio, spec.whole, Rope(spec, compressed=bool(ratio))))
    steps = [_decode_s(layer, filled(spec, ratio, at), spec.hidden_size) for at in contexts]
    touched = [_touched_bytes(spec, ratio, at) for at in contexts]
    return [
        Decode(ratio, at, seconds / steps[0][0], size, size / touched[0], count)
        for at, (seconds, count), size in zip(contexts, steps, touched, strict=True)
    ]


def _random(layer: Attention) -> Attention:
    """The same layer with random weights in bfloat16."""
    flat = cast(list[tuple[str, mx.array]], tree_flatten(layer.parameters()))
    weights = ((name, mx.random.normal(array.shape) * 0.02) for name, array in flat)
    layer.load_weights([(name, array.astype(mx.bfloat16)) for name, array in weights])
    mx.eval(layer.parameters())
    return layer


def _decode_s(layer: Attention, cache: LayerCache, hidden: int) -> tuple[float, int]:
    """Seconds of a step, the median of some; and the operations of the last one's graph."""
    times: list[float] = []
    count = 0
    for _ in range(DECODED):
        x = mx.random.normal((1, 1, hidden)).astype(mx.bfloat16)
        mx.eval(x)
        began_s = time.perf_counter()
        out = layer(x, cache)
        count = operations(out, *cache.state)
        mx.eval(out, cache.state)
        times.append(time.perf_counter() - began_s)
    return median(times[2:]), count


def _touched_bytes(spec: ModelSpec, ratio: int, context: int) -> int:
    """Rows that one token reads: its window, the pool's, and those that are scored."""
    rows = min(context, spec.sliding_window)
    if not ratio:
        return 2 * rows * spec.head_dim
    pooled = context // ratio
    if ratio != 4:
        return 2 * (rows + pooled) * spec.head_dim
    scored = pooled if pooled > spec.index_topk else 0
    read = min(pooled, spec.index_topk)
    return 2 * ((rows + read) * spec.head_dim + scored * spec.index_head_dim)


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description="Measure what a context costs.")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    sizes = [size_of(model) for model in ("flash", "pro")]
    steps = [step for ratio in RATIOS for step in decodes("flash", ratio, CONTEXTS)]
    if given.json:
        found = {"sizes": [asdict(one) for one in sizes], "steps": [asdict(one) for one in steps]}
        print(json.dumps(found))
        return
    for size in sizes:
        print(f"{size.model}: {size.bytes_per_token:.0f} bytes per token, ", end="")
        print(f"{size.over_theory:.3f} of theory; {size.fixed_bytes / 1e6:.1f} MB fixed; ", end="")
        print(f"at 1M tokens {size.most_bytes / 1e9:.2f} GB, ", end="")
        print(f"theory {size.most_theory_bytes / 1e9:.2f}; ", end="")
        print(f"{size.growth_peak:.2f} while a pool grows")
    for step in steps:
        print(f"ratio {step.ratio:3} at {step.context:7}: time {step.time_ratio:.2f}, ", end="")
        print(f"must touch {step.touched_bytes / 1e6:.2f} MB ({step.touched_ratio:.1f}), ", end="")
        print(f"{step.operations} operations")


if __name__ == "__main__":
    main()
