from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsv4_tp.core import AttentionSplit, ExpertSplit, Span
from dsv4_tp.layouts import native_catalog
from dsv4_tp.modelspec import ModelSpec
from dsv4_tp.plan.partition import (
    Granules,
    apportion,
    attention_values,
    partition,
    share_heads,
    share_out,
    straggler,
)
from dsv4_tp.plan.plan import granules
from dsv4_tp.rules import attention_of, touched_groups
from tests.specs import FLASH, PRO, TINY, TINY_FP4, fuzz, specs, weights

ANYWHERE = Granules(wo_a=1, wo_b=1, experts=1, shared=1)
BY_32 = Granules(wo_a=32, wo_b=32, experts=32, shared=32)


def bounds(spans: tuple[Span, ...]) -> list[tuple[int, int]]:
    return [(span.start, span.stop) for span in spans]


def assert_covers(spans: tuple[Span, ...], size: int) -> None:
    assert spans[0].start == 0
    assert spans[-1].stop == size
    assert all(one.stop == other.start for one, other in pairwise(spans))


@fuzz
@given(st.integers(0, 1000), weights)
def test_every_unit_goes_to_one_rank_and_no_rank_is_a_unit_off(
    units: int, shares: list[int]
) -> None:
    spans = apportion(units, shares)
    assert_covers(spans, units)
    for span, share in zip(spans, shares, strict=True):
        assert abs(len(span) - units * share / sum(shares)) < 1


@pytest.mark.parametrize(
    ("units", "shares", "counts"),
    [
        (8, [1, 1], [4, 4]),
        (8, [1, 1, 1], [3, 3, 2]),
        (8, [3, 5], [3, 5]),
        (8, [2, 3, 3], [2, 3, 3]),
        (10, [3, 5], [4, 6]),  # 3.75 and 6.25
        (2, [1, 1, 1, 1], [1, 1, 0, 0]),
        (0, [1, 1], [0, 0]),
    ],
)
def test_largest_remainder(units: int, shares: list[int], counts: list[int]) -> None:
    assert [len(span) for span in apportion(units, shares)] == counts


@fuzz
@given(st.integers(0, 1000), st.integers(1, 64), weights)
def test_blocks_are_whole_but_for_the_last(size: int, unit: int, shares: list[int]) -> None:
    spans = share_out(size, unit, shares)
    assert_covers(spans, size)
    assert all(span.start % unit == 0 or span.start == size for span in spans)


@fuzz
@given(specs(), weights, st.sampled_from(ExpertSplit))
def test_parts_cover_the_model_at_whole_granules(
    spec: ModelSpec, shares: list[int], split: ExpertSplit
) -> None:
    by = granules(native_catalog(spec, mtp=False))
    parts = partition(spec, by, shares, split)
    assert_covers(tuple(part.heads for part in parts), spec.num_attention_heads)
    assert_covers(tuple(part.shared_width for part in parts), spec.shared_width)
    assert_covers(tuple(part.vocab for part in parts), spec.vocab_size)
    whole = (Span(0, spec.n_routed_experts), Span(0, spec.moe_intermediate_size))
    if split is ExpertSplit.WIDTH:
        assert {part.experts for part in parts} == {whole[0]}
        assert_covers(tuple(part.expert_width for part in parts), spec.moe_intermediate_size)
    else:
        assert {part.expert_width for part in parts} == {whole[1]}
        assert_covers(tuple(part.experts for part in parts), spec.n_routed_experts)
    for part in parts:
        group = touched_groups(part.heads, spec)
        for cut, granule in (
            (part.heads.start % spec.heads_per_group * spec.head_dim, by.wo_a),
            (part.heads.stop % spec.heads_per_group * spec.head_dim, by.wo_a),
            (group.start * spec.o_lora_rank, by.wo_b),
            (group.stop * spec.o_lora_rank, by.wo_b),
            (part.expert_width.start, by.experts),
            (part.expert_width.stop, by.experts),
            (part.shared_width.stop, by.shared),
        ):
            assert cut % granule == 0


@fuzz
@given(specs(), weights, st.sampled_from(ExpertSplit))
def test_with_whole_attention_only_the_heads_differ(
    spec: ModelSpec, shares: list[int], split: ExpertSplit
) -> None:
    by = granules(native_catalog(spec, mtp=False))
    ways = {way: partition(spec, by, shares, split, way) for way in AttentionSplit}
    heads = Span(0, spec.num_attention_heads)
    bare = (replace(part, heads=heads) for part in ways[AttentionSplit.SPLIT])
    assert ways[AttentionSplit.WHOLE] == tuple(bare)
    if len(shares) > 1:
        assert {way: attention_of(parts) for way, parts in ways.items()} == {
            way: way for way in ways
        }


@fuzz
@given(specs(), weights)
def test_no_other_unit_would_have_a_lighter_straggler(spec: ModelSpec, shares: list[int]) -> None:
    by = granules(native_catalog(spec, mtp=False))
    chosen = straggler(share_heads(spec, by, shares), spec, shares)
    whole_groups = share_out(spec.num_attention_heads, spec.heads_per_group, shares)
    if spec.o_lora_rank % by.wo_b == 0:
        assert chosen <= straggler(whole_groups, spec, shares)


@pytest.mark.parametrize(
    ("spec", "shares", "heads"),
    [
        (FLASH, [1, 1], [(0, 32), (32, 64)]),
        (FLASH, [1, 1, 1], [(0, 24), (24, 48), (48, 64)]),  # 3, 3 and 2 of 8 groups
        (FLASH, [3, 5], [(0, 24), (24, 64)]),
        (FLASH, [1] * 16, [(4 * rank, 4 * rank + 4) for rank in range(16)]),  # half groups
        (PRO, [1] * 16, [(8 * rank, 8 * rank + 8) for rank in range(16)]),
        (PRO, [1, 1, 1], [(0, 43), (43, 86), (86, 128)]),  # heads: 6 of 16 groups would be more
        (TINY, [1] * 8, [(rank, rank + 1) for rank in range(8)]),
    ],
)
def test_groups_are_split_where_that_is_more_even(
    spec: ModelSpec, shares: list[int], heads: list[tuple[int, int]]
) -> None:
    by = granules(native_catalog(spec, mtp=False))
    assert bounds(share_heads(spec, by, shares)) == heads


def test_a_shared_group_is_paid_for_twice() -> None:
    spec = replace(TINY, q_lora_rank=0)
    half, whole = attention_values(Span(0, 1), spec), attention_values(Span(0, 2), spec)
    assert half == 32 * 16 + 48 * 16
    assert whole == 2 * 32 * 16 + 48 * 16


def test_groups_that_fill_no_granule_stay_together() -> None:
    """A group of 16 wo_b columns is half a granule: units of two groups, and no head units."""
    assert bounds(share_heads(TINY, BY_32, [1] * 4)) == [(0, 4), (4, 8), (8, 8), (8, 8)]
    assert bounds(share_heads(TINY, ANYWHERE, [1] * 4)) == [(0, 2), (2, 4), (4, 6), (6, 8)]


def test_heads_narrower_than_a_granule_stay_together() -> None:
    spec = replace(TINY_FP4, head_dim=16, num_attention_heads=4, o_groups=1, o_lora_rank=64)
    assert bounds(share_heads(spec, BY_32, [1] * 4)) == [(0, 2), (2, 4), (4, 4), (4, 4)]
