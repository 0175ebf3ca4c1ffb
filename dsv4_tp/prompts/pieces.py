"""A text in pieces that remember who wrote them: a message, or the format around it."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from string import Formatter


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of a prompt."""

    text: str
    given: bool = False  # taken from a message, so whoever wrote that decided its characters


Pieces = tuple[Piece, ...]


def ours(text: str) -> Pieces:
    """What the format itself says."""
    return (Piece(text),)


def given(text: str) -> Pieces:
    """What a message says."""
    return (Piece(text, given=True),)


def joined(separator: str, parts: Sequence[Pieces]) -> Pieces:
    """The parts, with the format's `separator` between them."""
    between = ours(separator)
    return tuple(chain.from_iterable(between * bool(at) + part for at, part in enumerate(parts)))


def fill(template: str, **fields: Pieces) -> Pieces:
    """The template as `str.format` would fill it."""
    filled: list[Piece] = []
    for literal, name, _, _ in Formatter().parse(template):
        filled.append(Piece(literal))
        if name is not None:
            filled.extend(fields[name])
    return tuple(filled)


def cut(pieces: Iterable[Piece], tokens: Iterable[str]) -> tuple[str, ...]:
    """The text, cut within each of `tokens`, of at least two characters, that a message spells.

    A tokenizer reads a special token's text as that token, whoever wrote it: a message could end
    its turn and begin another's. Texts that are encoded one by one, as returned here, hold such
    tokens only where the format put them. Nothing is left out or changed, and a text without
    such tokens comes back whole.
    """
    pieces = [piece for piece in pieces if piece.text]
    text = "".join(piece.text for piece in pieces)
    pattern = _pattern(tokens)
    if pattern is None:
        return (text,)
    spelled = b"".join(bytes([piece.given]) * len(piece.text) for piece in pieces)
    places = sorted({0, *_places(text, spelled, pattern), len(text)})
    return tuple(text[start:end] for start, end in pairwise(places)) or ("",)


def _pattern(tokens: Iterable[str]) -> re.Pattern[str] | None:
    longest_first = sorted(filter(None, tokens), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None


def _places(text: str, spelled: bytes, pattern: re.Pattern[str]) -> Iterator[int]:
    found = pattern.search(text)
    while found:
        first = spelled.find(1, found.start(), found.end())
        if first >= 0:
            yield max(first, found.start() + 1)
        # Tokens may overlap, so the next character may begin one too.
        found = pattern.search(text, found.start() + 1)
