"""A way that is gone, a host that is gone and a coordinator that is cut off are told apart."""

import pytest

from dsv4_tp.config import Restart
from dsv4_tp.coordinator import events
from dsv4_tp.coordinator.cluster import Phase, failure, first_state
from dsv4_tp.coordinator.narrate import notes
from dsv4_tp.coordinator.requests import Requests
from dsv4_tp.coordinator.state import step
from dsv4_tp.core import Link, Loss, RankReport

HOSTS = {0: "a", 1: "b", 2: "c"}
DEAF = "nothing from b has reached a for 3 s, though both agents answer"


class Cluster:
    """One that is ready, whose agents hear each other; the first host is on this machine."""

    def __init__(self, *, heard=True):
        limits = {"beat_s": 0.5, "prepare_s": 60, "fence_s": 10, "drain_s": 45, "here": ["a"]}
        self.now_s, self.actions, self.notes = 0.0, [], []
        self.state = first_state(HOSTS, Requests(1, 1), Restart(), now_s=0.0, **limits)
        for host in "abc":
            self.beat(host, epoch=0, ranks=False)
        if not heard:
            self.beat("a", Link("b"))
            self.beat("b", Link("a"))
        for kind, *more in (events.Prepared, {}), (events.Joined,), (events.Loaded, 1):
            for rank, host in HOSTS.items():
                self.hear(events.Heard(host, 1, kind(rank, *more)))
        assert self.state.phase is Phase.READY

    def hear(self, event):
        before = self.state
        self.state, actions = step(before, event, self.now_s)
        self.actions += actions
        self.notes += notes(before, event, self.state, actions)

    def beat(self, host, *links, epoch=1, ranks=True):
        reports = [RankReport(rank, "ready") for rank, at in HOSTS.items() if ranks and at == host]
        self.hear(events.Heard(host, epoch, events.HostBeat(tuple(reports), links)))

    def all_hear(self, hosts="abc", *, but=(), until_s=None):
        """A beat of each of these hosts, every half second; those `but` are not heard."""
        while True:
            for host in hosts:
                others = (other for other in "abc" if other != host)
                self.beat(host, *(Link(o, 9.0 if o in but else 0.2) for o in others))
            if until_s is None or self.now_s >= until_s:
                return
            self.now_s += 0.5
            self.hear(events.Ticked())

    def stop(self, *hosts):
        for host in hosts:
            self.hear(events.Heard(host, 1, events.HostStopped()))


def test_a_way_that_is_gone_is_named_with_both_ends():
    cluster = Cluster()
    cluster.all_hear(until_s=2.0)
    cluster.beat("a", Link("b", 3.2, silent=True), Link("c", 0.2))
    assert events.StopEpoch(1) in cluster.actions
    assert failure(cluster.state) == f"the link between a and b: {DEAF}"
    # It is better evidence than a rank that waits for what cannot come.
    cluster.hear(events.Heard("c", 1, events.Lost(2, Loss.STALLED, "no progress", "")))
    cluster.beat("b", Link("a", 3.4, silent=True), Link("c", 0.2))
    assert len(cluster.state.faults) == 2  # each pair once
    cluster.stop("a", "b", "c")
    assert str(cluster.state.failures[-1]) == f"the link between a and b: {DEAF}"
    assert "link-lost" in {note.kind for note in cluster.notes}


@pytest.mark.parametrize("asked", [events.Dismissed(now=True), events.Renewed()])
def test_an_end_that_was_asked_for_is_no_matter_of_a_link(asked):
    cluster = Cluster()
    cluster.all_hear(until_s=2.0)
    cluster.hear(asked)
    cluster.beat("a", Link("b", 3.2, silent=True), Link("c", 0.2))
    cluster.stop("a", "b", "c")
    assert not cluster.state.faults
    assert not cluster.state.failures
    assert cluster.state.phase in (Phase.STOPPED, Phase.RECOVERING)


def test_no_epoch_starts_while_a_way_is_gone():
    cluster = Cluster()
    cluster.all_hear(until_s=2.0)
    silent = Link("b", 3.2, silent=True)
    cluster.beat("a", silent)
    cluster.stop("a", "b", "c")
    for _ in range(20):
        cluster.now_s += 0.5
        cluster.hear(events.Ticked())
        cluster.beat("a", silent, ranks=False)
        cluster.beat("b", Link("a", 3.2, silent=True), ranks=False)
        cluster.beat("c", ranks=False)
    assert cluster.state.phase is Phase.RECOVERING
    assert failure(cluster.state).endswith("; waiting for the link between a and b")
    cluster.beat("b", Link("a", 0.1), ranks=False)
    cluster.beat("a", Link("b", 0.1), ranks=False)
    assert events.StartEpoch(2) in cluster.actions


