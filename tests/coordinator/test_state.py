from dataclasses import replace

import pytest

from dsv4_tp import core
from dsv4_tp.config import Restart, RestartPolicy
from dsv4_tp.coordinator import events
from dsv4_tp.coordinator.cluster import Phase, failure, first_state, refused
from dsv4_tp.coordinator.epochs import SETTLE_S
from dsv4_tp.coordinator.events import (
    Broadcast,
    Deliver,
    Fail,
    JoinEpoch,
    Reach,
    Serve,
    Settle,
    StartEpoch,
    StopEpoch,
)
from dsv4_tp.coordinator.requests import Requests
from dsv4_tp.coordinator.state import step
from dsv4_tp.core import Loss
from dsv4_tp.errors import (
    BusyError,
    HarmfulRequestError,
    InputError,
    NotReadyError,
    OutrankedError,
    QuarantineError,
    RankFailure,
)

HOSTS = {0: "a", 1: "a", 2: "b"}
NEVER = Restart(RestartPolicy.NEVER)
END = [Serve(ready=False), StopEpoch(1)]


def run(state, *happened, now_s=0.0):
    done = []
    for event in happened:
        state, actions = step(state, event, now_s)
        done += actions
    return state, done


def fresh(restart=NEVER):
    limits = {"beat_s": 0.5, "prepare_s": 60, "fence_s": 10, "drain_s": 45}
    return first_state(HOSTS, Requests(batch=1, queue=1), restart, now_s=0.0, **limits)


def beat(host, *reports, epoch=1):
    return events.Heard(host, epoch, events.HostBeat(reports))


def says(rank, word, epoch=1):
    return events.Heard(HOSTS[rank], epoch, word)


def prepares(*ranks, epoch=1, **facts):
    facts = {"dtype": "float32"} | facts
    return [says(rank, events.Prepared(rank, facts), epoch) for rank in ranks]


def joins(*ranks, epoch=1):
    return [says(rank, events.Joined(rank), epoch) for rank in ranks]


def loads(*ranks, epoch=1):
    return [says(rank, events.Loaded(rank, 100), epoch) for rank in ranks]


def all_ready(epoch):
    return [each for word in (prepares, joins, loads) for each in word(*HOSTS, epoch=epoch)]


def said(rank, event, epoch=1):
    return says(rank, events.Said(rank, event), epoch)


def stopped(*hosts, epoch=1):
    return [events.Heard(host, epoch, events.HostStopped()) for host in hosts]


def begun(restart=NEVER):
    return run(fresh(restart), beat("a", epoch=0), beat("b", epoch=0))[0]


def joined(restart=NEVER):
    return run(begun(restart), *prepares(*HOSTS), *joins(*HOSTS))[0]


def ready(restart=NEVER):
    return run(joined(restart), *loads(*HOSTS))[0]


def request(name="r", told=()):
    return core.Request(name, (1,), 4, core.Sampling(), told=told)


def finish(name="r"):
    return core.FinishEvent(name, core.FinishReason.LENGTH, 1, 4, 0, 0, 0, 0)


def lost(rank, loss, cause="x", stderr="", epoch=1):
    return says(rank, events.Lost(rank, loss, cause, stderr), epoch)


def settled(actions):
    """The error of the one Settle."""
    (settle,) = [action for action in actions if isinstance(action, Settle)]
    return settle.error


def test_no_rank_starts_before_every_agent_has_spoken():
    state, actions = run(fresh(), beat("a", epoch=0), beat("a", epoch=0))
    assert (state.phase, actions) == (Phase.STARTING, [])
    state, actions = run(state, beat("b", epoch=0), beat("b", epoch=0))
    assert (state.phase, actions) == (Phase.PREPARING, [StartEpoch(1)])


def test_no_rank_joins_before_every_rank_is_prepared():
    state, actions = run(begun(), *prepares(0, 2, 2))
    assert (state.phase, actions) == (Phase.PREPARING, [])
    state, actions = run(state, *prepares(1))
    assert (state.phase, actions) == (Phase.JOINING, [JoinEpoch(1)])


