"""The trial of a group tells what its sums take, and nothing of what else a step does."""

import time

import mlx.core as mx
import pytest

from dsv4_tp.engine import Collectives
from dsv4_tp.engine.trial import try_group


class Slow(Collectives):
    """Its sums take so long."""

    def __init__(self, sum_s: float) -> None:
        super().__init__()
        self._sum_s = sum_s

    def all_sum(self, x: mx.array) -> mx.array:
        time.sleep(self._sum_s)
        return x


@pytest.mark.parametrize("sum_s", [0.002, 0.005])
def test_a_slow_sum_is_seen_by_itself_and_within_a_step(sum_s: float):
    found = try_group(Slow(sum_s))
    assert sum_s <= found.median_s <= found.slowest_s
    assert sum_s * 0.9 <= found.in_step_s < 3 * sum_s


def test_alone_there_is_nothing_to_wait_for():
    assert 0 <= try_group(Collectives()).in_step_s < 0.001
