from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsv4_tp.agent import events
from dsv4_tp.agent.events import (
    Condemn,
    Deadlines,
    Dump,
    Kill,
    Leave,
    Measure,
    ReportLost,
    ReportStopped,
    Spawn,
)
from dsv4_tp.agent.host import HostState
from dsv4_tp.agent.reclaim import Kept
from dsv4_tp.agent.state import step
from dsv4_tp.core import Loss, RankReport
from dsv4_tp.errors import RankFailure

DEADLINES = Deadlines(join_s=40, load_s=60, step_s=30)


def run(state, *happened):
    """The last state, and all actions in order."""
    done = []
    for event in happened:
        state, actions = step(state, event)
        done += actions
    return state, done


def fresh():
    return HostState(lease_ends_s=30, fence_s=30)


def running(*, phase="decode"):
    """Ranks 0 and 1 of epoch 1, in this phase since second 0."""
    state, _ = run(fresh(), events.Started(0, 1, (0, 1), DEADLINES), events.Greeted(0, 1000))
    return run(state, sample(0, report(0, phase), report(1, phase)))[0]


def report(rank, phase="decode", **counters):
    return RankReport(rank, phase, **counters)


def sample(now_s, *reports, stopped=()):
    return events.Sampled(now_s, reports, frozenset(stopped))


def still(state, until_s, *reports, stopped=()):
    """Ranks that show nothing new are looked at until this second."""
    done, now_s = [], state.looked_s or 0
    while now_s < until_s:
        now_s = min(now_s + 0.5, until_s)
        state, actions = step(state, sample(now_s, *reports, stopped=stopped))
        done += actions
    return state, done


def dumped(stopped=(), **last_stderr):
    """Stacks by rank, as `r0="..."`."""
    said = {int(rank.removeprefix("r")): words for rank, words in last_stderr.items()}
    return events.Dumped(said, frozenset(stopped))


def exited(rank, code, *, phase="decode", last_stderr=""):
    return events.Exited(report(rank, phase), code, last_stderr)


def test_an_epoch_starts_its_ranks():
    state, actions = run(fresh(), events.Started(0, 1, (2, 3), DEADLINES))
    assert actions == [Spawn(2), Spawn(3)]
    assert state.epoch == 1


def test_an_epoch_that_is_not_newer_is_not_started():
    state, actions = run(running(), events.Started(0, 1, (0, 1), DEADLINES))
    assert actions == []
    state = replace(state, ranks={})
    assert run(state, events.Started(0, 1, (0, 1), DEADLINES)) == (state, [])


def test_the_first_exit_is_named_and_ends_the_others():
    state, actions = run(running(), exited(1, -9, last_stderr="oops"))
    lost = ReportLost(1, Loss.KILLED, "killed by SIGKILL while decoding", "oops")
    assert actions == [lost, Kill(0)]
    assert run(state, exited(0, -15))[1] == [ReportStopped()]


def test_a_rank_that_gave_up_on_the_others_is_told_from_one_that_failed():
    _, actions = run(running(), exited(1, RankFailure.exit_code))
    lost = ReportLost(1, Loss.BEREFT, "could not go on with the other ranks while decoding")
    assert actions == [lost, Kill(0)]


@pytest.mark.parametrize("code", [0, 1])
def test_an_exit_nobody_asked_for_is_a_loss_whatever_its_code(code):
    _, actions = run(running(phase="ready"), exited(0, code, phase="ready"))
    lost = ReportLost(0, Loss.EXITED, f"exited with code {code} while idle")
    assert actions == [lost, Kill(1)]


def test_ranks_that_were_drained_may_leave():
    drained = events.Drained(), exited(0, 0, phase="leaving"), exited(1, 0, phase="leaving")
    assert run(running(), *drained)[1] == [ReportStopped()]


def test_a_drained_rank_that_fails_is_a_loss():
    _, actions = run(running(), events.Drained(), exited(0, 1, phase="leaving"))
    assert actions == [ReportLost(0, Loss.EXITED, "exited with code 1 while leaving"), Kill(1)]


def test_a_drained_rank_that_ends_before_its_work_does_is_a_loss():
    _, actions = run(running(), events.Drained(), exited(0, 0, phase="decode"))
    assert actions == [ReportLost(0, Loss.EXITED, "exited with code 0 while decoding"), Kill(1)]


