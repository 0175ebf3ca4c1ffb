"""What it takes to go on with a sequence later: rows that only grow in number, and the rest.

Pooled rows complete between two positions are the same whatever follows, so snapshots of sequences
that begin alike need those of the shared beginning only once. The rest, window and open windows,
is of one position and of a fixed size. All functions are of one sequence, not of a batch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import mlx.core as mx

from dsv4_tp.model.cache import Cache, Memory, Pool
from dsv4_tp.model.rows import Ring, own

Arrays = dict[str, mx.array]  # by layer, pool and piece


@dataclass(frozen=True, slots=True)
class Rows:
    """The pooled rows of all layers that are complete after `last` tokens, not after `first`."""

    first: int
    last: int
    arrays: Arrays


def rest_of(cache: Cache) -> Arrays:
    """Copies of the windows and the open windows, evaluated."""
    rings = {name: ring.slots for name, ring in _rings(cache)}
    return _evaluated({name: own(slots) for name, slots in rings.items() if slots is not None})


def rows_of(cache: Cache, first: int, last: int) -> Rows:
    """Copies of the rows completed between two positions, evaluated."""
    copies: Arrays = {}
    for name, pool in _pools(cache):
        start, stop = pool.complete(first), pool.complete(last)
        if pool.rows.rows is not None and stop > start:
            copies[name] = own(pool.rows.rows[:, start:stop])
    return Rows(first, last, _evaluated(copies))


def rest_bytes(cache: Cache) -> int:
    """What `rest_of` will take."""
    return sum(ring.slots.nbytes for _, ring in _rings(cache) if ring.slots is not None)


def rows_bytes(cache: Cache, first: int, last: int) -> int:
    """What `rows_of` will take."""
    return sum(
        (pool.complete(last) - pool.complete(first)) * pool.rows.row_bytes
        for _, pool in _pools(cache)
    )


def restore(
    cache: Cache, spans: Sequence[Rows], rest: Arrays, *, position: int, back: int, length: int
) -> None:
    """Fill an empty cache with a snapshot of `position` tokens, then take back all but `length`.

    Of the snapshot `back` tokens could be taken back. `spans` go from 0 to `position`; where one
    begins before others end, it is what counts.
    """
    for name, ring in _rings(cache):
        ring.slots = own(rest[name])  # it is written to
    stop = position
    # The last ones first, so that a store finds its size at once.
    for span in reversed(spans):
        for name, pool in _pools(cache):
            count = pool.complete(stop) - pool.complete(span.first)
            if count > 0:
                pool.rows.write(pool.complete(span.first), span.arrays[name][:, :count])
        stop = min(stop, span.first)
    cache.stand_at(position, back)
    cache.rewind([position - length])
    mx.eval(cache.arrays())


def _rings(cache: Cache) -> Iterator[tuple[str, Ring]]:
    for number, memory in _memories(cache):
        yield f"{number}.window", memory.ring
        for place, pool in enumerate(memory.pools):
            yield f"{number}.{place}.tail", pool.tail


def _pools(cache: Cache) -> Iterator[tuple[str, Pool]]:
    for number, memory in _memories(cache):
        for place, pool in enumerate(memory.pools):
            yield f"{number}.{place}.rows", pool


def _memories(cache: Cache) -> Iterator[tuple[int, Memory]]:
    for number, layer in enumerate(cache):
        (memory,) = layer.memories
        yield number, memory


def _evaluated(arrays: Arrays) -> Arrays:
    mx.eval(list(arrays.values()))
    return arrays
