"""Random harm to a whole cluster, in a world without processes; see world.py."""

from random import Random

import pytest

from dsv4_tp.config import Restart
from dsv4_tp.coordinator.cluster import Phase
from dsv4_tp.coordinator.epochs import SETTLE_S
from dsv4_tp.coordinator.events import Dismissed
from tests.coordinator.world import DRAIN_S, LENGTH, RANKS, World

HOSTS = sorted(set(RANKS.values()))
TENACIOUS = Restart(backoff_s=(0.5, 2.0), most=10**6, window_s=10**6, replay_s=10**6)
HURRIED = Restart(backoff_s=(0.5, 2.0), most=4, window_s=20.0, replay_s=2.0)
SEEDS = 40  # 30 ms each


def live(world: World, rounds: int) -> None:
    """All goes well for a while."""
    for _ in range(rounds):
        world.tick()
        while world.wanted:
            world.reach(there=True)
        for host in HOSTS:
            world.deliver(host)
        for rank in RANKS:
            world.work(rank)


def happen(world: World, chance: Random) -> None:
    """One thing of all that might."""
    rank, host = chance.choice(list(RANKS)), chance.choice(HOSTS)
    things = (
        (8, lambda: world.tick()),
        (6, lambda: live(world, chance.randint(1, 12))),
        (6, lambda: world.work(rank)),
        (6, lambda: world.deliver(host)),
        (2, lambda: world.kill(rank)),
        (1, lambda: world.cut(host)),
        (1, lambda: world.crash(host)),
        (4, lambda: world.reach(there=chance.random() < 0.5)),
        (4, lambda: world.ask(chance.choice([None, 2.0]))),
        (2, lambda: world.echo(chance)),
        (1, lambda: world.leave(chance.randint(1, 6))),
    )
    weights, deeds = zip(*things, strict=True)
    chance.choices(deeds, weights)[0]()


def are_counted(world: World) -> bool:
    """What the cluster says of its requests is what has become of them."""
    totals = world.state.requests.totals
    texts = world.heard.values()
    finished = totals.times.whole.counts
    lost = totals.ended.get("lost", 0)
    return (
        totals.generated == sum(map(len, texts))
        and sum(totals.between_tokens.counts) == sum(max(0, len(text) - 1) for text in texts)
        and sum(totals.ended.values()) == sum(finished) + lost == len(world.heard) - world.unended
        and sum(totals.times.first_token.counts) <= sum(map(bool, texts))
        and totals.replayed == world.replayed
    )


def ended_once(world: World) -> bool:
    return set(world.ends) == set(world.heard) and set(world.ends.values()) <= {1}


@pytest.mark.parametrize("restart", [TENACIOUS, HURRIED], ids=["tenacious", "hurried"])
def test_whatever_happens_it_heals_or_says_why_not(restart):
    for seed in range(SEEDS):
        world, chance = World(restart), Random(seed)
        live(world, 4)
        for _ in range(chance.randint(0, 60)):
            happen(world, chance)
        live(world, 60)  # nothing more goes wrong, so it is back, or has given up
        assert world.over or world.state.phase is Phase.READY, seed
        live(world, 4 * (LENGTH + 1))
        assert ended_once(world), seed
        assert are_counted(world), seed
        assert bool(world.state.reason) == bool(world.over), seed
        if restart is TENACIOUS and world.over:
            assert "before a token" in world.state.reason, seed


def test_whenever_it_is_dismissed_it_ends_in_bounded_time():
    for seed in range(SEEDS):
        world, chance = World(HURRIED), Random(seed)
        live(world, 4)
        for _ in range(chance.randint(0, 40)):
            happen(world, chance)
        world.hear(Dismissed(now=chance.random() < 0.5))
        for _ in range(chance.randint(0, 10)):
            happen(world, chance)
        for _ in range(
            int(4 * (SETTLE_S + DRAIN_S + 5))
        ):  # time alone, and nobody does what is ordered
            world.tick()
        assert world.over, seed
        assert ended_once(world), seed