def test_a_halt_kills_once():
    _, actions = run(running(), events.Halted(), events.Halted(), exited(0, -15), exited(1, -9))
    assert actions == [Kill(0), Kill(1), ReportStopped()]


def test_a_halt_tells_which_rank_was_stopped():
    _, actions = run(running(), events.Halted(frozenset({1})))
    lost = ReportLost(1, Loss.STOPPED, "stopped by a signal while decoding")
    assert actions == [lost, Kill(0), Kill(1)]


def test_a_halt_for_a_rank_that_stalled_elsewhere_asks_ours_that_stand_still():
    late = events.Halted(explain=True)
    moved = report(0), report(1, decode_steps=1)
    state, _ = still(running(), 3, *moved)
    state, _ = run(state, sample(3.5, report(0), report(1, decode_steps=2)))
    state, actions = run(state, late)
    assert actions == [Dump((0,))]
    # To be asked again is no reason to ask them again, nor to end them before they have answered.
    state, actions = run(state, late)
    assert actions == []
    _, actions = run(state, dumped(r0="line 3 in f"))
    lost = ReportLost(0, Loss.STALLED, "no progress for 3.5 s while decoding", "line 3 in f")
    assert actions == [lost, Kill(0), Kill(1)]
    assert run(state, events.Halted())[1] == [replace(lost, last_stderr=""), Kill(0), Kill(1)]


def test_a_halt_for_a_rank_that_stalled_asks_none_that_moves_or_rests():
    state, _ = still(running(phase="ready"), 9, report(0, "ready"), report(1, "ready"))
    assert run(state, events.Halted(explain=True))[1] == [Kill(0), Kill(1)]


@pytest.mark.parametrize(
    ("phase", "deadline_s", "doing"),
    [
        ("starting", 40, "starting"),
        ("prepared", 5, "waiting for the others to prepare"),
        ("joining", 40, "joining the other ranks"),
        ("loading", 60, "loading"),
        ("compiling", 30, "compiling a JSON schema"),
        ("prefill", 30, "reading a prompt"),
        ("decode", 30, "decoding"),
        ("leaving", 30, "leaving"),
    ],
)
def test_each_phase_has_its_deadline(phase, deadline_s, doing):
    state = running(phase=phase)
    reports = report(0, phase), report(1, phase)
    state, actions = still(state, deadline_s, *reports)
    assert actions == []
    state, actions = still(state, deadline_s + 2, *reports)
    assert actions == [Dump((0, 1))]
    _, actions = run(state, dumped(r0="line 3 in f"))
    cause = f"no progress for {deadline_s} s while {doing}"
    first = ReportLost(0, Loss.STALLED, cause, "line 3 in f")
    assert actions == [first, replace(first, rank=1, last_stderr=""), Kill(0), Kill(1)]


def test_a_rank_is_well_until_it_is_lost():
    assert running().well == {0, 1}
    assert run(running(), exited(1, -9))[0].well == set()
    state, _ = still(running(), 31, report(0, decode_steps=1), report(1))
    assert 1 not in state.well


def test_a_rank_that_stalled_is_named_however_its_process_ends():
    state, _ = run(running(), sample(0.5, report(0), report(1, decode_steps=1)))
    state, _ = still(state, 30.5, report(0), report(1, decode_steps=1))
    cause = "no progress for 30 s while decoding"
    _, actions = run(state, exited(0, -12, last_stderr="User defined signal 2"))
    assert actions == [ReportLost(0, Loss.STALLED, cause, "User defined signal 2"), Kill(1)]
    _, actions = run(state, events.Halted(), dumped(r0="too late"))
    assert actions == [ReportLost(0, Loss.STALLED, cause), Kill(0), Kill(1)]


def test_a_rank_that_outlives_its_kill_spoils_its_host():
    state, actions = run(running(), events.Halted(), exited(0, -9), events.Outlived(1, 77))
    words = "pid 77 of rank 1 outlived SIGKILL; reboot it"
    spoilt = ReportStopped(quarantine=words)
    assert actions == [Kill(0), Kill(1), Condemn(words, 77), spoilt]
    # Nothing starts there any more, and that is said.
    state, actions = run(state, exited(1, -9), events.Started(9, 2, (0, 1), DEADLINES))
    assert (actions, state.epoch) == ([spoilt], 2)


