"""Weights to start from: seeded, and unequal where equal ones would stay equal for ever."""

import math
from collections.abc import Iterable

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from dsv4_tp.model import Model
from dsv4_tp.modelspec import ModelSpec
from examples.demo_model.trees import flat
from examples.demo_model.wiring import wire

# How far a sublayer's mixing weights follow the streams at first; the rest is their base.
_MIX_SCALE = 0.1
_DIAGONAL = 4.0  # of comb before Sinkhorn: streams start nearly apart
_PRE = 1.5  # a sublayer reads one stream more than the others, each another one


def initialise(model: Model, spec: ModelSpec, *, seed: int, token_counts: Iterable[int]) -> None:
    """Fills every parameter of a whole model.

    Args:
        model: with MTP stages.
        spec: its numbers.
        seed: of every random number.
        token_counts: how often each token is seen, [V]; hash layers spread them over experts.
    """
    mx.random.seed(seed)
    counts = list(token_counts)
    arrays = flat(model.parameters()).items()
    model.load_weights([(name, _value(name, array, spec)) for name, array in arrays])
    common = mx.random.normal((spec.hidden_size,))
    model.embed.weight = model.embed.weight + common
    # A token that was found is written as its embedding, so it is read as one.
    model.head.weight = (model.embed.weight - common) / spec.hidden_size**0.5
    for number, block in enumerate((*model.layers, *model.mtp)):
        for place, mixing in enumerate((block.hc_attn, block.hc_ffn)):
            mixing.base = _base(spec.hc_mult, stream=(2 * number + place) % spec.hc_mult)
        if "tid2eid" in block.ffn.gate:
            table = balanced_table(counts, spec.n_routed_experts, spec.num_experts_per_tok, seed)
            block.ffn.gate.tid2eid = mx.array(table)
        if number == 0 or block.attn.ratio == 4:
            wire(block.attn, spec, common, local=number == 0)
    mx.eval(model.parameters())


def _value(name: str, array: mx.array, spec: ModelSpec) -> mx.array:
    if array.ndim == 1 or array.dtype != mx.float32:
        return mx.full(array.shape, _MIX_SCALE) if name.endswith(".scale") else array
    spread = 1 / math.sqrt(array.shape[-1])
    if name.endswith(("wo_b.weight", "w2.weight")):
        # What is added to the streams starts small, and less with depth.
        spread /= math.sqrt(2 * spec.num_hidden_layers)
    if name == "embed.weight":
        spread = 1.0
    if name.endswith("ape"):
        spread = 0.5
    return mx.random.normal(array.shape) * spread


def _base(n: int, *, stream: int) -> mx.array:
    """[(2 + n) * n]: read `stream` most, write to all alike, keep the streams apart."""
    pre = [_PRE if k == stream else -_PRE for k in range(n)]
    comb = [_DIAGONAL if j == k else 0.0 for j in range(n) for k in range(n)]
    return mx.array([*pre, *[0.0] * n, *comb])


def balanced_table(counts: list[int], experts: int, topk: int, seed: int) -> NDArray[np.int32]:
    """tid2eid [V, topk]: frequent tokens first, each to the experts with the least to do."""
    rng = np.random.Generator(np.random.PCG64(seed))
    loads = np.zeros(experts)
    table = np.zeros((len(counts), topk), dtype=np.int32)
    for token in np.argsort(-np.asarray(counts), kind="stable"):
        order = np.lexsort((rng.random(experts), loads))
        table[token] = order[:topk]
        loads[order[:topk]] += counts[token] + 1
    return table
