"""Which snapshots there are, which one a prompt goes on from, and which are given up: pure.

Snapshots of sequences that begin alike form a tree: each holds the pooled rows that follow those
of its parent, and the rest of the caches as they were at its end. The rest is what one can go on
from; it is given up by last use. Rows go when nothing that can be gone on from needs them.

All ranks hold equal caches and do equal steps, so their indices are equal, too.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType

import numpy as np

_LEAST_STEP = 512  # tokens between two borders
_LEAST_LENGTH = 64  # fewer are fed again as fast


class Piece(StrEnum):
    """What a snapshot consists of."""

    ROWS = "rows"  # pooled rows after the parent's
    REST = "rest"  # windows and open windows at its end


@dataclass(frozen=True, slots=True)
class Entry:
    """One snapshot, of `length` tokens; the last ones, `tail`, can be taken back."""

    key: str  # digest of the tokens
    length: int
    stem: str  # digest of the tokens before `tail`
    tail: tuple[int, ...]
    parent: str  # key of the entry whose rows come before; empty: none
    base: int  # tokens that it shares with the parent; its own rows follow
    rows_bytes: int
    rest_bytes: int
    number: int  # of its making, or its last use: the higher the later

    @property
    def nbytes(self) -> int:
        """All it holds."""
        return self.rows_bytes + self.rest_bytes


@dataclass(frozen=True, slots=True)
class Index:
    """The entries by key; those in `alive` still have their rest."""

    budget_bytes: int
    entries: Mapping[str, Entry] = field(default_factory=lambda: MappingProxyType({}))
    alive: frozenset[str] = frozenset()
    clock: int = 0

    @property
    def nbytes(self) -> int:
        """What all arrays take."""
        rows = sum(entry.rows_bytes for entry in self.entries.values())
        return rows + sum(self.entries[key].rest_bytes for key in self.alive)

    def chain(self, key: str) -> tuple[Entry, ...]:
        """The entry and all it follows, the first one first."""
        found, at = list[Entry](), key
        while at:
            found.append(self.entries[at])
            at = found[-1].parent
        return tuple(reversed(found))


@dataclass(frozen=True, slots=True)
class Match:
    """A prompt's first `length` tokens are those of an entry, or of its start."""

    key: str
    length: int


@dataclass(frozen=True, slots=True)
class Drop:
    """A piece of an entry that is given up."""

    key: str
    piece: Piece


def digest_of(ids: Sequence[int]) -> str:
    """What tells a sequence of tokens from others."""
    return hashlib.sha256(_bytes(ids)).hexdigest()


def is_border(before: int, after: int) -> bool:
    """Whether a prompt fed from `before` to `after` is worth a snapshot there.

    Borders lie a power of two apart, an eighth to a sixteenth of the position, but no closer than
    512 tokens: of a shared beginning at most an eighth is fed again, or a chunk.
    """
    step = max(_LEAST_STEP, 1 << max(after.bit_length() - 4, 0))
    return after // step > before // step


def find(index: Index, ids: Sequence[int]) -> Match | None:
    """The entry that has most of a prompt's beginning, all but its last token at most."""
    most = len(ids) - 1
    candidates = [index.entries[key] for key in index.alive]
    stems = {entry.length - len(entry.tail) for entry in candidates}
    digests = _digests(ids, sorted(length for length in stems if length <= most))
    found = [
        (_shared(entry, ids[:most]), -entry.length, entry.key)
        for entry in candidates
        if digests.get(entry.length - len(entry.tail)) == entry.stem
    ]
    length, _, key = max(found, default=(0, 0, ""))
    return Match(key, length) if length >= _LEAST_LENGTH else None


def draft(index: Index, ids: Sequence[int], *, back: int, trail: Sequence[Match]) -> Entry:
    """An entry for these tokens, of which the last `back` can be taken back; its bytes are open.

    `trail` has the entries that were gone on from or made on the way, the first one first.
    """
    known = [match for match in trail if match.key in index.entries]
    stem = len(ids) - back
    return Entry(
        key=digest_of(ids),
        length=len(ids),
        stem=digest_of(ids[:stem]),
        tail=tuple(ids[stem:]),
        parent=known[-1].key if known else "",
        base=known[-1].length if known else 0,
        rows_bytes=0,
        rest_bytes=0,
        number=0,
    )


