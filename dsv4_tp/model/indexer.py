"""Indexer: which compressed rows a query reads in a ratio-4 layer.

score[t] = sum over index heads of relu(q_h . k_t) * w_h; the `index_topk` best visible rows are
taken, the same for all attention heads. The reference turns q and k by a Hadamard matrix before
it rounds them to FP4. The form in which rows are held does both or neither, to queries as to rows:
without the rounding the turns cancel.
"""

import mlx.core as mx
import mlx.nn as nn

from dsv4_tp.model.compressor import Compressor
from dsv4_tp.model.forms import Form, as_held
from dsv4_tp.model.layers import linear
from dsv4_tp.model.rope import Rope
from dsv4_tp.model.rows import Starts
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

    def __call__(
        self,
        x: mx.array,
        q_latent: mx.array,
        starts: Starts,
        rows: mx.array,
        *,
        form: Form,
        rope: Rope,
    ) -> mx.array:
        """The numbers [B, L, topk] of the rows [B, T, any] to read, T above topk.

        Rows that the query may not see yet are among them where fewer than topk are visible.
        """
        scores = self.scores(x, q_latent, starts, rows, form=form, rope=rope)
        seen = visible(starts, x.shape[1], rows.shape[1], ratio=4)
        scores = mx.where(seen, scores, -mx.inf)
        return mx.argpartition(-scores, self.topk - 1, axis=-1)[..., : self.topk]

    def scores(
        self,
        x: mx.array,
        q_latent: mx.array,
        starts: Starts,
        rows: mx.array,
        *,
        form: Form,
        rope: Rope,
    ) -> mx.array:
        """How well each of `rows` [B, T, any], held in `form`, suits each query: [B, L, T].

        In float32. x [B, L, D] and q_latent [B, L, q_lora_rank], the attention's own, belong to
        the tokens from `starts` on.
        """
        batch, length, _ = x.shape
        q = self.wq_b(q_latent).reshape(batch, length, self.heads, self.head)
        q = as_held(form, rope(q.swapaxes(1, 2), starts)).astype(mx.float32)  # [B, H, L, head]
        scale = (self.head * self.heads) ** -0.5
        weights = self.weights_proj(x).astype(mx.float32) * scale  # [B, L, H]
        weights = weights.swapaxes(1, 2)[..., None]
        # The product of all heads is what is large; of a single token, the rows in float32.
        most = run_length(rows.shape[1], 4 * batch * max(self.heads * length, self.head))
        runs = [
            self._weighed(q, form.decode(rows[:, first : first + most], x.dtype), weights)
            for first in range(0, rows.shape[1], most)
        ]
        return runs[0] if len(runs) == 1 else mx.concatenate(runs, axis=-1)

    def _weighed(self, q: mx.array, rows: mx.array, weights: mx.array) -> mx.array:
        """[B, L, T] of q [B, H, L, head], rows [B, T, head] and the heads' weights [B, H, L, 1]."""
        batch, heads, length, head = q.shape
        keys = rows.astype(mx.float32).swapaxes(-1, -2)
        # All heads in one product: head by head, a single token's would read the rows for each.
        scores = (q.reshape(batch, heads * length, head) @ keys).reshape(batch, heads, length, -1)
        return (mx.maximum(scores, 0) * weights).sum(axis=1)


def visible(starts: Starts, length: int, rows: int, *, ratio: int) -> mx.array:
    """[1 or B, L, rows]: a row is seen from the token on that completes its window."""
    return mx.arange(rows) < complete_at(starts, length, ratio=ratio)


def complete_at(starts: Starts, length: int, *, ratio: int) -> mx.array:
    """[1 or B, L, 1]: how many rows are complete for each of the tokens from `starts` on."""
    firsts = starts[:1] if len(set(starts)) == 1 else starts
    return ((mx.array(firsts)[:, None] + mx.arange(length) + 1) // ratio)[..., None]
