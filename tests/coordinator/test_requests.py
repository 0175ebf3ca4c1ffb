"""Which requests are taken, and when their time is over."""

import math

import pytest

from dsv4_tp import core
from dsv4_tp.coordinator import events, requests
from dsv4_tp.coordinator.events import Broadcast, Deliver
from dsv4_tp.coordinator.requests import Requests
from dsv4_tp.core import Cancel, FinishReason, StepEvent, Submit, TokenEvent, Work
from dsv4_tp.errors import HarmfulRequestError, RankFailure

EMPTY = Requests(batch=2, queue=1)


def asked_for(name: str, limit_s: float | None = None) -> events.Asked:
    return events.Asked(core.Request(name, (1,), 4, core.Sampling()), limit_s)


def ask(state: Requests, *names: str, at_s: float = 0.0, limit_s: float | None = None) -> Requests:
    for name in names:
        event = asked_for(name, limit_s)
        state, (action,) = requests.asked(state, event, at_s)
        assert action.command.action == Submit(event.request)
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


def again(state: Requests) -> tuple[Requests, list[core.Request | core.ScoreRequest]]:
    """The same requests with the ranks of another epoch, and what these are told to do."""
    state, actions = requests.pause(state, 30.0)
    assert actions == ()
    state, actions = requests.resume(state, state.epoch + 1)
    lines = [(action.epoch, action.command.number) for action in actions]
    assert lines == [(state.epoch, number + 1) for number in range(len(lines))]
    return state, [action.command.action.request for action in actions]


def test_a_text_goes_on_behind_what_its_client_has():
    state = ask(EMPTY, "a", "b")
    for index in (0, 1):
        state, _ = requests.said(state, TokenEvent("a", index, 70 + index), 1.0)
    state, submitted = again(state)
    assert [(each.id, each.told) for each in submitted] == [("a", (70, 71)), ("b", ())]
    # Ranks that tell it from its beginning do no harm.
    state, actions = requests.said(state, TokenEvent("a", 1, 71), 40.0)
    assert actions == ()
    state, actions = requests.said(state, TokenEvent("a", 2, 72), 41.0)
    assert actions == (Deliver(TokenEvent("a", 2, 72)),)
    state, submitted = again(state)
    assert submitted[0].told == (70, 71, 72)
    done = core.FinishEvent("a", FinishReason.LENGTH, 1, 3, 0.5, 0.5, 0, 0)
    state, (deliver,) = requests.said(state, done, 50.0)
    event = deliver.event
    assert (event.restarts, event.generated_tokens, event.first_token_s) == (2, 3, 1.0)
    assert event.queue_s == 49.0  # what was lost was waiting


def test_a_score_begins_anew_and_tells_only_what_is_new():
    score = core.ScoreRequest("s", ((1, 2, 3, 4),), chunk=2)
    state, _ = requests.asked(EMPTY, events.Asked(score), 0.0)
    first, last = core.ScoreEvent("s", 0, count=2), core.ScoreEvent("s", 2, count=2, last=True)
    state, actions = requests.said(state, first, 1.0)
    assert actions == (Deliver(first),)
    state, submitted = again(state)
    assert submitted == [score]
    state, actions = requests.said(state, first, 31.0)
    assert actions == ()
    state, actions = requests.said(state, last, 32.0)
    assert actions == (Deliver(last),)


def test_without_ranks_requests_end_here():
    state = ask(EMPTY, "a", "b", "c", limit_s=9.0)
    state, _ = requests.abandoned(state, events.Abandoned("a", FinishReason.STOP), 1.0)
    state, (ended,) = requests.pause(state, 2.0)
    assert (ended.event.request_id, ended.event.reason) == ("a", FinishReason.STOP)
    state, (ended,) = requests.abandoned(state, events.Abandoned("b"), 3.0)
    assert (ended.event.request_id, ended.event.reason) == ("b", FinishReason.CANCELLED)
    state, (ended,) = requests.overdue(state, 9.0)
    assert (ended.event.request_id, ended.event.reason) == ("c", FinishReason.TIMEOUT)
    assert state.totals.ended == {"stop": 1, "cancelled": 1, "timeout": 1}


