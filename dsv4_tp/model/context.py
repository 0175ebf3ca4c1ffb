"""What the tokens of one call may read of a memory, and what comes of it.

A call's queries are handled in runs, so that no temporary array outgrows RUN_BYTES by much,
however many rows there are and however long the call is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import mlx.core as mx

from dsv4_tp.model.forms import Forms
from dsv4_tp.model.fused import in_float32
from dsv4_tp.model.indexer import complete_at, visible
from dsv4_tp.model.rows import joined
from dsv4_tp.rules import run_length


@dataclass(frozen=True, slots=True)
class Context:
    """The rows of one memory before and among the `length` tokens of a call, from `start` on.

    window      [B, earlier + L, head]  the last rows before the call, then its own
    rows        [B, T, any]  the pool's as they are held, where the layer compresses
    index_rows  [B, T, any]  the indexer's, where it has to choose among them
    forms       how they are held
    reach       window rows that a query sees
    ratio       tokens that a pooled row stands for
    """

    window: mx.array
    rows: mx.array | None
    index_rows: mx.array | None
    forms: Forms
    start: int
    length: int
    reach: int
    ratio: int

    def read_all(self, q: mx.array, first: int, sinks: mx.array) -> mx.array:
        """What the queries q [B, l, H, head] from the call's token `first` on read, likewise."""
        last = first + q.shape[1]
        keys, mask = self._window(first, last)
        if self.rows is not None:
            rows = self.forms.attention.decode(self.rows, keys.dtype)
            keys = mx.concatenate([keys, rows], axis=1)
        if mask is not None and self.rows is not None:
            count = self.rows.shape[1]
            seen = visible(self.start + first, last - first, count, ratio=self.ratio)
            mask = mx.concatenate([mask, seen], axis=-1)
        return _softmax_over(q, keys, mask, sinks)

    def picked(self, numbers: mx.array) -> "Context":
        """Of a single token the same, with no other pooled rows than `numbers` [B, 1, k]."""
        assert self.rows is not None
        rows = mx.take_along_axis(self.rows, numbers.swapaxes(1, 2), axis=1)
        return replace(self, rows=rows, index_rows=None)

    def kind(self, most: int) -> object:
        """Equal for contexts that can be `together`; those of more than `most` rows stay alone."""
        count = 0 if self.rows is None else self.rows.shape[1]
        if self.index_rows is not None or count > most:
            return object()
        return self.window.shape[1], count, self.length == 1 or self.start

    @classmethod
    def together(cls, contexts: Sequence["Context"]) -> "Context":
        """One for the sequences of all these, of the same kind."""
        window = joined([context.window for context in contexts])
        rows = [context.rows for context in contexts if context.rows is not None]
        return replace(contexts[0], window=window, rows=joined(rows) if rows else None)

    def read_picked(self, q: mx.array, first: int, picked: mx.array, sinks: mx.array) -> mx.array:
        """The same, of the pooled rows with the numbers `picked` [B, l, k] only."""
        assert self.rows is not None
        last = first + q.shape[1]
        window, mask = self._window(first, last)
        rows = self.forms.attention.decode(_taken(self.rows, picked), window.dtype)
        if mask is None:
            return _softmax_over(q, mx.concatenate([window, rows[:, 0]], axis=1), None, sinks)
        seen = picked < complete_at(self.start + first, last - first, ratio=self.ratio)
        return _softmax_over_own(q, window=window, mask=mask, rows=rows, seen=seen, sinks=sinks)

    def _window(self, first: int, last: int) -> tuple[mx.array, mx.array | None]:
        """The window rows [B, w, head] of the tokens [first, last), and who sees what.

        The mask is [1, l, w]; None for the last token alone, which sees all, pooled ones too.
        """
        earlier = self.window.shape[1] - self.length
        low = max(earlier + first - self.reach + 1, 0)
        keys = self.window[:, low : earlier + last]
        if first == self.length - 1:
            return keys, None
        queries = mx.arange(earlier + first, earlier + last)[:, None]
        numbers = mx.arange(low, earlier + last)
        return keys, ((numbers <= queries) & (numbers > queries - self.reach))[None]


def runs(length: int, reach: int, query_bytes: int) -> Iterator[tuple[int, int]]:
    """Runs of a call's `length` tokens, each of which needs `query_bytes`.

    None is longer than the window: its queries are compared with the window rows of them all.
    """
    most = run_length(min(length, reach), query_bytes)
    for first in range(0, length, most):
        yield first, min(first + most, length)


def _softmax_over(q: mx.array, keys: mx.array, mask: mx.array | None, sinks: mx.array) -> mx.array:
    """[B, L, H, head] over keys [B, K, head]; in float32, as scores in bf16 lose choices.

    All heads read the same keys, so they are rows of one product: head by head, a single token's
    would read the keys once for each.
    """
    batch, length, heads, head = q.shape
    shared = keys.astype(mx.float32)
    queries = in_float32(q, head**-0.5).reshape(batch, length * heads, head)
    scores = (queries @ shared.swapaxes(-1, -2)).reshape(batch, length, heads, -1)
    if mask is not None:
        scores = mx.where(mask[:, :, None], scores, -mx.inf)
    weights = _weights(scores, sinks[:, None]).reshape(batch, length * heads, -1)
    return (weights[..., :-1] @ shared).reshape(q.shape).astype(q.dtype)


def _weights(scores: mx.array, sinks: mx.array) -> mx.array:
    """Softmax over scores [..., K] and then the sink, [..., K + 1]."""
    sink = mx.broadcast_to(sinks, (*scores.shape[:-1], 1))
    return mx.softmax(mx.concatenate([scores, sink], axis=-1), axis=-1)


def _softmax_over_own(
    q: mx.array,
    *,
    window: mx.array,
    mask: mx.array,
    rows: mx.array,
    seen: mx.array,
    sinks: mx.array,
) -> mx.array:
    """The same where beside the window each query has rows of its own, [B, L, k, head].

    mask [1, L, w] and seen [B, L, k] say which of them count.
    """
    queries = in_float32(q, q.shape[-1] ** -0.5)
    near, own = window[:, None].astype(mx.float32), rows.astype(mx.float32)
    scores = mx.concatenate([queries @ near.swapaxes(-1, -2), queries @ own.swapaxes(-1, -2)], -1)
    both = mx.concatenate([mx.broadcast_to(mask, (*seen.shape[:2], mask.shape[-1])), seen], axis=-1)
    scores = mx.where(both[:, :, None], scores, -mx.inf)
    weights = _weights(scores, sinks[:, None])
    width = window.shape[1]
    out = weights[..., :width] @ near + weights[..., width:-1] @ own
    return out.astype(q.dtype)


def _taken(rows: mx.array, picked: mx.array) -> mx.array:
    """The rows [B, T, any] with the numbers picked [B, L, k], as [B, L, k, any]."""
    flat = picked.reshape(picked.shape[0], -1, 1)
    return mx.take_along_axis(rows, flat, axis=1).reshape(*picked.shape, rows.shape[-1])
