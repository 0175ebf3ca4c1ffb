"""Mixture of experts: a gate, routed experts and a shared one, all with a clamped SwiGLU.

The first layers route by a table from token id to experts; the others by the gate's scores plus
a bias that steers the choice but never the weight. Follows Gate, Expert and MoE of the reference.
"""

import mlx.core as mx
import mlx.nn as nn

from dsv4_tp.core import Part, Span
from dsv4_tp.model.fused import fused
from dsv4_tp.model.layers import ExpertLinear, linear
from dsv4_tp.modelspec import ModelSpec

# From this many rows on, sorting them by expert pays for itself.
_SORT_ROWS = 64


class Gate(nn.Module):
    """Chooses `num_experts_per_tok` experts for a token, and their weights."""

    def __init__(self, spec: ModelSpec, *, hashed: bool) -> None:
        super().__init__()
        self.topk, self.route_scale = spec.num_experts_per_tok, spec.routed_scaling_factor
        self.scoring, self.normalise = spec.scoring_func, spec.norm_topk_prob
        self.weight = mx.zeros((spec.n_routed_experts, spec.hidden_size))
        if hashed:
            self.tid2eid = mx.zeros((spec.vocab_size, self.topk), dtype=mx.int32)
        else:
            self.bias = mx.zeros((spec.n_routed_experts,))

    def __call__(self, x: mx.array, ids: mx.array) -> tuple[mx.array, mx.array]:
        """Tokens x [M, D] with ids [M] -> experts [M, topk] and float32 weights [M, topk]."""
        scores = self._scores(x.astype(mx.float32) @ self.weight.T)
        experts = self.tid2eid[ids] if "tid2eid" in self else self._best(scores + self.bias)
        weights = mx.take_along_axis(scores, experts, axis=-1)
        scaled = _shares if self.normalise else _scaled
        return experts, scaled(weights, self.route_scale)

    def _scores(self, logits: mx.array) -> mx.array:
        if self.scoring == "softmax":
            return mx.softmax(logits, axis=-1)
        if self.scoring == "sigmoid":
            return mx.sigmoid(logits)
        return _root_of_softplus(logits)

    def _best(self, scores: mx.array) -> mx.array:
        return mx.argpartition(-scores, self.topk - 1, axis=-1)[..., : self.topk]


class Experts(nn.Module):
    """The routed experts of `held`, each `width` channels wide; the rest is elsewhere."""

    def __init__(self, spec: ModelSpec, held: Span, width: int) -> None:
        super().__init__()
        self.first, self.count, self.limit = held.start, len(held), spec.swiglu_limit
        self.all_held = self.count == spec.n_routed_experts
        self.w1 = ExpertLinear(spec.hidden_size, width, self.count)
        self.w2 = ExpertLinear(width, spec.hidden_size, self.count)
        self.w3 = ExpertLinear(spec.hidden_size, width, self.count)

    def __call__(self, x: mx.array, experts: mx.array, weights: mx.array) -> mx.array:
        """Tokens x [M, D] through experts [M, topk] -> their weighted sum [M, D] in float32."""
        tokens, topk = experts.shape
        if not self.all_held:
            experts, weights = self._local(experts, weights)
        rows = mx.repeat(x, topk, axis=0)
        routed = self._routed_rows if tokens * topk < _SORT_ROWS else self._sorted_rows
        out = routed(rows, experts.flatten(), weights.flatten())
        return out.reshape(tokens, topk, -1).astype(mx.float32).sum(axis=1)

    def _sorted_rows(self, rows: mx.array, experts: mx.array, weights: mx.array) -> mx.array:
        """As `_routed_rows`, with the rows of one expert brought together for the products."""
        order = mx.argsort(experts)
        out = self._routed_rows(rows[order], experts[order], weights[order], in_order=True)
        return out[mx.argsort(order)]

    def _routed_rows(
        self, rows: mx.array, experts: mx.array, weights: mx.array, *, in_order: bool = False
    ) -> mx.array:
        """Row i [M, D] through experts[i], times weights[i] -> [M, D]."""
        rows = rows[:, None]
        gate = self.w1(rows, experts, sorted_rows=in_order)
        up = self.w3(rows, experts, sorted_rows=in_order)
        # The weight goes in before w2, which is linear, so that a row is rounded once.
        inner = _weighted_inner(gate, up, weights[:, None, None], self.limit)
        return self.w2(inner, experts, sorted_rows=in_order)[:, 0]

    def _local(self, experts: mx.array, weights: mx.array) -> tuple[mx.array, mx.array]:
        """Numbers within `held`; an expert that is elsewhere keeps a place with weight zero."""
        local = experts.astype(mx.int32) - self.first
        here = (local >= 0) & (local < self.count)
        return mx.where(here, local, 0), mx.where(here, weights, 0)


class SharedExpert(nn.Module):
    """The expert every token passes; clamped like the routed ones."""

    def __init__(self, spec: ModelSpec, width: int) -> None:
        super().__init__()
        self.limit = spec.swiglu_limit
        self.w1 = linear(spec.hidden_size, width)
        self.w2 = linear(width, spec.hidden_size)
        self.w3 = linear(spec.hidden_size, width)

    def __call__(self, x: mx.array) -> mx.array:
        """[M, D] -> [M, D]."""
        return self.w2(_inner(self.w1(x), self.w3(x), self.limit))


class MoE(nn.Module):
    """Gate and experts of one layer with the experts of `part`; outputs are partial sums."""

    def __init__(self, spec: ModelSpec, part: Part, *, hashed: bool) -> None:
        super().__init__()
        self.gate = Gate(spec, hashed=hashed)
        if len(part.experts) and len(part.expert_width):
            self.experts = Experts(spec, part.experts, len(part.expert_width))
        if len(part.shared_width):
            self.shared_experts = SharedExpert(spec, len(part.shared_width))

    def __call__(self, x: mx.array, ids: mx.array) -> mx.array:
        """Tokens x [B, L, D] with ids [B, L] -> this part's share of [B, L, D]."""
        flat = x.reshape(-1, x.shape[-1])
        out = mx.zeros(flat.shape, dtype=mx.float32)
        if "experts" in self:
            out = out + self.experts(flat, *self.gate(flat, ids.flatten()))
        if "shared_experts" in self:
            out = out + self.shared_experts(flat)
        return out.astype(x.dtype).reshape(x.shape)


@fused
def _inner(gate: mx.array, up: mx.array, limit: float) -> mx.array:
    """The clamped SwiGLU in the dtype of its arguments."""
    return clamped_swiglu(gate, up, limit).astype(gate.dtype)


@fused
def _weighted_inner(gate: mx.array, up: mx.array, weights: mx.array, limit: float) -> mx.array:
    """The same times float32 weights, rounded once."""
    return (weights * clamped_swiglu(gate, up, limit)).astype(gate.dtype)


def clamped_swiglu(gate: mx.array, up: mx.array, limit: float) -> mx.array:
    """silu(gate) * up in float32; both are clamped before the silu, the gate from above only."""
    gate = mx.minimum(gate.astype(mx.float32), limit)
    return gate * mx.sigmoid(gate) * mx.clip(up.astype(mx.float32), -limit, limit)


@fused
def _root_of_softplus(logits: mx.array) -> mx.array:
    return mx.sqrt(mx.logaddexp(logits, 0))


@fused
def _shares(weights: mx.array, scale: float) -> mx.array:
    return weights / weights.sum(axis=-1, keepdims=True) * scale


@fused
def _scaled(weights: mx.array, scale: float) -> mx.array:
    return weights * scale
