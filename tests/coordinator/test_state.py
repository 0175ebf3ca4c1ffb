from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsv4_tp import core
from dsv4_tp.coordinator import events
from dsv4_tp.coordinator.events import (
    Broadcast,
    Deliver,
    JoinEpoch,
    Serve,
    Settle,
    StartEpoch,
    StopEpoch,
)
from dsv4_tp.coordinator.requests import Requests
from dsv4_tp.coordinator.state import SETTLE_S, Phase, first_state, refused, step
from dsv4_tp.core import Loss
from dsv4_tp.errors import BusyError, Dsv4Error, InputError, RankFailure

HOSTS = {0: "a", 1: "a", 2: "b"}


def run(state, *happened, now_s=0.0):
    done = []
    for event in happened:
        state, actions = step(state, event, now_s)
        done += actions
    return state, done


def fresh():
    return first_state(HOSTS, Requests(batch=1, queue=1), beat_s=0.5, drain_s=45, now_s=0.0)


def beat(host, *reports):
    return events.HostBeat(host, reports)


def prepared(rank, **facts):
    return events.Prepared(rank, {"dtype": "float32"} | facts)


def joined():
    state, _ = run(fresh(), beat("a"), beat("b"), *map(prepared, HOSTS))
    return run(state, *map(events.Joined, HOSTS))[0]


def ready():
    return run(joined(), *(events.Loaded(rank, 100) for rank in HOSTS))[0]


def request(name="r"):
    return core.Request(name, (1,), 4, core.Sampling())


def finish(name="r"):
    return core.FinishEvent(name, core.FinishReason.LENGTH, 1, 4, 0, 0, 0, 0)


def lost(rank, loss, cause="x", stderr=""):
    return events.Lost(rank, loss, cause, stderr)


def settled(actions):
    """The error of the one Settle."""
    (settle,) = [action for action in actions if isinstance(action, Settle)]
    return settle.error


def test_no_rank_starts_before_every_agent_has_spoken():
    state, actions = run(fresh(), beat("a"), beat("a"))
    assert (state.phase, actions) == (Phase.STARTING, [])
    state, actions = run(state, beat("b"), beat("b"))
    assert (state.phase, actions) == (Phase.PREPARING, [StartEpoch()])


def test_no_rank_joins_before_every_rank_is_prepared():
    state, actions = run(fresh(), beat("a"), beat("b"), prepared(0), prepared(2), prepared(2))
    assert (state.phase, actions) == (Phase.PREPARING, [StartEpoch()])
    state, actions = run(state, prepared(1))
    assert (state.phase, actions) == (Phase.JOINING, [JoinEpoch()])


def test_ranks_that_differ_are_never_joined():
    other = prepared(1), prepared(2, dtype="bfloat16")
    state, actions = run(fresh(), beat("a"), beat("b"), prepared(0), *other)
    assert JoinEpoch() not in actions
    _, actions = run(state, events.HostStopped("a"), events.HostStopped("b"))
    error = settled(actions)
    assert isinstance(error, InputError)
    assert str(error) == (
        "the ranks do not agree on the dtype: rank 2 on b has bfloat16, rank 0 on a float32"
    )


def test_it_serves_when_all_have_joined_and_loaded():
    state, _ = run(fresh(), beat("a"), beat("b"), *map(prepared, HOSTS))
    state, _ = run(state, events.Joined(0), events.Joined(1))
    assert state.phase is Phase.JOINING
    state, _ = run(state, events.Joined(2), events.Loaded(2, 7), events.Loaded(1, 7))
    assert state.phase is Phase.LOADING
    state, actions = run(state, events.Loaded(0, 7))
    assert (state.phase, actions) == (Phase.READY, [Serve(ready=True)])


def test_commands_are_numbered_without_gaps():
    asked = events.Asked(request("a")), events.Abandoned("a"), events.Asked(request("b"))
    _, actions = run(ready(), *asked, events.Dismissed(now=False))
    commands = [action.command for action in actions if isinstance(action, Broadcast)]
    assert commands == [
        core.Command(1, core.Submit(request("a"))),
        core.Command(2, core.Cancel("a")),
        core.Command(3, core.Submit(request("b"))),
        core.Command(4, core.Drain()),
    ]


