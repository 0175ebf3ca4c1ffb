"""What a decode step reads, against sums by hand."""

from dataclasses import replace

import pytest

from dsv4_tp import demo
from dsv4_tp.core import CacheRows, DType
from dsv4_tp.modelspec import read_spec
from dsv4_tp.plan.reads import step_bytes, touched_experts

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
    return step_bytes(KINDS, SPEC, DType.BFLOAT16, rows, batch=batch, context=context)


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
    of_one = rows * 10 * 2 + index_rows * 3 * 2
    assert read(1, context) - read(1, 0) == of_one
    assert read(3, context) - read(3, 0) == 3 * of_one
