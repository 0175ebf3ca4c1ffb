"""Which requests are taken, and when their time is over."""

import math

import pytest

from dsv4_tp import core
from dsv4_tp.coordinator import events, requests
from dsv4_tp.coordinator.events import Broadcast, Deliver
from dsv4_tp.coordinator.requests import Requests
from dsv4_tp.core import Cancel, FinishReason, Submit

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
    state, (action,) = requests.said(state, event)
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
    state, _ = requests.abandoned(state, "c")
    assert requests.busy(state)  # the ranks still have it
    state, _ = ended(state, "c", FinishReason.CANCELLED)
    assert requests.busy(state) is None


def test_nobody_may_have_to_wait():
    alone = Requests(batch=1, queue=0)
    assert requests.busy(alone) is None
    assert str(requests.busy(ask(alone, "a"))).startswith("0 requests wait")


def test_a_request_is_cancelled_once():
    state = ask(EMPTY, "a", limit_s=1.0)
    state, actions = requests.abandoned(state, "a")
    assert cancelled(actions) == ["a"]
    assert requests.abandoned(state, "a") == (state, ())
    assert requests.overdue(state, 5.0) == (state, ())
    assert requests.abandoned(state, "b") == (state, ())


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
    state, _ = requests.abandoned(ask(EMPTY, "a"), "a")
    assert ended(state, "a", reason)[1] is reason
