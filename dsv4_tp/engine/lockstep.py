"""What a rank does next: a pure state machine that takes the same turns on every rank.

Its state depends on nothing but the agreed prefix of the command log and the chosen tokens, so
equal inputs keep all ranks in step. One request is active at a time, the others wait in line.
It knows no model, no clock and no collective; `loop` performs what it says.
"""

from dataclasses import dataclass, replace

from dsv4_tp.core import (
    Cancel,
    Command,
    Drain,
    FinishReason,
    Request,
    ScoreRequest,
    Submit,
)
from dsv4_tp.engine.refusal import Limits, refusal
from dsv4_tp.errors import RankFailure
from dsv4_tp.prefixes import Index, Match, digest_of, find, is_border, used


@dataclass(frozen=True, slots=True)
class Active:
    """The request whose turn it is, and how far it is."""

    request: Request | ScoreRequest
    fed: int = 0  # prompt ids in the cache
    tokens: tuple[int, ...] = ()  # generated so far
    trail: tuple[Match, ...] = ()  # snapshots that it went on from, or left on its way
    start: Match | None = None  # what of the prompt was there before

    @property
    def cached(self) -> int:
        """Prompt ids that were in a snapshot."""
        return self.start.length if self.start else 0


@dataclass(frozen=True, slots=True)
class State:
    """Where a rank stands; every rank stands there at the same step, but for `pending`."""

    limits: Limits
    prefill_chunk: int
    index: Index  # of the snapshots that prompts may go on from
    applied: int = 0  # the number of the last command applied
    pending: tuple[Command, ...] = ()  # received here, not yet agreed on
    queue: tuple[Request | ScoreRequest, ...] = ()
    active: Active | None = None
    draining: bool = False

    def __post_init__(self) -> None:
        assert self.prefill_chunk > 0, "a chunk of no tokens never ends"

    @property
    def received(self) -> int:
        """The number of the last command this rank has received."""
        return self.applied + len(self.pending)


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do before the command of this number arrives."""

    number: int


@dataclass(frozen=True, slots=True)
class Leave:
    """The log said to drain, and all is done."""


@dataclass(frozen=True, slots=True)
class Feed:
    """Append these ids to the cache; if `choose`, then choose the token that follows them.

    A cache that is made for this goes on from `start`, if that is not None.
    """

    request: Request
    ids: tuple[int, ...]
    position: int  # of the first of `ids`
    choose: bool
    start: Match | None = None

    @property
    def decoding(self) -> bool:
        """Whether the ids were generated, not given."""
        return self.position >= len(self.request.prompt)


@dataclass(frozen=True, slots=True)
class Score:
    """Score the next piece."""

    request: ScoreRequest


Step = Wait | Leave | Feed | Score


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
    """The cache of a sequence, which now holds these ids, is worth a snapshot."""

    ids: tuple[int, ...]
    trail: tuple[Match, ...]


def receive(state: State, command: Command) -> State:
    """A command has arrived here.

    Raises RankFailure if it is not the next of the log: the rank cannot know what it missed.
    """
    if command.number != state.received + 1:
        raise RankFailure(
            f"command {command.number} arrived after command {state.received}: "
            "the log has a gap or repeats itself"
        )
    return replace(state, pending=(*state.pending, command))


def border(state: State, agreed: int) -> tuple[State, tuple[Ended, ...]]:
    """Applies the commands up to number `agreed`, which every rank has received."""
    assert state.applied <= agreed <= state.received, f"cannot agree on {agreed}"
    ended: tuple[Ended, ...] = ()
    while state.applied < agreed:
        command, *rest = state.pending
        state = replace(state, applied=command.number, pending=tuple(rest))
        state, more = _apply(state, command.action)
        state = _next_active(state)
        ended += more
    return _next_active(state), ended


def next_step(state: State) -> Step:
    """What to perform now."""
    active = state.active
    if active is None:
        return Leave() if state.draining else Wait(state.applied + 1)
    if isinstance(active.request, ScoreRequest):
        return Score(active.request)
    return _feed(active, active.request, state.prefill_chunk)


def fed(state: State, count: int) -> tuple[State, Due | None]:
    """So many ids of the active request's prompt were fed."""
    active = state.active
    assert active is not None
    request, after = active.request, active.fed + count
    assert isinstance(request, Request)
    state = replace(state, active=replace(active, fed=after))
    due = Due(request.prompt[:after], active.trail) if is_border(active.fed, after) else None
    return state, due


