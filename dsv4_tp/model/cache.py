"""What a layer remembers of each sequence: the rows of its window and the rows of its pools.

Everything follows from a sequence's position. Rings hold the row of position p in slot p % size,
pools the row of window w under number w, and how many of them count is computed. So a sequence is
rewound by lowering its position: what lies behind it is overwritten before it is read again.
"""

from collections.abc import Iterable, Sequence

import mlx.core as mx

from dsv4_tp.core import CacheRows
from dsv4_tp.model.forms import Form, Forms
from dsv4_tp.model.rows import Ring, Starts, Store
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

    def of(self, sequence: int) -> "Pool":
        """The pool of one sequence of the batch."""
        alone = Pool(self.ratio, self.form)
        alone.tail, alone.rows = self.tail.of(sequence), self.rows.of(sequence)
        return alone

    def copy(self, positions: Starts) -> "Pool":
        """The same pool in buffers of its own, with the complete rows only."""
        kept = Pool(self.ratio, self.form)
        kept.tail = self.tail.copy()
        kept.rows = self.rows.copy(self.complete(max(positions)))
        return kept

    @classmethod
    def merged(cls, pools: Sequence["Pool"], positions: Starts) -> "Pool":
        """The pool of a batch of all their sequences, which stand at these positions."""
        whole = cls(pools[0].ratio, pools[0].form)
        whole.tail = Ring.merged([pool.tail for pool in pools])
        counts = [whole.complete(position) for position in positions]
        whole.rows = Store.merged([pool.rows for pool in pools], counts)
        return whole

    def complete(self, position: int) -> int:
        """How many windows are complete before `position`."""
        return position // self.ratio

    def write(self, starts: Starts, rows: mx.array) -> None:
        """The rows [B, n, head] of the windows that the tokens from `starts` on complete."""
        self.rows.write(tuple(map(self.complete, starts)), self.form.encode(rows))

    def read(self, starts: Starts, length: int) -> mx.array | None:
        """The rows [B, T, any] complete after `length` tokens from `starts` on; None if none is.

        They are as they are held, for `form` to decode. T is of the sequence that is furthest;
        another one's last rows are not complete.
        """
        return self.rows.read(self.complete(max(starts) + length))

    def arrays(self) -> list[mx.array]:
        """What is held."""
        return [array for array in (self.tail.slots, self.rows.rows) if array is not None]


