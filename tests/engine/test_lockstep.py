"""Equal logs and equal tokens take every rank through equal steps."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsv4_tp.core import Cancel, Command, Drain, FinishReason, ScoreRequest
from dsv4_tp.engine import lockstep
from dsv4_tp.engine.lockstep import Ended, Feed, Leave, Score, State, Wait
from dsv4_tp.engine.refusal import Limits
from dsv4_tp.errors import RankFailure
from dsv4_tp.prefixes import Index
from tests.engine.drive import log, request

START = State(Limits(vocab_size=100, context=20), prefill_chunk=4, index=Index(0))


def after(*actions: object, state: State = START) -> tuple[State, tuple[Ended, ...]]:
    """The state once all actions are received and agreed on."""
    for command in log(*actions):
        state = lockstep.receive(state, replace(command, number=state.received + 1))
    return lockstep.border(state, state.received)


def reasons(ended: tuple[Ended, ...]) -> list[tuple[str, FinishReason]]:
    return [(end.request.id, end.reason) for end in ended]


def test_an_idle_rank_waits_for_the_next_number():
    state, _ = after(Cancel("nobody"), Cancel("nobody"))
    assert lockstep.next_step(state) == Wait(3)


@pytest.mark.parametrize("number", [1, 2, 4])
def test_a_gap_or_a_repetition_is_refused(number):
    state, _ = after(Cancel("a"), Cancel("b"))
    with pytest.raises(RankFailure, match=f"command {number} arrived after command 2"):
        lockstep.receive(state, Command(number, Drain()))


def test_only_the_agreed_prefix_is_applied():
    first, second = log(request("a", [1], 5), Cancel("a"))
    state = lockstep.receive(lockstep.receive(START, first), second)
    state, ended = lockstep.border(state, 1)
    assert (ended, state.received) == ((), 2)
    assert state.active.request.id == "a"
    state, ended = lockstep.border(state, 2)
    assert reasons(ended) == [("a", FinishReason.CANCELLED)]


def test_a_prompt_is_fed_in_chunks_then_token_by_token():
    asked = request("a", range(1, 7), 3)
    state, _ = after(asked)
    assert lockstep.next_step(state) == Feed(asked, (1, 2, 3, 4), 0, choose=False)
    state, _ = lockstep.fed(state, 4)
    assert lockstep.next_step(state) == Feed(asked, (5, 6), 4, choose=True)
    state, *_ = lockstep.chosen(state, 50)
    assert lockstep.next_step(state) == Feed(asked, (50,), 6, choose=True)
    state, *_ = lockstep.chosen(state, 51)
    assert lockstep.next_step(state) == Feed(asked, (51,), 7, choose=True)
    assert lockstep.next_step(state).decoding
    state, ended, _ = lockstep.chosen(state, 52)
    assert ended == Ended(asked, FinishReason.LENGTH, generated=3)


def test_a_stop_token_ends_and_does_not_count():
    state, _ = after(request("a", [1], 5, stop_ids=(9, 10)))
    state, ended, _ = lockstep.chosen(state, 8)
    assert ended is None
    _, ended, _ = lockstep.chosen(state, 10)
    assert (ended.reason, ended.generated) == (FinishReason.STOP, 1)


def test_the_context_ends_a_request():
    state, _ = after(request("a", range(18), 99))
    state, ended, _ = lockstep.chosen(state, 1)
    assert ended is None
    _, ended, _ = lockstep.chosen(state, 1)
    assert (ended.reason, ended.generated) == (FinishReason.LENGTH, 2)


def test_others_wait_in_line():
    state, _ = after(request("a", [1], 1), ScoreRequest("b", ((1, 2),)), request("c", [1], 1))
    assert lockstep.next_step(state).request.id == "a"
    state, *_ = lockstep.chosen(state, 3)
    state, _ = lockstep.border(state, state.applied)
    assert lockstep.next_step(state) == Score(ScoreRequest("b", ((1, 2),)))
    state, ended = lockstep.scored(state)
    assert ended.reason is FinishReason.STOP
    state, _ = lockstep.border(state, state.applied)
    assert lockstep.next_step(state).request.id == "c"


def test_queued_and_active_requests_can_be_cancelled():
    state, _ = after(*(request(name, [1], 1) for name in "abc"))
    state, ended = after(Cancel("b"), Cancel("a"), state=state)
    assert reasons(ended) == [("b", FinishReason.CANCELLED), ("a", FinishReason.CANCELLED)]
    assert lockstep.next_step(state).request.id == "c"


def test_a_drain_finishes_what_runs_and_ends_what_waits():
    state, ended = after(request("a", [1], 1), request("b", [1], 1), Drain())
    assert reasons(ended) == [("b", FinishReason.CANCELLED)]
    assert lockstep.next_step(state).request.id == "a"
    state, ended = after(request("c", [1], 1), state=state)
    assert ended[0].error
    state, *_ = lockstep.chosen(state, 3)
    assert lockstep.next_step(state) == Leave()


def test_an_impossible_request_ends_with_its_reason():
    state, ended = after(request("a", [], 1), request("b", [100], 1))
    assert lockstep.next_step(state) == Wait(3)
    assert ["empty" in ended[0].error, "token 100" in ended[1].error] == [True, True]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from("abc"), max_size=8), st.data())
def test_ranks_that_hear_at_different_times_take_the_same_steps(names, data):
    """Two ranks receive the same log at their own pace and agree at every border."""
    actions = [Cancel(n) if i % 3 == 2 else request(n, [1, 2], 2) for i, n in enumerate(names)]
    commands = log(*actions)
    ranks, steps = [START, START], [[], []]
    for _ in range(30):
        for rank, state in enumerate(ranks):
            upto = data.draw(st.integers(state.received, len(commands)))
            for command in commands[state.received : upto]:
                state = lockstep.receive(state, command)
            steps[rank].append(lockstep.next_step(state))
            ranks[rank] = moved(state)
        agreed = min(state.received for state in ranks)
        ranks = [lockstep.border(state, agreed)[0] for state in ranks]
    assert steps[0] == steps[1]


def moved(state: State) -> State:
    step = lockstep.next_step(state)
    return lockstep.chosen(state, 5)[0] if isinstance(step, Feed) else state
