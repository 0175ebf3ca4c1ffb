"""What a layer remembers of each sequence: the rows of its window and the rows of its pools.

Everything follows from a sequence's position. Rings hold the row of position p in slot p % size,
pools the row of window w under number w, and how many of them count is computed. So a sequence is
rewound by lowering its position: what lies behind it is overwritten before it is read again.

Each sequence has arrays of its own. A batch refers to the memories of its sequences, so that they
join and leave without a row being moved.
"""

from collections.abc import Iterable, Sequence

import mlx.core as mx

from dsv4_tp.core import CacheRows
from dsv4_tp.model.forms import Form, Forms
from dsv4_tp.model.rows import Ring, Starts, Store, parted
from dsv4_tp.modelspec import ModelSpec
from dsv4_tp.rules import REWIND, reach

_POOLS = {0: 0, 4: 2, 128: 1}  # by the layer's compress ratio


class Pool:
    """The compressed rows of one compressor, and the tokens that further rows will need.

    `rows` has a row for each complete window, held in `form`. `tail` has key-value and score,
    position embedding included, of the last tokens [B, tokens, 2 * width] in float32: those of the
    open window, of the one before it where windows overlap, and what a rewind may reach.
    """

    def __init__(self, ratio: int, form: Form) -> None:
        self.ratio, self.form = ratio, form
        self.overlaps = ratio == 4
        # Tokens before the next one that its window's row may need.
        self.reach = reach(ratio)
        self.tail = Ring(self.reach + REWIND)
        self.rows = Store()

    def copy(self, position: int) -> "Pool":
        """The same pool in buffers of its own, with the complete rows only."""
        kept = Pool(self.ratio, self.form)
        kept.tail = self.tail.copy()
        kept.rows = self.rows.copy(self.complete(position))
        return kept

    def complete(self, position: int) -> int:
        """How many windows are complete before `position`."""
        return position // self.ratio

    def read(self, start: int, length: int) -> mx.array | None:
        """The rows [B, T, any] complete after `length` tokens from `start` on; None if none is.

        They are as they are held, for `form` to decode.
        """
        return self.rows.read(self.complete(start + length))

    def arrays(self) -> list[mx.array]:
        """What is held."""
        return [array for array in (self.tail.slots, self.rows.rows) if array is not None]


class Memory:
    """One layer's memory of a sequence: window rows, and pools where the layer compresses.

    `position` is that of the next token. Sequences that begin together, and stay so, may share one.
    """

    def __init__(self, window: int, ratio: int, forms: Forms) -> None:
        self.window, self.ratio, self.forms = window, ratio, forms
        self.position = 0
        self.ring = Ring(window - 1 + REWIND)
        forms_of_pools = (forms.attention, forms.index)[: _POOLS[ratio]]
        self.pools = tuple(Pool(ratio, form) for form in forms_of_pools)
        self._highest = 0  # position that was reached, maybe rewound since

    def extend(self, held: mx.array) -> mx.array:
        """Appends rows [B, L, any], as they are held; returns those still in reach, then these."""
        earlier = self.ring.read(self.position, min(self.window - 1, self.position))
        self.ring.write(self.position, held)
        self.position += held.shape[1]
        self._highest = max(self._highest, self.position)
        return held if earlier is None else mx.concatenate([earlier, held], axis=1)

    @property
    def rewindable(self) -> int:
        """How many tokens can be taken back now."""
        return min(self.position, REWIND - (self._highest - self.position))

    def stand_at(self, position: int, rewindable: int) -> None:
        """See `Cache.stand_at`."""
        self.position, self._highest = position, position + REWIND - rewindable

    def copy(self) -> "Memory":
        """The same memory in buffers of its own, as small as they can be."""
        kept = Memory(self.window, self.ratio, self.forms)
        kept.ring = self.ring.copy()
        kept.pools = tuple(pool.copy(self.position) for pool in self.pools)
        kept.position, kept._highest = self.position, self._highest
        return kept

    def arrays(self) -> list[mx.array]:
        """What is held."""
        ring = [] if self.ring.slots is None else [self.ring.slots]
        return ring + [array for pool in self.pools for array in pool.arrays()]