class LayerCache:
    """One layer's memory of a batch: window rows, and pools where the layer compresses.

    `positions` are those of the next tokens, by sequence; empty before the first.
    """

    def __init__(self, window: int, ratio: int, forms: Forms | None = None) -> None:
        self.window, self.ratio, self.forms = window, ratio, forms or Forms()
        self.positions: Starts = ()
        self.ring = Ring(window - 1 + REWIND)
        forms_of_pools = (self.forms.attention, self.forms.index)[: _POOLS[ratio]]
        self.pools = tuple(Pool(ratio, form) for form in forms_of_pools)
        self._highest: Starts = ()  # positions that were reached, maybe rewound since

    def starts(self, batch: int) -> Starts:
        """Where the next tokens of `batch` sequences stand."""
        return self.positions or (0,) * batch

    def extend(self, kv: mx.array) -> mx.array:
        """Appends kv [B, L, head_dim]; returns the earlier rows still in reach, then kv.

        All of them, kv too, as they are read back from now on. The earlier ones are as many as
        the sequence that is furthest has; another one's rows before its position 0 mean nothing.
        """
        starts, length = self.starts(kv.shape[0]), kv.shape[1]
        earlier = self.ring.read(starts, min(self.window - 1, max(starts)))
        held = self.forms.attention.encode(kv)
        self.ring.write(starts, held)
        self.positions = tuple(start + length for start in starts)
        self._highest = tuple(map(max, self._highest or self.positions, self.positions))
        rows = held if earlier is None else mx.concatenate([earlier, held], axis=1)
        return self.forms.attention.decode(rows, kv.dtype)

    @property
    def rewindable(self) -> tuple[int, ...]:
        """How many tokens of each sequence can be taken back now."""
        reached = zip(self.positions, self._highest, strict=True)
        return tuple(min(at, REWIND - (highest - at)) for at, highest in reached)

    def rewind(self, counts: Sequence[int]) -> None:
        """Take back the last `counts[b]` tokens of sequence b.

        Raises:
            ValueError: more than `rewindable` says.
        """
        if any(n > most for n, most in zip(counts, self.rewindable, strict=True)):
            raise ValueError(f"{list(counts)} tokens back, {list(self.rewindable)} are kept")
        self.positions = tuple(at - n for at, n in zip(self.positions, counts, strict=True))

    def stand_at(self, position: int, rewindable: int) -> None:
        """See `Cache.stand_at`."""
        self.positions = (position,)
        self._highest = (position + REWIND - rewindable,)

    def of(self, sequence: int) -> "LayerCache":
        """The memory of one sequence of the batch."""
        alone = LayerCache(self.window, self.ratio, self.forms)
        alone.ring = self.ring.of(sequence)
        alone.pools = tuple(pool.of(sequence) for pool in self.pools)
        alone.positions = self.positions[sequence : sequence + 1]
        alone._highest = self._highest[sequence : sequence + 1]
        return alone

    def copy(self) -> "LayerCache":
        """The same memory in buffers of its own, as small as they can be."""
        kept = LayerCache(self.window, self.ratio, self.forms)
        kept.ring = self.ring.copy()
        kept.pools = tuple(pool.copy(self.starts(1)) for pool in self.pools)
        kept.positions, kept._highest = self.positions, self._highest
        return kept

    @classmethod
    def merged(cls, layers: Sequence["LayerCache"]) -> "LayerCache":
        """The memory of a batch of these sequences, one each, at whatever positions."""
        whole = cls(layers[0].window, layers[0].ratio, layers[0].forms)
        whole.ring = Ring.merged([layer.ring for layer in layers])
        whole.positions = tuple(layer.starts(1)[0] for layer in layers)
        pools = zip(*(layer.pools for layer in layers), strict=True)
        whole.pools = tuple(Pool.merged(same, whole.positions) for same in pools)
        whole._highest = tuple((layer._highest or (0,))[0] for layer in layers)
        return whole

    @property
    def state(self) -> list[mx.array]:
        """Every array held; evaluate them with each step, or the graph grows without end."""
        rings = [] if self.ring.slots is None else [self.ring.slots]
        return rings + [array for pool in self.pools for array in pool.arrays()]

    @property
    def pool(self) -> Pool:
        """The rows that attention reads, of a layer that compresses."""
        return self.pools[0]

    @property
    def index_pool(self) -> Pool:
        """The rows that the indexer scores, of a layer that has one."""
        return self.pools[1]

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
        """How many tokens of each sequence can be taken back now."""
        return self[0].rewindable

    def rewind(self, counts: Sequence[int]) -> None:
        """Take back the last `counts[b]` tokens of sequence b in all layers."""
        for layer in self:
            layer.rewind(counts)

    def stand_at(self, position: int, rewindable: int) -> None:
        """Of one sequence, whose rows were put there: so many tokens, so many to take back."""
        for layer in self:
            layer.stand_at(position, rewindable)

    def of(self, sequence: int) -> "Cache":
        """The memory of one sequence of the batch."""
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
        """The memory of a batch of these sequences, one each, at whatever positions."""
        return cls(LayerCache.merged(same) for same in zip(*caches, strict=True))

    def arrays(self) -> list[mx.array]:
        """Every array held by any layer."""
        return [array for layer in self for array in layer.state]


def make_cache(spec: ModelSpec, ratios: Iterable[int], rows: CacheRows) -> Cache:
    """An empty memory of layers that compress by `ratios` (0: not at all) and hold `rows` so."""
    forms = Forms.of(spec, rows)
    return Cache(LayerCache(spec.sliding_window, ratio, forms) for ratio in ratios)
