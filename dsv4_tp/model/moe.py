"""Mixture of experts: a gate, routed experts and a shared one, all with a clamped SwiGLU.

The first layers route by a table from token id to experts; the others by the gate's scores plus
a bias that steers the choice but never the weight. Follows Gate, Expert and MoE of the reference.
"""

from functools import lru_cache

import mlx.core as mx
import mlx.nn as nn

from dsv4_tp.core import Part, Span
from dsv4_tp.model.fused import fused
from dsv4_tp.model.layers import ExpertLinear, SideBySide, linear
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
        return mx.argpartition(scores, -self.topk, axis=-1)[..., -self.topk :]


class Experts(nn.Module):
    """The routed experts of `held`, each `width` channels wide; the rest is elsewhere."""

    def __init__(self, spec: ModelSpec, held: Span, width: int) -> None:
        super().__init__()
        self.first, self.count, self.limit = held.start, len(held), spec.swiglu_limit
        self.all_held = self.count == spec.n_routed_experts
        self.w1 = ExpertLinear(spec.hidden_size, width, self.count)
        self.w2 = ExpertLinear(width, spec.hidden_size, self.count)
        self.w3 = ExpertLinear(spec.hidden_size, width, self.count)
        self._both: SideBySide | None = None

    def bundle(self) -> None:
        """Lays w1 and w3 side by side; see `Model.bundle`."""
        self._both = SideBySide.of(self.w1, self.w3)

    def __call__(self, x: mx.array, experts: mx.array, weights: mx.array) -> mx.array:
        """Tokens x [M, D] through experts [M, topk] -> their weighted sum [M, D] in float32."""
        if not self.all_held:
            experts, weights = self._local(experts, weights)
        routed = self._few if experts.size < _SORT_ROWS else self._many
        rows = routed(x[:, None], experts, weights.reshape(-1, 1, 1))
        return rows.reshape(*experts.shape, -1).astype(mx.float32).sum(axis=1)

    def _few(self, x: mx.array, experts: mx.array, weights: mx.array) -> mx.array:
        """Tokens x [M, 1, D] through experts [M, topk], times weights -> [M * topk, 1, D]."""
        tokens, experts = _tokens(*experts.shape), experts.flatten()
        inner = self._inner(x, experts, weights, tokens)
        return self.w2(inner, experts, _tokens(experts.size, 1))

    def _many(self, x: mx.array, experts: mx.array, weights: mx.array) -> mx.array:
        """The same, with the tokens of one expert brought together for the products."""
        tokens, experts = _tokens(*experts.shape), experts.flatten()
        order = mx.argsort(experts)
        experts = experts[order]
        inner = self._inner(x[tokens[order]], experts, weights[order], None)
        return self.w2(inner, experts, None)[mx.argsort(order)]

    def _inner(
        self, x: mx.array, experts: mx.array, weights: mx.array, rows: mx.array | None
    ) -> mx.array:
        """What goes into w2, [..., 1, width]; `rows` as of ExpertLinear."""
        if self._both is None:
            gate, up = self.w1(x, experts, rows), self.w3(x, experts, rows)
        else:
            gate, up = self._both(x, experts, rows)
        # The weight goes in before w2, which is linear, so that a row is rounded once.
        return _weighted_inner(gate, up, weights, self.limit)

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
        self._both: SideBySide | None = None

    def bundle(self) -> None:
        """Lays w1 and w3 side by side; see `Model.bundle`."""
        self._both = SideBySide.of(self.w1, self.w3)

    def __call__(self, x: mx.array) -> mx.array:
        """[M, D] -> [M, D]."""
        if self._both is None:
            gate, up = self.w1(x), self.w3(x)
        else:
            gate, up = self._both(x)
        return self.w2(_inner(gate, up, self.limit))


class MoE(nn.Module):
    """Gate and experts of one layer with the experts of `part`; outputs are partial sums."""

    def __init__(self, spec: ModelSpec, part: Part, *, hashed: bool) -> None:
        super().__init__()
        self.gate = Gate(spec, hashed=hashed)
        if len(part.experts) and len(part.expert_width):
            self.experts = Experts(spec, part.experts, len(part.expert_width))
        if len(part.shared_width):
            self.shared_experts = SharedExpert(spec, len(part.shared_width))

    def bundle(self) -> None:
        """Lays matrices side by side that meet the same tokens; see `Model.bundle`."""
        for name in ("experts", "shared_experts"):
            if name in self:
                self[name].bundle()

    def __call__(self, x: mx.array, ids: mx.array) -> mx.array:
        """Tokens x [B, L, D] with ids [B, L] -> this part's share of [B, L, D]."""
        flat = x.reshape(-1, x.shape[-1])
        shares: list[mx.array] = []
        if "experts" in self:
            shares.append(self.experts(flat, *self.gate(flat, ids.flatten())))
        if "shared_experts" in self:
            shares.append(self.shared_experts(flat))
        if not shares:
            return mx.zeros(x.shape, dtype=x.dtype)
        out = shares[0] if len(shares) == 1 else _together(*shares)
        return out.astype(x.dtype).reshape(x.shape)


@lru_cache(maxsize=32)  # few numbers of tokens are fed again and again
def _tokens(count: int, topk: int) -> mx.array:
    """Of each of `count` tokens its number, `topk` times, [count * topk]."""
    return mx.array([token for token in range(count) for _ in range(topk)], dtype=mx.uint32)


@fused
def _together(routed: mx.array, shared: mx.array) -> mx.array:
    """Their sum in float32, rounded once."""
    return (routed + shared).astype(shared.dtype)


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
