"""What mlx-lm's tools ask of a prompt cache, answered by what a layer remembers.

They make one object per layer, save and load it, join those of several requests to a batch, and
pad prompts of unequal length at the right. Padding is never fed: while prompts are padded, the
model reads of each sequence what is its own.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, Self

import mlx.core as mx

from dsv4_tp.errors import RequestError
from dsv4_tp.model import LayerCache, Memory

_Slots = list[mx.array | None]


class Dsv4LayerCache:
    """One layer's memory of one sequence or of a batch; files hold the name of this class.

    `model` tells whose rows they are: the identity of the model that wrote them.
    """

    def __init__(self, memory: LayerCache, model: str) -> None:
        self.memory, self.model = memory, model
        self._stops: tuple[int, ...] = ()  # where prompts end, while they are padded

    @property
    def state(self) -> tuple[object, ...]:
        """Whose, what layer, positions, how many tokens can be taken back, arrays."""
        layer = self.memory
        slots = [slot for memory in layer.memories for slot in _slots(memory)]
        return self.model, layer.window, layer.ratio, layer.positions, layer.rewindable, slots

    @classmethod
    def from_state(cls, state: Sequence[Any]) -> Self:
        """The cache that had this state.

        Raises:
            RequestError: no such cache had it.
        """
        try:
            model, window, ratio, positions, back, slots = state
            count = len(slots) // len(positions)
            parts = [
                _restored(LayerCache(window, ratio), at, most, slots[n * count : (n + 1) * count])
                for n, (at, most) in enumerate(zip(positions, back, strict=True))
            ]
            return cls(LayerCache.merged(parts), model)
        except (TypeError, ValueError, KeyError, AttributeError, IndexError):
            raise RequestError(
                "the prompt cache is damaged, or of another version of dsv4-tp: make it anew"
            ) from None

    @property
    def arrays(self) -> list[mx.array]:
        """Every array held."""
        return self.memory.state

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays held."""
        return self.memory.nbytes

    @property
    def offset(self) -> int:
        """The position of the sequence that is furthest."""
        return max(self.memory.positions)

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
        """The memory of a batch of all their sequences, which stay as they are."""
        # Arrays are shared until one of the two is written to.
        parts = [deepcopy(cache.memory) for cache in caches]
        return cls(LayerCache.merged(parts), _common(caches))

    def extend(self, other: "Dsv4LayerCache") -> None:
        """Let the other's sequences join, after the ones that are here."""
        self.model = _common([self, other])
        self.memory = LayerCache.merged([self.memory, other.memory])

    def extract(self, sequence: int) -> "Dsv4LayerCache":
        """The memory of one sequence, in buffers of its own, as small as they can be."""
        alone = Dsv4LayerCache(self.memory.of(sequence).copy(), self.model)
        mx.eval(alone.arrays)
        return alone

    def filter(self, keep: Sequence[int]) -> None:
        """Let all but these sequences leave."""
        self.memory = LayerCache.merged([self.memory.of(number) for number in keep])

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
        lengths_at = zip(self.memory.positions, lengths, strict=True)
        self._stops = tuple(at + length for at, length in lengths_at)

    @property
    def padded(self) -> bool:
        """Whether what is fed now may be padding."""
        return bool(self._stops)

    def own(self, length: int) -> list[int]:
        """How many of the next `length` tokens of each sequence are no padding."""
        stops = zip(self.memory.positions, self._stops, strict=True)
        return [min(length, stop - at) for at, stop in stops]

    def finalize(self) -> None:
        """The prompts are fed."""
        self._stops = ()

    def begin(self, batch: int) -> None:
        """Before the first tokens of `batch` sequences: a memory for each."""
        if self.empty() and len(self.memory.memories) == 1:
            self.memory = LayerCache.merged([deepcopy(self.memory) for _ in range(batch)])


def _common(caches: Sequence[Dsv4LayerCache]) -> str:
    models = {cache.model for cache in caches}
    if len(models) > 1:
        raise RequestError("prompt caches of several models cannot be one batch")
    return models.pop()


def _slots(memory: Memory) -> _Slots:
    """Its arrays, each in its place: None where there is none yet."""
    pools = [part for pool in memory.pools for part in (pool.tail.slots, pool.rows.rows)]
    return [memory.ring.slots, *pools]


def _restored(empty: LayerCache, position: int, back: int, slots: _Slots) -> LayerCache:
    """The memory of one sequence that had these arrays; ValueError if they do not fit."""
    (memory,) = empty.memories
    memory.ring.slots = slots[0]
    rings = [memory.ring]
    pairs = zip(slots[1::2], slots[2::2], strict=True)
    for pool, (tail, rows) in zip(memory.pools, pairs, strict=True):
        pool.tail.slots, pool.rows.rows = tail, rows
        rings.append(pool.tail)
        if pool.complete(position) > (0 if rows is None else rows.shape[1]):
            raise ValueError("rows are missing")
    for ring in rings if position else []:
        if ring.slots is None or ring.slots.shape[1] != ring.size:
            raise ValueError("a ring is missing, or of another version's size")
    empty.stand_at(position, back)
    return empty
