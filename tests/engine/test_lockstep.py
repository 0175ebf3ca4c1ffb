"""Equal logs and equal tokens take every rank through equal steps."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsv4_tp.core import SHUTTING_DOWN, Cancel, Command, Drain, FinishReason, ScoreRequest
from dsv4_tp.engine import lockstep
from dsv4_tp.engine.lockstep import State
from dsv4_tp.engine.refusal import Limits
from dsv4_tp.engine.steps import Decode, Ended, Feed, Leave, Row, Score, Step, Wait
from dsv4_tp.errors import RankFailure
from dsv4_tp.prefixes import Index
from tests.engine.drive import log, request

LIMITS = Limits(vocab_size=100, context=20)
START = State(LIMITS, prefill_chunk=4, index=Index(0))
MANY = replace(START, limits=replace(LIMITS, batch=3))


def choose(state: State, *tokens: int) -> tuple[State, tuple[Ended, ...]]:
    """The state after the next step chose these tokens."""
    state, ended, _ = lockstep.chosen(
        state, lockstep.next_step(state), [(token,) for token in tokens]
    )
    return state, ended


def feed(state: State) -> State:
    """The state after the next step fed a chunk that is not the last."""
    return lockstep.fed(state, lockstep.next_step(state))[0]


def lengths(state: State) -> list[int]:
    """Of the chunks that are fed until somebody's first token is chosen."""
    found: list[int] = []
    while isinstance(step := lockstep.next_step(state), Feed):
        found.append(len(step.ids))
        if step.choose:
            break
        state = feed(state)
    return found


def ids_of(step: Step) -> list[str]:
    """Whose step it is."""
    rows = step.rows if isinstance(step, Decode) else [step]
    return [row.request.id for row in rows]


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
    assert ids_of(lockstep.next_step(state)) == ["a"]
    state, ended = lockstep.border(state, 2)
    assert reasons(ended) == [("a", FinishReason.CANCELLED)]


def test_a_prompt_is_fed_in_chunks_then_token_by_token():
    asked = request("a", range(1, 7), 3)
    state, _ = after(asked)
    assert lockstep.next_step(state) == Feed(asked, (1, 2, 3, 4), 0, choose=False)
    state = feed(state)
    assert lockstep.next_step(state) == Feed(asked, (5, 6), 4, choose=True)
    state, _ = choose(state, 50)
    assert lockstep.next_step(state) == Decode((Row(asked, (50,)),))
    state, _ = choose(state, 51)
    assert lockstep.next_step(state) == Decode((Row(asked, (50, 51)),))
    state, ended = choose(state, 52)
    assert ended == (Ended(asked, FinishReason.LENGTH, generated=3),)


def test_chunks_are_long_only_behind_a_prompts_beginning_and_where_nobody_waits():
    limits = Limits(vocab_size=9000, context=9000, batch=2)
    state = State(limits, prefill_chunk=2048, index=Index(0))
    state, _ = after(request("a", range(7000), 9), state=state)
    assert lengths(state) == [512, 512, 1024, 2048, 2048, 856]
    for _ in range(3):
        state = feed(state)
    short, _ = after(request("b", [1], 9), state=state)
    assert lengths(short)[:2] == [512, 1]
    short, _ = choose(feed(short), 1)
    assert len(lockstep.next_step(choose(short, 2)[0]).ids) == 512
    alone, _ = after(Cancel("b"), state=short)
    assert lengths(alone)[:2] == [1536, 2048]  # up to the next multiple of what was asked for


def test_a_stop_token_ends_and_does_not_count():
    state, _ = after(request("a", [1], 5, stop_ids=(9, 10)))
    state, ended = choose(state, 8)
    assert not ended
    _, (ended,) = choose(state, 10)
    assert (ended.reason, ended.generated) == (FinishReason.STOP, 1)


def test_the_context_ends_a_request():
    state, _ = after(request("a", range(18), 99))
    state, ended = choose(state, 1)
    assert not ended
    _, (ended,) = choose(state, 1)
    assert (ended.reason, ended.generated) == (FinishReason.LENGTH, 2)


def test_others_wait_in_line():
    state, _ = after(request("a", [1], 1), ScoreRequest("b", ((1, 2),)), request("c", [1], 1))
    assert lockstep.next_step(state).request.id == "a"
    state, _ = choose(state, 3)
    state, _ = lockstep.border(state, state.applied)
    assert lockstep.next_step(state) == Score(ScoreRequest("b", ((1, 2),)))
    state, (ended,) = lockstep.scored(state, lockstep.next_step(state), last=True)
    assert ended.reason is FinishReason.STOP
    state, _ = lockstep.border(state, state.applied)
    assert lockstep.next_step(state).request.id == "c"


def test_queued_and_active_requests_can_be_cancelled():
    state, _ = after(*(request(name, [1], 1) for name in "abc"))
    state, ended = after(Cancel("b"), Cancel("a"), state=state)
    assert reasons(ended) == [("b", FinishReason.CANCELLED), ("a", FinishReason.CANCELLED)]
    assert lockstep.next_step(state).request.id == "c"


