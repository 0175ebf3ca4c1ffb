"""Ranks of a coordinator that is gone: whether another one can go on with them, and how it does."""

from dataclasses import replace
from random import Random

import pytest

from dsv4_tp.coordinator import events
from dsv4_tp.coordinator.adoption import (
    Adoption,
    Standing,
    adopt,
    first_generation,
    generations,
)
from dsv4_tp.coordinator.cluster import Phase, refused
from dsv4_tp.coordinator.events import Broadcast, Deliver, GoOn, Serve, StopEpoch
from dsv4_tp.coordinator.members import Rank
from dsv4_tp.coordinator.narrate import notes
from dsv4_tp.core import (
    Cancel,
    Command,
    FinishEvent,
    FinishReason,
    Loss,
    RankReport,
    Request,
    Sampling,
    Submit,
)
from tests.coordinator.test_state import HOSTS, beat, fresh, lost, run, said

LOG = tuple(Command(n, Submit(Request(f"r{n}", (1,), 4, Sampling()))) for n in range(1, 8))


def rank(number):
    report = RankReport(number, "decode")
    return Rank(HOSTS[number], report, facts={"dtype": "float32"}, joined=True, weight_bytes=100)


def standing(host, *, passed=5, kept=4, owed=(), epoch=3):
    ranks = {number: rank(number) for number, at in HOSTS.items() if at == host}
    last = LOG[max(0, passed - kept) : passed]
    return Standing(epoch, ranks, passed, last, frozenset(owed))


def test_equal_hosts_are_gone_on_with():
    found = adopt({"a": standing("a"), "b": standing("b", owed=["r5"])}, HOSTS, turn=1)
    ranks = {number: rank(number) for number in HOSTS}
    assert found == Adoption(1, 3, ranks, commands=5, missing={}, owed=("r5",))


def test_a_host_that_is_behind_gets_what_it_lacks_and_no_more():
    behind = standing("b", passed=3, owed=["r1"])
    found = adopt({"a": standing("a", owed=["r1", "r4"]), "b": behind}, HOSTS, turn=1)
    assert (found.commands, found.missing, found.owed) == (5, {"b": LOG[3:5]}, ("r1", "r4"))


def test_before_the_first_command_nothing_is_missing():
    found = adopt({"a": standing("a", passed=0), "b": standing("b", passed=0)}, HOSTS, turn=1)
    assert (found.commands, found.missing) == (0, {})


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (standing("b", epoch=4), "its hosts are at different epochs: a at 3, b at 4"),
        (replace(standing("b"), ranks={}), "not ready, or not well, or told to leave: rank 2"),
        (standing("b", passed=0), "b lacks command 1, which nobody has any more"),
    ],
)
def test_what_does_not_fit_together_is_not_gone_on_with(other, why):
    assert adopt({"a": standing("a"), "b": other}, HOSTS, turn=1) == why


def test_every_session_of_a_later_coordinator_outranks_those_before():
    numbers = generations(1)
    assert next(generations(0)) == 1
    assert 10**9 < first_generation(1) < next(numbers) < next(numbers) < first_generation(2)


def adopted():
    behind = standing("b", passed=3, owed=["r4", "r5"])
    adoption = adopt({"a": standing("a"), "b": behind}, HOSTS, turn=1)
    return run(fresh(), events.Adopted(adoption))


def test_an_adopted_epoch_serves_at_once_and_requests_of_nobody_are_ended():
    state, done = adopted()
    assert done == [
        GoOn(3, {"b": LOG[3:5]}),
        Serve(ready=True),
        Broadcast(3, Command(6, Cancel("r4"))),
        Broadcast(3, Command(7, Cancel("r5"))),
    ]
    assert (state.phase, state.epoch, refused(state)) == (Phase.READY, 3, None)
    request = Request("new", (1,), 4, Sampling())
    state, done = run(state, beat("a", epoch=3), beat("b", epoch=3), events.Asked(request))
    assert done == [Broadcast(3, Command(8, Submit(request)))]


def test_what_ranks_still_say_to_clients_that_are_gone_is_not_heard():
    finish = FinishEvent("r4", FinishReason.CANCELLED, 1, 2, 0, 0, 0, 0)
    state, done = run(adopted()[0], said(0, finish, epoch=3))
    assert not any(isinstance(action, Deliver) for action in done)
    assert not state.requests.open


def test_an_adopted_rank_that_is_lost_ends_the_epoch():
    _, done = run(adopted()[0], replace(lost(1, Loss.KILLED), epoch=3))
    assert StopEpoch(3) in done


def test_it_is_told_once():
    before = fresh()
    adoption = adopt({"a": standing("a", owed=["r5"]), "b": standing("b")}, HOSTS, turn=1)
    after, done = run(before, events.Adopted(adoption))
    told = [*notes(before, events.Adopted(adoption), after, tuple(done))]
    assert [note.kind for note in told] == ["taken-over", "ready"]
    assert told[0].text == (
        "3 ranks on a, b serve another coordinator; requests of the last one: 1, which are ended"
    )


class Hosts:
    """What reaches the ranks of two hosts from coordinators that are killed."""

    def __init__(self):
        self.logs, self.way = {"a": [], "b": []}, {"a": [], "b": []}

    def standings(self):
        return {
            host: replace(standing(host, owed=["x", "y"]), commands=len(log), last=tuple(log[-64:]))
            for host, log in self.logs.items()
        }

    def send(self, actions):
        for action in actions:
            if isinstance(action, Broadcast):
                for way in self.way.values():
                    way.append(action.command)
            elif isinstance(action, GoOn):
                for host, commands in action.missing.items():
                    self.way[host] += commands

    def lose(self, chance):
        """Some first part of what is on its way to each host arrives."""
        for host, log in self.logs.items():
            way, self.way[host] = self.way[host], []
            for command in way[: chance.randint(0, len(way))]:
                assert command.number == len(log) + 1, "no gap, and nothing twice"
                log.append(command)


@pytest.mark.parametrize("seed", range(20))
def test_after_any_number_of_coordinators_all_ranks_have_one_log(seed):
    chance, hosts = Random(seed), Hosts()
    for turn in range(1, 9):
        state, done = run(fresh(), events.Adopted(adopt(hosts.standings(), HOSTS, turn)))
        hosts.send(done)
        for number in range(chance.randint(0, 2)):
            wanted = Request(f"{turn}.{number}", (1,), 4, Sampling())
            state, done = run(state, events.Asked(wanted))
            hosts.send(done)
        hosts.lose(chance)
    a, b = sorted(hosts.logs.values(), key=len)
    assert a == b[: len(a)]