@pytest.mark.parametrize("late", "ab")
def test_a_way_that_is_gone_is_not_forgotten_when_a_beat_is_late(late):
    cluster = Cluster()
    cluster.all_hear(until_s=2.0)
    silent = Link("b", 3.2, silent=True)
    cluster.beat("a", silent)
    cluster.stop("a", "b", "c")
    for _ in range(6):
        cluster.now_s += 0.5
        if late != "a":
            cluster.beat("a", silent, ranks=False)
        if late != "b":
            cluster.beat("b", Link("a", 0.2), ranks=False)
        cluster.beat("c", ranks=False)
        cluster.hear(events.Ticked())
    assert events.StartEpoch(2) not in cluster.actions
    assert failure(cluster.state).endswith("; waiting for the link between a and b")


def test_a_host_that_answers_nobody_is_no_matter_of_a_link():
    cluster = Cluster()
    cluster.all_hear(until_s=1.0)
    cluster.all_hear("ac", until_s=3.0)
    cluster.beat("a", Link("b", 3.2, silent=True), Link("c", 0.2))
    assert not cluster.state.faults


@pytest.mark.parametrize("away", "ab")
def test_what_is_said_of_an_agent_that_stood_still_is_no_matter_of_a_link(away):
    cluster = Cluster()
    cluster.all_hear(until_s=1.0)
    cluster.all_hear("bc" if away == "a" else "ac", until_s=4.0)
    silent = Link("b", 3.2, silent=True), Link("c", 0.2)
    cluster.beat("a", *silent)  # what it says may be old, be it of b or of itself
    cluster.all_hear("bc")
    assert not cluster.state.faults
    for _ in range(3):
        cluster.now_s += 0.5
        cluster.all_hear("bc")
        cluster.beat("a", *silent)
    assert failure(cluster.state) == f"the link between a and b: {DEAF}"


def test_what_came_in_while_the_coordinator_slept_is_no_matter_of_a_link():
    cluster = Cluster()
    cluster.all_hear(until_s=2.0)
    cluster.now_s += 3.5
    cluster.hear(events.Ticked())
    cluster.beat("a", Link("b", 3.2, silent=True), Link("c", 0.2))
    assert not cluster.state.faults


@pytest.mark.parametrize("its_last_word", ["heard before the sleep", "read right after it"])
def test_a_host_that_went_while_the_coordinator_slept_is_no_matter_of_a_link(its_last_word):
    cluster = Cluster()
    cluster.all_hear(until_s=2.0)
    cluster.now_s += 4.0
    if its_last_word == "read right after it":
        cluster.beat("b", Link("a", 0.2), Link("c", 0.2))
    cluster.hear(events.Ticked())
    while not cluster.state.faults:
        cluster.now_s += 0.5
        cluster.beat("c", Link("a", 0.2))
        cluster.beat("a", Link("b", cluster.now_s - 2, silent=True), Link("c", 0.2))
        cluster.hear(events.Ticked())
    assert [fault.loss for fault in cluster.state.faults] == [Loss.HOST]


def test_an_agent_that_is_new_is_not_missed():
    cluster = Cluster()
    cluster.all_hear(until_s=2.0)
    cluster.beat("b")  # it has not been told whom to pulse
    cluster.beat("a", Link("b", 30.0, silent=True))
    assert not cluster.state.faults


@pytest.mark.parametrize(
    ("answering", "heard", "told"),
    [
        ("ac", True, "; b lives, for a hears it: the way from here to it is down"),
        ("ac", False, "; a does not hear it either"),
        ("a", False, "; all others fell silent with it: this machine is cut off from them"),
    ],
)
def test_what_is_known_of_a_host_that_fell_silent(answering, heard, told):
    cluster = Cluster()
    cluster.all_hear(until_s=1.0)
    cluster.all_hear(answering, but="" if heard else "b", until_s=4.9)
    assert not cluster.state.faults
    cluster.hear(events.HostLost("b", "its agent is gone"))
    assert cluster.state.faults[0].message == f"rank 1 on b: its agent is gone{told}"


def test_of_a_host_whose_agent_ends_nothing_more_is_said():
    cluster = Cluster()
    cluster.all_hear(until_s=2.0)
    cluster.hear(events.HostLost("b", "its agent has ended"))
    assert cluster.state.faults[0].cause == "its agent has ended"


def test_a_peer_that_was_never_heard_is_told_of():
    cluster = Cluster(heard=False)
    told = [note for note in cluster.notes if note.kind == "link-unwatched"]
    assert [note.host for note in told] == ["a", "b"]
    cluster.all_hear()
    cluster.beat("a", Link("b"), Link("c", 0.2))
    assert not cluster.state.faults
