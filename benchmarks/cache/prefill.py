"""What a chunk of a prompt needs for a moment, beside the cache, against the plan's bound."""

from dataclasses import dataclass

import mlx.core as mx

from benchmarks.cache.layers import filled, narrow_spec, random_layer, tokens
from dsv4_tp.core import DType
from dsv4_tp.plan.buffers import Buffers


@dataclass(frozen=True, slots=True)
class Prefill:
    """One chunk fed to one layer, the last of its context."""

    ratio: int
    context: int
    chunk: int
    peak_bytes: int  # beside weights, input and what the cache holds afterwards
    bound_bytes: int

    def __str__(self) -> str:
        return (
            f"ratio {self.ratio:3}, {self.chunk:4} tokens at {self.context}: "
            f"{self.peak_bytes / 1e6:.0f} MB at the peak, bound {self.bound_bytes / 1e6:.0f}"
        )


def prefill(ratio: int, chunk: int, context: int = 64 << 10) -> Prefill:
    """The last `chunk` of `context` tokens, of one layer of this kind."""
    spec = narrow_spec(ratio)
    layer, cache = random_layer(spec, ratio), filled(spec, ratio, context - chunk)
    x = tokens(chunk, spec)
    mx.synchronize()
    mx.clear_cache()
    before = mx.get_active_memory() - cache.nbytes
    mx.reset_peak_memory()
    out = layer(x, cache)
    mx.eval(out, cache.state)
    mx.synchronize()
    peak = mx.get_peak_memory() - before - cache.nbytes
    bound = Buffers(spec, spec.whole, DType.BFLOAT16, context, chunk).attention
    return Prefill(ratio, context, chunk, peak, bound)