def test_ranks_that_nobody_prepares_are_named_in_time():
    state, _ = run(begun(), *prepares(1))
    live = [beat("a"), beat("b")]
    state, actions = run(state, *live, events.Ticked(), now_s=59.9)
    assert actions == []
    state, actions = run(state, events.Ticked(), now_s=60.0)
    assert actions == [Serve(ready=False), StopEpoch(1, explain=True)]
    _, actions = run(state, *stopped("a", "b"), now_s=61.0)
    assert str(settled(actions)) == "rank 0 on a, rank 2 on b: not prepared within 60 s"


def test_ranks_that_are_prepared_in_time_have_all_of_it_to_meet():
    state, _ = run(begun(), *prepares(*HOSTS))
    state, actions = run(state, beat("a"), beat("b"), events.Ticked(), now_s=200.0)
    assert (state.phase, actions) == (Phase.JOINING, [])


def test_ranks_that_differ_are_never_joined():
    state, actions = run(begun(), *prepares(0, 1), *prepares(2, dtype="bfloat16"))
    assert JoinEpoch(1) not in actions
    _, actions = run(state, *stopped("a", "b"))
    error = settled(actions)
    assert isinstance(error, InputError)
    assert str(error) == (
        "the ranks do not agree on the dtype: rank 2 on b has bfloat16, rank 0 on a float32"
    )


def test_it_serves_when_all_have_joined_and_loaded():
    state, _ = run(begun(), *prepares(*HOSTS), *joins(0, 1))
    assert state.phase is Phase.JOINING
    state, _ = run(state, *joins(2), *loads(2, 1))
    assert state.phase is Phase.LOADING
    state, actions = run(state, *loads(0))
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
    state, actions = run(state, said(1, finish()), said(2, finish()))
    assert actions == []
    _, actions = run(state, said(0, finish()))
    assert actions == [Deliver(finish())]


def test_a_finished_request_is_not_cancelled():
    asked = events.Asked(request()), said(0, finish())
    state, _ = run(ready(), *asked)
    assert run(state, events.Abandoned("r"))[1] == []


def test_what_is_not_taken_is_told_why():
    assert isinstance(refused(joined()), NotReadyError)
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
    assert actions == [Broadcast(1, core.Command(2, core.Cancel("r")))]


def test_a_loss_ends_the_epoch_everywhere_and_then_is_told():
    state, actions = run(ready(), lost(2, Loss.KILLED, "killed", "Trace\nError: oops\n"))
    assert actions == END
    assert state.phase is Phase.FAILED
    _, actions = run(state, *stopped("a", "b"))
    error = settled(actions)
    assert isinstance(error, RankFailure)
    assert str(error) == "rank 2 on b: killed (Error: oops)"


@pytest.mark.parametrize("culprit_first", [True, False])
def test_the_best_evidence_becomes_the_verdict(culprit_first):
    evidence = [lost(2, Loss.KILLED, "culprit"), lost(0, Loss.EXITED, "victim")]
    evidence += [lost(1, Loss.STALLED, "victim"), lost(1, Loss.BEREFT, "victim")]
    ordered = evidence if culprit_first else evidence[::-1]
    gone = stopped("a", "b")
    _, actions = run(ready(), *ordered, *gone)
    assert str(settled(actions)) == "rank 2 on b: culprit"


def test_of_ranks_that_stalled_the_one_is_named_that_was_behind_when_the_first_was_found():
    def seen(first, second):
        return [
            beat(
                "a",
                core.RankReport(0, "decode", waits=first),
                core.RankReport(1, "decode", waits=9),
            ),
            beat("b", core.RankReport(2, "decode", waits=second)),
        ]

    stalls = lost(0, Loss.STALLED, "no progress"), lost(2, Loss.STALLED, "no progress")
    _, actions = run(ready(), *seen(9, 8), stalls[0])
    assert StopEpoch(1, explain=True) in actions
    # What ranks do while they are ended changes nothing.
    _, actions = run(ready(), *seen(9, 8), *stalls, *seen(10, 9), *stopped("a", "b"))
    assert str(settled(actions)) == "rank 2 on b: no progress; rank 0 on a waited for it"


def test_of_stacks_the_place_is_told():
    stacks = """Thread 0x01 (most recent call first):
  File "threading.py", line 3 in wait

Current thread 0x02 (most recent call first):
  File "loop.py", line 160 in step
  File "main.py", line 1 in <module>
"""
    evidence = lost(2, Loss.STALLED, "no progress", stacks)
    _, actions = run(ready(), evidence, *stopped("a", "b"))
    words = 'rank 2 on b: no progress (File "loop.py", line 160 in step)'
    assert str(settled(actions)) == words


