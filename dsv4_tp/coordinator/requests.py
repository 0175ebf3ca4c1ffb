"""The requests of a cluster: which are open, until when, and what the ranks are told of them.

A part of `state`, and like it without socket, process or clock. Who runs and who waits, the ranks
decide; here it is bounded how many there are, and how long each may take.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from dsv4_tp import core
from dsv4_tp.coordinator import events
from dsv4_tp.coordinator.events import Action
from dsv4_tp.core import FinishReason
from dsv4_tp.errors import BusyError


@dataclass(frozen=True, slots=True)
class Open:
    """A request that was asked and has not ended."""

    ends_s: float  # when its time is over
    cancelled: bool = False  # the ranks were told
    overdue: bool = False  # which was because its time was over


@dataclass(frozen=True, slots=True)
class Requests:
    """All that has to be remembered of them."""

    batch: int  # so many may run at a time
    queue: int  # and so many may wait
    time_limit_s: float | None = None  # of those that name none
    commands: int = 0  # so many are numbered
    open: Mapping[str, Open] = field(default_factory=dict[str, Open])


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
    requests = _with(requests, event.request.id, Open(now_s + limit_s))
    return broadcast(requests, core.Submit(event.request))


def abandoned(requests: Requests, request_id: str) -> Change:
    """Nobody wants this one any more; it may have ended."""
    one = requests.open.get(request_id)
    if one is None or one.cancelled:
        return requests, ()
    return _cancel(requests, request_id, replace(one, cancelled=True))


def overdue(requests: Requests, now_s: float) -> Change:
    """Those whose time is over are cancelled."""
    actions: tuple[Action, ...] = ()
    for request_id, one in requests.open.items():
        if now_s >= one.ends_s and not one.cancelled:
            late = replace(one, cancelled=True, overdue=True)
            requests, more = _cancel(requests, request_id, late)
            actions += more
    return requests, actions


def said(requests: Requests, event: core.Event) -> Change:
    """The first rank tells of one; every rank tells how it ended, but one word is enough."""
    if isinstance(event, core.FinishEvent):
        one = requests.open.get(event.request_id)
        if one and one.overdue and event.reason is FinishReason.CANCELLED:
            event = replace(event, reason=FinishReason.TIMEOUT)
        left = {name: each for name, each in requests.open.items() if name != event.request_id}
        requests = replace(requests, open=left)
    return requests, (events.Deliver(event),)


def broadcast(requests: Requests, action: core.Submit | core.Cancel | core.Drain) -> Change:
    """The next line of the command log."""
    number = requests.commands + 1
    command = core.Command(number, action)
    return replace(requests, commands=number), (events.Broadcast(command),)


def _cancel(requests: Requests, request_id: str, one: Open) -> Change:
    return broadcast(_with(requests, request_id, one), core.Cancel(request_id))


def _with(requests: Requests, request_id: str, one: Open) -> Requests:
    return replace(requests, open={**requests.open, request_id: one})
