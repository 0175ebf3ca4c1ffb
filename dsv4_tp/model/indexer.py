"""Indexer: which compressed rows a query reads in a ratio-4 layer.

score[t] = sum over index heads of relu(q_h . k_t) * w_h; the `index_topk` best visible rows are
taken, the same for all attention heads. The reference turns q and k by a Hadamard matrix before
it rounds them to FP4. The form in which rows are held does both or neither, to queries as to rows:
without the rounding the turns cancel.
"""

from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn

from dsv4_tp.model.compressor import Compressor
from dsv4_tp.model.forms import IndexForm, as_held
from dsv4_tp.model.fused import fused, in_float32
from dsv4_tp.model.layers import linear
from dsv4_tp.model.rope import Rope
from dsv4_tp.model.rows import Starts, joined, parted
from dsv4_tp.modelspec import ModelSpec
from dsv4_tp.rules import run_length


class Indexer(nn.Module):
    """Scores the pool's rows for each query and picks the best."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.heads, self.head = spec.index_n_heads, spec.index_head_dim
        self.topk = spec.index_topk
        self.wq_b = linear(spec.q_lora_rank, self.heads * self.head)
        self.weights_proj = linear(spec.hidden_size, self.heads)
        self.compressor = Compressor(spec, 4, self.head)

    def __call__(self, asked: "Asked", start: int, rows: mx.array) -> mx.array:
        """The numbers [B, L, topk] of the rows [B, T, any] to read, T above topk.

        Rows that the query may not see yet are among them where fewer than topk are visible.
        """
        scores = self.scores(asked, rows)
        if (start + 1) // 4 < rows.shape[1]:  # the first query does not see all
            seen = visible(start, *scores.shape[1:], ratio=4)
            scores = mx.where(seen, scores, -mx.inf)
        return mx.argpartition(scores, -self.topk, axis=-1)[..., -self.topk :]

    def asked(
        self, x: mx.array, q_latent: mx.array, starts: Starts, *, form: IndexForm, rope: Rope
    ) -> "Asked":
        """What the tokens from `starts` on look for among rows that are held in `form`.

        x [B, L, D] and q_latent [B, L, q_lora_rank], the attention's own, belong to the tokens.
        """
        batch, length, _ = x.shape
        q = self.wq_b(q_latent).reshape(batch, length, self.heads, self.head)
        q = as_held(form, rope(q, starts))
        scale = (self.head * self.heads) ** -0.5
        weights = in_float32(self.weights_proj(x), scale)
        return Asked(q, weights[..., None], form)

    def scores(self, asked: "Asked", rows: mx.array) -> mx.array:
        """How well each of `rows` [B, T, any] suits each query, [B, L, T] in float32."""
        batch, length, heads, _ = asked.q.shape
        most = run_length(rows.shape[1], 4 * batch * length * heads)  # the product of all heads
        runs = [
            asked.weighed(rows[:, first : first + most]) for first in range(0, rows.shape[1], most)
        ]
        return joined(runs, axis=-1)


@dataclass(frozen=True, slots=True)
class Asked:
    """What tokens look for: queries [B, L, H, head] and the heads' weights [B, L, H, 1].

    `form` is that of the rows they look among.
    """

    q: mx.array
    weights: mx.array
    form: IndexForm

    def parted(self, count: int) -> list["Asked"]:
        """What each of `count` parts of the sequences looks for."""
        parts = zip(parted(self.q, count), parted(self.weights, count), strict=True)
        return [Asked(q, weights, self.form) for q, weights in parts]

    def weighed(self, rows: mx.array) -> mx.array:
        """How well each of rows [B, T, any] suits, [B, L, T]."""
        batch, length, heads, head = self.q.shape
        # All heads in one product: head by head, a single token's would read the rows for each.
        scores = self.form.products(self.q.reshape(batch, length * heads, head), rows)
        scores = scores.reshape(batch, length, heads, -1)
        return _weighed(scores, self.weights)


@fused
def _weighed(scores: mx.array, weights: mx.array) -> mx.array:
    """Scores [B, L, H, T] above zero times weights [B, L, H, 1], all heads together [B, L, T]."""
    return (mx.maximum(scores.astype(mx.float32), 0) * weights).sum(axis=2)


def visible(start: int, length: int, rows: int, *, ratio: int) -> mx.array:
    """[1, L, rows]: a row is seen from the token on that completes its window."""
    return mx.arange(rows) < complete_at(start, length, ratio=ratio)


def complete_at(start: int, length: int, *, ratio: int) -> mx.array:
    """[1, L, 1]: how many rows are complete for each of the tokens from `start` on."""
    return (mx.arange(start + 1, start + 1 + length) // ratio)[None, :, None]