class LayerCache:
    """One layer's memory of a batch: that of each sequence, or a single one for all of them."""

    def __init__(self, window: int, ratio: int, forms: Forms | None = None) -> None:
        self.window, self.ratio, self.forms = window, ratio, forms or Forms()
        self.memories = [Memory(window, ratio, self.forms)]

    @property
    def positions(self) -> Starts:
        """Of the next token, by memory."""
        return tuple(memory.position for memory in self.memories)

    def starts(self, batch: int) -> Starts:
        """The same for each of `batch` sequences."""
        return self.positions * (batch // len(self.memories))

    def extend(self, kv: mx.array) -> list[mx.array]:
        """Appends kv [B, L, head_dim]; of each memory the earlier rows in reach, then its own.

        All of them, those of kv too, as they are read back from now on.
        """
        held = parted(self.forms.attention.encode(kv), len(self.memories))
        windows = (memory.extend(own) for memory, own in zip(self.memories, held, strict=True))
        return [self.forms.attention.decode(rows, kv.dtype) for rows in windows]

    @property
    def rewindable(self) -> tuple[int, ...]:
        """How many tokens of each sequence can be taken back now."""
        return tuple(memory.rewindable for memory in self.memories)

    def rewind(self, counts: Sequence[int]) -> None:
        """Take back the last `counts[b]` tokens of sequence b.

        Raises:
            ValueError: more than `rewindable` says.
        """
        if any(n > most for n, most in zip(counts, self.rewindable, strict=True)):
            raise ValueError(f"{list(counts)} tokens back, {list(self.rewindable)} are kept")
        for memory, count in zip(self.memories, counts, strict=True):
            memory.position -= count

    def stand_at(self, position: int, rewindable: int) -> None:
        """See `Cache.stand_at`."""
        (memory,) = self.memories
        memory.stand_at(position, rewindable)

    def of(self, sequence: int) -> "LayerCache":
        """One sequence of the batch: what is fed to it is fed there."""
        return self._with([self.memories[sequence]])

    def copy(self) -> "LayerCache":
        """The same memory in buffers of its own, as small as they can be."""
        return self._with([memory.copy() for memory in self.memories])

    @classmethod
    def merged(cls, layers: Sequence["LayerCache"]) -> "LayerCache":
        """All their sequences as a batch: what is fed to it is fed to them."""
        return layers[0]._with([memory for layer in layers for memory in layer.memories])

    def _with(self, memories: list[Memory]) -> "LayerCache":
        cache = LayerCache(self.window, self.ratio, self.forms)
        cache.memories = memories
        return cache

    @property
    def state(self) -> list[mx.array]:
        """Every array held; evaluate them with each step, or the graph grows without end."""
        return [array for memory in self.memories for array in memory.arrays()]

    @property
    def pools(self) -> list[Pool]:
        """The rows that attention reads, of a layer that compresses; by memory."""
        return [memory.pools[0] for memory in self.memories]

    @property
    def index_pools(self) -> list[Pool]:
        """The rows that the indexer scores, of a layer that has one; by memory."""
        return [memory.pools[1] for memory in self.memories]

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays held."""
        return sum(array.nbytes for array in self.state)


class Cache(list[LayerCache]):
    """The memory of all layers."""

    def __init__(self, layers: Iterable[LayerCache]) -> None:
        super().__init__(layers)

    @property
    def positions(self) -> Starts:
        """The positions of the next tokens, by sequence."""
        return self[0].positions

    @property
    def rewindable(self) -> tuple[int, ...]:
        """How many tokens of each sequence can be taken back now, in every layer."""
        return tuple(map(min, zip(*(layer.rewindable for layer in self), strict=True)))

    def rewind(self, counts: Sequence[int]) -> None:
        """Take back the last `counts[b]` tokens of sequence b in all layers."""
        for layer in self:
            layer.rewind(counts)

    def stand_at(self, position: int, rewindable: int) -> None:
        """Of one sequence, whose rows were put there: so many tokens, so many to take back."""
        for layer in self:
            layer.stand_at(position, rewindable)

    def of(self, sequence: int) -> "Cache":
        """One sequence of the batch: what is fed to it is fed there."""
        return Cache(layer.of(sequence) for layer in self)

    def copy(self) -> "Cache":
        """The same memory in buffers of its own, evaluated: a snapshot, to be copied again for use.

        It holds the bytes of its rows and no others.
        """
        kept = Cache(layer.copy() for layer in self)
        mx.eval(kept.arrays())
        return kept

    @classmethod
    def merged(cls, caches: Sequence["Cache"]) -> "Cache":
        """All their sequences as a batch, no array moved: what is fed to it is fed to them."""
        return cls(LayerCache.merged(same) for same in zip(*caches, strict=True))

    def arrays(self) -> list[mx.array]:
        """Every array held by any layer."""
        return [array for layer in self for array in layer.state]


def make_cache(spec: ModelSpec, ratios: Iterable[int], rows: CacheRows) -> Cache:
    """An empty memory of layers that compress by `ratios` (0: not at all) and hold `rows` so."""
    forms = Forms.of(spec, rows)
    return Cache(LayerCache(spec.sliding_window, ratio, forms) for ratio in ratios)
