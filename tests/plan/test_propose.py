"""Splits that are proposed for ranks of unequal memory and speed."""

from collections.abc import Sequence
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsv4_tp.core import ExpertSplit
from dsv4_tp.errors import PlanError
from dsv4_tp.layouts import native_catalog
from dsv4_tp.plan import make_plan, propose
from dsv4_tp.plan.propose import water_fill
from tests.specs import FLASH, TINY, fuzz

REPLAN = {
    spec: partial(
        make_plan,
        spec,
        native_catalog(spec, mtp=False),
        expert_split=ExpertSplit.WIDTH,
        context=4096 if spec is FLASH else 64,
        batch=1,
    )
    for spec in (FLASH, TINY)
}


def needs(spec, weights: Sequence[int]) -> Sequence[int] | None:
    try:
        return REPLAN[spec](weights).needed_bytes
    except PlanError:
        return None


def fits(taken: Sequence[int] | None, memory: Sequence[int]) -> bool:
    return taken is not None and all(map(int.__le__, taken, memory))


@pytest.mark.parametrize(
    ("room", "speeds", "shares"),
    [
        ((1, 1), (3, 1), (0.75, 0.25)),
        ((0.5, 1), (3, 1), (0.5, 0.5)),
        ((0.5, 0.2, 1), (4, 4, 2), (0.5, 0.2, 0.3)),
        ((0.2, 1, 1), (2, 1, 1), (0.2, 0.4, 0.4)),
        ((0.5, 0.5), (9, 1), (0.5, 0.5)),
        ((0.5, 0.4), (1, 1), None),
    ],
)
def test_who_is_full_gives_the_rest_to_the_others(room, speeds, shares):
    assert water_fill(room, speeds) == (shares and pytest.approx(shares))


@fuzz
@given(st.lists(st.tuples(st.floats(0, 2), st.floats(0.1, 9)), min_size=1, max_size=8))
def test_shares_are_whole_and_never_above_the_room(ranks: list[tuple[float, float]]):
    room, speeds = zip(*ranks, strict=True)
    shares = water_fill(room, speeds)
    assert (shares is None) == (sum(room) < 1)
    if shares is not None:
        assert sum(shares) == pytest.approx(1)
        assert all(share <= most + 1e-9 for share, most in zip(shares, room, strict=True))


@fuzz
@given(st.lists(st.integers(20, 100), min_size=1, max_size=5))
def test_what_is_proposed_fits(percents: list[int]):
    whole = needs(TINY, [1])[0]
    memory = [whole * percent // 100 for percent in percents]
    split = propose(memory, partial(needs, TINY))
    assert split is None or fits(needs(TINY, split), memory)


@pytest.mark.slow
@pytest.mark.parametrize("spec", [FLASH, TINY], ids=["flash", "tiny"])
def test_of_two_ranks_a_split_is_found_where_there_is_one(spec):
    """Against every split of 32 units, in memories from far too little to plenty."""
    every = [needs(spec, (units, 32 - units)) for units in range(1, 32)]
    whole = needs(spec, [1])[0]
    found = 0
    for first in range(20, 101, 20):
        for second in range(15, 101, 17):
            memory = [whole * first // 100, whole * second // 100]
            split = propose(memory, partial(needs, spec))
            assert split is not None or not any(fits(taken, memory) for taken in every), memory
            assert split is None or fits(needs(spec, split), memory)
            found += split is not None
    assert 2 < found < 25


@pytest.mark.slow
def test_a_split_is_found_where_there_is_not_a_byte_to_spare():
    for first in range(2, 63, 3):
        memory = needs(FLASH, (first, 64 - first))
        split = propose(memory, partial(needs, FLASH))
        assert split is not None, first
        assert fits(needs(FLASH, split), memory), first


def test_shares_follow_the_speeds_while_memory_lasts():
    whole = needs(FLASH, [1])[0]
    plenty = partial(propose, [whole, whole], partial(needs, FLASH))
    assert plenty() == (1, 1)
    assert plenty((800, 400)) == (2, 1)
    assert plenty((3, 5)) == (3, 5)


def test_one_rank_fits_or_does_not():
    (whole,) = needs(FLASH, [1])
    assert propose([whole], partial(needs, FLASH)) == (1,)
    assert propose([whole * 9 // 10], partial(needs, FLASH)) is None
