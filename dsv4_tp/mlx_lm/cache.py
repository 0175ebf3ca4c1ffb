"""What mlx-lm's tools ask of a prompt cache, answered by what a layer remembers.

They make one object per layer, save and load it, join those of several requests to a batch, and
pad prompts of unequal length at the right. Padding is never fed: while prompts are padded, the
sequences are apart, and the model reads of each what is its own.
"""

from collections.abc import Sequence
from typing import Any, Self

import mlx.core as mx

from dsv4_tp.errors import RequestError
from dsv4_tp.model import LayerCache

_Slots = list[mx.array | None]


class Dsv4LayerCache:
    """One layer's memory of one sequence or of a batch; files hold the name of this class.

    `model` tells whose rows they are: the identity of the model that wrote them.
    """

    def __init__(self, memory: LayerCache, model: str) -> None:
        self.memory, self.model = memory, model
        # While prompts are padded: each sequence, and the position where its prompt ends.
        self.apart: list[LayerCache] = []
        self._stops: tuple[int, ...] = ()

    @property
    def state(self) -> tuple[object, ...]:
        """Whose, what layer, positions, how many tokens can be taken back, arrays."""
        memory = self.memory
        starts, back = memory.starts(1), memory.rewindable or (0,)
        return self.model, memory.window, memory.ratio, starts, back, _slots(memory)

    @classmethod
    def from_state(cls, state: Sequence[Any]) -> Self:
        """The cache that had this state.

        Raises:
            RequestError: no such cache had it.
        """
        try:
            model, window, ratio, starts, back, slots = state
            parts = [
                _restored(LayerCache(window, ratio), at, most, [_one(s, b) for s in slots])
                for b, (at, most) in enumerate(zip(starts, back, strict=True))
            ]
            return cls(_joined(parts), model)
        except (TypeError, ValueError, KeyError, AttributeError, IndexError):
            raise RequestError(
                "the prompt cache is damaged, or of another version of dsv4-tp: make it anew"
            ) from None

    @property
    def arrays(self) -> list[mx.array]:
        """Every array held."""
        return [array for part in self.apart or [self.memory] for array in part.state]

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays held."""
        return sum(array.nbytes for array in self.arrays)

    @property
    def offset(self) -> int:
        """The position of the sequence that is furthest."""
        return max(self.memory.positions, default=0)

    def size(self) -> int:
        """How many tokens the sequence that is furthest has."""
        return self.offset

    def empty(self) -> bool:
        """Whether no token was seen yet."""
        return self.offset == 0

    def is_trimmable(self) -> bool:
        """No: a few tokens can be taken back, but mlx-lm takes a yes for any number."""
        return False

    def to_quantized(self, **_: int) -> "Dsv4LayerCache":
        """Refused: mlx-lm's quantisation of keys and values does not know these rows.

        Raises:
            RequestError: always.
        """
        raise RequestError("the caches of DeepSeek-V4 take no --kv-bits: leave it out")

    @classmethod
    def merge(cls, caches: Sequence["Dsv4LayerCache"]) -> "Dsv4LayerCache":
        """The memory of a batch of these sequences, one each, which stay as they are."""
        return cls(_joined([cache.memory.of(0) for cache in caches]), _common(caches))

    def extend(self, other: "Dsv4LayerCache") -> None:
        """Let the other's sequences join, after the ones that are here."""
        self.model = _common([self, other])
        self.memory = _joined([*self._sequences(), *other._sequences()])

    def extract(self, sequence: int) -> "Dsv4LayerCache":
        """The memory of one sequence, in buffers of its own, as small as they can be."""
        alone = Dsv4LayerCache(self.memory.of(sequence).copy(), self.model)
        mx.eval(alone.arrays)  # or the whole batch is kept for it
        return alone

    def filter(self, keep: Sequence[int]) -> None:
        """Let all but these sequences leave; room that only the others needed goes with them."""
        sequences = self._sequences()
        if list(keep) != list(range(len(sequences))):
            self.memory = _joined([sequences[number].copy() for number in keep])

    def prepare(
        self,
        *,
        lengths: Sequence[int] | None = None,
        right_padding: Sequence[int] | None = None,
        left_padding: Sequence[int] | None = None,
    ) -> None:
        """Until `finalize`, of the tokens of sequence b only the first `lengths[b]` are its own.

        Raises:
            RequestError: padding at the left.
        """
        if left_padding is not None and any(left_padding):
            raise RequestError("prompts padded at the left are not served: pad at the right")
        if right_padding is None or lengths is None or not any(right_padding):
            return
        self.apart = self._sequences()
        self.memory = LayerCache(self.memory.window, self.memory.ratio)
        self._stops = tuple(
            part.starts(1)[0] + length for part, length in zip(self.apart, lengths, strict=True)
        )

    def own(self, length: int) -> list[int]:
        """How many of the next `length` tokens of each sequence, now apart, are its own."""
        stops = zip(self.apart, self._stops, strict=True)
        return [min(length, stop - part.starts(1)[0]) for part, stop in stops]

    def finalize(self) -> None:
        """The prompts are fed: join the sequences again."""
        if self.apart:
            self.memory, self.apart = _joined(self.apart), []

    def _sequences(self) -> list[LayerCache]:
        return [self.memory.of(number) for number in range(len(self.memory.starts(1)))]


def _common(caches: Sequence[Dsv4LayerCache]) -> str:
    models = {cache.model for cache in caches}
    if len(models) > 1:
        raise RequestError("prompt caches of several models cannot be one batch")
    return models.pop()


def _joined(parts: Sequence[LayerCache]) -> LayerCache:
    """The memory of all these sequences, each now alone."""
    return parts[0] if len(parts) == 1 else LayerCache.merged(parts)


def _one(slots: mx.array | None, sequence: int) -> mx.array | None:
    return None if slots is None else slots[sequence : sequence + 1]


def _slots(memory: LayerCache) -> _Slots:
    """Its arrays, each in its place: None where there is none yet."""
    pools = [part for pool in memory.pools for part in (pool.tail.slots, pool.rows.rows)]
    return [memory.ring.slots, *pools]


def _restored(empty: LayerCache, position: int, back: int, slots: _Slots) -> LayerCache:
    """The memory of one sequence that had these arrays; ValueError if they do not fit."""
    empty.ring.slots = slots[0]
    rings = [empty.ring]
    pairs = zip(slots[1::2], slots[2::2], strict=True)
    for pool, (tail, rows) in zip(empty.pools, pairs, strict=True):
        pool.tail.slots, pool.rows.rows = tail, rows
        rings.append(pool.tail)
        if pool.complete(position) > (0 if rows is None else rows.shape[1]):
            raise ValueError("rows are missing")
    for ring in rings if position else []:
        if ring.slots is None or ring.slots.shape[1] != ring.size:
            raise ValueError("a ring is missing, or of another version's size")
    empty.stand_at(position, back)
    return empty
