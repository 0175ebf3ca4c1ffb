"""Rows kept in place: a ring of the last ones, and a store that grows.

They are of one sequence, or of several that always stand at the same position. MLX writes into a
buffer in place when nothing else refers to it, so evaluate after every step.
"""

from collections.abc import Iterable, Sequence

import mlx.core as mx

from dsv4_tp.rules import capacity

Starts = tuple[int, ...]  # by sequence


class Ring:
    """The last `size` rows of each sequence: the row of position p lies in slot p % size."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.slots: mx.array | None = None  # [B, size, width]

    def write(self, start: int, rows: mx.array) -> None:
        """The rows [B, L, width] of the positions from `start` on; the last `size` stay."""
        skipped = max(rows.shape[1] - self.size, 0)
        rows = rows[:, skipped:]
        if self.slots is None:
            self.slots = mx.zeros((rows.shape[0], self.size, rows.shape[2]), rows.dtype)
        done = 0
        for first, last in self._runs(start + skipped, rows.shape[1]):
            self.slots[:, first:last] = rows[:, done : done + last - first]
            done += last - first

    def read(self, stop: int, count: int) -> mx.array | None:
        """The rows [B, count, width] before position `stop`; None if there are none."""
        if self.slots is None or count == 0:
            return None
        runs = [self.slots[:, first:last] for first, last in self._runs(stop - count, count)]
        return joined(runs, axis=1)

    def copy(self) -> "Ring":
        """The same ring in a buffer of its own."""
        kept = Ring(self.size)
        kept.slots = None if self.slots is None else own(self.slots)
        return kept

    def _runs(self, first: int, count: int) -> list[tuple[int, int]]:
        """Where the rows of `count` positions lie: runs of slots."""
        assert count <= self.size, f"{count} rows of a ring of {self.size}"
        first %= self.size
        last = first + count
        if last <= self.size:
            return [(first, last)]
        return [(first, self.size), (0, last - self.size)]


class Store:
    """Rows by number, [B, capacity, width]; how many of them count is for the owner to say."""

    def __init__(self) -> None:
        self.rows: mx.array | None = None

    def write(self, first: int, rows: mx.array) -> None:
        """The rows [B, n, width] from number `first` on."""
        last = first + rows.shape[1]
        held = self._reserve(last, rows)
        held[:, first:last] = rows
        self.rows = held

    def read(self, count: int) -> mx.array | None:
        """The first `count` rows [B, count, width]; None if that is none."""
        return None if self.rows is None or count == 0 else self.rows[:, :count]

    @property
    def row_bytes(self) -> int:
        """Of one row of one sequence; 0 while there is none."""
        return 0 if self.rows is None else self.rows.itemsize * self.rows.shape[2]

    def copy(self, count: int) -> "Store":
        """The first `count` rows, in a buffer of their own without room to spare."""
        kept, rows = Store(), self.read(count)
        kept.rows = None if rows is None else own(rows)
        return kept

    def _reserve(self, count: int, like: mx.array) -> mx.array:
        """The buffer with room for `count` rows, some to spare if it must grow."""
        if self.rows is not None and self.rows.shape[1] >= count:
            return self.rows
        grown = mx.zeros((like.shape[0], capacity(count), like.shape[2]), like.dtype)
        if self.rows is not None:
            grown[:, : self.rows.shape[1]] = self.rows
        return grown


def parted(rows: mx.array, count: int) -> list[mx.array]:
    """Rows [B, ...] of `count` equal parts of a batch."""
    return [rows] if count == 1 else list(mx.split(rows, count))


def alike(kinds: Iterable[object]) -> list[list[int]]:
    """The places of each kind: what is there is small, alike, and can be joined to one array."""
    places: dict[object, list[int]] = {}
    for place, kind in enumerate(kinds):
        places.setdefault(kind, []).append(place)
    return list(places.values())


def joined(parts: Sequence[mx.array], *, axis: int = 0) -> mx.array:
    """The parts as one array; of a single one it is that."""
    return parts[0] if len(parts) == 1 else mx.concatenate(list(parts), axis=axis)


def own(rows: mx.array) -> mx.array:
    """The same rows in a buffer of their own, of no more than their size."""
    # Assigning to all of an array, or slicing, would share the buffer it is taken from.
    return mx.concatenate([rows, rows[:, :0]], axis=1)
