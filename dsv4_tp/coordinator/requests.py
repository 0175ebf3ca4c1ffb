"""The requests of a cluster: which are open, until when, and what became of the others.

A part of `state`, and like it without socket, process or clock. Who runs and who waits, the ranks
decide; here it is bounded how many there are, and how long each may take.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from dsv4_tp import core
from dsv4_tp.coordinator import events
from dsv4_tp.coordinator.events import Action
from dsv4_tp.core import FinishReason, Work
from dsv4_tp.errors import BusyError

_REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Open:
    """A request that was asked and has not ended."""

    asked_s: float
    ends_s: float  # when its time is over
    first_s: float | None = None  # when its first token came
    cancelled: FinishReason | None = None  # the ranks were told to end it, for this reason


@dataclass(frozen=True, slots=True)
class Totals:
    """What was done since the launch."""

    ended: Mapping[str, int] = field(default_factory=dict[str, int])  # by reason, or `refused`
    work: Mapping[str, Work] = field(default_factory=lambda: {"prefill": Work(), "decode": Work()})
    running: int = 0  # requests that have a place, after the last step


@dataclass(frozen=True, slots=True)
class Requests:
    """All that has to be remembered of them."""

    batch: int  # so many may run at a time
    queue: int  # and so many may wait
    time_limit_s: float | None = None  # of those that name none
    commands: int = 0  # so many are numbered
    open: Mapping[str, Open] = field(default_factory=dict[str, Open])
    totals: Totals = Totals()


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
    requests = _with(requests, event.request.id, Open(now_s, now_s + limit_s))
    return broadcast(requests, core.Submit(event.request))


def abandoned(requests: Requests, event: events.Abandoned) -> Change:
    """Nobody wants more of this one; it may have ended."""
    return _cancel(requests, event.request_id, event.reason)


def overdue(requests: Requests, now_s: float) -> Change:
    """Those whose time is over are cancelled."""
    late = [name for name, one in requests.open.items() if now_s >= one.ends_s]
    actions: tuple[Action, ...] = ()
    for name in late:
        requests, more = _cancel(requests, name, FinishReason.TIMEOUT)
        actions += more
    return requests, actions


def said(requests: Requests, event: core.Event, now_s: float) -> Change:
    """The first rank tells."""
    match event:
        case core.StepEvent():
            return _stepped(requests, event), ()
        case core.FinishEvent():
            return _finished(requests, event, now_s)
        case core.TokenEvent(request_id=name, index=0) if one := requests.open.get(name):
            requests = _with(requests, name, replace(one, first_s=now_s))
        case _:
            pass
    return requests, (events.Deliver(event),)


def broadcast(requests: Requests, action: core.Submit | core.Cancel | core.Drain) -> Change:
    """The next line of the command log."""
    number = requests.commands + 1
    command = core.Command(number, action)
    return replace(requests, commands=number), (events.Broadcast(command),)


def _cancel(requests: Requests, name: str, reason: FinishReason) -> Change:
    """Have the ranks end it, unless they were told before."""
    one = requests.open.get(name)
    if one is None or one.cancelled:
        return requests, ()
    requests = _with(requests, name, replace(one, cancelled=reason))
    return broadcast(requests, core.Cancel(name))


def _stepped(requests: Requests, event: core.StepEvent) -> Requests:
    totals = requests.totals
    work = {**totals.work, event.phase: totals.work[event.phase] + event.work}
    return replace(requests, totals=replace(totals, work=work, running=event.running))


def _finished(requests: Requests, event: core.FinishEvent, now_s: float) -> Change:
    if one := requests.open.get(event.request_id):
        event = _timed(event, one, now_s)
    left = {name: each for name, each in requests.open.items() if name != event.request_id}
    ended = dict(requests.totals.ended)
    refused = event.error and event.reason is FinishReason.CANCELLED
    why = _REFUSED if refused else event.reason.value
    ended[why] = ended.get(why, 0) + 1
    totals = replace(requests.totals, ended=ended)
    return replace(requests, open=left, totals=totals), (events.Deliver(event),)


def _timed(event: core.FinishEvent, one: Open, now_s: float) -> core.FinishEvent:
    """Why it ended, where that was decided here, and what its client has waited for."""
    stopped = one.cancelled is FinishReason.STOP and not event.error  # whatever the ranks did since
    cancelled = one.cancelled if stopped or event.reason is FinishReason.CANCELLED else None
    return replace(
        event,
        reason=cancelled or event.reason,
        queue_s=max(0.0, now_s - one.asked_s - event.prefill_s - event.decode_s),
        first_token_s=None if one.first_s is None else one.first_s - one.asked_s,
    )


def _with(requests: Requests, request_id: str, one: Open) -> Requests:
    return replace(requests, open={**requests.open, request_id: one})
