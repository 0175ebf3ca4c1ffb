"""Attention heads that can look back from the start.

Left to random weights, a model learns late and all at once to find a word by an earlier one like
it: nothing is gained by half of that skill. So its two halves are given at the start, and training
makes what it likes of them:

- The heads of the first layer look one, two, three, ... tokens back and add what they see: each
  token's vector then knows the words before it.
- In layers with an indexer half of the heads, and of the indexer's, compare by likeness: queries
  and pooled rows show the same random projection of their vectors. What they find they add
  likewise. Window rows do not show it, or each token would find itself.
"""

import math

import mlx.core as mx
import mlx.nn as nn

from dsv4_tp.model.attention import Attention
from dsv4_tp.model.compressor import Compressor
from dsv4_tp.modelspec import ModelSpec

_PAIRS = 12  # the fastest rotary pairs, which tell neighbours apart
_TURNED = 0.3  # of a comparing head's channels with rotary embedding, over the others
_EVEN = 0.2  # of the scores that weigh the tokens of a row, over random ones
_FOUND = 0.5  # how much of what a head sees is added


def wire(attn: Attention, spec: ModelSpec, common: mx.array, *, local: bool) -> None:
    """Set the weights of one layer's attention.

    Args:
        attn: of a whole model, with random weights.
        spec: the model's numbers.
        common: what all embeddings have in common, [D]: the only thing a head that goes by
            position alone can hold on to.
        local: look back by position; else by likeness, in a layer with an indexer.
    """
    plain = spec.head_dim - spec.qk_rope_head_dim
    common = common / mx.linalg.norm(common)
    seen = mx.random.normal((plain, spec.hidden_size)) / math.sqrt(spec.hidden_size)
    seen = seen - (seen @ common)[:, None] * common  # it would make all tokens look alike
    _write_back(attn, spec, seen)
    if local:
        _put(attn.wkv, (slice(plain), slice(None)), seen)
        _look_back(attn, spec, common)
    else:
        _put(attn.wq_a, (slice(plain), slice(None)), seen)
        _compare(attn.wq_b, spec.num_attention_heads, plain)
        _compare(attn.indexer.wq_b, spec.index_n_heads, plain)
        _show(attn.compressor, seen)
        _show(attn.indexer.compressor, seen)


def _look_back(attn: Attention, spec: ModelSpec, common: mx.array) -> None:
    """Head h has its highest score h + 1 tokens back."""
    plain, width = spec.head_dim - spec.qk_rope_head_dim, spec.qk_rope_head_dim
    keys = mx.zeros((width, 1))
    keys[: 2 * _PAIRS : 2] = math.sqrt(plain / _PAIRS)
    _put(attn.wkv, (slice(plain, None), slice(None)), keys * common)
    _put(attn.wq_a, (slice(1), slice(None)), common[None])
    queries = mx.zeros((spec.num_attention_heads, spec.head_dim, spec.q_lora_rank))
    for head in range(spec.num_attention_heads):
        for pair in range(_PAIRS):
            angle = (head + 1) * float(attn.rope.frequencies[pair])
            queries[head, plain + 2 * pair, 0] = math.cos(angle)
            queries[head, plain + 2 * pair + 1, 0] = -math.sin(angle)
    attn.wq_b.weight = queries.flatten(0, 1)


def _compare(wq_b: nn.Linear, heads: int, plain: int) -> None:
    """Every other head takes the latent's first channels as they are."""
    weight = wq_b.weight.reshape(heads, -1, wq_b.weight.shape[-1])
    weight[::2, :plain] = mx.eye(plain, weight.shape[-1])
    weight[::2, plain:] *= _TURNED
    wq_b.weight = weight.flatten(0, 1)


def _show(compressor: Compressor, seen: mx.array) -> None:
    """Rows are nearly means, whose channels without rotary embedding are the projection."""
    compressor.wgate.weight = _EVEN * compressor.wgate.weight
    compressor.ape = _EVEN * compressor.ape
    for first in range(0, compressor.wkv.weight.shape[0], compressor.head):
        _put(compressor.wkv, (slice(first, first + len(seen)), slice(None)), seen)


def _write_back(attn: Attention, spec: ModelSpec, seen: mx.array) -> None:
    """What the heads of an output group see is added up and turned back into a vector."""
    plain, heads = len(seen), spec.heads_per_group
    rank = min(plain, spec.o_lora_rank)
    weight = attn.wo_a[0].weight.reshape(spec.o_groups, spec.o_lora_rank, heads, spec.head_dim)
    weight[:, :rank, :, :plain] = mx.eye(rank, plain)[:, None]
    attn.wo_a[0].weight = weight.reshape(attn.wo_a[0].weight.shape)
    columns = attn.wo_b.weight.reshape(spec.hidden_size, spec.o_groups, spec.o_lora_rank)
    columns[:, :, :rank] = _FOUND * seen.T[:, None, :rank]
    attn.wo_b.weight = columns.flatten(1)


def _put(linear: nn.Linear, place: tuple[slice, slice], values: mx.array) -> None:
    weight = linear.weight
    weight[place] = values
    linear.weight = weight
