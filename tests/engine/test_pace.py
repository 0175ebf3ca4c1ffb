"""How many tokens are drafted: what pays, found from what was seen."""

from dataclasses import replace

import pytest

from dsv4_tp.engine.pace import Pace, seen, thought_over, timed, tokens_per_step


def run(pace: Pace, steps: int, *, odds: float, cost: dict[int, float], rows: int = 2) -> list[int]:
    """The depths of so many steps whose drafts are right as often as `odds`, each after another."""
    depths, debts = [], [0.0] * 5
    for _ in range(steps):
        right = 0
        for place in range(pace.depth):
            debts[place] += odds
            if debts[place] < 1:
                break
            debts[place] -= 1
            right += 1
        given = pace.depth
        pace = thought_over(seen(pace, [given] * rows, [right] * rows), rows, room=15)
        pace = timed(pace, cost[given])
        depths.append(pace.depth)
    return depths


@pytest.mark.parametrize(
    ("odds", "cost", "best"),
    [
        (0.9, {0: 10, 1: 11, 2: 12, 3: 13, 4: 14}, 4),  # a draft costs a tenth
        (0.7, {0: 10, 1: 13, 2: 17, 3: 22, 4: 28}, 1),
        (0.9, {0: 10, 1: 20, 2: 30, 3: 40, 4: 50}, 0),  # as much as it can ever save
        (0.05, {0: 10, 1: 11, 2: 12, 3: 13, 4: 14}, 0),
    ],
)
def test_it_settles_at_what_pays(odds: float, cost: dict[int, float], best: int) -> None:
    depths = run(Pace(most=4), 600, odds=odds, cost=cost)[200:]
    assert depths.count(best) > 0.8 * len(depths)


def test_it_tries_again_when_texts_change() -> None:
    cost = {0: 10, 1: 11, 2: 12, 3: 13, 4: 14}
    assert run(Pace(most=4), 600, odds=0.02, cost=cost)[-100:].count(0) > 80
    pace = Pace(most=4)
    for odds in (0.02, 0.95):
        for _ in range(900):
            right = pace.depth if odds > 0.5 else 0
            given = pace.depth
            pace = thought_over(seen(pace, [given], [right]), 1, room=15)
            pace = timed(pace, cost[given])
    assert tokens_per_step(pace, 1) > 1.9
    assert pace.depth >= 3


def test_one_slow_step_decides_nothing() -> None:
    cost = {0: 10.0, 1: 11.0, 2: 30.0, 3: 40.0, 4: 50.0}
    pace = Pace(most=4)
    for step in range(400):
        given = pace.depth
        pace = thought_over(seen(pace, [given], [given]), 1, room=15)
        pace = timed(pace, 5000.0 if step == 150 else cost[given])
    assert pace.costs[1, 1] < 13


def test_no_more_than_there_is_room_for() -> None:
    steady = Pace(most=4, steady=True, depth=4)
    assert [thought_over(steady, 1, room).depth for room in (15, 3, 1, 0)] == [4, 3, 1, 0]


def test_beside_one_that_drafts_nothing_it_is_learned_as_well() -> None:
    pace, cost = Pace(most=4), {0: 10, 1: 20, 2: 30, 3: 40, 4: 50}
    for _ in range(500):
        given = pace.depth
        pace = thought_over(seen(pace, [given, 0], [0, 0]), 2, room=15)
        pace = timed(pace, cost[given])
    assert (2, 1) in pace.costs
    assert pace.depth == 0


def test_a_step_whose_depth_changes_is_not_measured() -> None:
    pace = thought_over(replace(seen(Pace(most=4), [2, 1], [0, 0]), left=0), 2, room=15)
    assert pace.depth != 2
    assert not timed(pace, 7.0).costs


def test_what_drafts_behind_a_wrong_one_were_is_not_known() -> None:
    before = replace(Pace(most=4), taken=(0.0,) * 4, tried=(0.0,) * 4)
    after = seen(before, [3, 3, 1], [3, 1, 0])
    assert (after.tried, after.taken) == ((3, 2, 1, 0), (2, 1, 1, 0))
