"""What a rank can be told to do next, and what it hears of what was done."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from dsv4_tp.core import FinishReason, Request, ScoreRequest
from dsv4_tp.prefixes import Match

MOST_ROWS = 64  # of a decode step: its sequences, and the drafts of each


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do before the command of this number arrives."""

    number: int


@dataclass(frozen=True, slots=True)
class Leave:
    """The log said to drain, and all is done."""


@dataclass(frozen=True, slots=True)
class Feed:
    """Append these given ids to its cache; if `choose`, choose the token that follows.

    They are of its prompt, or of a text that it was told in an earlier life. A cache that is made
    for this goes on from `start`, if that is not None.
    """

    request: Request
    ids: tuple[int, ...]
    position: int  # of the first of `ids`
    choose: bool
    start: Match | None = None

    @property
    def requests(self) -> tuple[Request, ...]:
        """Its one request."""
        return (self.request,)

    @property
    def following(self) -> tuple[int, ...]:
        """The given ids that follow each of `ids`; one less if there they end."""
        return self.request.given[self.position + 1 : self.position + 1 + len(self.ids)]


@dataclass(frozen=True, slots=True)
class Row:
    """One sequence of a decode step: its tokens so far, of which the last is to be fed.

    And behind it its drafts: tokens that may be those that follow.
    """

    request: Request
    tokens: tuple[int, ...]
    drafts: tuple[int, ...] = ()

    @property
    def ids(self) -> tuple[int, ...]:
        """What is fed."""
        return (self.tokens[-1], *self.drafts)

    def told(self, chosen: Sequence[int | None]) -> tuple[int, ...]:
        """What is sure of the tokens chosen after each of `ids`; None: none could be chosen.

        The first token is; each further one only if the draft before it is what was chosen.
        """
        told: list[int] = []
        for token, draft in zip_longest(chosen, self.drafts):
            if token is None:
                break
            told.append(token)
            if token != draft or token in self.request.stop_ids:
                break
        return tuple(told)


@dataclass(frozen=True, slots=True)
class Decode:
    """Feed the last token of each sequence and its drafts, and choose what follows each."""

    rows: tuple[Row, ...]

    @property
    def requests(self) -> tuple[Request, ...]:
        """Those of its rows."""
        return tuple(row.request for row in self.rows)


@dataclass(frozen=True, slots=True)
class Score:
    """Score the next piece."""

    request: ScoreRequest


@dataclass(frozen=True, slots=True)
class Check:
    """Feed these ids once more, to an empty cache at first, and find where numbers go wrong."""

    request: Request
    ids: tuple[int, ...]
    position: int  # of the first of `ids`
    last: bool


Step = Wait | Leave | Feed | Decode | Score | Check


@dataclass(frozen=True, slots=True)
class Ended:
    """A request is over; `error` says why it was refused or failed, if so."""

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
