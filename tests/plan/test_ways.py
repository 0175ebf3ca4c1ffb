"""From which link on attention is computed whole: by hand, and against the forecast itself."""

from dataclasses import replace

import pytest

from dsv4_tp.core import AttentionSplit
from dsv4_tp.plan.chips import Chip, chip_named, link_named
from dsv4_tp.plan.speed import REACHED, Cluster
from dsv4_tp.plan.ways import Ways, ways
from tests.plan.test_speed import HALF_OF_HEADS, flash

SPLIT, WHOLE = AttentionSplit


def both(*chips: Chip, sum_s: float | None = None, split: tuple[int, ...] = ()) -> Ways:
    cluster = Cluster(chips, link_named("rdma"), measured_sum_s=sum_s)
    shares = split or (1,) * len(chips)
    return ways(cluster, flash(*shares), flash(*shares, attention=WHOLE), 2048)


@pytest.mark.parametrize("name", ["m3-ultra", "m5-max", "m4-max"])
def test_two_equal_macs_by_hand(name: str):
    chip = chip_named(name)
    found = both(chip, chip)
    layer_s = HALF_OF_HEADS / 43 / (chip.bandwidth_bytes_s * REACHED)
    assert found.whole_pays_from_s == pytest.approx(layer_s, rel=0.001)
    assert (found.sum_s, found.faster) == (36e-6, SPLIT)


@pytest.mark.parametrize("split", [(1, 1), (3, 5), (1, 1, 1), (2, 3, 3)])
def test_at_the_border_both_are_equally_fast(split: tuple[int, ...]):
    chips = (chip_named("m5-max"),) * len(split)
    border_s = both(*chips, split=split).whole_pays_from_s
    for sum_s, faster in ((border_s * 0.99, SPLIT), (border_s * 1.01, WHOLE)):
        found = both(*chips, sum_s=sum_s, split=split)
        assert found.faster is faster
        others = [found.of(way).decode.tokens_s for way in AttentionSplit if way is not faster]
        assert found.of(faster).decode.tokens_s > others[0]
    at = both(*chips, sum_s=border_s, split=split)
    assert at.split.decode.total_s == pytest.approx(at.whole.decode.total_s)


def test_more_ranks_lose_more_by_it():
    chip = chip_named("m4-max")
    borders = [both(*(chip,) * count).whole_pays_from_s for count in (2, 4, 8)]
    assert borders == sorted(borders)
    assert borders[1] / borders[0] == pytest.approx(1.5, rel=0.01)  # 3 of 4 against 1 of 2


def test_it_pays_at_once_where_the_slowest_rank_has_all_heads_anyway():
    chip = chip_named("m4-max")
    slow = replace(chip, bandwidth_bytes_s=chip.bandwidth_bytes_s / 100)
    assert both(slow, chip, split=(200, 1)).whole_pays_from_s == 0
    assert both(slow, chip, split=(200, 1)).faster is WHOLE


def test_a_single_rank_has_no_ways():
    one = Cluster((chip_named("m4-max"),), link_named("rdma"))
    with pytest.raises(AssertionError, match="a single rank"):
        ways(one, flash(1), flash(1, attention=WHOLE), 2048)
