"""One token after the other: what a step takes at a context, and what is left after many."""

import gc
import time
from dataclasses import dataclass
from statistics import median

import mlx.core as mx

from benchmarks.cache.layers import (
    filled,
    narrow_spec,
    parameters,
    random_layer,
    real_spec,
    tokens,
)
from benchmarks.counts import operations
from dsv4_tp.model.attention import Attention
from dsv4_tp.model.cache import LayerCache
from dsv4_tp.modelspec import ModelSpec

ROUNDS, FIRST_ROUNDS = 24, 4  # the first ones are not timed
SETTLED = 512  # tokens after which a layer has seen every kind of step
APART = 128  # steps between two looks at what is held


@dataclass(frozen=True, slots=True)
class Decode:
    """One token decoded by one layer."""

    ratio: int
    context: int
    time_ratio: float  # to the shortest context
    row_bytes: int  # rows that it must read
    row_ratio: float
    byte_ratio: float  # the layer's weights counted too
    operations: int

    def __str__(self) -> str:
        return (
            f"ratio {self.ratio:3} at {self.context:7}: time {self.time_ratio:.2f}, must touch "
            f"{self.row_bytes / 1e6:.2f} MB of rows ({self.row_ratio:.1f}; with the weights "
            f"{self.byte_ratio:.2f}), {self.operations} operations"
        )


@dataclass(frozen=True, slots=True)
class Endurance:
    """What many steps leave behind; the first hundreds are not looked at, as MLX settles."""

    ratio: int
    steps: int
    operations: tuple[int, int]  # of the dearest step, among the first and among the last ones
    left_bytes: int  # the most that MLX held beside the cache, over the least
    left_arrays: int  # the same of the arrays that Python knows
    waiting: int  # operations that an evaluated cache still waits for, at most

    def __str__(self) -> str:
        first, last = self.operations
        return (
            f"ratio {self.ratio:3}, {self.steps} steps: {first} operations in the dearest of the "
            f"first, {last} of the last; grown by {self.left_bytes} bytes and {self.left_arrays} "
            f"arrays; {self.waiting} operations waiting"
        )


def decodes(model: str, ratio: int, contexts: tuple[int, ...]) -> list[Decode]:
    """A token decoded at each context by one layer of this kind.

    They take turns, so that whatever else this machine does, it does to all of them.
    """
    spec = real_spec(model)
    layer = random_layer(spec, ratio)
    caches = [filled(spec, ratio, at) for at in contexts]
    times = [[_step(layer, cache, spec)[0] for cache in caches] for _ in range(ROUNDS)]
    timed = times[FIRST_ROUNDS:]
    row_bytes = [_row_bytes(spec, ratio, at) for at in contexts]
    weights = sum(array.nbytes for _, array in parameters(layer))
    return [
        Decode(
            ratio,
            at,
            median(each[n] / each[0] for each in timed),
            size,
            size / row_bytes[0],
            (size + weights) / (row_bytes[0] + weights),
            _step(layer, cache, spec)[1],
        )
        for n, (at, size, cache) in enumerate(zip(contexts, row_bytes, caches, strict=True))
    ]


def _step(layer: Attention, cache: LayerCache, spec: ModelSpec) -> tuple[float, int]:
    """Seconds of a step, and the operations of its graph."""
    x = tokens(1, spec)
    began_s = time.perf_counter()
    out = layer(x, cache)
    built_s = time.perf_counter() - began_s
    count = operations(out, *cache.state)
    began_s = time.perf_counter()
    mx.eval(out, cache.state)
    mx.synchronize()
    return built_s + time.perf_counter() - began_s, count


def _row_bytes(spec: ModelSpec, ratio: int, context: int) -> int:
    """Rows that one token reads: its window, the pool's, and those that are scored."""
    window = min(context, spec.sliding_window)
    if not ratio:
        return 2 * window * spec.head_dim
    pooled = context // ratio
    if ratio != 4:
        return 2 * (window + pooled) * spec.head_dim
    scored = pooled if pooled > spec.index_topk else 0
    read = min(pooled, spec.index_topk)
    return 2 * ((window + read) * spec.head_dim + scored * spec.index_head_dim)


def endurance(ratio: int, steps: int, *, context: int = 8 << 10) -> Endurance:
    """`steps` tokens after a context, and what they left."""
    spec = narrow_spec(ratio)
    layer, cache = random_layer(spec, ratio), filled(spec, ratio, context)
    first = _most_operations(layer, cache, spec)
    looks: list[tuple[int, int, int]] = []
    for step in range(steps - 2 * SETTLED):
        mx.eval(layer(tokens(1, spec), cache), cache.state)
        if step % APART == 0:
            mx.synchronize()
            held = mx.get_active_memory() - cache.nbytes
            looks.append((held, _arrays(), operations(*cache.state)))
    last = _most_operations(layer, cache, spec)
    held_bytes, arrays, waiting = zip(*looks, strict=True)
    left_bytes, left_arrays = (max(each) - min(each) for each in (held_bytes, arrays))
    return Endurance(ratio, steps, (first, last), left_bytes, left_arrays, max(waiting))


def _most_operations(layer: Attention, cache: LayerCache, spec: ModelSpec) -> int:
    """Of the next steps, as many as show every kind."""
    return max(_step(layer, cache, spec)[1] for _ in range(SETTLED))


def _arrays() -> int:
    """Arrays that are alive in Python."""
    gc.collect()
    return sum(isinstance(each, mx.array) for each in gc.get_objects())