def test_a_lost_host_explains_a_rank_that_failed_elsewhere():
    victim = lost(0, Loss.EXITED, "connection to a peer was lost"), *stopped("a")
    state, actions = run(ready(), *victim)
    assert not any(isinstance(action, Settle) for action in actions)
    _, actions = run(state, events.HostLost("b", "its agent is gone"))
    assert str(settled(actions)) == "rank 2 on b: its agent is gone"


def test_who_is_outranked_leaves_all_to_the_other_at_once():
    state, actions = run(ready(HEALS), events.Outranked("b", "a later one"), *stopped("a"))
    assert actions[:-1] == [Serve(ready=False)]
    assert isinstance(settled(actions), OutrankedError)
    assert str(settled(actions)).startswith("another coordinator has taken this cluster over")
    late = run(state, events.HostLost("b", "gone"), events.Ticked(), now_s=1000.0)
    assert late == (state, [])


def test_a_silent_agent_is_lost():
    state, _ = run(ready(), beat("a"), now_s=4.0)
    state = replace(state, ticked_s=4.0)
    assert run(state, events.Ticked(), now_s=4.0)[1] == []
    state, actions = run(state, events.Ticked(), now_s=4.1)
    assert actions == END
    _, actions = run(state, *stopped("a"), now_s=4.2)
    assert str(settled(actions)) == "rank 2 on b: no sign of its agent for 4 s"


def test_agents_are_not_blamed_for_the_sleep_of_the_coordinator():
    state, _ = run(ready(), events.Ticked(), now_s=0.0)
    assert run(state, events.Ticked(), now_s=60.0)[1] == []
    state, _ = run(state, events.Ticked(), now_s=60.0)
    for quarters in range(1, 17):
        state, actions = run(state, events.Ticked(), now_s=60 + quarters / 4)
        assert actions == []
    assert StopEpoch(1) in run(state, events.Ticked(), now_s=64.25)[1]


def test_a_host_that_does_not_confirm_is_named():
    state, _ = run(ready(), lost(0, Loss.KILLED, "killed"), *stopped("a"))
    late = SETTLE_S + 0.1
    state, _ = run(state, beat("a"), beat("b"), now_s=late)
    _, actions = run(state, events.Ticked(), now_s=late)
    expected = "rank 0 on a: killed; b did not confirm that its ranks are gone"
    assert str(settled(actions)) == expected


def test_a_host_that_is_spoilt_is_the_verdict_and_has_its_own_exit_code():
    spoilt = events.Heard("b", 1, events.HostStopped("pid 7 of rank 2 outlived SIGKILL; reboot it"))
    happened = lost(2, Loss.STALLED, "no progress"), *stopped("a"), spoilt
    for policy in (NEVER, HEALS):
        error = settled(run(ready(policy), *happened)[1])
        assert str(error) == (
            "b: pid 7 of rank 2 outlived SIGKILL; reboot it; before that, rank 2 on b: no progress"
        )
        assert error.exit_code == 7
    # Also of an end that was asked for.
    _, actions = run(ready(), events.Dismissed(now=True), *stopped("a"), spoilt)
    assert settled(actions).exit_code == 7


def test_a_refusal_is_bad_input_even_if_ranks_were_lost_with_it():
    gone = stopped("a", "b")
    refused = says(1, events.Refused(1, "no such file"))
    _, actions = run(joined(), lost(0, Loss.KILLED), refused, *gone)
    error = settled(actions)
    assert isinstance(error, InputError)
    assert str(error) == "rank 1 on a: no such file"


def test_a_dismissed_cluster_finishes_its_work():
    state, actions = run(ready(), events.Asked(request()), events.Dismissed(now=False))
    assert actions[1:] == [Serve(ready=False), Broadcast(1, core.Command(2, core.Drain()))]
    assert state.phase is Phase.DRAINING
    state, actions = run(state, said(0, finish()), *stopped("a"))
    assert actions == [Deliver(finish())]
    state, actions = run(state, *stopped("b"))
    assert actions == [Settle(None)]
    assert state.phase is Phase.STOPPED