def chosen(state: State, token: int) -> tuple[State, Ended | None, Due | None]:
    """The token that continues the active request. A stop token ends it and is not part of it.

    A snapshot is due at the end of the prompt and at that of the answer.
    """
    active = state.active
    assert active is not None
    request = active.request
    assert isinstance(request, Request)
    held = Due((*request.prompt, *active.tokens), active.trail)
    if token in request.stop_ids:
        return *_finish(state, FinishReason.STOP), held
    first = not active.tokens
    active = replace(active, fed=len(request.prompt), tokens=(*active.tokens, token))
    state = replace(state, active=active)
    total = len(request.prompt) + len(active.tokens)
    if len(active.tokens) == request.max_tokens or total == state.limits.context:
        return *_finish(state, FinishReason.LENGTH), held
    return state, None, held if first else None


def kept(state: State, index: Index, due: Due) -> State:
    """The snapshot that was due is in the index now, or was not worth its place."""
    state = replace(state, index=index)
    key = digest_of(due.ids)
    if state.active is None or key not in index.entries:
        return state
    trail = (*state.active.trail, Match(key, len(due.ids)))
    return replace(state, active=replace(state.active, trail=trail))


def scored(state: State) -> tuple[State, Ended]:
    """The active request's last piece was scored."""
    return _finish(state, FinishReason.STOP)


def _feed(active: Active, request: Request, chunk: int) -> Feed:
    if active.tokens:
        position = active.fed + len(active.tokens) - 1
        return Feed(request, active.tokens[-1:], position, choose=True)
    # Chunks end where they end without a snapshot, so that rounding is the same, too.
    stop = min((active.fed // chunk + 1) * chunk, len(request.prompt))
    ids = request.prompt[active.fed : stop]
    return Feed(request, ids, active.fed, choose=stop == len(request.prompt), start=active.start)


def _apply(state: State, action: Submit | Cancel | Drain) -> tuple[State, tuple[Ended, ...]]:
    match action:
        case Submit(request=request):
            return _submit(state, request)
        case Cancel(request_id=request_id):
            return _cancel(state, request_id)
        case Drain():
            ended = tuple(Ended(request, FinishReason.CANCELLED) for request in state.queue)
            return replace(state, queue=(), draining=True), ended


def _submit(state: State, request: Request | ScoreRequest) -> tuple[State, tuple[Ended, ...]]:
    error = "the cluster is shutting down" if state.draining else refusal(request, state.limits)
    if error:
        return state, (Ended(request, FinishReason.CANCELLED, error=error),)
    return replace(state, queue=(*state.queue, request)), ()


def _cancel(state: State, request_id: str) -> tuple[State, tuple[Ended, ...]]:
    if state.active is not None and state.active.request.id == request_id:
        state, ended = _finish(state, FinishReason.CANCELLED)
        return state, (ended,)
    kept = tuple(request for request in state.queue if request.id != request_id)
    gone = tuple(request for request in state.queue if request.id == request_id)
    ended = tuple(Ended(request, FinishReason.CANCELLED) for request in gone)
    return replace(state, queue=kept), ended


def _finish(state: State, reason: FinishReason) -> tuple[State, Ended]:
    assert state.active is not None
    active = state.active
    ended = Ended(active.request, reason, generated=len(active.tokens), cached=active.cached)
    return replace(state, active=None), ended


def _next_active(state: State) -> State:
    if state.active is not None or not state.queue:
        return state
    request, *rest = state.queue
    state = replace(state, active=Active(request), queue=tuple(rest))
    match = find(state.index, request.prompt) if isinstance(request, Request) else None
    if match is None:
        return state
    active = Active(request, fed=match.length, trail=(match,), start=match)
    return replace(state, active=active, index=used(state.index, match.key))