def test_requests_that_are_given_up_fail():
    error = RankFailure("too late")
    state, actions = requests.give_up(ask(EMPTY, "a", "b"), error)
    assert actions == (events.Fail("a", error), events.Fail("b", error))
    assert (state.open, state.totals.ended) == ({}, {"lost": 2})


def submitted(actions: tuple[events.Action, ...]) -> list[str]:
    commands = [action.command.action for action in actions if isinstance(action, Broadcast)]
    return [command.request.id for command in commands if isinstance(command, Submit)]


def fallen(state: Requests) -> tuple[Requests, list[str], tuple[events.Action, ...]]:
    """The ranks fell and are back: what is submitted then, and what has ended."""
    state, _ = requests.pause(state, 1.0)
    state, ends = requests.suspect(state, "rank 1 on x: killed by SIGSEGV")
    state, actions = requests.resume(state, state.epoch + 1)
    return state, submitted(actions), ends


def on_trial() -> Requests:
    """Ranks of three places fell twice, while "a" had its tokens and "b" and "c" had none."""
    state = ask(Requests(batch=3, queue=3), "a", "b", "c", "d")
    for fall in range(2):
        state, _ = requests.said(state, TokenEvent("a", fall, 7), 1.0)
        state, names, ends = fallen(state)
        assert ends == ()
    assert names == ["b"]
    return state


def test_a_request_that_ranks_always_fall_of_ends_alone():
    state, names, (failed,) = fallen(on_trial())
    assert failed.request_id == "b"
    assert isinstance(failed.error, HarmfulRequestError)
    assert str(failed.error) == (
        "the ranks failed each of 3 times they were fed this request; "
        "the last time: rank 1 on x: killed by SIGSEGV"
    )
    assert names == ["c"]  # for it may have been that one too
    state, actions = requests.said(state, TokenEvent("c", 0, 7), 1.0)
    assert submitted(actions) == ["a", "d"]
    assert state.totals.ended == {"lost": 1}


def test_what_is_asked_during_a_trial_waits_for_its_end():
    state, actions = requests.asked(on_trial(), asked_for("new"), 2.0)
    assert actions == ()
    state, actions = requests.abandoned(state, events.Abandoned("a"), 3.0)
    assert [type(action) for action in actions] == [Deliver]  # no rank knows of it
    state, actions = requests.said(state, TokenEvent("b", 0, 7), 4.0)
    assert submitted(actions) == ["c"]
    done = core.FinishEvent("c", FinishReason.LENGTH, 1, 1, 0, 0, 0, 0)
    state, actions = requests.said(state, done, 5.0)
    assert submitted(actions) == ["d", "new"]
    assert state.open["new"].restarts == 0


def test_what_a_trial_holds_back_is_not_forgotten_at_the_end():
    _, actions = requests.drain(on_trial())
    assert submitted(actions) == ["a", "c", "d"]
    assert actions[-1].command.action == core.Drain()


def test_one_that_was_acquitted_is_cancelled_by_the_ranks():
    state, _ = requests.said(on_trial(), TokenEvent("b", 0, 7), 1.0)
    assert state.tried == "c"
    _, actions = requests.abandoned(state, events.Abandoned("b"), 2.0)
    assert cancelled(actions) == ["b"]
    _, actions = requests.abandoned(state, events.Abandoned("c"), 2.0)
    assert cancelled(actions) == ["c"]


def test_a_trial_whose_client_left_blames_nobody():
    state, _ = requests.abandoned(on_trial(), events.Abandoned("b"), 1.0)
    state, _ = requests.pause(state, 1.0)
    assert requests.suspect(state, "killed") == (state, ())


def test_a_request_that_moves_is_above_suspicion():
    state = ask(EMPTY, "a")
    for index in range(4):
        state, names, ends = fallen(state)
        assert (names, ends) == (["a"], ())
        state, _ = requests.said(state, TokenEvent("a", index, 7), 1.0)
    assert requests.suspect(state, "killed") == (state, ())


def test_one_that_still_runs_may_be_guilty_too():
    state, _ = requests.said(on_trial(), TokenEvent("b", 0, 7), 1.0)  # "b" runs, "c" is tried
    state, names, ends = fallen(state)
    assert (names, ends) == (["c"], ())
    state, _, (failed,) = fallen(state)  # this time it was alone
    assert failed.request_id == "c"