def test_work_that_takes_too_long_is_cut_off():
    state, _ = run(ready(), events.Dismissed(now=False))
    state, _ = run(state, beat("a"), beat("b"), now_s=45.0)
    state, actions = run(state, events.Ticked(), now_s=45.0)
    assert actions == END
    _, actions = run(state, *stopped("a", "b"), now_s=46)
    assert actions == [Settle(None)]


def test_a_cluster_that_is_not_ready_is_stopped_at_once():
    state, actions = run(joined(), events.Dismissed(now=False))
    assert actions == END
    assert run(state, *stopped("a", "b"))[1] == [Settle(None)]


def test_a_cluster_without_an_epoch_is_over_at_once():
    _, actions = run(fresh(), events.Dismissed(now=False))
    assert actions[-1] == Settle(None)
    _, actions = run(fresh(), events.HostLost("b", "refused us"))
    assert str(settled(actions)) == "rank 2 on b: refused us"


# What follows has a policy that heals.

HEALS = Restart(backoff_s=(2.0, 8.0), most=4, replay_s=30.0)


def tick(state, now_s):
    """Time has passed, and every agent that is there has spoken meanwhile."""
    hosts = {name: replace(host, seen_s=now_s) for name, host in state.hosts.items()}
    return step(replace(state, hosts=hosts, ticked_s=now_s), events.Ticked(), now_s)


def failed(state=None, *, now_s=0.0):
    """Rank 2 was killed, and all is gone."""
    epoch = 1 if state is None else state.epoch
    word = events.Lost(2, Loss.KILLED, "killed", "")
    events_ = says(2, word, epoch), *stopped("a", "b", epoch=epoch)
    return run(ready(HEALS) if state is None else state, *events_, now_s=now_s)


def back(state, now_s):
    """The next epoch is ready."""
    state, actions = tick(state, now_s)
    assert actions == (StartEpoch(state.epoch),)
    words = (
        prepares(*HOSTS, epoch=state.epoch)
        + joins(*HOSTS, epoch=state.epoch)
        + loads(*HOSTS, epoch=state.epoch)
    )
    return run(state, *words, now_s=now_s)


def test_a_fault_ends_the_epoch_and_another_one_follows_after_a_while():
    state, actions = failed()
    assert actions == END
    assert (state.phase, failure(state)) == (Phase.RECOVERING, "rank 2 on b: killed")
    assert tick(state, 1.9)[1] == ()
    state, actions = tick(state, 2.0)
    assert actions == (StartEpoch(2),)
    assert (state.phase, state.epoch, state.restarts) == (Phase.PREPARING, 2, 1)
    state, _ = run(state, *prepares(*HOSTS, epoch=2))
    state, actions = run(state, *joins(*HOSTS, epoch=2), *loads(*HOSTS, epoch=2))
    assert (state.phase, actions) == (Phase.READY, [Serve(ready=True)])
    assert failure(state) == "rank 2 on b: killed"  # the last one


def test_another_epoch_can_be_asked_for_and_counts_as_no_failure():
    asked, token = events.Asked(request()), said(0, core.TokenEvent("r", 0, 7))
    state, actions = run(ready(HEALS), asked, token, events.Renewed(), events.Renewed())
    assert [action for action in actions if isinstance(action, Serve | StopEpoch)] == END
    state, _ = run(state, *stopped("a", "b"))
    assert (state.phase, state.failures) == (Phase.RECOVERING, ())
    state, actions = back(state, 0.1)
    assert (state.phase, state.epoch) == (Phase.READY, 2)
    assert actions[-1].command.action.request.told == (7,)


def test_an_epoch_that_told_something_ends_the_row_of_those_that_did_not():
    state, _ = back(failed()[0], 2.0)
    token = said(0, core.TokenEvent("r", 0, 7), epoch=2)
    state, _ = run(state, events.Asked(request()), token, events.Renewed(), now_s=3.0)
    state, _ = run(state, *stopped("a", "b", epoch=2), now_s=3.0)
    assert state.failures == ()


def test_asked_for_the_next_epoch_does_not_wait_for_its_time():
    state, _ = failed()
    assert run(state, events.Renewed(), now_s=0.5)[1] == [StartEpoch(2)]
    for over in (fresh(HEALS), run(ready(HEALS), events.Dismissed(False))[0]):
        assert run(over, events.Renewed()) == (over, [])


