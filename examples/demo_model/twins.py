"""Training twins of the model's modules: same parameters, same mathematics, with gradients.

Three things differ from serving. Choices (of experts, of rows) are constants to the gradient. Work
is arranged for whole sequences: window scores in blocks, tokens grouped by expert. And the trainer
sees inside: each expert's load, and how far the indexer's scores are from the attention that the
pooled rows received.
"""

import random
from functools import partial

import mlx.core as mx

from dsv4_tp.core import Part
from dsv4_tp.model import Model
from dsv4_tp.model.attention import Attention
from dsv4_tp.model.cache import LayerCache
from dsv4_tp.model.division import Undivided
from dsv4_tp.model.indexer import visible
from dsv4_tp.model.moe import Experts, Gate, MoE, clamped_swiglu
from dsv4_tp.model.rope import Rope
from dsv4_tp.model.turning import PlainTurning
from dsv4_tp.modelspec import ModelSpec

START = (0,)  # where all sequences begin

# Places per expert over an even share; a token beyond them loses that expert for the step.
CAPACITY = 1.5
# The indexer learns from one run of so many queries in a sequence: all of them would cost more
# than the rest of its layer.
INDEX_SHARE = 4


def trainable(spec: ModelSpec) -> Model:
    """The whole model with MTP stages, its attention and experts replaced by their twins."""
    model = Model(spec, mtp=True)
    for block in (*model.layers, *model.mtp):
        attn: Attention = block.attn
        rope = Rope(spec, compressed=attn.ratio > 0, turning=TrainedTurning())
        block.attn = TrainedAttention(spec, attn.ratio, spec.whole, rope)
        block.ffn = TrainedMoE(spec, spec.whole, hashed="tid2eid" in block.ffn.gate)
    return model


class TrainedTurning(PlainTurning):
    """Turns by real numbers: no gradient goes through a view."""

    def product(self, tail: mx.array, table: mx.array) -> mx.array:
        """See PlainTurning."""
        pairs = mx.unflatten(tail, -1, (-1, 2))
        x, y, cos, sin = pairs[..., 0], pairs[..., 1], mx.real(table), mx.imag(table)
        return mx.stack([x * cos - y * sin, x * sin + y * cos], axis=-1).flatten(-2)


