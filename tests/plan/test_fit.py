"""Whether a plan fits, and what is offered where it does not: every offer is taken at its word."""

import re
from dataclasses import replace
from functools import partial

import pytest

from dsv4_tp.core import CacheRows, DType, ExpertSplit
from dsv4_tp.errors import PlanError
from dsv4_tp.layouts import native_catalog
from dsv4_tp.plan import (
    Plan,
    Room,
    fits,
    largest_context,
    make_plan,
    misfits,
    sized,
)
from tests.specs import FLASH, PRO, TINY

GB = 10**9
OPEN = {"context": None, "chunk": None}  # nothing was asked for


def replan_of(spec, **words):
    found = native_catalog(spec, mtp=False)
    return partial(make_plan, spec, found, **({"expert_split": ExpertSplit.WIDTH} | words))


def rooms(*sizes: float) -> list[Room]:
    return [Room(f"mac-{rank}", (rank,), int(size * GB)) for rank, size in enumerate(sizes)]


def weights_in(text: str) -> list[int]:
    (found,) = re.findall(r"weights ([\d:]+)", text)
    return [int(weight) for weight in found.split(":")]


def offers(plan: Plan, there: list[Room], replan) -> list[str]:
    *_, advice = misfits(plan, there, replan)
    return advice.removeprefix("what would fit: ").split(", or ")


def test_nothing_is_said_of_what_fits():
    replan = replan_of(FLASH, context=65536)
    assert misfits(replan([1, 1]), rooms(110, 110), replan) == ()


def test_every_rank_needs_weights_cache_and_buffers():
    plan = replan_of(FLASH, context=65536, dtype=DType.BFLOAT16)([3, 5])
    for rank, need in enumerate(plan.needed_bytes):
        parts = (
            plan.rank_bytes[rank].total,
            plan.cache_bytes,
            plan.prefix_bytes,
            plan.buffer_bytes[rank],
        )
        assert need == sum(parts)
        assert fits(plan, [Room("", (rank,), need)])
        assert not fits(plan, [Room("", (rank,), need - 1)])


def test_a_layer_is_in_memory_twice_while_it_is_loaded():
    plan = replan_of(FLASH, context=1)([1, 1])
    layer = plan.rank_bytes[0].largest_layer
    assert plan.buffer_bytes[0] == layer
    assert plan.rank_bytes[0].total / 44 < layer < plan.rank_bytes[0].total / 40


def test_the_largest_context_fits_and_one_token_more_does_not():
    plan = replan_of(FLASH)([1, 1])
    for size in (82, 84, 86, 88):
        there = rooms(size, 200)
        most = largest_context(plan, there)
        assert 1000 < most < plan.context
        assert fits(replace(plan, context=most), there)
        assert not fits(replace(plan, context=most + 1), there)
    assert largest_context(plan, rooms(200, 200)) == plan.context == 1 << 20
    assert largest_context(plan, rooms(70, 200)) == 0


def test_a_context_that_fits_is_taken_unless_it_would_be_short():
    plan = replan_of(FLASH)([1, 1])
    there = rooms(85, 85)
    taken = sized(plan, there, **OPEN).context
    assert taken % 1024 == 0
    assert taken <= largest_context(plan, there) < taken + 1024
    assert sized(plan, rooms(200, 200), context=None, chunk=512) == plan
    short = rooms(max(replace(plan, context=4096).needed_bytes) / GB, 110)
    assert 0 < largest_context(plan, short) < 8192
    assert sized(plan, short, **OPEN) == plan


def test_chunks_are_long_where_several_ranks_have_room_for_them():
    plan = replan_of(FLASH, context=65536)([1, 1])
    longer = replace(plan, chunk=1024)
    need = max(longer.needed_bytes) / GB + 1  # of which they leave one
    assert sized(plan, rooms(need, need), context=65536, chunk=None) == longer
    assert sized(plan, rooms(need, need - 0.001), context=65536, chunk=None) == plan
    assert sized(plan, rooms(need, need), context=65536, chunk=512) == plan
    alone = replan_of(FLASH, context=65536)([1])
    assert sized(alone, rooms(400), context=65536, chunk=None) == alone


def test_chunks_leave_the_context_its_memory():
    plan, there = replan_of(FLASH)([1, 1]), rooms(85, 85)
    taken = sized(plan, there, **OPEN)
    assert taken.context < plan.context
    assert (taken.chunk, fits(taken, there)) == (512, True)