def test_words_of_an_epoch_that_is_over_are_signs_of_life_only():
    state, _ = failed()
    state, _ = tick(state, 2.0)
    late = [*joins(*HOSTS), *loads(*HOSTS), lost(0, Loss.KILLED), *stopped("a", "b")]
    report = core.RankReport(0, "decode", decode_steps=7)
    after, actions = run(state, *late, said(0, finish()), beat("a", report), now_s=2.5)
    assert actions == []
    hosts = {**state.hosts, "a": replace(state.hosts["a"], seen_s=2.5)}
    assert after == replace(state, hosts=hosts)


def test_what_ranks_say_after_the_first_fault_is_not_heard():
    state, _ = run(ready(HEALS), events.Asked(request()), lost(2, Loss.KILLED))
    assert run(state, said(0, core.TokenEvent("r", 0, 7)), said(0, finish())) == (state, [])


def test_requests_go_on_where_they_were_in_their_order():
    state, _ = run(ready(HEALS), events.Asked(request("a")), events.Asked(request("b")))
    told = [said(0, core.TokenEvent("a", index, 50 + index)) for index in range(2)]
    state, actions = run(state, *told, now_s=1.0)
    assert len(actions) == 2
    state, _ = failed(state, now_s=2.0)
    state, actions = back(state, 4.0)
    assert actions == [
        JoinEpoch(2),
        Serve(ready=True),
        Broadcast(2, core.Command(1, core.Submit(request("a", told=(50, 51))))),
        Broadcast(2, core.Command(2, core.Submit(request("b")))),
    ]
    state, actions = run(state, said(0, core.TokenEvent("a", 2, 52), epoch=2), now_s=5.0)
    assert actions == [Deliver(core.TokenEvent("a", 2, 52))]
    _, (deliver,) = run(state, said(0, finish("a"), epoch=2), now_s=6.0)
    assert (deliver.event.restarts, deliver.event.first_token_s) == (1, 1.0)


def test_cancels_and_limits_end_requests_that_wait_for_ranks():
    asked = events.Asked(request("a")), events.Asked(request("b"), time_limit_s=10.0)
    state, _ = run(ready(HEALS), *asked)
    state, _ = failed(state)
    state, (left,) = run(state, events.Abandoned("a"), now_s=1.0)
    assert left.event.reason is core.FinishReason.CANCELLED
    state, _ = tick(state, 2.0)
    state, (late,) = tick(state, 10.0)  # the next epoch loads
    assert (late.event.request_id, late.event.reason) == ("b", core.FinishReason.TIMEOUT)
    assert state.requests.totals.ended == {"cancelled": 1, "timeout": 1}


def test_requests_that_were_being_ended_end_with_their_epoch():
    state, _ = run(ready(HEALS), events.Asked(request()), events.Abandoned("r"))
    state, actions = run(state, lost(2, Loss.KILLED))
    assert actions[:2] == END
    assert [action.event.request_id for action in actions[2:]] == ["r"]


def test_requests_wait_only_so_long():
    state, _ = failed(run(ready(HEALS), events.Asked(request()))[0])
    state, _ = tick(state, 2.0)
    assert tick(state, 29.9)[1] == ()
    state, (fail,) = tick(state, 30.0)
    assert isinstance(fail, Fail)
    assert isinstance(fail.error, RankFailure)
    expected = "rank 2 on b: killed; the ranks were not back within 30 s"
    assert (fail.request_id, str(fail.error)) == ("r", expected)
    assert not state.requests.open
    assert state.requests.totals.ended == {"lost": 1}


def test_new_requests_are_told_to_try_again():
    error = refused(failed()[0])
    assert isinstance(error, NotReadyError)
    expected = "the cluster is recovering (rank 2 on b: killed); try again in a while"
    assert str(error) == expected


def test_what_fails_again_and_again_ends_with_the_reason():
    state, now_s = ready(HEALS), 0.0
    for waits_s in (2.0, 4.0):
        state, actions = failed(state, now_s=now_s)
        assert not any(isinstance(action, Settle) for action in actions)
        assert state.starts_s == now_s + waits_s
        now_s = state.starts_s
        state, _ = back(state, now_s)
    state, actions = failed(state, now_s=now_s)
    assert str(settled(actions)) == "rank 2 on b failed 3 times before a token: killed"
    assert state.phase is Phase.FAILED