class TrainedAttention(Attention):
    """Attention of whole sequences from position 0.

    `select` False reads every visible row, as before the indexer is any good; `draw` says where
    in the sequences the indexer learns.
    """

    def __init__(self, spec: ModelSpec, ratio: int, part: Part, rope: Rope) -> None:
        super().__init__(spec, ratio, part, rope, Undivided())
        self.select = True
        self.draw = random.Random(0)
        # With an underscore it is no parameter; so too `_load` below.
        self._index_loss: mx.array | None = None

    def __call__(self, x: mx.array, cache: LayerCache) -> mx.array:
        """x [B, L, D] -> [B, L, D]; L is a multiple of the window."""
        turns = partial(self.rope.turns, x.shape[1], START)
        kv = self._keys(self.wkv(x), turns())
        q_latent = self.q_norm(self.wq_a(x))
        q = self._queries(q_latent, turns(heads=True)).swapaxes(1, 2)  # [B, H, L, head]
        scores, rows = [self._window_scores(q, kv)], None
        if self.ratio:
            self.compressor(x, START, cache.pools, self.rope)
            rows = cache.pools[0].read(0, x.shape[1])
        if rows is not None:
            seen = self._seen(mx.stop_gradient(x), mx.stop_gradient(q_latent), cache)
            scores.append(mx.where(seen[:, None], self._scores(q, rows), -mx.inf))
        weights = self._weights(scores)
        if rows is not None and self.ratio == 4:
            to_rows = weights[..., 2 * self.window :]
            self._index_loss = self._divergence(x, q_latent, to_rows, cache)
        back = turns(heads=True, inverse=True)
        return self._project(self._mixed(weights, kv, rows).swapaxes(1, 2), back)

    @property
    def index_loss(self) -> mx.array:
        """Cross entropy of the indexer's softmax to the attention that rows got, last call."""
        return mx.zeros(()) if self._index_loss is None else self._index_loss

    def _scores(self, q: mx.array, keys: mx.array) -> mx.array:
        """q [..., H, L, head] with keys [..., K, head] -> [..., H, L, K] in one product."""
        scores = q.flatten(-3, -2) @ keys.swapaxes(-1, -2) * self.head**-0.5
        return scores.reshape(*q.shape[:-1], keys.shape[-2])

    def _window_scores(self, q: mx.array, kv: mx.array) -> mx.array:
        """[B, H, L, 2 * window]: blocks of queries with the keys of their block and the last."""
        batch, heads, length, head = q.shape
        size = self.window
        blocks = q.reshape(batch, heads, -1, size, head).swapaxes(1, 2)
        scores = self._scores(blocks, _with_previous(kv, size)).swapaxes(1, 2)
        return mx.where(_block_mask(length // size, size), scores, -mx.inf).flatten(2, 3)

    def _seen(self, x: mx.array, q_latent: mx.array, cache: LayerCache) -> mx.array:
        """Which rows a query reads, [1 or B, L, T]."""
        length = x.shape[1]
        count = cache.pools[0].complete(length)
        seen = visible(0, length, count, ratio=self.ratio)
        if self.ratio != 4:
            return seen
        indexer = self.indexer
        indexer.compressor(x, START, cache.index_pools, self.rope)
        if not self.select or count <= indexer.topk:
            return seen
        asked = indexer.asked(x, q_latent, START, form=cache.forms.index, rope=self.rope)
        scores = indexer.scores(asked, _index_rows(cache, length))
        scores = mx.stop_gradient(mx.where(seen, scores, -mx.inf))
        least = mx.partition(scores, scores.shape[-1] - indexer.topk, axis=-1)
        return seen & (scores >= least[..., -indexer.topk, None])

    def _weights(self, scores: list[mx.array]) -> mx.array:
        """Softmax over the keys of both kinds, [B, H, L, K]; the sink takes its part."""
        batch, heads, length, _ = scores[0].shape
        sink = mx.broadcast_to(self.attn_sink[:, None, None], (batch, heads, length, 1))
        return mx.softmax(mx.concatenate([*scores, sink], axis=-1), axis=-1)[..., :-1]

    def _mixed(self, weights: mx.array, kv: mx.array, rows: mx.array | None) -> mx.array:
        """The weighted sums of window and pooled rows, [B, H, L, head]."""
        size = self.window
        batch, heads, length, _ = weights.shape
        near = weights[..., : 2 * size].reshape(batch, heads, -1, size, 2 * size).swapaxes(1, 2)
        out = near.flatten(2, 3) @ _with_previous(kv, size)
        out = out.reshape(batch, -1, heads, size, self.head).swapaxes(1, 2)
        out = out.reshape(batch, heads, length, self.head)
        if rows is None:
            return out
        far = weights[..., 2 * size :].flatten(1, 2) @ rows
        return out + far.reshape(out.shape)

    def _divergence(
        self, x: mx.array, q_latent: mx.array, weights: mx.array, cache: LayerCache
    ) -> mx.array:
        """Cross entropy of the scores' softmax to the rows' attention, per unit of attention."""
        length = x.shape[1]
        count = length // INDEX_SHARE
        start = self.draw.randrange(length - count + 1)
        run = slice(start, start + count)
        attention = mx.stop_gradient(weights[:, :, run].sum(axis=1))
        x, q_latent = mx.stop_gradient(x[:, run]), mx.stop_gradient(q_latent[:, run])
        form = cache.forms.index
        asked = self.indexer.asked(x, q_latent, (start,), form=form, rope=self.rope)
        scores = self.indexer.scores(asked, _index_rows(cache, length))
        return divergence(attention, scores, visible(start, count, scores.shape[-1], ratio=4))


def divergence(attention: mx.array, scores: mx.array, seen: mx.array) -> mx.array:
    """Cross entropy of the scores' softmax over the rows seen, per unit of attention.

    All [B, L, T]; a query whose rows got no attention does not count.
    """
    # A finite floor: minus infinity times a weight of zero is not a number.
    scores = mx.where(seen, scores, -1e9)
    logs = scores - mx.logsumexp(scores, axis=-1, keepdims=True)
    return -(attention * mx.where(seen, logs, 0)).sum() / mx.maximum(attention.sum(), 1e-6)


class TrainedGate(Gate):
    """The gate, its choice a constant."""

    @property
    def load(self) -> mx.array:
        """The share of the last call's choices that each expert got, [E]."""
        return self._load

    def __call__(self, x: mx.array, ids: mx.array) -> tuple[mx.array, mx.array]:
        """As Gate."""
        experts, weights = super().__call__(x, ids)
        counts = (experts.reshape(-1, 1) == mx.arange(self.weight.shape[0])).sum(axis=0)
        self._load = counts / experts.size
        return experts, weights

    def _best(self, scores: mx.array) -> mx.array:
        return mx.stop_gradient(super()._best(scores))


class TrainedExperts(Experts):
    """Experts as batched products: every expert gets the same number of places."""

    def __call__(self, x: mx.array, experts: mx.array, weights: mx.array) -> mx.array:
        """As Experts; choices beyond an expert's places count as nothing."""
        tokens, topk = experts.shape
        places = int(CAPACITY * tokens * topk / self.count)
        place = mx.stop_gradient(_places(experts.flatten(), self.count, places))
        nowhere = self.count * places
        source = mx.full((nowhere + 1,), tokens, dtype=mx.int32)
        source[place] = mx.arange(tokens * topk, dtype=mx.int32) // topk
        rows = _padded(x)[source[:-1]].reshape(self.count, places, -1)
        gate, up = (rows @ w.weight.swapaxes(1, 2) for w in (self.w1, self.w3))
        out = clamped_swiglu(gate, up, self.limit) @ self.w2.weight.swapaxes(1, 2)
        chosen = _padded(out.flatten(0, 1))[place].reshape(tokens, topk, -1)
        return (chosen * weights[..., None]).sum(axis=1)


class TrainedMoE(MoE):
    """Gate and experts replaced by their twins."""

    def __init__(self, spec: ModelSpec, part: Part, *, hashed: bool) -> None:
        super().__init__(spec, part, hashed=hashed)
        self.gate = TrainedGate(spec, hashed=hashed)
        self.experts = TrainedExperts(spec, part.experts, len(part.expert_width))


def _index_rows(cache: LayerCache, length: int) -> mx.array:
    """What the indexer scores, of sequences of `length` tokens."""
    rows = cache.index_pools[0].read(0, length)
    assert rows is not None
    return rows


def _with_previous(rows: mx.array, size: int) -> mx.array:
    """[B, L, head] -> [B, L / size, 2 * size, head]: each block behind the one before it."""
    blocks = rows.reshape(rows.shape[0], -1, size, rows.shape[-1])
    earlier = mx.concatenate([mx.zeros_like(blocks[:, :1]), blocks[:, :-1]], axis=1)
    return mx.concatenate([earlier, blocks], axis=2)


def _block_mask(blocks: int, size: int) -> mx.array:
    """[blocks, size, 2 * size]: a query sees `size` keys up to itself; none before the first."""
    queries, keys = mx.arange(size, 2 * size)[:, None], mx.arange(2 * size)
    near = (keys <= queries) & (keys > queries - size)
    return near & ((mx.arange(blocks)[:, None, None] > 0) | (keys >= size))


def _places(experts: mx.array, count: int, places: int) -> mx.array:
    """The place of each choice [N]: expert * places + its number there; the last is nowhere."""
    order = mx.argsort(experts)
    ranked = experts[order]
    loads = (experts[:, None] == mx.arange(count)).sum(axis=0)
    number = mx.arange(experts.size) - (mx.cumsum(loads) - loads)[ranked]
    place = mx.where(number < places, ranked * places + number, count * places)
    return mx.put_along_axis(mx.zeros_like(place), order, place, axis=0).astype(mx.int32)


def _padded(rows: mx.array) -> mx.array:
    """[N, D] -> [N + 1, D] with a last row of zeros."""
    return mx.concatenate([rows, mx.zeros_like(rows[:1])])
