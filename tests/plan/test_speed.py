"""The forecast: its arithmetic by hand, what holds of any cluster, and whence its counts are."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dsv4_tp.core import AttentionSplit, DType, ExpertSplit, Kernels
from dsv4_tp.errors import ConfigError
from dsv4_tp.layouts import native_catalog
from dsv4_tp.plan import Plan, make_plan
from dsv4_tp.plan.chips import Chip, Link, chip_named, link_named
from dsv4_tp.plan.speed import DRAFTS_RIGHT, OPERATION_S, OPERATIONS, PRODUCTS, REACHED, Cluster
from dsv4_tp.plan.work import token_flop
from tests.specs import FLASH, PRO

PUBLISHED = Path(__file__).parents[2] / "benchmarks" / "results" / "suite.json"
CHIP = Chip(500e9, 10e12)
LINK = Link(40e-6, 5e9, ring=False)
# Of wq_b, wo_a and wo_b in all 43 layers, 8.25 bits a weight.
HALF_OF_HEADS = 43 * 3 * 8192 * 4096 / 2 * 8.25 / 8


def flash(*split: int, mtp: bool = False, attention: AttentionSplit = AttentionSplit.SPLIT) -> Plan:
    catalog, how = native_catalog(FLASH, mtp=mtp), {"dtype": DType.BFLOAT16, "chunk": 4096}
    return make_plan(
        FLASH, catalog, split, expert_split=ExpertSplit.WIDTH, attention=attention, **how
    )


def test_a_step_of_flash_by_hand():
    step = Cluster((CHIP, CHIP), LINK).decode(flash(1, 1), 0)
    assert step.bytes_s == pytest.approx(7.57e9 / (500e9 * REACHED), rel=0.01)
    layers = sum(OPERATIONS[Kernels.PLAIN][ratio] for ratio in FLASH.compress_ratios)
    assert step.operations_s == pytest.approx(layers * OPERATION_S)
    assert step.collectives_s == pytest.approx(87 * 40e-6)
    assert step.tokens_s == pytest.approx(1 / step.total_s)
    assert step.limit == "bytes"


def test_a_chunk_of_flash_by_hand():
    chunk = Cluster((CHIP, CHIP), LINK).prefill(flash(1, 1), 8192)
    # 13 billion weights are met; two products are everybody's, the rest is shared.
    assert 0.5 * 26e9 < chunk.products_s / 4096 * 10e12 * PRODUCTS < 0.65 * 26e9
    numbers = 21 * 512 * 4
    assert chunk.sums_s == pytest.approx(4096 * (2 * 43 * 4096 * 2 + numbers) / 5e9)
    assert chunk.limit == "products"


def test_ranks_divide_what_indexers_look_up():
    plan = flash(1, 1)
    whole = Cluster((CHIP, CHIP), LINK, divided=False).prefill(plan, 500_000)
    shared = Cluster((CHIP, CHIP), LINK).prefill(plan, 500_000)
    scored = 4096 * 21 * 2 * 64 * 128 * (250_000 // 4)
    assert whole.products_s - shared.products_s == pytest.approx(scored / 2 / (10e12 * PRODUCTS))
    assert shared.sums_s > whole.sums_s


def test_the_slowest_rank_is_waited_for():
    slow = Chip(CHIP.bandwidth_bytes_s / 2, CHIP.products_flop_s / 2)
    plan = flash(1, 1)
    for cluster in (Cluster((CHIP, slow), LINK), Cluster((slow, CHIP), LINK)):
        both = Cluster((slow, slow), LINK)
        assert cluster.decode(plan, 100) == both.decode(plan, 100)
        assert cluster.prefill(plan, 100) == both.prefill(plan, 100)
    uneven = Cluster((CHIP, slow), LINK).decode(flash(2, 1), 100)
    assert uneven.tokens_s > Cluster((CHIP, slow), LINK).decode(plan, 100).tokens_s


def test_one_rank_waits_for_no_other():
    one = Cluster((CHIP,), LINK)
    assert one.decode(flash(1), 100).collectives_s == 0
    assert one.prefill(flash(1), 100).sums_s == 0


def test_a_ring_takes_a_hop_more_with_each_host():
    plan, ring = flash(1, 1, 1, 1), replace(LINK, ring=True)
    times = [Cluster((CHIP,) * 4, link).decode(plan, 0).collectives_s for link in (LINK, ring)]
    assert times[1] == pytest.approx(3 * times[0])


def test_a_longer_context_is_never_faster():
    cluster, plan = Cluster((CHIP, CHIP), LINK), flash(1, 1)
    contexts = (128, 2048, 30_000, 500_000)
    for rates in (
        [cluster.decode(plan, context).tokens_s for context in contexts],
        [cluster.prefill(plan, context).tokens_s for context in contexts[1:]],
    ):
        assert rates == sorted(rates, reverse=True)


def test_drafts_cost_layers_experts_and_the_head_and_bring_what_is_right_of_them():
    cluster = Cluster((CHIP, CHIP), LINK)
    bare, held = flash(1, 1), flash(1, 1, mtp=True)
    none, one, two = (cluster.decode(held, 100, drafts=drafts) for drafts in (0, 1, 2))
    # Without drafts nothing of the MTP stage is read, though it is held.
    assert none.bytes_s == pytest.approx(cluster.decode(bare, 100).bytes_s, rel=0.005)
    assert none.bytes_s < one.bytes_s < two.bytes_s
    assert one.collectives_s == pytest.approx(90 * 40e-6)
    assert one.operations_s == pytest.approx(none.operations_s * 44 / 43)
    assert two.tokens == 1 + DRAFTS_RIGHT + DRAFTS_RIGHT**2


def test_whole_attention_adds_up_once_a_layer_and_reads_all_heads():
    split, whole = flash(1, 1, mtp=True), flash(1, 1, mtp=True, attention=AttentionSplit.WHOLE)
    cluster = Cluster((CHIP, CHIP), LINK)
    step = cluster.decode(whole, 100)
    assert step.collectives_s == pytest.approx(44 * 40e-6)
    assert cluster.decode(whole, 100, drafts=1).collectives_s == pytest.approx(46 * 40e-6)
    more_s = step.bytes_s - cluster.decode(split, 100).bytes_s
    assert more_s == pytest.approx(HALF_OF_HEADS / (500e9 * REACHED), rel=0.001)
    chunks = [cluster.prefill(plan, 8192) for plan in (split, whole)]
    sums = [chunk.sums_s * 5e9 / 4096 - 21 * 512 * 4 for chunk in chunks]
    assert sums == pytest.approx([2 * 43 * 4096 * 2, 43 * 4096 * 2])
    assert chunks[1].products_s > chunks[0].products_s


def test_a_sum_that_was_measured_counts_instead_of_the_links():
    seen = Cluster((CHIP,) * 4, replace(LINK, ring=True), measured_sum_s=1e-4)
    assert seen.decode(flash(1, 1, 1, 1), 0).collectives_s == pytest.approx(87e-4)


def test_work_counts_what_a_token_meets():
    counts = {"experts": 2560, "attention": 100, "embed": 10**9, "head": 10**9}
    spec = replace(FLASH, compress_ratios=(0, 4), n_routed_experts=256, num_experts_per_tok=6)
    found = token_flop(spec, counts, heads=2, context=4096)
    assert found["weights"] == 2 * (60 + 100)
    assert found["attention"] == 4 * 2 * spec.head_dim * (128 + 128 + 512)
    assert found["indexers"] == 2 * 64 * 128 * 1024


def test_flash_has_as_many_weights_as_it_is_sold_with():
    for spec, billions in ((FLASH, 284), (PRO, 1573)):
        catalog = native_catalog(spec, mtp=False)
        plan = make_plan(spec, catalog, [1], expert_split=ExpertSplit.WIDTH)
        count = sum(count for _, count in plan.rank_bytes[0].counts)
        assert count / 1e9 == pytest.approx(billions, rel=0.01)


def test_operations_are_those_that_were_counted():
    found = json.loads(PUBLISHED.read_text())["figures"]["counts"]
    told = {
        Kernels.PLAIN: found["primitives_without_kernels"],
        Kernels.METAL: found["primitives_per_layer"],
    }
    assert told == {
        kernels: {str(ratio): count for ratio, count in counts.items()}
        for kernels, counts in OPERATIONS.items()
    }


def test_a_chip_or_link_of_which_nothing_is_known_is_named():
    with pytest.raises(ConfigError, match=r"--chips 'M5-Max': .*; did you mean m5-max\?"):
        chip_named("M5-Max")
    with pytest.raises(ConfigError, match=r"--link 'usb': there are figures of rdma, tcp only$"):
        link_named("usb")


def test_a_measured_sum_is_for_those_who_sum():
    one = Cluster((CHIP,), LINK, measured_sum_s=97e-6)
    assert one.decode(flash(1), 100).collectives_s == 0
    two = Cluster((CHIP, CHIP), LINK, measured_sum_s=97e-6)
    assert two.decode(flash(1, 1), 100).collectives_s == pytest.approx(87 * 97e-6)
