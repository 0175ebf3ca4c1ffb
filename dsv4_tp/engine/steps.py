"""What a rank can be told to do next, and what it hears of what was done."""

from dataclasses import dataclass

from dsv4_tp.core import FinishReason, Request, ScoreRequest
from dsv4_tp.prefixes import Match


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do before the command of this number arrives."""

    number: int


@dataclass(frozen=True, slots=True)
class Leave:
    """The log said to drain, and all is done."""


@dataclass(frozen=True, slots=True)
class Feed:
    """Append these ids of a prompt to its cache; if `choose`, choose the token that follows.

    A cache that is made for this goes on from `start`, if that is not None.
    """

    request: Request
    ids: tuple[int, ...]
    position: int  # of the first of `ids`
    choose: bool
    start: Match | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One sequence of a decode step: its tokens so far, of which the last is to be fed."""

    request: Request
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Decode:
    """Feed the last token of each sequence, and choose the one that follows."""

    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Score:
    """Score the next piece."""

    request: ScoreRequest


Step = Wait | Leave | Feed | Decode | Score


@dataclass(frozen=True, slots=True)
class Ended:
    """A request is over; `error` says why it was refused, if it was."""

    request: Request | ScoreRequest
    reason: FinishReason
    generated: int = 0
    cached: int = 0  # ids of its prompt that were in a snapshot
    error: str = ""


@dataclass(frozen=True, slots=True)
class Due:
    """The cache of a request, which now holds these ids, is worth a snapshot."""

    request: Request
    ids: tuple[int, ...]
    trail: tuple[Match, ...]
