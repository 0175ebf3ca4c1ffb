"""Where a rank stands: requests in line and in their places, and how far each one is."""

from dataclasses import dataclass, field

from dsv4_tp.config import LONG_CHUNK, PREFILL_CHUNK
from dsv4_tp.core import Command, Request, ScoreRequest
from dsv4_tp.engine.pace import Pace
from dsv4_tp.engine.refusal import Limits
from dsv4_tp.engine.steps import MOST_ROWS, Row
from dsv4_tp.prefixes import Index, Match


@dataclass(frozen=True, slots=True)
class Active:
    """A request that has its place, and how far it is."""

    request: Request | ScoreRequest
    fed: int = 0  # given ids in the cache
    tokens: tuple[int, ...] = ()  # generated so far, in an earlier life, too
    drafts: tuple[int, ...] = ()  # that may follow them
    suspects: tuple[int, ...] = ()  # behind these no token could be chosen: they are fed again
    trail: tuple[Match, ...] = ()  # snapshots that it went on from, or left on its way
    start: Match | None = None  # what of the given ids was there before

    @property
    def decodes(self) -> bool:
        """Whether all that it was given is in the cache, and a token follows it."""
        request = self.request
        if not isinstance(request, Request) or self.suspects:
            return False
        return self.fed == len(request.prompt) + len(request.told)  # `given` would copy a prompt

    @property
    def cached(self) -> int:
        """Prompt ids that were in a snapshot."""
        if self.start is None or not isinstance(self.request, Request):
            return 0
        return min(self.start.length, len(self.request.prompt))


@dataclass(frozen=True, slots=True)
class State:
    """Where a rank stands; every rank stands there at the same step, but for `pending`."""

    limits: Limits
    prefill_chunk: int  # the most tokens fed at a time
    index: Index  # of the snapshots that prompts may go on from
    pace: Pace = field(default_factory=Pace)  # of drafting
    applied: int = 0  # the number of the last command applied
    pending: tuple[Command, ...] = ()  # received here, not yet agreed on
    queue: tuple[Request | ScoreRequest, ...] = ()
    active: tuple[Active, ...] = ()
    fed_last: bool = False  # the last step was a chunk of somebody's prompt
    draining: bool = False

    def __post_init__(self) -> None:
        assert self.prefill_chunk > 0, "a chunk of no tokens never ends"

    @property
    def received(self) -> int:
        """The number of the last command this rank has received."""
        return self.applied + len(self.pending)

    @property
    def rows(self) -> tuple[Row, ...]:
        """The sequences that decode, each with as many of its drafts as there is room for."""
        decoding = [one for one in self.active if one.decodes]
        most = MOST_ROWS // max(1, len(decoding)) - 1
        return tuple(
            Row(one.request, one.tokens, one.drafts[:most])
            for one in decoding
            if isinstance(one.request, Request)
        )

    def chunk_of(self, active: Active) -> int:
        """How long the next chunk of its prompt may be: long ones only where nobody waits for them.

        A prompt's beginning is fed in short ones, too: between chunks snapshots are made, and
        beginnings are what prompts have in common.
        """
        alone, early = len(self.active) == 1, active.fed < LONG_CHUNK
        return self.prefill_chunk if alone and not early else min(self.prefill_chunk, PREFILL_CHUNK)

    def of(self, request_id: str) -> Active:
        """The active request of this id."""
        return next(one for one in self.active if one.request.id == request_id)
