import subprocess
import sys

import pytest

from dsv4_tp.core import AttentionSplit, DType, ExpertSplit
from dsv4_tp.errors import PlanError
from dsv4_tp.layouts import Catalog, catalog, native_catalog, read_headers
from dsv4_tp.modelspec import ModelSpec, contract
from dsv4_tp.plan import make_plan
from dsv4_tp.rules import rule_of
from tests.specs import FLASH, PRO, TINY, TINY_FP4
from tests.storage_files import FP4

# Gigabytes per rank of the released Flash and Pro: experts as mxfp4 (4.25 bits a value), FP8 as
# mxfp8 (8.25), the rest as stored, tid2eid as int32; embed on every rank, head by vocabulary, no
# MTP. From a count of the published tensors that is independent of this package.
PUBLISHED = {
    (FLASH, 1): 156.19,
    (FLASH, 2): 79.28,
    (FLASH, 4): 40.83,
    (FLASH, 8): 21.61,
    (PRO, 1): 851.45,
    (PRO, 2): 428.44,
    (PRO, 4): 216.94,
    (PRO, 8): 111.19,
}


def native(spec: ModelSpec) -> Catalog:
    return native_catalog(spec, mtp=False)


@pytest.mark.parametrize(("spec", "ranks"), PUBLISHED)
def test_bytes_of_the_real_models(spec: ModelSpec, ranks: int) -> None:
    plan = make_plan(spec, native(spec), [1] * ranks, expert_split=ExpertSplit.WIDTH)
    for held in plan.rank_bytes:
        assert held.total / 1e9 == pytest.approx(PUBLISHED[spec, ranks], rel=0.001)


def test_whole_experts_weigh_what_their_widths_do() -> None:
    whole = make_plan(FLASH, native(FLASH), [1] * 4, expert_split=ExpertSplit.WHOLE)
    width = make_plan(FLASH, native(FLASH), [1] * 4, expert_split=ExpertSplit.WIDTH)
    assert whole.rank_bytes == width.rank_bytes
    assert [len(part.experts) for part in whole.parts] == [64] * 4


def test_whole_attention_is_held_by_each_rank() -> None:
    alone = make_plan(FLASH, native(FLASH), [1], expert_split=ExpertSplit.WIDTH)
    split, whole = (
        make_plan(FLASH, native(FLASH), [1, 3], expert_split=ExpertSplit.WIDTH, attention=way)
        for way in AttentionSplit
    )
    assert (split.attention, whole.attention) == tuple(AttentionSplit)
    for ours, theirs in zip(whole.rank_bytes, split.rank_bytes, strict=True):
        held, other = dict(ours.kinds), dict(theirs.kinds)
        assert held.pop("attention") == dict(alone.rank_bytes[0].kinds)["attention"]
        assert other.pop("attention") < 43 * 104e6
        assert held == other
    assert all(map(int.__gt__, whole.buffer_bytes, split.buffer_bytes))
    with pytest.raises(PlanError, match="rank 1 of 2 would hold nothing"):
        make_plan(
            TINY,
            native(TINY),
            [1000, 1],
            expert_split=ExpertSplit.WIDTH,
            attention=AttentionSplit.WHOLE,
        )


def test_bytes_are_told_by_kind() -> None:
    (held,) = make_plan(FLASH, native(FLASH), [1], expert_split=ExpertSplit.WIDTH).rank_bytes
    kinds = dict(held.kinds)
    assert kinds.keys() == {rule_of(t.name).kind for t in contract(FLASH, mtp=False)}
    assert kinds["experts"] / 1e9 == pytest.approx(147.17, rel=1e-4)
    assert kinds["embed"] == kinds["head"] == 129280 * 4096 * 2
    assert sum(kinds.values()) == held.total


def test_unequal_ranks_hold_in_proportion() -> None:
    plan = make_plan(FLASH, native(FLASH), [3, 5], expert_split=ExpertSplit.WIDTH)
    experts = [dict(held.kinds)["experts"] for held in plan.rank_bytes]
    assert experts[0] / experts[1] == 3 / 5


def test_float32_doubles_what_is_stored_as_bfloat16() -> None:
    held = [
        make_plan(FLASH, native(FLASH), [1], expert_split=ExpertSplit.WIDTH, dtype=dtype)
        for dtype in (None, DType.BFLOAT16, DType.FLOAT32)
    ]
    stored, bf16, f32 = (dict(plan.rank_bytes[0].kinds) for plan in held)
    wide = ("head", "gates", "compressors", "indexers")  # which meet float32
    assert {kind: size for kind, size in bf16.items() if kind not in wide} == {
        kind: size for kind, size in stored.items() if kind not in wide
    }
    assert bf16["head"] == f32["head"] == 2 * stored["head"]
    assert f32["embed"] == 2 * stored["embed"]
    assert f32["experts"] == stored["experts"]
    assert f32["hyper-connections"] == stored["hyper-connections"]


def test_a_plan_from_files_equals_one_from_config() -> None:
    found = catalog(TINY_FP4, read_headers(FP4), mtp=False)
    for planned in (found, native(TINY_FP4)):
        plan = make_plan(TINY_FP4, planned, [3, 5], expert_split=ExpertSplit.WHOLE)
        assert (
            plan.rank_bytes
            == make_plan(TINY_FP4, found, [3, 5], expert_split=ExpertSplit.WHOLE).rank_bytes
        )


@pytest.mark.parametrize(
    ("shares", "complaint"),
    [
        ([1] * 17, "17 ranks"),
        ([], "0 ranks"),
        ([1, 0], "split 1:0: every rank's share must be positive"),
        ([3, -1], "split 3:-1"),
        ([1000, 1], "split 1000:1: rank 1 of 2 would hold nothing of 8 heads, 6 experts"),
    ],
)
def test_refused(shares: list[int], complaint: str) -> None:
    with pytest.raises(PlanError) as caught:
        make_plan(TINY, native(TINY), shares, expert_split=ExpertSplit.WIDTH)
    assert complaint in str(caught.value)


def test_a_rank_may_hold_nothing_of_one_kind() -> None:
    """80 words are 5 blocks of 16, and 8 heads are 8 units: 16 ranks differ in what they hold."""
    plan = make_plan(TINY, native(TINY), [1] * 16, expert_split=ExpertSplit.WIDTH)
    assert [len(part.heads) for part in plan.parts] == [1] * 8 + [0] * 8
    assert [len(part.vocab) for part in plan.parts] == [16] * 5 + [0] * 11
    assert [len(part.expert_width) for part in plan.parts] == [1] * 16


def test_planning_needs_no_mlx() -> None:
    code = "import sys, dsv4_tp.plan; sys.exit('mlx.core' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
