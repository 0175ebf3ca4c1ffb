"""Random schedules: how large a fleet is, what happens to it, and when."""

import random
from dataclasses import dataclass

SIZES = (1, 2, 2, 3, 3, 4, 6)
LASTING = 1e6  # seconds: for good

# What may happen, how often, and for how long, in seconds.
KINDS = {
    "exit": (6, (0, 0)),  # a rank's process ends, of itself or by a signal
    "stop": (4, (0, 20)),  # a signal stops it, for good or for a while
    "stuck": (3, (0, 0)),  # it spins
    "leak": (1, (1, 60)),  # it ends, but not all of its memory comes back at once
    "wedge": (1, (1, 15)),  # no signal ends it so long; and it spins
    "mute": (1, (0, 0)),  # it hears no commands any more
    "slow": (2, (2, 15)),  # all steps take longer, none too long
    "fabric": (2, (1, 15)),  # the way between ranks is cut
    "kill agent": (3, (0, 0)),
    "stop agent": (2, (1, 15)),
    "host gone": (3, (1, 30)),
    "cut": (5, (0.5, 20)),  # the way between coordinator and host
    "reset": (2, (0, 0)),  # its session is lost
    "late": (2, (2, 15)),  # what goes that way takes longer
    "stale": (5, (0, 0)),  # the coordinator hears old words again
    "stale order": (1, (0, 0)),  # an agent hears an old order again
    "sleep": (2, (0.5, 15)),  # the coordinator is stopped
    "refuse": (0.3, (0, 0)),  # a rank says that it cannot run this
    "kill coordinator": (0.5, (0.3, 8)),  # and another one is started after that time
    "renew": (1, (0, 0)),  # another epoch is asked for
    "dismiss": (0.5, (0, 0)),
}
EXITS = (0, 1, 1, -6, -9, -9, -11)


@dataclass(frozen=True)
class Blow:
    """One thing that happens."""

    at_s: float
    kind: str
    host: int
    rank: int  # of all
    for_s: float
    code: int  # of an exit


@dataclass(frozen=True)
class Schedule:
    """What happens to a fleet; its seed decides all the rest."""

    seed: int
    hosts: int
    ranks_each: int
    blows: tuple[Blow, ...]


def random_schedule(seed: int, hosts: int | None = None) -> Schedule:
    rng = random.Random(seed)
    hosts, each = hosts or rng.choice(SIZES), rng.choice([1, 1, 2])
    count = rng.choice([1, 1, 2, 3, 5, 8])
    at_s, blows = 0.0, list[Blow]()
    for _ in range(count):
        at_s += rng.choice([rng.uniform(0, 1.5), rng.uniform(1, 8), rng.uniform(6, 20)])
        blows.append(_blow(rng, at_s, hosts, each, blows))
    return Schedule(seed, hosts, each, tuple(blows))


def _blow(rng: random.Random, at_s: float, hosts: int, each: int, before: list[Blow]) -> Blow:
    (kind,) = rng.choices([*KINDS], [often for often, _ in KINDS.values()])
    again = before and rng.random() < 0.3
    host = before[-1].host if again else rng.randrange(hosts)
    for_s = rng.uniform(*KINDS[kind][1])
    if kind in ("stop", "host gone", "wedge", "leak") and rng.random() < 0.3:
        for_s = LASTING
    return Blow(at_s, kind, host, host * each + rng.randrange(each), for_s, rng.choice(EXITS))
