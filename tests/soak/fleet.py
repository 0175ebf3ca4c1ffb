"""Soak: a simulated fleet keeps its promises in random schedules of faults.

    python -m tests.soak.fleet [CASES]

A case is a hundred schedules, every twentieth of them on 64 hosts, and one line of
results/fleet.csv: how much happened in them, and which promise was broken under which seed. The
promises are in tests/fleet/rules.py; `World(random_schedule(SEED)).run()` is one schedule. A run
goes on after the last line. Ends with 1 if a promise was broken.
"""

import sys
from pathlib import Path

from tests.fleet.schedule import random_schedule
from tests.fleet.world import World
from tests.soak.lines import DIFFERENT, soak

RESULTS = Path(__file__).parent / "results" / "fleet.csv"
COUNTED = ("blows", "epochs", "verdicts", "restarted", "requests", "tokens", "simulated_s")
COLUMNS = ("case", "outcome", "schedules", *COUNTED, "broken")
SCHEDULES, CASES = 100, 100
MANY, HOSTS = 20, 64  # one in so many schedules, of so many hosts


def run_case(case: int) -> dict[str, object]:
    """One line of the results."""
    worlds, broken = list[World](), list[str]()
    for seed in range(case * SCHEDULES, (case + 1) * SCHEDULES):
        world = World(random_schedule(seed, hosts=HOSTS if seed % MANY == 0 else None))
        try:
            world.run()
        except AssertionError as error:
            broken.append(f"seed {seed}: {error}")
        worlds.append(world)
    found = [counts(world) for world in worlds]
    return {
        "case": case,
        "outcome": DIFFERENT if broken else "kept",
        "schedules": SCHEDULES,
        **{name: sum(each[name] for each in found) for name in COUNTED},
        "broken": "; ".join(broken),
    }


def counts(world: World) -> dict[str, int]:
    """How much happened in one schedule."""
    clients, state = world.rules.clients.values(), world.control.state
    return {
        "blows": len(world.schedule.blows),
        "epochs": state.epoch,
        "verdicts": len(world.rules.verdicts),
        "restarted": world.rules.resumed,
        "requests": len(clients),
        "tokens": sum(len(client.tokens) for client in clients),
        "simulated_s": round(world.agenda.now_s),
    }


if __name__ == "__main__":
    sys.exit(soak(RESULTS, COLUMNS, run_case, cases=CASES))