@pytest.mark.parametrize("fed", [0, 1, 2, 3])
def test_a_cancel_frees_the_place_at_the_next_border(fed):
    """Whether a prompt is being fed, 4 of its 9 ids at a time, or a text made."""
    state, _ = after(request("a", range(9), 9), request("b", [1], 1))
    for step in range(fed):
        assert ids_of(lockstep.next_step(state)) == ["a"]
        state = feed(state) if step < 2 else choose(state, 1)[0]
    # It arrives while the next step is on its way: one more of this request, and no other.
    cancel = Command(state.received + 1, Cancel("a"))
    state = lockstep.receive(feed(state) if fed < 2 else choose(state, 1)[0], cancel)
    state, ended = lockstep.border(state, state.received)
    assert reasons(ended) == [("a", FinishReason.CANCELLED)]
    assert ids_of(lockstep.next_step(state)) == ["b"]


def test_a_drain_finishes_what_runs_and_ends_what_waits():
    state, ended = after(request("a", [1], 1), request("b", [1], 1), Drain())
    assert reasons(ended) == [("b", FinishReason.CANCELLED)]
    assert ended[0].error == SHUTTING_DOWN  # its client is not to take that for a whole text
    assert lockstep.next_step(state).request.id == "a"
    state, ended = after(request("c", [1], 1), state=state)
    assert ended[0].error == SHUTTING_DOWN
    state, _ = choose(state, 3)
    assert lockstep.next_step(state) == Leave()


def test_an_impossible_request_ends_with_its_reason():
    state, ended = after(request("a", [], 1), request("b", [100], 1))
    assert lockstep.next_step(state) == Wait(3)
    assert ["empty" in ended[0].error, "token 100" in ended[1].error] == [True, True]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.sampled_from("abcdef"), max_size=9),
    st.sampled_from([START, MANY]),
    st.data(),
)
def test_ranks_that_hear_at_different_times_take_the_same_steps(names, start, data):
    """Two ranks receive the same log at their own pace and agree at every border."""
    actions = [
        Cancel(n) if i % 3 == 2 else request(f"{n}{i}", range(1, 3 + i), 2)
        for i, n in enumerate(names)
    ]
    commands = log(*actions)
    ranks, steps = [start, start], [[], []]
    for _ in range(40):
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
    match lockstep.next_step(state):
        case Feed(choose=True):
            return choose(state, 5)[0]
        case Feed():
            return feed(state)
        case Decode(rows=rows):
            return choose(state, *[5] * len(rows))[0]
    return state


# Several at a time.


def test_those_that_have_a_token_decode_together():
    state, _ = after(*(request(name, [1, 2], 5) for name in "ab"), state=MANY)
    state, _ = choose(state, 7)
    state, _ = choose(choose(state, 7)[0], 8)
    assert ids_of(lockstep.next_step(state)) == ["a", "b"]


def test_a_long_prompt_holds_others_up_for_one_chunk_at_most():
    state, _ = after(request("short", [1], 9), request("long", range(16), 2), state=MANY)
    state, _ = choose(state, 7)
    order = []
    for _ in range(8):
        step = lockstep.next_step(state)
        order.append("+".join(ids_of(step)))
        state = moved(state)
    assert order == ["short", "long", "short", "long", "short", "long", "short", "long"]
    assert ids_of(lockstep.next_step(state)) == ["short", "long"]


def test_prompts_take_turns():
    state, _ = after(request("a", range(12), 2), request("b", range(6), 2), state=MANY)
    order = []
    for _ in range(3):
        order.append(ids_of(lockstep.next_step(state))[0])
        state = feed(state)
    assert order == ["a", "b", "a"]


def test_no_more_than_the_batch_have_a_place():
    state, _ = after(*(request(name, [1], 2) for name in "abcd"), state=MANY)
    assert [one.request.id for one in state.active] == ["a", "b", "c"]
    state, _ = after(Cancel("b"), state=state)
    assert [one.request.id for one in state.active] == ["a", "c", "d"]


def test_who_has_no_room_waits_and_nobody_overtakes():
    limits = replace(MANY.limits, room_bytes=24, cache_bytes=lambda tokens: tokens)
    state, _ = after(
        request("a", range(8), 4),
        request("b", range(8), 4),
        request("c", range(10), 4),
        state=replace(MANY, limits=limits),
    )
    assert [one.request.id for one in state.active] == ["a", "b"]
    state, _ = after(Cancel("a"), request("d", [1], 1), state=state)
    assert [one.request.id for one in state.active] == ["b"]
    state, _ = after(Cancel("b"), state=state)
    assert [one.request.id for one in state.active] == ["c", "d"]


def test_a_short_one_beside_a_long_one_takes_what_it_needs_itself():
    limits = replace(MANY.limits, room_bytes=24, cache_bytes=lambda tokens: tokens)
    asked = [request("long", range(16), 4), *(request(name, [1], 1) for name in "ab")]
    state, _ = after(*asked, state=replace(MANY, limits=limits))
    assert [one.request.id for one in state.active] == ["long", "a", "b"]


def test_one_that_ends_leaves_the_others_where_they_are():
    lengths = {"a": 9, "b": 5, "c": 9}
    state, _ = after(*(request(name, [1], n) for name, n in lengths.items()), state=MANY)
    while not state.active[-1].tokens:
        state = moved(state)
    ended = ()
    while not ended:
        many = ids_of(lockstep.next_step(state))
        state, ended = choose(state, *(10 + "abc".index(name) for name in many))
    assert reasons(ended) == [("b", FinishReason.LENGTH)]
    assert ids_of(lockstep.next_step(state)) == ["a", "c"]
    assert [row.tokens[-1] for row in lockstep.next_step(state).rows] == [10, 12]
