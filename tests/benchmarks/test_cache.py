"""The figures of contexts, on small ones."""

import pytest

from benchmarks import cache
from dsv4_tp.core import DType
from dsv4_tp.plan import cache_bytes
from tests.specs import FLASH


@pytest.mark.parametrize("model", ["flash", "pro"])
def test_a_token_costs_what_the_theory_says(model: str):
    size = cache.size_of(model, large=32 << 10, most=32 << 10)
    assert 0.95 < size.over_theory < 1.05
    assert size.growth_peak < 1.1


def test_a_filled_memory_is_what_the_planner_counts():
    ratios = FLASH.compress_ratios
    held = {ratio: cache.filled(FLASH, ratio, 3000).nbytes for ratio in set(ratios)}
    assert sum(held[ratio] for ratio in ratios) == cache_bytes(FLASH, 3000, DType.BFLOAT16)


def test_a_step_has_the_same_graph_at_every_context():
    for ratio in (0, 128):
        steps = cache.decodes("flash", ratio, (512, 2048))
        assert steps[1].operations == steps[0].operations
        assert steps[0].time_ratio == steps[0].touched_ratio == 1
        assert (steps[1].touched_ratio > 1) == bool(ratio)
