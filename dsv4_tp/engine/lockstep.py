"""What a rank does next: a pure state machine that takes the same turns on every rank.

Its state depends on nothing but the agreed prefix of the command log and the chosen tokens, so
equal inputs keep all ranks in step. Requests are admitted in the order of the log, as many as
have room for their caches. Those whose prompts are fed take turns, a chunk each; between two
chunks, all that have a token decode together once. So nobody waits longer than for one chunk, and
for a long one only who comes while it is fed. It knows no model, no clock and no collective; `loop`
performs what it says.
"""

from collections.abc import Sequence
from dataclasses import replace

from dsv4_tp.core import (
    SHUTTING_DOWN,
    Cancel,
    Command,
    Drain,
    FinishReason,
    Request,
    ScoreRequest,
    Submit,
)
from dsv4_tp.engine import pace as paces
from dsv4_tp.engine.refusal import Limits, is_whole, need_bytes, refusal
from dsv4_tp.engine.state import Active, State
from dsv4_tp.engine.steps import (
    Check,
    Decode,
    Due,
    Ended,
    Feed,
    Leave,
    Score,
    Step,
    Wait,
)
from dsv4_tp.errors import RankFailure
from dsv4_tp.prefixes import Index, Match, digest_of, find, is_border, used, without

_NOT_AGAIN = "no logit was a number; fed once more, all were"


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


def received(state: State, commands: Sequence[Command]) -> State:
    """Commands have arrived here, in their order; see `receive`."""
    for command in commands:
        state = receive(state, command)
    return state


def border(state: State, agreed: int) -> tuple[State, tuple[Ended, ...]]:
    """Applies the commands up to number `agreed`, which every rank has received."""
    assert state.applied <= agreed <= state.received, f"cannot agree on {agreed}"
    ended: tuple[Ended, ...] = ()
    while state.applied < agreed:
        command, *rest = state.pending
        state = replace(state, applied=command.number, pending=tuple(rest))
        state, more = _apply(state, command.action)
        ended += more
    return _admit(state), ended


def next_step(state: State) -> Step:
    """What to perform now."""
    rows = state.rows
    filling = [one for one in state.active if not one.decodes]
    if filling and not (rows and state.fed_last):
        return _fill(filling[0], state.chunk_of(filling[0]))
    if rows:
        return Decode(rows)
    return Leave() if state.draining else Wait(state.applied + 1)


def fed(state: State, step: Feed) -> tuple[State, Due | None]:
    """A chunk of what was given was fed, and it was not the last."""
    active = state.of(step.request.id)
    after = active.fed + len(step.ids)
    state = _turned(state, replace(active, fed=after))
    due = Due(step.request, step.request.given[:after], active.trail)
    return state, due if is_border(active.fed, after) else None


def chosen(
    state: State, step: Feed | Decode, tokens: Sequence[tuple[int, ...]]
) -> tuple[State, tuple[Ended, ...], tuple[Due, ...]]:
    """The tokens that continue the step's requests, in its order.

    A stop token ends its request and is not part of it. Where no token could be chosen, what was
    fed of the request is fed again, by `Check` steps. Snapshots are due at the end of a prompt and
    at that of an answer.
    """
    ended: list[Ended] = []
    due: list[Due] = []
    for request, more in zip(step.requests, tokens, strict=True):
        active = state.of(request.id)
        if not more:
            state = _suspected(state, active)
            continue
        state, end = _chosen(state, request, more, turned=isinstance(step, Feed))
        ended += [end] if end else []
        if end or isinstance(step, Feed):
            fed = (*request.prompt, *active.tokens, *more[:-1])
            due.append(Due(request, fed, active.trail))
    if isinstance(step, Decode):
        given, right = [len(row.drafts) for row in step.rows], [len(more) - 1 for more in tokens]
        state = replace(state, pace=paces.seen(state.pace, given, right))
    return state, tuple(ended), tuple(due)


def checked(state: State, step: Check, fault: str) -> tuple[State, tuple[Ended, ...]]:
    """A part of what failed was fed again; `fault`: what was wrong, empty if nothing was."""
    active = state.of(step.request.id)
    if not fault and not step.last:
        return _turned(state, replace(active, fed=active.fed + len(step.ids))), ()
    state, ended = _finish(_turned(state, active), active, FinishReason.FAILED)
    return state, (replace(ended, error=fault or _NOT_AGAIN),)


def kept(state: State, index: Index, due: Due) -> State:
    """The snapshot that was due is in the index now, or was not worth its place."""
    state = _with_index(state, index)
    match = Match(digest_of(due.ids), len(due.ids))
    active = next((one for one in state.active if one.request.id == due.request.id), None)
    if active is None or match.key not in index.entries:
        return state
    return _updated(state, replace(active, trail=(*active.trail, match)))


def scored(state: State, step: Score, *, last: bool) -> tuple[State, tuple[Ended, ...]]:
    """A piece of the request was scored."""
    active = state.of(step.request.id)
    if not last:
        return _turned(state, active), ()
    state, ended = _finish(_turned(state, active), active, FinishReason.STOP)
    return state, (ended,)