def test_a_host_that_an_earlier_agent_found_spoilt_starts_nothing():
    started = events.Started(9, 1, (0, 1), DEADLINES, quarantine="reboot it")
    state, actions = run(fresh(), started)
    assert (actions, state.epoch) == ([ReportStopped(quarantine="reboot it")], 1)
    assert run(state, events.Started(9, 2, (0,), DEADLINES))[1] == [Spawn(0)], "that is gone"


GB = 10**9


WIRED = Kept(3 * GB, "wired")


def ended(*, kept=WIRED, peak_bytes=20 * GB):
    """Two ranks that held 40 GB by default and are gone, in second 10."""
    state, _ = run(fresh(), events.Started(0, 1, (0, 1), DEADLINES, kept))
    gone = [events.Exited(report(rank, peak_bytes=peak_bytes), -15, "") for rank in (0, 1)]
    state, actions = run(state, events.Greeted(0, 1000), events.Halted(), *gone)
    assert actions == [Kill(0), Kill(1), Measure()]
    return state


def test_an_epoch_is_over_when_its_memory_is_back():
    state, actions = run(ended(), events.MemorySeen(10, 14 * GB), sample(10.5))
    assert actions == [Measure()]
    assert run(state, events.Started(11, 2, (0, 1), DEADLINES)) == (state, [])
    state, actions = run(state, events.MemorySeen(40, 3 * GB + 512 * 2**20))
    assert actions == [ReportStopped(returned_bytes=40 * GB - 512 * 2**20)]
    assert run(state, events.Started(41, 2, (0,), DEADLINES))[1] == [Spawn(0)]


def test_memory_that_does_not_come_back_spoils_the_host():
    state, actions = run(ended(), events.MemorySeen(10, 14 * GB), events.MemorySeen(59.9, 14 * GB))
    assert actions == []
    words = "11.0 GB of wired memory did not come back within 50 s; reboot it"
    spoilt = ReportStopped(29 * GB, words)
    leaving = events.Dismissed("the end", ordered=True), events.MemorySeen(60, 14 * GB)
    assert run(state, *leaving)[1] == [Condemn(words), spoilt, Leave("the end")]
    state, actions = run(state, events.MemorySeen(60, 14 * GB))
    assert actions == [Condemn(words), spoilt]
    assert run(state, events.Started(61, 2, (0,), DEADLINES))[1] == [
        replace(spoilt, returned_bytes=0)
    ]


@pytest.mark.parametrize(
    ("kept", "peak_bytes"),
    [
        # Ranks cannot leave more behind than they held: the rest is another program's.
        (Kept(3 * GB, "wired"), 250 * 10**6),
        # Where other programs' memory looks alike, half of what was held may be theirs.
        (Kept(3 * GB, "shared", noise=0.5), 20 * GB),
    ],
)
def test_the_memory_of_other_programs_is_no_fault_of_a_rank(kept, peak_bytes):
    seen = events.MemorySeen(10, 3 * GB + min(19 * GB, 90 * peak_bytes))
    (stopped,) = run(ended(kept=kept, peak_bytes=peak_bytes), seen)[1]
    assert stopped.quarantine == ""


def test_progress_renews_the_deadline():
    state = running()
    for now_s in range(0, 300, 25):
        moved = [report(rank, decode_steps=now_s + 1) for rank in (0, 1)]
        state, actions = run(state, sample(now_s, *moved))
        assert actions == []


def test_time_in_which_nobody_looked_is_not_held_against_a_rank():
    state, actions = run(running(), sample(300, report(0), report(1)))
    assert actions == []
    state, actions = still(state, 329, report(0), report(1))
    assert actions == []
    assert still(state, 332, report(0), report(1))[1] == [Dump((0, 1))]


def test_an_idle_rank_has_no_deadline():
    state = running(phase="ready")
    assert run(state, sample(900, report(0, "ready"), report(1, "ready")))[1] == []


