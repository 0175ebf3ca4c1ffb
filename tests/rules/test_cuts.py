from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsv4_tp.core import ExpertSplit, Part, Span
from dsv4_tp.layouts import native_catalog
from dsv4_tp.modelspec import ModelSpec, Tensor, contract
from dsv4_tp.plan.partition import partition
from dsv4_tp.plan.plan import granules
from dsv4_tp.rules import Cut, HeadRun, Split, cut_shape, cuts, head_runs, rule_of, touched_groups
from tests.specs import TINY, fuzz, specs, weights

NOTHING = Part(Span(0, 0), Span(0, 0), Span(0, 0), Span(0, 0), Span(0, 0))


def tensor(name: str, spec: ModelSpec = TINY) -> Tensor:
    return next(t for t in contract(spec, mtp=True) if t.name == name)


def pieces(name: str, **spans: Span) -> list[Cut]:
    return list(cuts(tensor(name), replace(TINY.whole, **spans), TINY))


def test_the_whole_part_holds_everything_under_its_own_name() -> None:
    for whole in contract(TINY, mtp=True):
        name = whole.name.replace("wo_a.weight", "wo_a.0.weight")
        assert cuts(whole, TINY.whole, TINY) == (Cut(name),)


def test_a_rank_of_heads() -> None:
    """8 heads of 32 in 4 groups; o_lora_rank 16. Heads 3, 4, 5, 6: half of group 1 to half of 3."""
    heads = Span(3, 7)
    assert pieces("layers.2.attn.wq_b.weight", heads=heads) == [
        Cut("layers.2.attn.wq_b.weight", rows=Span(96, 224))
    ]
    assert pieces("layers.2.attn.attn_sink", heads=heads) == [
        Cut("layers.2.attn.attn_sink", rows=Span(3, 7))
    ]
    assert pieces("layers.2.attn.wo_a.weight", heads=heads) == [
        Cut("layers.2.attn.wo_a.0.weight", rows=Span(16, 32), columns=Span(32, 64)),
        Cut("layers.2.attn.wo_a.1.weight", rows=Span(32, 48)),
        Cut("layers.2.attn.wo_a.2.weight", rows=Span(48, 64), columns=Span(0, 32)),
    ]
    assert pieces("layers.2.attn.wo_b.weight", heads=heads) == [
        Cut("layers.2.attn.wo_b.weight", columns=Span(16, 64))
    ]
    assert pieces("layers.2.attn.wkv.weight", heads=heads) == [Cut("layers.2.attn.wkv.weight")]


@pytest.mark.parametrize(
    ("name", "cut"),
    [
        ("experts.w1", {"experts": Span(1, 3), "rows": Span(4, 9)}),
        ("experts.w3", {"experts": Span(1, 3), "rows": Span(4, 9)}),
        ("experts.w2", {"experts": Span(1, 3), "columns": Span(4, 9)}),
        ("shared_experts.w1", {"rows": Span(5, 16)}),
        ("shared_experts.w3", {"rows": Span(5, 16)}),
        ("shared_experts.w2", {"columns": Span(5, 16)}),
    ],
)
def test_a_rank_of_experts(name: str, cut: dict[str, Span]) -> None:
    name = f"layers.0.ffn.{name}.weight"
    spans = {"experts": Span(1, 3), "expert_width": Span(4, 9), "shared_width": Span(5, 16)}
    assert pieces(name, **spans) == [Cut(name, **cut)]


def test_a_rank_of_words() -> None:
    assert pieces("head.weight", vocab=Span(16, 48)) == [Cut("head.weight", rows=Span(16, 48))]
    assert pieces("embed.weight", vocab=Span(16, 48)) == [Cut("embed.weight")]


def test_an_empty_span_makes_no_parameter() -> None:
    held = {c.name for t in contract(TINY, mtp=True) for c in cuts(t, NOTHING, TINY)}
    split = ("wq_b", "attn_sink", "wo_a", "wo_b", "experts", "head.weight")
    kept = {t.name for t in contract(TINY, mtp=True) if "indexer" in t.name}
    assert kept < held
    assert not [name for name in held - kept if any(part in name for part in split)]


def times_held(tensor: Tensor, parts: tuple[Part, ...], spec: ModelSpec) -> np.ndarray:
    """How many parts hold each value of the tensor."""
    held = np.zeros(tensor.shape, int)
    for part in parts:
        for cut in cuts(tensor, part, spec):
            spans = {1: (cut.rows,), 2: (cut.rows, cut.columns)}.get(
                len(tensor.shape), (cut.experts, cut.rows, cut.columns)
            )
            piece = held[tuple(slice(s.start, s.stop) if s else slice(None) for s in spans)]
            assert piece.shape == cut_shape(cut, tensor.shape)
            piece += 1
    return held


@fuzz
@given(specs(), weights, st.sampled_from(ExpertSplit))
def test_parts_hold_every_value_once(
    spec: ModelSpec, shares: list[int], split: ExpertSplit
) -> None:
    spec = replace(spec, num_hidden_layers=1, compress_ratios=(4,), num_hash_layers=0)
    parts = partition(spec, granules(native_catalog(spec, mtp=False)), shares, split)
    for whole in contract(spec, mtp=False):
        held = times_held(whole, parts, spec)
        match rule_of(whole.name).split:
            case Split.ALL:
                assert (held == len(parts)).all()
            case Split.GROUP_COLUMNS:
                groups = held.reshape(-1, spec.o_groups, spec.o_lora_rank)
                for group in range(spec.o_groups):
                    sharing = [p for p in parts if group in _all(touched_groups(p.heads, spec))]
                    assert (groups[:, group] == len(sharing)).all()
                    assert sharing
            case _:
                assert (held == 1).all(), whole.name


@fuzz
@given(specs(), st.data())
def test_runs_are_the_heads_in_order(spec: ModelSpec, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, spec.num_attention_heads))
    heads = Span(start, data.draw(st.integers(start, spec.num_attention_heads)))
    runs = head_runs(heads, spec)
    assert len(runs) <= 3
    assert sum(run.groups * run.heads for run in runs) == len(heads)
    assert sum(run.groups for run in runs) == len(touched_groups(heads, spec))
    assert all(run.heads == spec.heads_per_group for run in runs if run.groups > 1)


def test_runs_of_a_partial_group_at_both_ends() -> None:
    spec = replace(TINY, num_attention_heads=16)  # 4 heads per group
    assert head_runs(Span(0, 16), spec) == (HeadRun(4, 4),)
    assert head_runs(Span(1, 15), spec) == (HeadRun(1, 3), HeadRun(2, 4), HeadRun(1, 3))
    assert head_runs(Span(5, 7), spec) == (HeadRun(1, 2),)
    assert head_runs(Span(3, 5), spec) == (HeadRun(1, 1), HeadRun(1, 1))
    assert head_runs(Span(4, 4), spec) == ()


def _all(span: Span) -> range:
    return range(span.start, span.stop)