def _fill(active: Active, chunk: int) -> Feed | Score | Check:
    request = active.request
    if active.suspects and isinstance(request, Request):
        stop = min(active.fed + chunk, len(active.suspects))
        ids = active.suspects[active.fed : stop]
        return Check(request, ids, active.fed, last=stop == len(active.suspects))
    if isinstance(request, ScoreRequest):
        return Score(request)
    # Chunks end where they end without a snapshot, so that rounding is the same, too.
    given = request.given
    stop = min((active.fed // chunk + 1) * chunk, len(given))
    ids = given[active.fed : stop]
    return Feed(request, ids, active.fed, choose=stop == len(given), start=active.start)


def _chosen(
    state: State, request: Request, tokens: tuple[int, ...], *, turned: bool
) -> tuple[State, Ended | None]:
    active, (*more, last) = state.of(request.id), tokens
    # What was given is in the cache, and so are all tokens but the last.
    tokens = (*active.tokens, *more)
    active = replace(active, fed=len(request.given), tokens=tokens, drafts=())
    if last in request.stop_ids:
        return _finish(replace(state, fed_last=turned), active, FinishReason.STOP)
    active = replace(active, tokens=(*tokens, last))
    state = _turned(state, active) if turned else replace(_updated(state, active), fed_last=False)
    if is_whole(request, len(active.tokens), state.limits):
        return _finish(state, active, FinishReason.LENGTH)
    return state, None


def _suspected(state: State, active: Active) -> State:
    assert isinstance(active.request, Request), "scores choose no token"
    suspects = (*active.request.prompt, *active.tokens)
    state = _turned(state, replace(active, fed=0, drafts=(), suspects=suspects))
    # Snapshots on its way may have no numbers either.
    return _with_index(state, without(state.index, [match.key for match in active.trail]))


def _with_index(state: State, index: Index) -> State:
    """A request that has not begun may have lost what it was to go on from."""
    lost = [one for one in state.active if _waits(one) and one.trail[0].key not in index.alive]
    state = replace(state, index=index)
    for one in lost:
        state = _updated(state, _placed(index, one.request))
    return state


def _updated(state: State, active: Active) -> State:
    """The state with this one in the place of its former self."""
    same = active.request.id
    return replace(
        state, active=tuple(active if one.request.id == same else one for one in state.active)
    )


def _turned(state: State, active: Active) -> State:
    """The same, but behind the others, whose turn it is now."""
    others = tuple(one for one in state.active if one.request.id != active.request.id)
    return replace(state, active=(*others, active), fed_last=True)


def _apply(state: State, action: Submit | Cancel | Drain) -> tuple[State, tuple[Ended, ...]]:
    match action:
        case Submit(request=request):
            return _submit(state, request)
        case Cancel(request_id=request_id):
            return _cancel(state, request_id)
        case Drain():
            left = tuple(replace(_unserved(each), error=SHUTTING_DOWN) for each in state.queue)
            return replace(state, queue=(), draining=True), left


def _submit(state: State, request: Request | ScoreRequest) -> tuple[State, tuple[Ended, ...]]:
    error = SHUTTING_DOWN if state.draining else refusal(request, state.limits)
    if error:
        return state, (replace(_unserved(request), error=error),)
    if ended := _told_whole(request, state.limits):
        return state, (ended,)
    return _admit(replace(state, queue=(*state.queue, request))), ()


def _cancel(state: State, request_id: str) -> tuple[State, tuple[Ended, ...]]:
    for active in state.active:
        if active.request.id == request_id:
            state, ended = _finish(state, active, FinishReason.CANCELLED)
            return state, (ended,)
    kept = tuple(request for request in state.queue if request.id != request_id)
    gone = tuple(request for request in state.queue if request.id == request_id)
    return replace(state, queue=kept), tuple(map(_unserved, gone))


def _told_whole(request: Request | ScoreRequest, limits: Limits) -> Ended | None:
    """The end of a request that was told its whole text in an earlier life."""
    if not isinstance(request, Request) or not request.told:
        return None
    *text, last = request.told
    if last in request.stop_ids:
        return Ended(request, FinishReason.STOP, len(text))
    if is_whole(request, len(request.told), limits):
        return Ended(request, FinishReason.LENGTH, len(request.told))
    return None


def _unserved(request: Request | ScoreRequest) -> Ended:
    """The end of a request that has had no place; what it was told before still counts."""
    told = request.told if isinstance(request, Request) else ()
    return Ended(request, FinishReason.CANCELLED, len(told))


def _finish(state: State, active: Active, reason: FinishReason) -> tuple[State, Ended]:
    same = active.request.id
    state = replace(state, active=tuple(o for o in state.active if o.request.id != same))
    return state, Ended(active.request, reason, len(active.tokens), active.cached)


def _admit(state: State) -> State:
    """Gives places to those who wait, in their order, as long as the first one has room."""
    while state.queue and _has_room(state, state.queue[0]):
        request, *rest = state.queue
        active = _placed(state.index, request)
        state = replace(state, queue=tuple(rest), active=(*state.active, active))
        if active.start is not None:
            state = replace(state, index=used(state.index, active.start.key))
    return state


def _placed(index: Index, request: Request | ScoreRequest) -> Active:
    """A request at its beginning, with what there is of what it was given."""
    if not isinstance(request, Request):
        return Active(request)
    active = Active(request, tokens=request.told)
    if match := find(index, request.given):
        return replace(active, fed=match.length, trail=(match,), start=match)
    return active


def _waits(active: Active) -> bool:
    """Whether it has a start that it has not gone on from yet."""
    start, begun = active.start, active.suspects
    return start is not None and not begun and active.fed == start.length


def _has_room(state: State, request: Request | ScoreRequest) -> bool:
    limits, requests = state.limits, [*(one.request for one in state.active), request]
    needed = sum(need_bytes(one, limits) for one in requests)
    return len(requests) <= limits.batch and needed <= limits.room_bytes
