"""What a decode step reads, against sums by hand."""

from dataclasses import replace

import pytest

from dsv4_tp import demo
from dsv4_tp.core import CacheRows, DType, ExpertSplit
from dsv4_tp.layouts import native_catalog
from dsv4_tp.modelspec import read_spec
from dsv4_tp.plan import make_plan
from dsv4_tp.plan.reads import step_reads, touched_experts
from tests.specs import FLASH

KINDS = {"experts": 8000, "embed": 10**6, "attention": 300, "head": 50}
SPEC = replace(
    read_spec(demo.path()),
    n_routed_experts=8,
    num_experts_per_tok=2,
    compress_ratios=(0, 4, 128),
    sliding_window=16,
    head_dim=10,
    index_head_dim=3,
    index_topk=5,
)


def read(batch: int, context: int, rows: CacheRows = CacheRows.EXACT) -> int:
    how = (KINDS, SPEC, DType.BFLOAT16, rows)
    return sum(step_reads(*how, batch=batch, context=context).values())


def test_one_sequence_reads_the_experts_it_chose_and_no_embedding():
    assert read(1, 0) == 8000 // 4 + 350


def test_many_sequences_read_more_experts_but_each_once():
    assert touched_experts(SPEC, 2) == 1 - 0.75**2
    assert read(2, 0) == 8000 * 7 // 16 + 350
    assert read(1000, 0) == 8000 + 350


@pytest.mark.parametrize(
    ("context", "rows", "index_rows"),
    [
        (8, 8 + (8 + 2) + 8, 0),  # within the window; a pool of 2
        (20, 16 + (16 + 5) + 16, 0),  # as many rows as are picked: no index is asked
        (256, 16 + (16 + 5) + (16 + 2), 64),  # 5 of 64 are picked
    ],
)
def test_each_sequence_reads_its_own_rows(context: int, rows: int, index_rows: int):
    heads = SPEC.index_n_heads
    of_one = rows * 10 * 2 + index_rows * (3 * 2 + heads * 2 * 2)  # a score is written and read
    assert read(1, context) - read(1, 0) == of_one
    assert read(3, context) - read(3, 0) == 3 * of_one


def reads_of_flash(ranks: int) -> dict[str, int]:
    """By kind, of the released files on the first of so many equal ranks."""
    catalog = native_catalog(FLASH, mtp=False)
    plan = make_plan(
        FLASH, catalog, [1] * ranks, expert_split=ExpertSplit.WIDTH, dtype=DType.BFLOAT16
    )
    held = dict(plan.rank_bytes[0].kinds)
    return step_reads(held, FLASH, DType.BFLOAT16, CacheRows.EXACT, batch=1, context=0)


def attention_of_flash(ranks: int, bits: float) -> float:
    """Gigabytes, by the published widths: three products are shared out, two are everybody's."""
    wq_b = wo_a = wo_b = 8192 * 4096
    wq_a, wkv = 4096 * 1024, 4096 * 512
    return 43 * ((wq_b + wo_a + wo_b) / ranks + wq_a + wkv) * bits / 8e9


def test_attention_of_flash_reads_what_theory_says():
    assert attention_of_flash(2, bits=8.5) == pytest.approx(2.59, abs=0.005)
    assert attention_of_flash(2, bits=8.25) == pytest.approx(2.51, abs=0.005)
    for ranks in (1, 2, 4, 8):
        found = reads_of_flash(ranks)
        ours = found["attention"] + found["attention shared"]
        assert ours / 1e9 == pytest.approx(attention_of_flash(ranks, bits=8.25), rel=0.001)


# Beside attention, by the published widths: six experts of 4.25 bits and the shared one of 8.25,
# the head, and what every rank reads whole: the matrices of hyper-connections, the gates, and in 21
# layers the compressors of ratio 4 with an indexer each, in 20 that of ratio 128. Head, gates and
# compressors are fp32 as in the reference, which multiplies in fp32 there.
@pytest.mark.parametrize("ranks", [2, 4])
def test_all_that_flash_reads_is_within_3_percent_of_theory(ranks: int):
    expert = 3 * 4096 * 2048
    shared_out = 43 * (6 * expert * 4.25 + expert * 8.25) / 8 + 129_280 * 4096 * 4
    hyper = 43 * 2 * 24 * 4 * 4096 * 4
    gates = 43 * 256 * 4096 * 4
    index = 2 * 4096 * 256 * 4 + 4096 * 64 * 2 + 1024 * 8192 * 8.25 / 8
    compressors = 21 * (2 * 4096 * 1024 * 4 + index) + 20 * 2 * 4096 * 512 * 4
    theory = attention_of_flash(ranks, bits=8.25) * 1e9 + shared_out / ranks
    theory += hyper + gates + compressors
    assert sum(reads_of_flash(ranks).values()) == pytest.approx(theory, rel=0.03)
