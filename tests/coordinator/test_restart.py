"""When another epoch follows one that failed, and when none does."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsv4_tp.config import Restart
from dsv4_tp.coordinator.restart import Failure, Stop, Wait, judge, pause_s, with_failure

POLICY = Restart()


def failures(*at_s: float, fruitful: bool = True, who: str = "rank 1 on b") -> list[Failure]:
    return [Failure(each, who, "killed", fruitful) for each in at_s]


def test_each_wait_is_twice_the_last_up_to_the_longest():
    assert [pause_s(POLICY, count) for count in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]
    assert pause_s(POLICY, 10**6) == 30
    assert judged(*failures(0)) == Wait(1)
    assert judged(*failures(0, 100, 200)) == Wait(4)


def test_failures_of_long_ago_do_not_count():
    assert judged(*failures(0, 100, 200, 300, 950)) == Wait(1)


def test_too_many_within_the_window_are_the_end():
    assert judged(*failures(0, 100, 200, 300, 600)) == Stop(
        "rank 1 on b failed 5 times within 600 s: killed"
    )


def test_three_in_a_row_in_vain_are_the_end_however_long_they_took():
    assert judged(*failures(0, 10**4, fruitful=False)) == Wait(1)
    assert judged(*failures(0, 10**4, 10**5, fruitful=False)) == Stop(
        "rank 1 on b failed 3 times before a token: killed"
    )


def judged(*row: Failure, policy: Restart = POLICY) -> Wait | Stop:
    """What follows the last, each having been added when it happened."""
    known: tuple[Failure, ...] = ()
    for each in row:
        known = with_failure(policy, known, each)
    return judge(policy, known, row[-1].at_s)


def unfit(*at_s: float) -> list[Failure]:
    return [Failure(each, "b", "port 5 is in use", fruitful=False, unfit=1) for each in at_s]


def test_a_host_that_is_not_fit_is_waited_for_as_long_as_the_window():
    assert judged(*unfit(0, 1, 3, 7, 15, 31)) == Wait(30)
    assert judged(*unfit(0, 300, 599)) == Wait(4)
    given_up = Stop("b: port 5 is in use; given up after 600 s")
    assert judged(*unfit(0, 300, 600)) == given_up
    assert judged(*unfit(*range(601)), policy=Restart(backoff_s=(1, 1))) == given_up


def test_a_host_that_is_not_fit_costs_no_epoch():
    vain = failures(0, 10, fruitful=False)
    assert judged(*vain, *unfit(11, 13)) == Wait(2)
    assert judged(*vain[:1], *unfit(2, 3), *vain[1:], *unfit(12), *failures(20)) == Wait(4)
    assert isinstance(judged(*vain, *unfit(*range(11, 99)), *failures(99, fruitful=False)), Stop)


def test_fruit_begins_the_row_anew():
    row = failures(0, 10**4, fruitful=False) + failures(2 * 10**4)
    assert judged(*row) == Wait(1)
    assert judged(*(row + failures(3 * 10**4, 4 * 10**4, fruitful=False))) == Wait(1)


def test_several_culprits_are_named_each_with_its_cause():
    row = failures(0, 1, fruitful=False) + failures(2, fruitful=False, who="rank 0 on a")
    assert judged(*row) == Stop(
        "the cluster failed 3 times before a token: rank 1 on b: killed; rank 0 on a: killed"
    )


def test_one_failure_may_be_one_too_many():
    assert judged(*failures(0), policy=Restart(most=1)) == Stop(
        "rank 1 on b failed once within 600 s: killed"
    )


@given(st.lists(st.tuples(st.floats(0, 300), st.booleans()), min_size=1, max_size=12))
def test_it_waits_within_bounds_or_has_a_reason(passed: list[tuple[float, bool]]):
    row: list[Failure] = []
    for after_s, fruitful in passed:
        at_s = row[-1].at_s + after_s if row else 0.0
        row.append(Failure(at_s, "x", "y", fruitful))
    waits = [judged(*row[: count + 1]) for count in range(len(row))]
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
    assert isinstance(judged(*failures(*range(count)), policy=Restart(most=count)), Stop)
    assert isinstance(judged(*failures(*range(count)), policy=Restart(most=count + 1)), Wait)