def test_a_smaller_context_a_smaller_chunk_or_one_more_host():
    replan, there = replan_of(FLASH, chunk=4096), rooms(92, 92)
    plan = replan([1, 1])
    context, chunk, hosts = offers(plan, there, replan)
    assert context == f"a context of {largest_context(plan, there)} tokens"
    assert chunk == "prefill_chunk 1024"
    assert fits(replan([1, 1], chunk=1024), there)
    assert not fits(replan([1, 1], chunk=2048), there)
    assert hosts.startswith("1 more host with 92.0 GB and weights ")
    assert fits(replan(weights_in(hosts)), rooms(92, 92, 92))


@pytest.mark.slow
def test_without_snapshots_or_with_rows_as_trained():
    replan, there = replan_of(FLASH, context=1 << 20), rooms(90, 90)
    _, without, trained, _ = offers(replan([1, 1]), there, replan)
    assert without == "no prefix cache (0 GB)"
    assert fits(replan([1, 1], prefix_bytes=0), there)
    assert trained == "cache_rows: trained"
    assert fits(replan([1, 1], cache_rows=CacheRows.TRAINED), there)
    odd = replace(FLASH, head_dim=160)
    replan = replan_of(odd, context=1 << 20)
    plan = replan([1, 1])
    short = rooms(*(need / GB - 0.1 for need in plan.needed_bytes))
    assert not any("trained" in offer for offer in offers(plan, short, replan))


def test_another_split():
    replan, there = replan_of(FLASH, context=65536), rooms(128, 64)
    (split,) = offers(replan([1, 1]), there, replan)
    assert split == "weights 2:1"
    assert fits(replan([2, 1]), there)


def test_two_changes_where_one_is_not_enough():
    replan, there = replan_of(FLASH), rooms(110, 64)
    both, _ = offers(replan([1, 1]), there, replan)
    split, context = both.split(" and a context of ")
    assert fits(replan(weights_in(split), context=int(context.split()[0])), there)


@pytest.mark.slow
def test_more_hosts_and_a_smaller_context():
    replan = replan_of(PRO)
    (offer,) = offers(replan([1]), rooms(65), replan)
    hosts, context = offer.split(" and a context of ")
    assert hosts.startswith("15 more hosts with 65.0 GB and weights ")
    smaller = replan(weights_in(hosts), context=int(context.split()[0]))
    assert fits(smaller, rooms(*[65] * 16))


@pytest.mark.slow
def test_no_second_change_is_offered_where_one_is_enough():
    replan = replan_of(TINY, prefix_bytes=0)
    plan = replan([1, 1, 1])
    third = plan.needed_bytes[0] * 99 // 100
    there = [Room("here", (0, 1, 2), 3 * third)]
    context, rows, chunk = offers(plan, there, replan)
    assert rows == "cache_rows: trained"
    assert context == f"a context of {largest_context(plan, there)} tokens"
    assert chunk.startswith("prefill_chunk ")


@pytest.mark.slow
def test_where_nothing_would_fit_that_is_said():
    replan = replan_of(PRO, context=4096)
    small, advice = misfits(replan([1]), rooms(32), replan)
    assert small.startswith("mac-0: rank 0 needs ")
    assert advice == "no context, no split and no 16 ranks on hosts like these would fit"


def test_the_ranks_of_one_host_share_its_memory():
    replan = replan_of(FLASH, context=4096)
    plan = replan([1, 1, 1])
    both = plan.needed_bytes[0] + plan.needed_bytes[1]
    there = [Room("here", (0, 1), both - 1), Room("there", (2,), 100 * GB)]
    line, advice = misfits(plan, there, replan)
    assert line.startswith(f"here: ranks 0, 1 need {both / GB:.1f} GB at a context of 4096 tokens")
    assert fits(replan(weights_in(advice)), there)


@pytest.mark.parametrize("words", [{"expert_split": ExpertSplit.WHOLE}, {"dtype": DType.FLOAT32}])
def test_other_plans_are_proposed_for_in_kind(words):
    replan, there = replan_of(FLASH, context=32768, **words), rooms(128, 80)
    *_, split = offers(replan([1, 1]), there, replan)
    assert fits(replan(weights_in(split)), there)


def test_a_context_beyond_the_models_is_refused():
    with pytest.raises(PlanError, match="a context of 1048577 tokens; the model's is 1048576"):
        replan_of(FLASH)([1], context=(1 << 20) + 1)
