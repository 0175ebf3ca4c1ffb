"""Rows of a batch of sequences, kept in place: a ring of the last ones, and a store that grows.

Sequences of one batch may stand at different positions; `Starts` has one position for each. MLX
writes into a buffer in place when nothing else refers to it, so evaluate after every step.
"""

from collections.abc import Sequence

import mlx.core as mx

from dsv4_tp.rules import capacity

Starts = tuple[int, ...]  # by sequence


class Ring:
    """The last `size` rows of each sequence: the row of position p lies in slot p % size."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.slots: mx.array | None = None  # [B, size, width]

    def write(self, starts: Starts, rows: mx.array) -> None:
        """The rows [B, L, width] of the positions from `starts` on; the last `size` stay."""
        skipped = max(rows.shape[1] - self.size, 0)
        rows = rows[:, skipped:]
        if self.slots is None:
            self.slots = mx.zeros((rows.shape[0], self.size, rows.shape[2]), rows.dtype)
        slots = self._slots([start + skipped for start in starts], rows.shape[1])
        if isinstance(slots, mx.array):
            self.slots = mx.put_along_axis(self.slots, slots, rows, axis=1)
            return
        done = 0
        for first, last in slots:
            self.slots[:, first:last] = rows[:, done : done + last - first]
            done += last - first

    def read(self, stops: Starts, count: int) -> mx.array | None:
        """The rows [B, count, width] before `stops`; None if there are none.

        Those of positions below 0 are whatever lies there.
        """
        if self.slots is None or count == 0:
            return None
        slots = self._slots([stop - count for stop in stops], count)
        if isinstance(slots, mx.array):
            return mx.take_along_axis(self.slots, slots, axis=1)
        runs = [self.slots[:, first:last] for first, last in slots]
        return runs[0] if len(runs) == 1 else mx.concatenate(runs, axis=1)

    def of(self, sequence: int) -> "Ring":
        """The ring of one sequence of the batch."""
        alone = Ring(self.size)
        alone.slots = _one(self.slots, sequence)
        return alone

    def copy(self) -> "Ring":
        """The same ring in a buffer of its own."""
        kept = Ring(self.size)
        kept.slots = None if self.slots is None else own(self.slots)
        return kept

    @classmethod
    def merged(cls, rings: Sequence["Ring"]) -> "Ring":
        """The ring of a batch of all their sequences."""
        whole = cls(rings[0].size)
        whole.slots = _stacked([ring.slots for ring in rings])
        return whole

    def _slots(self, firsts: list[int], count: int) -> mx.array | list[tuple[int, int]]:
        """Where `count` rows lie: [B, count, 1], or runs of slots if all sequences agree."""
        assert count <= self.size, f"{count} rows of a ring of {self.size}"
        if len(set(firsts)) > 1:
            return (mx.array(firsts)[:, None, None] + mx.arange(count)[:, None]) % self.size
        first = firsts[0] % self.size
        last = first + count
        if last <= self.size:
            return [(first, last)]
        return [(first, self.size), (0, last - self.size)]


class Store:
    """Rows by number, [B, capacity, width]; how many of them count is for the owner to say."""

    def __init__(self) -> None:
        self.rows: mx.array | None = None

    def write(self, firsts: Starts, rows: mx.array) -> None:
        """The rows [B, n, width] from number `firsts` on."""
        count = rows.shape[1]
        held = self._reserve(max(firsts) + count, rows)
        if len(set(firsts)) == 1:
            held[:, firsts[0] : firsts[0] + count] = rows
            self.rows = held
            return
        numbers = mx.array(firsts)[:, None, None] + mx.arange(count)[:, None]
        self.rows = mx.put_along_axis(held, numbers, rows, axis=1)

    def read(self, count: int) -> mx.array | None:
        """The first `count` rows [B, count, width]; None if that is none."""
        return None if self.rows is None or count == 0 else self.rows[:, :count]

    @property
    def row_bytes(self) -> int:
        """Of one row of one sequence; 0 while there is none."""
        return 0 if self.rows is None else self.rows.itemsize * self.rows.shape[2]

    def of(self, sequence: int) -> "Store":
        """The rows of one sequence of the batch."""
        alone = Store()
        alone.rows = _one(self.rows, sequence)
        return alone

    def copy(self, count: int) -> "Store":
        """The first `count` rows, in a buffer of their own without room to spare."""
        kept, rows = Store(), self.read(count)
        kept.rows = None if rows is None else own(rows)
        return kept

    @classmethod
    def merged(cls, stores: Sequence["Store"], counts: Sequence[int]) -> "Store":
        """The first `counts` rows of each, as those of a batch, with room as if it had grown."""
        whole = cls()
        pairs = zip(stores, counts, strict=True)
        whole.rows = _stacked([store.read(capacity(count)) for store, count in pairs])
        return whole

    def _reserve(self, count: int, like: mx.array) -> mx.array:
        """The buffer with room for `count` rows, some to spare if it must grow."""
        if self.rows is not None and self.rows.shape[1] >= count:
            return self.rows
        grown = mx.zeros((like.shape[0], capacity(count), like.shape[2]), like.dtype)
        if self.rows is not None:
            grown[:, : self.rows.shape[1]] = self.rows
        return grown


def own(rows: mx.array) -> mx.array:
    """The same rows in a buffer of their own, of no more than their size."""
    # Assigning to all of an array, or slicing, would share the buffer it is taken from.
    return mx.concatenate([rows, rows[:, :0]], axis=1)


def _one(rows: mx.array | None, sequence: int) -> mx.array | None:
    return None if rows is None else rows[sequence : sequence + 1]


def _stacked(parts: Sequence[mx.array | None]) -> mx.array | None:
    """Rows [1, n, width] of sequences, one below the other; short ones get empty rows."""
    filled = [part for part in parts if part is not None]
    if not filled:
        return None
    longest = max(part.shape[1] for part in filled)
    nothing = mx.zeros((1, 0, filled[0].shape[-1]), filled[0].dtype)
    whole = [_padded(nothing if part is None else part, longest) for part in parts]
    return own(whole[0]) if len(whole) == 1 else mx.concatenate(whole, axis=0)


def _padded(rows: mx.array, count: int) -> mx.array:
    missing = count - rows.shape[1]
    return mx.pad(rows, [(0, 0), (0, missing), (0, 0)]) if missing else rows