def test_only_the_first_rank_is_listened_to():
    state, _ = run(ready(), events.Asked(request()))
    state, actions = run(state, events.Said(1, finish()), events.Said(2, finish()))
    assert actions == []
    _, actions = run(state, events.Said(0, finish()))
    assert actions == [Deliver(finish())]


def test_a_finished_request_is_not_cancelled():
    asked = events.Asked(request()), events.Said(0, finish())
    state, _ = run(ready(), *asked)
    assert run(state, events.Abandoned("r"))[1] == []


def test_what_is_not_taken_is_told_why():
    assert type(refused(joined())) is Dsv4Error
    state = ready()
    assert refused(state) is None
    state, _ = run(state, events.Asked(request("a")), events.Asked(request("b")))
    assert isinstance(refused(state), BusyError)
    assert isinstance(refused(run(state, lost(0, Loss.KILLED))[0]), RankFailure)


def test_a_request_whose_time_is_over_is_cancelled_with_the_next_tick():
    state, _ = run(ready(), events.Asked(request(), time_limit_s=0.3))
    state, actions = run(state, events.Ticked(), now_s=0.25)
    assert actions == []
    state, actions = run(state, events.Ticked(), now_s=0.5)
    assert actions == [Broadcast(core.Command(2, core.Cancel("r")))]


def test_a_loss_ends_the_epoch_everywhere_and_then_is_told():
    state, actions = run(ready(), lost(2, Loss.KILLED, "killed", "Trace\nError: oops\n"))
    assert actions == [Serve(ready=False), StopEpoch()]
    assert state.phase is Phase.FAILED
    _, actions = run(state, events.HostStopped("a"), events.HostStopped("b"))
    error = settled(actions)
    assert isinstance(error, RankFailure)
    assert str(error) == "rank 2 on b: killed (Error: oops)"


@pytest.mark.parametrize("culprit_first", [True, False])
def test_the_best_evidence_becomes_the_verdict(culprit_first):
    evidence = [lost(2, Loss.KILLED, "culprit"), lost(0, Loss.EXITED, "victim")]
    evidence += [lost(1, Loss.STALLED, "victim")]
    ordered = evidence if culprit_first else evidence[::-1]
    gone = events.HostStopped("a"), events.HostStopped("b")
    _, actions = run(ready(), *ordered, *gone)
    assert str(settled(actions)) == "rank 2 on b: culprit"


def test_of_stacks_the_place_is_told():
    stacks = """Thread 0x01 (most recent call first):
  File "threading.py", line 3 in wait

Current thread 0x02 (most recent call first):
  File "loop.py", line 160 in step
  File "main.py", line 1 in <module>
"""
    evidence = lost(2, Loss.STALLED, "no progress", stacks)
    _, actions = run(ready(), evidence, events.HostStopped("a"), events.HostStopped("b"))
    words = 'rank 2 on b: no progress (File "loop.py", line 160 in step)'
    assert str(settled(actions)) == words


def test_a_lost_host_explains_a_rank_that_failed_elsewhere():
    victim = lost(0, Loss.EXITED, "connection to a peer was lost"), events.HostStopped("a")
    state, actions = run(ready(), *victim)
    assert not any(isinstance(action, Settle) for action in actions)
    _, actions = run(state, events.HostLost("b", "its agent is gone"))
    assert str(settled(actions)) == "rank 2 on b: its agent is gone"


def test_a_silent_agent_is_lost():
    state, _ = run(ready(), beat("a"), now_s=4.0)
    state = replace(state, ticked_s=4.0)
    assert run(state, events.Ticked(), now_s=4.0)[1] == []
    state, actions = run(state, events.Ticked(), now_s=4.1)
    assert actions == [Serve(ready=False), StopEpoch()]
    _, actions = run(state, events.HostStopped("a"), now_s=4.2)
    assert str(settled(actions)) == "rank 2 on b: no sign of its agent for 4 s"


