"""A simulated fleet keeps what is promised, whatever happens to it; and a bug would be seen."""

from collections.abc import Callable
from dataclasses import replace
from math import inf

import pytest

from dsv4_tp.agent import state as agent
from dsv4_tp.coordinator import epochs, events, requests, state
from dsv4_tp.coordinator.cluster import ClusterState, Step
from tests.fleet.schedule import random_schedule
from tests.fleet.world import World


@pytest.mark.parametrize("seed", range(20))
def test_a_schedule(seed: int) -> None:
    World(random_schedule(seed)).run()


def test_a_large_fleet() -> None:
    World(random_schedule(8, hosts=64)).run()


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


def forgotten(plant: pytest.MonkeyPatch) -> None:
    """What was asked is not asked of the next epoch."""
    plant.setattr(requests, "_submit_again", lambda now, name: (now, ()))


def skipped(plant: pytest.MonkeyPatch) -> None:
    """The next epoch is told of a token more than its client."""
    submit = requests._submit_again

    def more(now: requests.Requests, name: str) -> requests.Change:
        one = now.open[name]
        return submit(requests._with(now, name, replace(one, told=(*one.told, 7))), name)

    plant.setattr(requests, "_submit_again", more)


def run_all(seeds: range) -> None:
    for seed in seeds:
        World(random_schedule(seed)).run()


@pytest.mark.parametrize(
    ("bug", "seed"),
    [(any_epoch, 3), (no_fence, 0), (first_word, 6), (forgotten, 12), (skipped, 3)],
)
def test_a_bug_is_seen(bug: Callable[[pytest.MonkeyPatch], None], seed: int, monkeypatch) -> None:
    """The seed is the first that shows it; were it none any more, a later one would."""
    bug(monkeypatch)
    with pytest.raises(AssertionError):
        run_all(range(seed, 30))
