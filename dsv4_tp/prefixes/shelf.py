"""The arrays of all snapshots, in memory and, where a folder is given, on disk as well."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from dsv4_tp.model import Arrays, Cache, Rows, snapshot
from dsv4_tp.prefixes.files import Folder
from dsv4_tp.prefixes.index import Drop, Entry, Index, Match, Piece, add, draft


class Shelf:
    """One rank's snapshots. What is on it is what the index says."""

    def __init__(self, folder: Folder | None = None, budget_bytes: int = 0) -> None:
        """A shelf with what `folder` has, up to a budget: `found`, yet to be agreed on by all."""
        self._folder = folder
        self._rows: dict[str, Rows] = {}
        self._rest: dict[str, Arrays] = {}
        self.found: tuple[Entry, ...] = tuple(self._load(folder, budget_bytes)) if folder else ()

    @property
    def nbytes(self) -> int:
        """What all arrays take."""
        pieces = [*self._rest.values(), *(rows.arrays for rows in self._rows.values())]
        return sum(array.nbytes for arrays in pieces for array in arrays.values())

    def keep(self, index: Index, ids: Sequence[int], trail: Sequence[Match], cache: Cache) -> Index:
        """The index after it was offered the cache of these tokens, of one sequence.

        `trail` has the entries that the sequence went on from, or left on its way.
        """
        (back,) = cache.rewindable
        entry = draft(index, ids, back=back, trail=trail)
        entry = replace(
            entry,
            rows_bytes=snapshot.rows_bytes(cache, entry.base, entry.length),
            rest_bytes=snapshot.rest_bytes(cache),
        )
        grown = add(index, entry)
        if grown is None:
            return index
        index, drops = grown
        self.drop(drops)  # first, so that no more than the budget is ever held
        self._put(index.entries[entry.key], cache)
        return index

    def restore(self, index: Index, match: Match, cache: Cache) -> None:
        """Fill an empty cache with the tokens of a match."""
        entry = index.entries[match.key]
        snapshot.restore(
            cache,
            [self._rows[one.key] for one in index.chain(entry.key)],
            self._rest[entry.key],
            position=entry.length,
            back=len(entry.tail),
            length=match.length,
        )

    def drop(self, drops: Iterable[Drop]) -> None:
        """Give these up."""
        for drop in drops:
            held = self._rows if drop.piece is Piece.ROWS else self._rest
            held.pop(drop.key, None)
            if self._folder:
                self._folder.remove(drop)

    def keep_only(self, index: Index) -> None:
        """Give up all that the index does not have."""
        rows = [Drop(key, Piece.ROWS) for key in self._rows if key not in index.entries]
        rest = [Drop(key, Piece.REST) for key in self._rest if key not in index.alive]
        self.drop((*rows, *rest))

    def _put(self, entry: Entry, cache: Cache) -> None:
        self._rest[entry.key] = snapshot.rest_of(cache)
        if entry.key not in self._rows:
            self._rows[entry.key] = snapshot.rows_of(cache, entry.base, entry.length)
        if self._folder:
            self._folder.save(entry, self._rows[entry.key].arrays, self._rest[entry.key])

    def _load(self, folder: Folder, budget_bytes: int) -> Iterable[Entry]:
        for entry, rows, rest in folder.load(budget_bytes):
            self._rows[entry.key] = Rows(entry.base, entry.length, rows)
            self._rest[entry.key] = rest
            yield entry
