"""The sequences that decode together: one cache for all of them, in the order of the steps."""

from collections.abc import Sequence

from dsv4_tp.model import Cache


class Batch:
    """Caches are joined when a sequence comes, and parted when one goes, at the next step."""

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

    def cache_of(self, names: Sequence[str]) -> Cache:
        """The cache of these sequences, in this order: all there are."""
        if self._cache is None or self._names != list(names):
            parts = [self.of(name) for name in names]
            self._cache = parts[0] if len(parts) == 1 else Cache.merged(parts)
            self._names, self._new, self._gone = list(names), {}, set()
        return self._cache

    def of(self, name: str) -> Cache:
        """The cache of one sequence; it is not to be written to."""
        if name in self._new:
            return self._new[name]
        assert self._cache is not None, f"{name} does not decode"
        if len(self._names) == 1:
            return self._cache
        return self._cache.of(self._names.index(name))