def test_tokens_show_that_an_epoch_was_not_in_vain():
    state, now_s = ready(HEALS), 0.0
    for name in "abc":
        token = said(0, core.TokenEvent(name, 0, 7), epoch=state.epoch)
        end = said(0, finish(name), epoch=state.epoch)
        state, _ = run(state, events.Asked(request(name)), token, end, now_s=now_s)
        state, _ = failed(state, now_s=now_s)
        now_s = state.starts_s
        state, _ = back(state, now_s)
    _, actions = failed(state, now_s=now_s)
    assert str(settled(actions)) == "rank 2 on b failed 4 times within 600 s: killed"


def test_so_does_a_long_time_without_work():
    state, now_s = ready(HEALS), 0.0
    for _ in range(6):
        now_s += 700.0
        state, _ = failed(state, now_s=now_s)
        assert state.phase is Phase.RECOVERING
        now_s = state.starts_s
        state, _ = back(state, now_s)


def test_no_other_epoch_heals_what_ranks_refuse():
    state, _ = failed()
    state, _ = tick(state, 2.0)
    refusal = says(1, events.Refused(1, "no such file"), epoch=2)
    state, actions = run(state, refusal, *stopped("a", "b", epoch=2))
    assert isinstance(settled(actions), InputError)
    assert state.phase is Phase.FAILED


def test_an_operator_ends_a_cluster_that_recovers():
    state, _ = failed(run(ready(HEALS), events.Asked(request()))[0])
    state, actions = run(state, events.Dismissed(now=False))
    assert (actions, state.phase) == ([Settle(None)], Phase.STOPPED)
    state, _ = run(ready(HEALS), lost(2, Loss.KILLED), *stopped("b"))
    state, actions = run(state, events.Dismissed(now=False))
    assert (actions, state.phase) == ([], Phase.DRAINING)
    assert run(state, *stopped("a"))[1] == [Settle(None)]


def test_what_is_lost_while_draining_is_not_started_again():
    state, _ = run(ready(HEALS), events.Dismissed(now=False), lost(2, Loss.KILLED))
    _, actions = run(state, *stopped("a", "b"))
    assert isinstance(settled(actions), RankFailure)


def test_an_agent_is_wanted_where_one_was_lost():
    state, actions = run(ready(HEALS), events.HostLost("b", "gone"), *stopped("a"), now_s=0.0)
    assert actions == END
    state, actions = tick(state, 0.25)
    assert actions == (Reach("b", 1, fenced=False),)
    # It is not there yet; it is looked for ever less often, and no epoch starts without it.
    state, _ = run(state, events.HostLost("b", "no route"), now_s=1.0)
    assert failure(state) == "rank 2 on b: gone; waiting for b: no route"
    assert tick(state, 2.9)[1] == ()
    state, actions = tick(state, 3.0)
    assert actions == (Reach("b", 1, fenced=False),)
    state, _ = run(state, events.HostLost("b", "no route"), now_s=9.0)
    assert tick(state, 12.9)[1] == ()
    state, actions = tick(state, 13.0)
    # Its lease is over, but its ranks may take a while to end.
    assert actions == (Reach("b", 1, fenced=False),)
    state, _ = run(state, events.HostLost("b", "no route"), now_s=14.0)
    state, actions = tick(state, 22.0)
    assert actions == (Reach("b", 1, fenced=True),)
    state, actions = run(state, beat("b", epoch=0), now_s=23.0)
    assert actions == [StartEpoch(2)]


def test_no_epoch_starts_where_ranks_of_the_last_one_live():
    state, _ = run(ready(HEALS), events.HostLost("b", "gone"), *stopped("a"))
    state, _ = tick(state, 0.25)
    alive = core.RankReport(2, "decode")
    state, _ = run(state, beat("b", alive), now_s=3.0)
    assert tick(state, 4.0)[1] == ()
    assert failure(state).endswith("waiting for b: its ranks are not known to be gone")
    state, _ = run(state, *stopped("b"), now_s=5.0)
    assert tick(state, 5.0)[1] == (StartEpoch(2),)


