"""The soak of chances tells a wrong distribution from a right one."""

import random

import pytest

from dsv4_tp.model import Model
from tests.model.tiny import randomise, tiny_spec
from tests.soak.chances import LEAST_P, Place, biased, drawn, exact, fit, tail

SEEDS = 128
# From tables of the chi-square distribution.
TABLE = [(11.07, 5, 0.05), (18.31, 10, 0.05), (124.34, 100, 0.05)]


@pytest.mark.parametrize(("square", "freedom", "chance"), TABLE)
def test_the_tail_is_as_in_tables(square: float, freedom: int, chance: float) -> None:
    assert tail(square, freedom) == pytest.approx(chance, rel=0.05)


def test_counts_as_expected_fit_and_others_do_not() -> None:
    chances = {(1,): 0.5, (2,): 0.25}
    right = [(1, 7)] * 50 + [(2, 7)] * 25 + [(3, 7)] * 20 + [(4, 7)] * 5
    assert fit(right, chances) == (3, pytest.approx(1, abs=0.02))
    assert fit([(1, 7)] * 75 + right[75:], chances)[1] < LEAST_P


def test_drafts_keep_the_distribution_and_a_bias_is_seen() -> None:
    """Of a model that is sure of what it says, and a stage that knows nothing of it."""
    model = randomise(Model(tiny_spec(), mtp=True))
    model.head.weight *= 3
    place = Place(model, range(3, 20))
    chances = exact(place, 2, SEEDS)
    assert fit(drawn(place, range(SEEDS)), chances)[1] > LEAST_P
    with biased(random.Random(0), bias=0.5):
        assert fit(drawn(place, range(SEEDS)), chances)[1] < LEAST_P
