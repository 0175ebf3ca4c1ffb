"""A simulated fleet keeps what is promised, whatever happens to it; and a bug would be seen."""

import random
from collections.abc import Callable
from dataclasses import replace
from math import inf

import pytest

from dsv4_tp.agent import state as agent
from dsv4_tp.agent.events import Deadlines
from dsv4_tp.agent.watch import Watch
from dsv4_tp.coordinator import cluster, epochs, events, links, requests, state
from dsv4_tp.coordinator.cluster import ClusterState, Step, error_of
from dsv4_tp.errors import QuarantineError
from tests.fleet.rules import Broken
from tests.fleet.schedule import LASTING, Blow, Schedule, random_schedule
from tests.fleet.world import World


@pytest.mark.parametrize("seed", range(20))
def test_a_schedule(seed: int) -> None:
    assert World(random_schedule(seed)).run() > 10


def test_a_large_fleet() -> None:
    assert World(random_schedule(8, hosts=64)).run() > 100


class Idle(World):
    """One that nobody asks for anything before all has happened."""

    def _submit(self) -> None:
        if self.agenda.now_s > self.last_s:
            super()._submit()


def test_agents_that_stand_still_for_a_while_in_an_idle_fleet() -> None:
    for tenth in range(30, 40):
        blow = Blow(20 + tenth / 37, "stop agent", host=1, rank=1, for_s=tenth / 10, code=0)
        world = Idle(Schedule(tenth, 3, 1, (blow,)))
        world.run()  # the lease may be over, but no link is down
        assert world.control.state.epoch == 1 or blow.for_s > 3.4


@pytest.mark.parametrize(("for_s", "code"), [(6.0, None), (LASTING, QuarantineError)])
def test_a_process_that_a_killed_agent_leaves_is_waited_for_and_nothing_starts_beside_it(
    for_s: float, code: type | None
) -> None:
    wedge = Blow(12.0, "wedge", host=0, rank=0, for_s=for_s, code=0)
    world = World(Schedule(1, 2, 1, (wedge, replace(wedge, at_s=12.1, kind="kill agent"))))
    world.run()
    error = error_of(world.control.state)
    assert (type(error) if error else None, world.control.state.epoch) == (code, 2)


def test_a_rank_that_is_only_slow_is_not_taken_for_one_that_stalls(monkeypatch) -> None:
    def hasty(watch: Watch, deadlines: Deadlines) -> float:
        busy = watch.report.rank == 1 and watch.report.phase in ("prefill", "decode")
        return 0.7 if busy else inf

    slow = Blow(12.0, "slow", host=0, rank=0, for_s=15.0, code=0)
    reset = replace(slow, at_s=12.1, kind="reset", for_s=0.0)  # of the other host: no excuse
    schedule = Schedule(1, 2, 1, (slow, reset))
    World(schedule).run()
    monkeypatch.setattr(agent, "allowed_s", hasty)
    with pytest.raises(Broken, match=r"false alarm: rank 1 .* no progress"):
        World(schedule).run()


def any_epoch(plant: pytest.MonkeyPatch) -> None:
    """Words of an earlier epoch are taken for those of this one."""
    hear = state._hear

    def deaf(now: ClusterState, event: events.Heard, now_s: float) -> Step:
        return hear(now, replace(event, epoch=now.epoch), now_s)

    plant.setattr(state, "_hear", deaf)


def no_fence(plant: pytest.MonkeyPatch) -> None:
    """An agent does not mind that its coordinator is gone."""
    sample = agent._sample
    plant.setattr(agent, "_sample", lambda now, e: sample(replace(now, lease_ends_s=inf), e))


def first_word(plant: pytest.MonkeyPatch) -> None:
    """The first evidence is the verdict, and not the best."""
    plant.setattr(epochs, "verdict", lambda now: now.faults[0])


def first_stall(plant: pytest.MonkeyPatch) -> None:
    """Of ranks that stalled the first is blamed, and not the one that the others waited for."""
    plant.setattr(cluster, "culprit", lambda stalls, ranks: stalls[0])


def hasty(plant: pytest.MonkeyPatch) -> None:
    """A host that answers nobody is taken for one that a link is down to."""
    plant.setattr(links, "answers", lambda host, now_s, beat_s: True)


def forgotten(plant: pytest.MonkeyPatch) -> None:
    """What was asked is not asked of the next epoch."""
    plant.setattr(requests, "_go_on", lambda now: (now, ()))


def skipped(plant: pytest.MonkeyPatch) -> None:
    """The next epoch is told of a token more than its client."""
    submit = requests._submit

    def more(now: requests.Requests, name: str) -> requests.Change:
        one = now.open[name]
        told = (*one.told, 7) if one.restarts else ()
        return submit(requests._with(now, name, replace(one, told=told)), name)

    plant.setattr(requests, "_submit", more)


def run_all(seeds: range) -> None:
    for seed in seeds:
        World(random_schedule(seed)).run()


@pytest.mark.parametrize(
    ("bug", "seed"),
    [
        (any_epoch, 3),
        (no_fence, 0),
        (first_word, 6),
        (first_stall, 51),
        (hasty, 6),
        (forgotten, 12),
        (skipped, 3),
    ],
)
def test_a_bug_is_seen(bug: Callable[[pytest.MonkeyPatch], None], seed: int, monkeypatch) -> None:
    """The seed is the first that shows it; were it none any more, a later one would."""
    bug(monkeypatch)
    with pytest.raises(AssertionError):
        run_all(range(seed, max(30, seed + 1)))


def killed_often(seed: int) -> World:
    """What happens by chance, and the coordinator is killed in between."""
    schedule, rng = random_schedule(seed), random.Random(seed)
    times = [rng.uniform(1, 25) for _ in range(3)]
    kills = (Blow(at_s, "kill coordinator", 0, 0, rng.uniform(0.3, 4), 0) for at_s in times)
    return World(replace(schedule, blows=(*schedule.blows, *kills)))


def test_coordinators_follow_each_other() -> None:
    worlds = [killed_often(seed) for seed in range(20)]
    for world in worlds:
        world.run()
    assert sum(world.adoptions for world in worlds) >= 10