def test_a_host_that_stays_away_is_waited_for_no_longer_than_the_window():
    state, _ = run(ready(HEALS), events.HostLost("b", "gone"), *stopped("a"))
    state, _ = tick(state, 0.25)
    state, _ = run(state, events.HostLost("b", "no route"), now_s=1.0)
    state, _ = tick(state, 601.0)
    assert state.phase is Phase.RECOVERING
    _, actions = tick(state, 602.0)
    expected = "rank 2 on b: gone; waiting for b: no route; given up after 600 s"
    assert str(settled(actions)) == expected


def test_an_epoch_that_cannot_start_is_tried_again_and_again():
    state, _ = run(fresh(HEALS), beat("a", epoch=0), beat("b", epoch=0))
    now_s = 0.0
    for epoch, wait_s in enumerate((2, 4, 8, 8, 8), start=1):
        state, actions = run(state, events.Unfit("b", "cannot listen on x:1"), now_s=now_s)
        assert actions == [Serve(ready=False), StopEpoch(epoch)]
        state, _ = run(state, *stopped("a", "b", epoch=epoch), now_s=now_s)
        assert failure(state) == "b: cannot listen on x:1"
        now_s += wait_s
        assert tick(state, now_s - 0.1)[1] == ()
        state, actions = tick(state, now_s)
        assert actions == (StartEpoch(epoch + 1),)


def test_a_request_that_ranks_fall_over_ends_and_the_cluster_does_not():
    request = core.Request("r", (1,), 4, core.Sampling())
    state, _ = run(ready(HEALS), events.Asked(request))
    now_s = 0.0
    for epoch in (1, 2, 3):
        state, _ = run(state, lost(0, Loss.KILLED, epoch=epoch), now_s=now_s)
        state, actions = run(state, *stopped("a", "b", epoch=epoch), now_s=now_s)
        fails = [action for action in actions if isinstance(action, Fail)]
        now_s += 10.0
        state, _ = tick(state, now_s)
        state, _ = run(state, *all_ready(epoch + 1), now_s=now_s)
    assert [type(action.error) for action in fails] == [HarmfulRequestError]
    assert (state.phase, state.requests.open) == (Phase.READY, {})


def test_an_old_failure_does_not_end_the_cluster_before_a_request_is_tried():
    state, _ = run(ready(HEALS), lost(0, Loss.KILLED), *stopped("a", "b"))
    state, _ = run(tick(state, 10.0)[0], *all_ready(2), now_s=10.0)
    state, _ = run(state, events.Asked(request()), now_s=400.0)
    for epoch, now_s in ((2, 400.0), (3, 420.0)):
        state, _ = run(state, lost(0, Loss.KILLED, epoch=epoch), now_s=now_s)
        state, _ = run(state, *stopped("a", "b", epoch=epoch), now_s=now_s)
        assert state.phase is Phase.RECOVERING, failure(state)
        state, _ = run(tick(state, now_s + 10)[0], *all_ready(epoch + 1), now_s=now_s + 10)
    assert state.requests.tried == "r"


def test_clients_of_a_cluster_that_will_not_heal_hear_so_soon():
    request = core.Request("r", (1,), 4, core.Sampling())
    state, _ = run(ready(), events.Asked(request))
    state, _ = run(state, lost(0, Loss.STALLED), lost(2, Loss.KILLED))
    assert tick(state, 2.9)[1] == ()  # nobody has confirmed, but better evidence may come
    state, (fail,) = tick(state, 3.0)
    assert str(fail.error) == "rank 2 on b: x"
    assert tick(state, 4.0)[1] == ()


def test_a_host_in_doubt_is_not_waited_for_when_it_cannot_heal():
    state, _ = run(ready(HEALS), lost(2, Loss.KILLED), *stopped("b"))
    state, _ = tick(state, SETTLE_S)  # "a" has not confirmed
    assert (state.phase, state.over) == (Phase.RECOVERING, True)
    quarantine = events.Heard("b", 1, events.HostStopped("11 GB did not come back"))
    state, _ = run(state, quarantine, now_s=SETTLE_S + 1)
    assert state.phase is Phase.FAILED
    assert isinstance(refused(state), QuarantineError)
    _, actions = tick(state, 2 * SETTLE_S + 1)
    assert isinstance(settled(actions), QuarantineError)
