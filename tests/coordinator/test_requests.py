"""Which requests are taken, and when their time is over."""

import math

import pytest

from dsv4_tp import core
from dsv4_tp.coordinator import events, requests
from dsv4_tp.coordinator.events import Broadcast, Deliver
from dsv4_tp.coordinator.requests import Requests
from dsv4_tp.core import Cancel, FinishReason, StepEvent, Submit, TokenEvent, Work

EMPTY = Requests(batch=2, queue=1)


def ask(state: Requests, *names: str, at_s: float = 0.0, limit_s: float | None = None) -> Requests:
    for name in names:
        request = core.Request(name, (1,), 4, core.Sampling())
        state, (action,) = requests.asked(state, events.Asked(request, limit_s), at_s)
        assert action.command.action == Submit(request)
    return state


def ended(state: Requests, name: str, reason: FinishReason) -> tuple[Requests, FinishReason]:
    """The state without it, and the reason that its client hears."""
    event = core.FinishEvent(name, reason, 1, 2, 0, 0, 0, 0)
    state, (action,) = requests.said(state, event, 20.0)
    assert isinstance(action, Deliver)
    return state, action.event.reason


def cancelled(actions: tuple[events.Action, ...]) -> list[str]:
    commands = [action.command.action for action in actions if isinstance(action, Broadcast)]
    assert all(isinstance(command, Cancel) for command in commands)
    return [command.request_id for command in commands]


def test_so_many_may_wait_and_no_more():
    state = ask(EMPTY, "a", "b")
    assert requests.busy(state) is None
    state = ask(state, "c")
    error = requests.busy(state)
    assert str(error) == "1 requests wait already, and no more may (queue: 1); try again later"
    state, _ = requests.abandoned(state, events.Abandoned("c"), 0.0)
    assert requests.busy(state)  # the ranks still have it
    state, _ = ended(state, "c", FinishReason.CANCELLED)
    assert requests.busy(state) is None


def test_nobody_may_have_to_wait():
    alone = Requests(batch=1, queue=0)
    assert requests.busy(alone) is None
    assert str(requests.busy(ask(alone, "a"))).startswith("0 requests wait")


def test_a_request_is_cancelled_once():
    state = ask(EMPTY, "a", limit_s=1.0)
    state, actions = requests.abandoned(state, events.Abandoned("a"), 0.0)
    assert cancelled(actions) == ["a"]
    assert requests.abandoned(state, events.Abandoned("a"), 0.0) == (state, ())
    assert requests.overdue(state, 5.0) == (state, ())
    assert requests.abandoned(state, events.Abandoned("b"), 0.0) == (state, ())


def test_time_runs_from_the_arrival():
    state = ask(EMPTY, "a", at_s=10.0, limit_s=2.0)
    state = ask(state, "b", at_s=11.0, limit_s=2.0)
    state = ask(state, "c")
    assert requests.overdue(state, 11.9) == (state, ())
    state, actions = requests.overdue(state, 12.0)
    assert cancelled(actions) == ["a"]
    state, actions = requests.overdue(state, math.inf)
    assert cancelled(actions) == ["b", "c"]  # the last at the end of all days
    assert requests.overdue(state, math.inf) == (state, ())


def test_the_cluster_s_limit_is_for_those_that_name_none():
    state = ask(Requests(2, 1, time_limit_s=5.0), "a")
    state = ask(state, "b", limit_s=7.0)
    assert cancelled(requests.overdue(state, 5.0)[1]) == ["a"]


@pytest.mark.parametrize("reason", FinishReason)
def test_who_is_late_ended_by_that_unless_he_had_ended(reason: FinishReason):
    state, _ = requests.overdue(ask(EMPTY, "a", limit_s=1.0), 1.0)
    state, heard = ended(state, "a", reason)
    assert heard is (FinishReason.TIMEOUT if reason is FinishReason.CANCELLED else reason)
    assert not state.open
    state, _ = requests.abandoned(ask(EMPTY, "a"), events.Abandoned("a"), 0.0)
    assert ended(state, "a", reason)[1] is reason


@pytest.mark.parametrize("reason", [FinishReason.CANCELLED, FinishReason.LENGTH])
def test_a_text_that_is_stopped_ended_by_stop(reason: FinishReason):
    """Though the ranks may have made it whole before they heard of it."""
    stop = events.Abandoned("a", FinishReason.STOP)
    state, actions = requests.abandoned(ask(EMPTY, "a", limit_s=1.0), stop, 0.0)
    assert cancelled(actions) == ["a"]
    state, _ = requests.overdue(state, 2.0)
    state, heard = ended(state, "a", reason)
    assert heard is FinishReason.STOP
    assert state.totals.ended == {"stop": 1}


def test_a_client_hears_how_long_it_waited():
    state = ask(EMPTY, "a", "b", at_s=10.0)
    for index, now_s in enumerate((14.0, 15.0)):
        state, _ = requests.said(state, TokenEvent("a", index, 7), now_s)
    done = core.FinishEvent("a", FinishReason.LENGTH, 1, 2, 1.5, 2.5, 0, 0)
    state, (deliver,) = requests.said(state, done, 16.0)
    assert (deliver.event.queue_s, deliver.event.first_token_s) == (2.0, 4.0)
    # This one never had its turn.
    gone = core.FinishEvent("b", FinishReason.CANCELLED, 1, 0, 0, 0, 0, 0)
    _, (deliver,) = requests.said(state, gone, 13.0)
    assert (deliver.event.queue_s, deliver.event.first_token_s) == (3.0, None)


def test_steps_are_added_up_by_their_phase():
    state = ask(EMPTY, "a")
    for number in (1, 2):
        work = Work(1, number, number * 10, 7, 100, 0.5)
        state, actions = requests.said(state, StepEvent("decode", work, number), 0.0)
        assert actions == ()
    state, _ = requests.said(state, StepEvent("prefill", Work(1, 1, 64), 3), 0.0)
    assert state.totals.work["decode"] == Work(2, 3, 30, 14, 200, 1.0)
    assert state.totals.work["prefill"] == Work(1, 1, 64)
    assert state.totals.running == 3
    refused = core.FinishEvent("a", FinishReason.CANCELLED, 1, 0, 0, 0, 0, 0, error="empty")
    state, _ = requests.said(state, refused, 0.0)
    assert state.totals.ended == {"refused": 1}