def test_a_rank_that_owes_a_request_is_not_idle():
    idle = report(0, "ready"), report(1, "ready")
    state, _ = still(running(phase="ready"), 500, *idle)
    state, _ = run(state, events.Tasked(500, "a"), events.Finished(0, "a"))
    state, actions = still(state, 530, *idle)
    assert actions == []
    state, dump = still(state, 531, *idle)
    actions = [*dump, *run(state, dumped())[1]]
    lost = ReportLost(1, Loss.STALLED, "no progress for 30 s while taking a request")
    assert actions == [Dump((1,)), lost, Kill(0), Kill(1)]


def test_a_stopped_rank_is_named_as_such_when_ranks_stall():
    state, _ = still(running(), 31, report(0), report(1), stopped=(1,))
    _, actions = run(state, dumped(stopped=(1,)))
    assert ReportLost(1, Loss.STOPPED, "stopped by a signal while decoding") in actions
    assert [a.loss for a in actions if isinstance(a, ReportLost) and a.rank == 1] == [Loss.STOPPED]


def test_a_rank_that_takes_no_commands_is_lost():
    _, actions = run(running(), events.Muted(1))
    assert actions[0] == ReportLost(1, Loss.EXITED, "closed its control stream while decoding")
    assert run(running(), events.Drained(), events.Muted(1))[1] == []


def test_without_a_beat_everything_ends():
    state, _ = run(running(), events.Greeted(0, 10), events.Beaten(5))
    assert run(state, sample(15))[1] == []
    state, actions = run(state, sample(15.1))
    assert actions == [Kill(0), Kill(1)]
    _, actions = run(state, exited(0, -15), exited(1, -15))
    assert actions == [Leave("no sign of the coordinator for 10 s")]


def test_an_agent_that_nobody_speaks_to_leaves():
    assert run(fresh(), sample(31))[1] == [Leave("no sign of the coordinator for 30 s")]


@pytest.mark.parametrize("ordered", [True, False])
def test_a_dismissed_agent_leaves_after_its_ranks_and_offers_its_host_no_more(ordered):
    state, actions = run(running(), events.Dismissed("a", ordered), events.Dismissed("b", True))
    assert actions == [Kill(0), Kill(1)]
    told = [ReportStopped()] if ordered else []
    assert run(state, exited(1, -15), exited(0, -15))[1] == [*told, Leave("a")]


HAPPENINGS = st.one_of(
    st.just(events.Halted()),
    st.just(events.Drained()),
    st.builds(events.Dismissed, st.just("x"), st.booleans()),
    st.builds(events.Beaten, st.floats(0, 200)),
    st.builds(events.Tasked, st.floats(0, 200), st.sampled_from("ab")),
    st.builds(sample, st.floats(0, 200), st.builds(report, st.just(0), st.just("decode"))),
    st.builds(exited, st.integers(0, 2), st.sampled_from([0, 1, -9])),
    st.builds(
        events.Exited,
        st.builds(report, st.integers(0, 2), peak_bytes=st.just(GB)),
        st.just(-9),
        st.just(""),
    ),
    st.builds(dumped, st.sets(st.integers(0, 2))),
    st.builds(events.Outlived, st.integers(0, 2), st.just(7)),
    st.builds(events.MemorySeen, st.floats(0, 200), st.sampled_from([0, 90 * GB])),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(HAPPENINGS, max_size=12), st.sampled_from([None, Kept(0, "wired")]))
def test_whatever_happens_ranks_are_killed_once_and_the_end_is_told_once(happened, kept):
    started = events.Started(0, 1, (0, 1, 2), DEADLINES, kept)
    state, _ = run(fresh(), started, events.Greeted(0, 50))
    done = []
    for event in happened:
        state, actions = step(state, event)
        done += actions
    assert all(done.count(Kill(rank)) <= 1 for rank in range(3))
    told = [action for action in done if isinstance(action, ReportStopped)]
    unasked = state.leaving and not state.ordered
    assert len(told) <= 1
    assert unasked or len(told) == (0 if state.ranks or state.gone else 1)
    if not state.ranks and state.gone:
        assert Measure() in run(state, sample(300), sample(300.5))[1]
    assert sum(isinstance(action, Leave) for action in done) <= 1