def test_agents_are_not_blamed_for_the_sleep_of_the_coordinator():
    state, _ = run(ready(), events.Ticked(), now_s=0.0)
    assert run(state, events.Ticked(), now_s=60.0)[1] == []
    state, _ = run(state, events.Ticked(), now_s=60.0)
    for quarters in range(1, 17):
        state, actions = run(state, events.Ticked(), now_s=60 + quarters / 4)
        assert actions == []
    assert StopEpoch() in run(state, events.Ticked(), now_s=64.25)[1]


def test_a_host_that_does_not_confirm_is_named():
    state, _ = run(ready(), lost(0, Loss.KILLED, "killed"), events.HostStopped("a"))
    late = SETTLE_S + 0.1
    state, _ = run(state, beat("a"), beat("b"), now_s=late)
    _, actions = run(state, events.Ticked(), now_s=late)
    expected = "rank 0 on a: killed; b did not confirm that its ranks are gone"
    assert str(settled(actions)) == expected


def test_a_refusal_is_bad_input_even_if_ranks_were_lost_with_it():
    gone = events.HostStopped("a"), events.HostStopped("b")
    refused = events.Refused(1, "no such file")
    _, actions = run(joined(), lost(0, Loss.KILLED), refused, *gone)
    error = settled(actions)
    assert isinstance(error, InputError)
    assert str(error) == "rank 1 on a: no such file"


def test_a_dismissed_cluster_finishes_its_work():
    state, actions = run(ready(), events.Asked(request()), events.Dismissed(now=False))
    assert actions[1:] == [Serve(ready=False), Broadcast(core.Command(2, core.Drain()))]
    assert state.phase is Phase.DRAINING
    state, actions = run(state, events.Said(0, finish()), events.HostStopped("a"))
    assert actions == [Deliver(finish())]
    state, actions = run(state, events.HostStopped("b"))
    assert actions == [Settle(None)]
    assert state.phase is Phase.STOPPED


def test_work_that_takes_too_long_is_cut_off():
    state, _ = run(ready(), events.Dismissed(now=False))
    state, _ = run(state, beat("a"), beat("b"), now_s=45.0)
    state, actions = run(state, events.Ticked(), now_s=45.0)
    assert actions == [Serve(ready=False), StopEpoch()]
    _, actions = run(state, events.HostStopped("a"), events.HostStopped("b"), now_s=46)
    assert actions == [Settle(None)]


def test_a_cluster_that_is_not_ready_is_stopped_at_once():
    state, actions = run(joined(), events.Dismissed(now=False))
    assert actions == [Serve(ready=False), StopEpoch()]
    assert run(state, events.HostStopped("a"), events.HostStopped("b"))[1] == [Settle(None)]


def test_a_cluster_without_an_epoch_is_over_at_once():
    _, actions = run(fresh(), events.Dismissed(now=False))
    assert actions[-1] == Settle(None)
    _, actions = run(fresh(), events.HostLost("b", "refused us"))
    assert str(settled(actions)) == "rank 2 on b: refused us"


HAPPENINGS = st.one_of(
    st.builds(beat, st.sampled_from("ab")),
    st.builds(events.Joined, st.integers(0, 2)),
    st.builds(events.Loaded, st.integers(0, 2), st.just(1)),
    st.builds(lost, st.integers(0, 2), st.sampled_from(Loss)),
    st.builds(events.HostLost, st.sampled_from("ab"), st.just("gone")),
    st.builds(events.HostStopped, st.sampled_from("ab")),
    st.builds(events.Dismissed, st.booleans()),
    st.just(events.Ticked()),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(HAPPENINGS, st.floats(0, 3)), max_size=25))
def test_whatever_happens_it_settles_once_and_never_serves_again(happened):
    state, done, now_s = fresh(), [], 0.0
    for event, passed_s in happened:
        now_s += passed_s
        state, actions = run(state, event, now_s=now_s)
        done += actions
    assert sum(isinstance(action, Settle) for action in done) == int(state.settled)
    assert done.count(StartEpoch()) <= 1
    assert done.count(StopEpoch()) <= 1
    if Serve(ready=False) in done:
        assert Serve(ready=True) not in done[done.index(Serve(ready=False)) :]
    # However it stands, time alone ends what has begun to end.
    if state.stopping and not state.settled:
        state, _ = run(state, events.Ticked(), now_s=now_s + 60)
        assert state.settled
