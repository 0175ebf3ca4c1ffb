"""Attention layers of the real widths with random weights in bfloat16, and filled memories."""

from dataclasses import replace
from typing import cast

import mlx.core as mx
from mlx.utils import tree_flatten  # pyright: ignore[reportUnknownVariableType]

from benchmarks.synthetic import CONFIGS
from dsv4_tp.model.attention import Attention
from dsv4_tp.model.cache import LayerCache
from dsv4_tp.model.division import Undivided
from dsv4_tp.model.rope import Rope
from dsv4_tp.modelspec import ModelSpec, read_spec

RATIOS = (0, 128, 4)
NARROW = {"hidden_size": 512, "q_lora_rank": 128, "o_lora_rank": 128}


def real_spec(model: str) -> ModelSpec:
    """Of "flash" or "pro"."""
    return read_spec(CONFIGS / f"deepseek-v4-{model}.json")


def narrow_spec(ratio: int) -> ModelSpec:
    """One layer of Flash, but matrices from and to the hidden state that are narrow.

    They are most of the work and none of the memory that is looked at: rows, heads, the indexer
    and how many rows it picks are as they are.
    """
    return replace(real_spec("flash"), compress_ratios=(ratio,), num_hidden_layers=1, **NARROW)


def random_layer(spec: ModelSpec, ratio: int) -> Attention:
    """All heads of one layer."""
    mx.random.seed(0)
    rope = Rope(spec, compressed=bool(ratio))
    layer = Attention(spec, ratio, spec.whole, rope, Undivided())
    weights = ((name, mx.random.normal(old.shape) * 0.02) for name, old in parameters(layer))
    layer.load_weights([(name, array.astype(mx.bfloat16)) for name, array in weights])
    mx.eval(layer.parameters())
    return layer


def parameters(layer: Attention) -> list[tuple[str, mx.array]]:
    """All of them, by name."""
    return cast(list[tuple[str, mx.array]], tree_flatten(layer.parameters()))


def tokens(count: int, spec: ModelSpec) -> mx.array:
    """Random hidden states [1, count, D]."""
    x = rows(count, spec.hidden_size)
    mx.eval(x)
    return x


def filled(spec: ModelSpec, ratio: int, count: int, *, chunk: int = 4096) -> LayerCache:
    """A layer's memory of `count` tokens, of random rows."""
    cache = LayerCache(spec.sliding_window, ratio)
    heads = (spec.head_dim, spec.index_head_dim)
    for first in range(0, count, chunk):
        more = min(chunk, count - first)
        cache.extend(rows(more, spec.head_dim))
        for pool, head in zip(cache.memories[0].pools, heads, strict=False):
            width = 2 * head * (1 + pool.overlaps)
            pool.tail.write(first, rows(min(more, 512), width, mx.float32))
            done = pool.complete(first + more) - pool.complete(first)
            if done:
                pool.rows.write(pool.complete(first), rows(done, head))
        mx.eval(cache.state)
    return cache


def rows(count: int, width: int, dtype: mx.Dtype = mx.bfloat16) -> mx.array:
    """Random ones, [1, count, width]."""
    return mx.random.normal((1, count, width)).astype(dtype)
