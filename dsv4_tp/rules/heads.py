"""A span of attention heads seen as output groups: which it touches, and with how many heads.

Heads of one output group are consecutive, so a span is at most a partial group, whole groups, and
another partial group.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from dsv4_tp.core import AttentionSplit, Part, Span
from dsv4_tp.modelspec import ModelSpec


@dataclass(frozen=True, slots=True)
class HeadRun:
    """`groups` consecutive output groups of which `heads` consecutive heads each are held."""

    groups: int
    heads: int


def head_runs(heads: Span, spec: ModelSpec) -> tuple[HeadRun, ...]:
    """The runs that `heads` is made of, in order; at most three, none if it is empty."""
    size = spec.heads_per_group
    runs: list[HeadRun] = []
    at = heads.start
    while at < heads.stop:
        whole = (heads.stop - at) // size
        if at % size == 0 and whole:
            runs.append(HeadRun(groups=whole, heads=size))
        else:
            runs.append(HeadRun(groups=1, heads=min(size - at % size, heads.stop - at)))
        at += runs[-1].groups * runs[-1].heads
    return tuple(runs)


def attention_of(parts: Sequence[Part]) -> AttentionSplit:
    """Whether each of several ranks with these parts computes all of the attention."""
    whole = len(parts) > 1 and len({part.heads for part in parts}) == 1
    return AttentionSplit.WHOLE if whole else AttentionSplit.SPLIT


def touched_groups(heads: Span, spec: ModelSpec) -> Span:
    """The output groups that have at least one head in `heads`."""
    if not len(heads):
        return Span(0, 0)
    size = spec.heads_per_group
    return Span(heads.start // size, -(-heads.stop // size))