def add(index: Index, entry: Entry) -> tuple[Index, tuple[Drop, ...]] | None:
    """The index with one more entry, and what had to go for it; None if it is not to be kept.

    That is if it is short, is there already, or would not fit though all others were gone.
    What lost its rest may still have its rows, and then needs the rest only.
    """
    if entry.length < _LEAST_LENGTH or entry.key in index.alive:
        return None
    if known := index.entries.get(entry.key):
        entry = replace(entry, parent=known.parent, base=known.base, rows_bytes=known.rows_bytes)
    entry = replace(entry, number=index.clock + 1)
    grown = _with(replace(index, alive=index.alive | {entry.key}), entry)
    needed = sum(one.rows_bytes for one in grown.chain(entry.key)) + entry.rest_bytes
    return _shrunk(grown, spare=entry.key) if needed <= index.budget_bytes else None


def used(index: Index, key: str) -> Index:
    """The index after a request went on from this entry."""
    return _with(index, replace(index.entries[key], number=index.clock + 1))


def with_entries(budget_bytes: int, entries: Iterable[Entry]) -> Index:
    """The index of what an earlier launch left, as far as it has its parents and a place."""
    found = {entry.key: entry for entry in entries}
    while lost := [e.key for e in found.values() if e.parent and e.parent not in found]:
        for key in lost:
            del found[key]
    index = Index(budget_bytes)
    for entry in found.values():
        index = _with(index, entry)
    alive = frozenset(entry.key for entry in found.values() if entry.rest_bytes)
    index, _ = _pruned(replace(index, alive=alive))
    return _shrunk(index, spare="")[0]


def without(index: Index, keys: Iterable[str]) -> Index:
    """The index without these entries and all that follow them; it may lack some of them."""
    gone = set(keys)
    alive = (k for k in index.alive if gone.isdisjoint(entry.key for entry in index.chain(k)))
    return _pruned(replace(index, alive=frozenset(alive)))[0]


def _shrunk(index: Index, *, spare: str) -> tuple[Index, tuple[Drop, ...]]:
    """The index within its budget: rests go by last use, but not that of `spare`."""
    drops: tuple[Drop, ...] = ()
    while index.nbytes > index.budget_bytes:
        oldest = min(index.alive - {spare}, key=lambda key: (index.entries[key].number, key))
        index, more = _pruned(replace(index, alive=index.alive - {oldest}))
        drops = (*drops, Drop(oldest, Piece.REST), *more)
    return index, drops


def _pruned(index: Index) -> tuple[Index, tuple[Drop, ...]]:
    """The index without rows that no entry with a rest needs."""
    needed = {entry.key for key in index.alive for entry in index.chain(key)}
    kept = {key: entry for key, entry in index.entries.items() if key in needed}
    gone = tuple(Drop(key, Piece.ROWS) for key in index.entries if key not in needed)
    return replace(index, entries=MappingProxyType(kept)), gone


def _shared(entry: Entry, ids: Sequence[int]) -> int:
    """How many tokens the entry shares with `ids`, which begin with its stem."""
    shared = entry.length - len(entry.tail)
    for one, other in zip(entry.tail, ids[shared:], strict=False):
        if one != other:
            break
        shared += 1
    return shared


def _digests(ids: Sequence[int], lengths: Sequence[int]) -> dict[int, str]:
    """The digests of the first tokens, so many each; the lengths are in order."""
    digest, done, found = hashlib.sha256(), 0, dict[int, str]()
    for length in lengths:
        digest.update(_bytes(ids[done:length]))
        done, found[length] = length, digest.hexdigest()
    return found


def _bytes(ids: Sequence[int]) -> bytes:
    return np.asarray(ids, dtype="<u4").tobytes()


def _with(index: Index, entry: Entry) -> Index:
    """The index with this entry, in the place of its namesake if there is one."""
    entries = MappingProxyType({**index.entries, entry.key: entry})
    return replace(index, entries=entries, clock=max(index.clock, entry.number))
