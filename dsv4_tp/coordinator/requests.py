"""The requests of a cluster: which are open, until when, and what became of the others.

A part of `state`, and like it without socket, process or clock. Who runs and who waits, the ranks
decide; here it is bounded how many there are, and how long each may take. An epoch that fails takes
none of them with it: what each client has is remembered, and the ranks of the next epoch go on
from there.

One may be what the ranks fall of. Those that were given nothing when ranks fell are suspected; one
that is suspected twice is tried: ranks are told of no other before it has moved. If they fall again
it ends, and the others go on without it.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from dsv4_tp import core
from dsv4_tp.coordinator import events
from dsv4_tp.coordinator.events import Action
from dsv4_tp.coordinator.totals import Totals
from dsv4_tp.core import FinishReason
from dsv4_tp.errors import BusyError, HarmfulRequestError, RankFailure

REFUSED = "refused"  # beside the reasons of requests that ended otherwise
LOST = "lost"
_TRIAL_AFTER = 2  # falls; then a request is fed alone, and ends at the next one


@dataclass(frozen=True, slots=True)
class Open:
    """A request that was asked and has not ended."""

    request: core.Request | core.ScoreRequest
    asked_s: float
    ends_s: float  # when its time is over
    first_s: float | None = None  # when its first token came
    last_s: float | None = None  # and its last one so far
    cancelled: FinishReason | None = None  # the ranks were told to end it, for this reason
    told: tuple[int, ...] = ()  # its tokens so far
    scored: int = 0  # positions of a score so far
    restarts: int = 0  # how often it was submitted again
    moved: bool = False  # since then it was given something
    falls: int = 0  # how often in a row the ranks fell before it moved


@dataclass(frozen=True, slots=True)
class Requests:
    """All that has to be remembered of them."""

    batch: int  # so many may run at a time
    queue: int  # and so many may wait
    time_limit_s: float | None = None  # of those that name none
    epoch: int = 1  # of the ranks that serve them
    commands: int = 0  # so many are numbered in this epoch
    paused: bool = False  # there are no ranks to tell
    tried: str = ""  # the request that the ranks are fed alone
    open: Mapping[str, Open] = field(default_factory=dict[str, Open])
    totals: Totals = field(default_factory=Totals)


Change = tuple[Requests, tuple[Action, ...]]


def busy(requests: Requests) -> BusyError | None:
    """Why one more cannot be taken now, if it cannot."""
    waiting = len(requests.open) - requests.batch
    if waiting < requests.queue:
        return None
    return BusyError(
        f"{max(0, waiting)} requests wait already, and no more may (queue: {requests.queue}); "
        "try again later"
    )


def asked(requests: Requests, event: events.Asked, now_s: float) -> Change:
    """One more, which is not too many; its time runs from now on."""
    limit_s = event.time_limit_s or requests.time_limit_s or math.inf
    one = Open(event.request, now_s, now_s + limit_s)
    requests = _with(requests, event.request.id, one)
    return (requests, ()) if requests.tried else _submit(requests, event.request.id)


def abandoned(requests: Requests, event: events.Abandoned, now_s: float) -> Change:
    """Nobody wants more of this one; it may have ended."""
    return _cancel(requests, event.request_id, event.reason, now_s)


def overdue(requests: Requests, now_s: float) -> Change:
    """Those whose time is over are cancelled."""
    late = [name for name, one in requests.open.items() if now_s >= one.ends_s]
    return _each(
        requests, late, lambda others, name: _cancel(others, name, FinishReason.TIMEOUT, now_s)
    )


def said(requests: Requests, event: core.Event, now_s: float) -> Change:
    """The first rank tells; of a request that has ended here, it is not listened to."""
    if isinstance(event, core.StepEvent):
        return replace(requests, totals=requests.totals.stepped(event)), ()
    one = requests.open.get(event.request_id)
    if one is None:
        return requests, ()
    if isinstance(event, core.FinishEvent):
        return _finished(requests, event, one, now_s)
    if (more := _with_piece(one, event, now_s)) is None:
        return requests, ()
    if isinstance(event, core.TokenEvent):
        pause_s = None if one.last_s is None else now_s - one.last_s
        requests = replace(requests, totals=requests.totals.told(pause_s))
    requests, others = _acquit(_with(requests, event.request_id, more), event.request_id)
    return requests, (events.Deliver(event), *others)


def pause(requests: Requests, now_s: float) -> Change:
    """The ranks are gone. Those that were to end end now; the others wait for other ranks."""
    totals = replace(requests.totals, running=0)
    requests = replace(requests, paused=True, totals=totals)
    ending = [name for name, one in requests.open.items() if one.cancelled]
    return _each(requests, ending, lambda others, name: _end(others, name, now_s))


def resume(requests: Requests, epoch: int) -> Change:
    """The ranks of this epoch wait for work: all that is open, in its order."""
    again = {
        name: replace(one, restarts=one.restarts + 1, moved=False)
        for name, one in requests.open.items()
    }
    totals = replace(requests.totals, replayed=requests.totals.replayed + len(again))
    requests = replace(requests, epoch=epoch, commands=0, paused=False, open=again, totals=totals)
    return _go_on(requests)


def suspect(requests: Requests, cause: str) -> Change:
    """The ranks have fallen: was it by a request? It ends if it was tried."""
    if not requests.tried:
        return _suspected(requests), ()
    if (one := requests.open.get(requests.tried)) is None:
        return requests, ()  # its client has left
    one = replace(one, falls=one.falls + 1)
    if len(requests.open) > len(_held(requests)) + 1:  # one that was tried before still ran
        return _with(requests, requests.tried, one), ()
    why = f"the ranks failed each of {one.falls} times they were fed this request"
    error = HarmfulRequestError(f"{why}; the last time: {cause}")
    return _lose(requests, [requests.tried], error)


def is_suspicious(requests: Requests) -> bool:
    """Whether one of them is to be tried next."""
    return any(one.falls >= _TRIAL_AFTER for one in requests.open.values())


def drain(requests: Requests) -> Change:
    """The last line of the command log; what was held back comes before it."""
    requests, late = _each(replace(requests, tried=""), _held(requests), _submit)
    requests, last = broadcast(requests, core.Drain())
    return requests, (*late, *last)


def adopted(requests: Requests, epoch: int, commands: int, owed: Iterable[str]) -> Change:
    """The ranks of this epoch have been given so many commands; for those they owe nobody waits."""
    requests = replace(requests, epoch=epoch, commands=commands)
    return _each(requests, owed, lambda others, name: broadcast(others, core.Cancel(name)))


def give_up(requests: Requests, error: RankFailure) -> Change:
    """No ranks will come in time: every request ends with `error`."""
    return _lose(requests, [*requests.open], error)


def broadcast(requests: Requests, action: core.Submit | core.Cancel | core.Drain) -> Change:
    """The next line of the command log."""
    number = requests.commands + 1
    command = core.Command(number, action)
    return replace(requests, commands=number), (events.Broadcast(requests.epoch, command),)


def _lose(requests: Requests, names: Collection[str], error: RankFailure) -> Change:
    """These end with `error` in place of an end of their own."""
    left = {name: one for name, one in requests.open.items() if name not in names}
    totals = requests.totals.counted(LOST, len(names))
    failed = tuple(events.Fail(name, error) for name in names)
    return replace(requests, open=left, totals=totals), failed


def _each(
    requests: Requests, names: Iterable[str], change: Callable[[Requests, str], Change]
) -> Change:
    """All these changes, one after the other."""
    actions: tuple[Action, ...] = ()
    for name in names:
        requests, more = change(requests, name)
        actions += more
    return requests, actions


def _cancel(requests: Requests, name: str, reason: FinishReason, now_s: float) -> Change:
    """Have the ranks end it, unless they were told before; without ranks it ends at once."""
    one = requests.open.get(name)
    if one is None or one.cancelled:
        return requests, ()
    requests = _with(requests, name, replace(one, cancelled=reason))
    if requests.paused or name in _held(requests):
        return _end(requests, name, now_s)
    return broadcast(requests, core.Cancel(name))


def _end(requests: Requests, name: str, now_s: float) -> Change:
    """End one that was cancelled, in place of ranks that are gone."""
    one = requests.open[name]
    prompt = one.request.prompt if isinstance(one.request, core.Request) else ()
    made = len(prompt), len(one.told)
    event = core.FinishEvent(name, FinishReason.CANCELLED, *made, 0.0, 0.0, 0, 0)
    return _finished(requests, event, one, now_s)


def _go_on(requests: Requests) -> Change:
    """Submit what has not been: what is to be tried first, then all others."""
    still = _unmoved(requests)
    tried = next((name for name in still if requests.open[name].falls >= _TRIAL_AFTER), "")
    return _each(replace(requests, tried=tried), [tried] if tried else still, _submit)


def _held(requests: Requests) -> list[str]:
    """Those that ranks were not told of, while another one is tried."""
    return [name for name in _unmoved(requests) if requests.tried not in ("", name)]


def _unmoved(requests: Requests) -> list[str]:
    return [name for name, one in requests.open.items() if not one.moved]


def _suspected(requests: Requests) -> Requests:
    """With one more fall of each that had a place and was given nothing."""
    still = _unmoved(requests)
    places = max(0, requests.batch - (len(requests.open) - len(still)))
    for name in still[:places]:
        one = requests.open[name]
        requests = _with(requests, name, replace(one, falls=one.falls + 1))
    return requests


def _acquit(requests: Requests, name: str) -> Change:
    """Ranks have lived through this request: if it was tried, others may follow."""
    return _go_on(requests) if name == requests.tried else (requests, ())


def _submit(requests: Requests, name: str) -> Change:
    """With all its client has, which is not to be told again. A score has to begin anew."""
    one = requests.open[name]
    if isinstance(one.request, core.ScoreRequest):
        return broadcast(requests, core.Submit(one.request))
    return broadcast(requests, core.Submit(replace(one.request, told=one.told)))


def _with_piece(one: Open, event: core.TokenEvent | core.ScoreEvent, now_s: float) -> Open | None:
    """The request with one more piece of its answer; None if its client has that already."""
    one = replace(one, moved=True, falls=0)
    if isinstance(event, core.ScoreEvent):
        after = event.start + event.count
        return replace(one, scored=after) if event.start >= one.scored else None
    assert event.index <= len(one.told), "ranks leave out no token"
    if event.index < len(one.told):
        return None
    first_s = now_s if one.first_s is None else one.first_s
    return replace(one, told=(*one.told, event.token), first_s=first_s, last_s=now_s)


def _finished(requests: Requests, event: core.FinishEvent, one: Open, now_s: float) -> Change:
    event = _timed(event, one, now_s)
    left = {name: each for name, each in requests.open.items() if name != event.request_id}
    refused = event.error and event.reason is FinishReason.CANCELLED
    totals = requests.totals.counted(REFUSED if refused else event.reason.value).finished(event)
    requests = replace(requests, open=left, totals=totals)
    requests, others = (requests, ()) if requests.paused else _acquit(requests, event.request_id)
    return requests, (events.Deliver(event), *others)


def _timed(event: core.FinishEvent, one: Open, now_s: float) -> core.FinishEvent:
    """Why it ended, where that was decided here, and what its client has waited for."""
    stopped = one.cancelled is FinishReason.STOP and not event.error  # whatever the ranks did since
    cancelled = one.cancelled if stopped or event.reason is FinishReason.CANCELLED else None
    return replace(
        event,
        reason=cancelled or event.reason,
        queue_s=max(0.0, now_s - one.asked_s - event.prefill_s - event.decode_s),
        first_token_s=None if one.first_s is None else one.first_s - one.asked_s,
        restarts=one.restarts,
    )


def _with(requests: Requests, request_id: str, one: Open) -> Requests:
    return replace(requests, open={**requests.open, request_id: one})
