"""The sequences that decode together: one cache for all of them, in the order of the steps."""

from collections.abc import Sequence

import mlx.core as mx

from dsv4_tp.model import Cache


class Batch:
    """Caches are joined at the step after a sequence came, and parted as soon as one has gone."""

    def __init__(self) -> None:
        self._names: list[str] = []  # as in the cache
        self._cache: Cache | None = None
        self._new: dict[str, Cache] = {}
        self._gone: set[str] = set()

    def add(self, name: str, cache: Cache) -> None:
        """This sequence decodes from the next step on."""
        self._new[name] = cache

    def drop(self, name: str) -> None:
        """This sequence is over, if it was there."""
        self._new.pop(name, None)
        self._gone.add(name)
        if self._gone.issuperset(self._names):
            self._names, self._cache, self._gone = [], None, set()

    def part(self) -> None:
        """Give the room of those that are over back at once, before others take theirs."""
        if self._gone.intersection(self._names):
            cache = self.cache_of([name for name in self._names if name not in self._gone])
            mx.eval(cache.arrays())
        self._gone.clear()

    def cache_of(self, names: Sequence[str]) -> Cache:
        """The cache of these sequences, in this order."""
        if self._cache is None or self._names != list(names) or self._new.keys() & set(names):
            parts = [self.of(name) for name in names]
            alone = len(parts) == 1 and names[0] in self._new
            self._cache = parts[0] if alone else Cache.merged(parts)
            self._names = list(names)
            self._new = {name: own for name, own in self._new.items() if name not in names}
        return self._cache

    def of(self, name: str) -> Cache:
        """The cache of one sequence; it is not to be written to."""
        if name in self._new:
            return self._new[name]
        assert self._cache is not None, f"{name} does not decode"
        if len(self._names) == 1:
            return self._cache
        return self._cache.of(self._names.index(name))
