"""When another epoch follows one that failed, and when none does."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsv4_tp.config import Restart
from dsv4_tp.coordinator.restart import Failure, Stop, Wait, judge, pause_s

POLICY = Restart()


def failures(*at_s: float, fruitful: bool = True, who: str = "rank 1 on b") -> list[Failure]:
    return [Failure(each, who, "killed", fruitful) for each in at_s]


def test_each_wait_is_twice_the_last_up_to_the_longest():
    assert [pause_s(POLICY, count) for count in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]
    assert pause_s(POLICY, 10**6) == 30
    assert judge(POLICY, failures(0)) == Wait(1)
    assert judge(POLICY, failures(0, 100, 200)) == Wait(4)


def test_failures_of_long_ago_do_not_count():
    assert judge(POLICY, failures(0, 100, 200, 300, 950)) == Wait(1)


def test_too_many_within_the_window_are_the_end():
    assert judge(POLICY, failures(0, 100, 200, 300, 600)) == Stop(
        "rank 1 on b failed 5 times within 600 s: killed"
    )


def test_three_in_a_row_in_vain_are_the_end_however_long_they_took():
    assert judge(POLICY, failures(0, 10**4, fruitful=False)) == Wait(1)
    assert judge(POLICY, failures(0, 10**4, 10**5, fruitful=False)) == Stop(
        "rank 1 on b failed 3 times before a token: killed"
    )


def test_fruit_begins_the_row_anew():
    row = failures(0, 10**4, fruitful=False) + failures(2 * 10**4)
    assert judge(POLICY, row) == Wait(1)
    assert judge(POLICY, row + failures(3 * 10**4, 4 * 10**4, fruitful=False)) == Wait(1)


def test_several_culprits_are_named_each_with_its_cause():
    row = failures(0, 1, fruitful=False) + failures(2, fruitful=False, who="rank 0 on a")
    assert judge(POLICY, row) == Stop(
        "the cluster failed 3 times before a token: rank 1 on b: killed; rank 0 on a: killed"
    )


def test_one_failure_may_be_one_too_many():
    assert judge(Restart(most=1), failures(0)) == Stop(
        "rank 1 on b failed once within 600 s: killed"
    )


@given(st.lists(st.tuples(st.floats(0, 300), st.booleans()), min_size=1, max_size=12))
def test_it_waits_within_bounds_or_has_a_reason(passed: list[tuple[float, bool]]):
    row: list[Failure] = []
    for after_s, fruitful in passed:
        at_s = row[-1].at_s + after_s if row else 0.0
        row.append(Failure(at_s, "x", "y", fruitful))
    waits = [judge(POLICY, row[: count + 1]) for count in range(len(row))]
    assert all(1 <= each.seconds <= 30 for each in waits if isinstance(each, Wait))
    assert all("y" in each.reason for each in waits if isinstance(each, Stop))
    assert isinstance(waits[0], Wait)
    for (before, wait), (after, longer) in pairwise(zip(row, waits, strict=True)):
        # With the window still around all of them, no wait is shorter than the one before.
        if after.at_s <= 600 and isinstance(wait, Wait) and isinstance(longer, Wait):
            assert longer.seconds >= wait.seconds, (before, after)
    if row[-1].at_s <= 600 and len(row) >= 5:
        assert isinstance(waits[-1], Stop)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_policy_says_how_often(count: int):
    assert isinstance(judge(Restart(most=count), failures(*range(count))), Stop)
    assert isinstance(judge(Restart(most=count + 1), failures(*range(count))), Wait)
