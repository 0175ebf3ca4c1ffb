"""Sharing integers out: every unit to exactly one rank, in rank order, close to the weights.

Pure arithmetic on the numbers of a model; knows no files and no bytes in memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd

from dsv4_tp.core import AttentionSplit, ExpertSplit, Part, Span
from dsv4_tp.modelspec import ModelSpec
from dsv4_tp.rules import touched_groups

VOCAB_BLOCK = 16  # rows of head are shared out in blocks of this many


@dataclass(frozen=True, slots=True)
class Granules:
    """Multiples at which the columns of the tensors cut by column may be cut (1: anywhere)."""

    wo_a: int
    wo_b: int
    experts: int
    shared: int


def apportion(units: int, weights: Sequence[int], *, last_first: bool = False) -> tuple[Span, ...]:
    """`units` shared out by largest remainder: consecutive spans, one per weight.

    Of equal remainders the first rank's is served first, or the last's if `last_first`.
    """
    total = sum(weights)
    counts = [units * weight // total for weight in weights]
    remainders = [units * weight % total for weight in weights]
    ranks = range(len(weights))
    by_remainder = sorted(
        reversed(ranks) if last_first else ranks, key=lambda rank: -remainders[rank]
    )
    for rank in by_remainder[: units - sum(counts)]:
        counts[rank] += 1
    stops = [sum(counts[: rank + 1]) for rank in range(len(counts))]
    return tuple(Span(stop - count, stop) for stop, count in zip(stops, counts, strict=True))


def share_out(
    size: int, unit: int, weights: Sequence[int], *, last_first: bool = False
) -> tuple[Span, ...]:
    """`size` things shared out in blocks of `unit`; the last block may be shorter."""
    spans = apportion(-(-size // unit), weights, last_first=last_first)
    return tuple(Span(min(span.start * unit, size), min(span.stop * unit, size)) for span in spans)


def share_heads(spec: ModelSpec, granules: Granules, weights: Sequence[int]) -> tuple[Span, ...]:
    """The heads of each rank: whole output groups, or parts of groups where that is more even.

    Ranks that share a group hold its wo_b columns twice, so splitting has its price.
    """
    choices = [share_out(spec.num_attention_heads, _group_unit(spec, granules), weights)]
    # A rank holds the wo_b columns of each group it touches, so groups must be separable.
    unit = _head_unit(spec, granules)
    if spec.o_lora_rank % granules.wo_b == 0 and spec.heads_per_group % unit == 0:
        choices.append(share_out(spec.num_attention_heads, unit, weights))
    return min(choices, key=lambda spans: straggler(spans, spec, weights))


def straggler(spans: Sequence[Span], spec: ModelSpec, weights: Sequence[int]) -> float:
    """The heaviest attention load of a rank for its weight: what all the others wait for."""
    return max(
        attention_values(span, spec) / weight for span, weight in zip(spans, weights, strict=True)
    )


def attention_values(heads: Span, spec: ModelSpec) -> int:
    """Weights of one layer that a rank with these heads holds in wq_b, wo_a and wo_b."""
    per_head = spec.head_dim * (spec.q_lora_rank + spec.o_lora_rank)
    per_group = spec.hidden_size * spec.o_lora_rank
    return per_head * len(heads) + per_group * len(touched_groups(heads, spec))


def partition(
    spec: ModelSpec,
    granules: Granules,
    weights: Sequence[int],
    expert_split: ExpertSplit,
    attention: AttentionSplit = AttentionSplit.SPLIT,
) -> tuple[Part, ...]:
    """One part per weight; together they hold every head, expert, channel and word once.

    With whole attention each of them holds every head.
    """
    width, experts = spec.moe_intermediate_size, spec.n_routed_experts
    if expert_split is ExpertSplit.WIDTH:
        # The first ranks are ahead by what attention left over, so the last come first here.
        widths = share_out(width, granules.experts, weights, last_first=True)
        held = tuple(Span(0, experts) for _ in weights)
    else:
        widths = tuple(Span(0, width) for _ in weights)
        held = apportion(experts, weights, last_first=True)
    if attention is AttentionSplit.WHOLE:
        heads = tuple(Span(0, spec.num_attention_heads) for _ in weights)
    else:
        heads = share_heads(spec, granules, weights)
    parts = zip(
        heads,
        held,
        widths,
        share_out(spec.shared_width, granules.shared, weights),
        share_out(spec.vocab_size, VOCAB_BLOCK, weights),
        strict=True,
    )
    return tuple(Part(*spans) for spans in parts)


def _group_unit(spec: ModelSpec, granules: Granules) -> int:
    """The heads of the smallest run of groups whose wo_b columns are whole granules."""
    groups = granules.wo_b // gcd(granules.wo_b, spec.o_lora_rank)
    return groups * spec.heads_per_group


def _head_unit(spec: ModelSpec, granules: Granules) -> int:
    """The smallest run of heads whose wo_a columns are whole granules."""
    return granules.wo_a // gcd(granules.wo_a, spec.head_dim)
