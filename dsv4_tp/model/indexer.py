"""Indexer: which compressed rows a query reads in a ratio-4 layer.

score[t] = sum over index heads of relu(q_h . k_t) * w_h; the `index_topk` best visible rows are
taken, the same for all attention heads. The reference turns q and k by a Hadamard matrix before
it rounds them to FP4; without the rounding both turns cancel, so neither is here.
"""

import mlx.core as mx
import mlx.nn as nn

from dsv4_tp.model.cache import Pool
from dsv4_tp.model.compressor import Compressor
from dsv4_tp.model.layers import linear
from dsv4_tp.model.rope import Rope
from dsv4_tp.modelspec import ModelSpec


class Indexer(nn.Module):
    """Scores the pool's rows for each query and picks the best."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.heads, self.head = spec.index_n_heads, spec.index_head_dim
        self.topk = spec.index_topk
        self.wq_b = linear(spec.q_lora_rank, self.heads * self.head)
        self.weights_proj = linear(spec.hidden_size, self.heads)
        self.compressor = Compressor(spec, 4, self.head)

    def __call__(
        self, x: mx.array, q_latent: mx.array, start: int, pool: Pool, rope: Rope
    ) -> mx.array | None:
        """Row numbers [B, L, topk] for the tokens x [B, L, D]; None while topk covers all rows.

        Rows that the query may not see yet are among them where fewer than topk are visible.
        `q_latent` [B, L, q_lora_rank] is the attention's own, normalised.
        """
        self.compressor(x, start, pool, rope)
        if pool.rows is None or pool.length <= self.topk:
            return None
        scores = self.scores(x, q_latent, start, pool.rows, rope)
        hidden = ~visible(start, x.shape[1], pool.length, ratio=4)
        scores = mx.where(hidden, -mx.inf, scores)
        return mx.argpartition(-scores, self.topk - 1, axis=-1)[..., : self.topk]

    def scores(
        self, x: mx.array, q_latent: mx.array, start: int, rows: mx.array, rope: Rope
    ) -> mx.array:
        """How well each of `rows` [B, T, head] suits each query, [B, L, T] in float32.

        x [B, L, D] and q_latent [B, L, q_lora_rank] belong to the tokens from `start` on.
        """
        batch, length, _ = x.shape
        q = self.wq_b(q_latent).reshape(batch, length, self.heads, self.head)
        q = rope(q.swapaxes(1, 2), start).astype(mx.float32)  # [B, H, L, head]
        keys = rows.astype(mx.float32).swapaxes(-1, -2)[:, None]  # [B, 1, head, T]
        scale = (self.head * self.heads) ** -0.5
        weights = self.weights_proj(x).astype(mx.float32) * scale  # [B, L, H]
        matches = mx.maximum(q @ keys, 0)
        return (matches * weights.swapaxes(1, 2)[..., None]).sum(axis=1)


def visible(start: int, length: int, rows: int, *, ratio: int) -> mx.array:
    """[L, rows]: a row is seen from the token on that completes its window."""
    complete = (mx.arange(start, start + length) + 1) // ratio
    return mx.arange(rows) < complete[:, None]
