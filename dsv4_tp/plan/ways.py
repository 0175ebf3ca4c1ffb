"""Attention by heads or whole on each rank: which of both is faster, and from which link on.

Whole attention saves a sum in each layer. It costs what each rank then reads beyond its share of
the heads, which does not depend on the link. So there is a time of a sum from which it pays.
"""

from dataclasses import dataclass

from dsv4_tp.core import AttentionSplit
from dsv4_tp.plan.plan import Plan
from dsv4_tp.plan.speed import Chunk, Cluster, Step, collectives


@dataclass(frozen=True, slots=True)
class Way:
    """What a cluster does with attention shared out so."""

    decode: Step
    prefill: Chunk
    collectives: int  # of a token


@dataclass(frozen=True, slots=True)
class Ways:
    """Both, behind `context` tokens, where a sum takes `sum_s`."""

    context: int
    split: Way
    whole: Way
    sum_s: float
    more_bytes: int  # that a rank needs for whole attention, at most

    @property
    def whole_pays_from_s(self) -> float:
        """The time of a sum from which whole attention decodes faster."""
        more_s = _own_s(self.whole.decode) - _own_s(self.split.decode)
        return max(0.0, more_s) / (self.split.collectives - self.whole.collectives)

    @property
    def faster(self) -> AttentionSplit:
        """The way that decodes faster."""
        whole = self.sum_s > self.whole_pays_from_s
        return AttentionSplit.WHOLE if whole else AttentionSplit.SPLIT

    def of(self, attention: AttentionSplit) -> Way:
        """One of both."""
        return self.whole if attention is AttentionSplit.WHOLE else self.split


def ways(cluster: Cluster, split: Plan, whole: Plan, context: int) -> Ways:
    """Both ways of sharing out the attention of one model over the ranks of `cluster`."""
    assert split.attention is AttentionSplit.SPLIT, "the plan with heads shared out comes first"
    assert whole.attention is AttentionSplit.WHOLE, "a single rank has no other way"
    of_split, of_whole = (
        Way(cluster.decode(plan, context), cluster.prefill(plan, context), collectives(plan))
        for plan in (split, whole)
    )
    needed = zip(whole.needed_bytes, split.needed_bytes, strict=True)
    more_bytes = max(more - less for more, less in needed)
    return Ways(context, of_split, of_whole, cluster.sum_s, more_bytes)


def _own_s(step: Step) -> float:
    """What a rank does by itself."""
    return step.bytes_s + step.operations_s
