"""How fast a cluster will be: predicted from counts and from what chips and links are known to do.

A decode step waits for three things, one after the other:

    bytes        the slowest rank reads its weights and rows, at REACHED of its memory's bandwidth
    operations   each takes OPERATION_S beside its bytes: it is encoded, launched and waited for
    collectives  two sums a layer and one packet for the choice, each as long as the link needs; of
                 whole attention, one sum a layer

A chunk of a long prompt waits for the slowest rank's products, or its bytes if they take longer,
and for the sums, which are long then. REACHED, OPERATION_S and PRODUCTS were fitted to figures of
single Macs, and hold for pairs of them as `benchmarks/peers.py` tells.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dsv4_tp.core import MOST_IN_MESH, AttentionSplit, Kernels
from dsv4_tp.modelspec import ModelSpec
from dsv4_tp.plan.cache import dtype_bytes
from dsv4_tp.plan.chips import Chip, Link
from dsv4_tp.plan.plan import Plan
from dsv4_tp.plan.reads import step_reads
from dsv4_tp.plan.work import token_flop

REACHED = 0.70  # of a memory's bandwidth
OPERATION_S = 0.58e-6
PRODUCTS = 0.81  # of what chips do in long prompts, by MLX
DRAFTS_RIGHT = 0.85  # of drafts of depth 1, as others have seen of the released model

# Operations of MLX in a layer for a token, by compress ratio (benchmarks/results/suite.json).
OPERATIONS: Mapping[Kernels, Mapping[int, int]] = {
    Kernels.PLAIN: {0: 327, 4: 369, 128: 337},
    Kernels.METAL: {0: 112, 4: 146, 128: 122},
}
_LAYER_SUMS = {AttentionSplit.SPLIT: 2, AttentionSplit.WHOLE: 1}


@dataclass(frozen=True, slots=True)
class Step:
    """A decode step; the parts follow each other."""

    bytes_s: float
    operations_s: float
    collectives_s: float
    tokens: float = 1.0  # that come of it

    @property
    def total_s(self) -> float:
        """All of it."""
        return self.bytes_s + self.operations_s + self.collectives_s

    @property
    def tokens_s(self) -> float:
        """Tokens per second of one sequence."""
        return self.tokens / self.total_s

    @property
    def limit(self) -> str:
        """What takes the largest part."""
        return _largest(
            bytes=self.bytes_s, operations=self.operations_s, collectives=self.collectives_s
        )


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk of a long prompt; the sums follow what each rank does."""

    products_s: float
    bytes_s: float
    sums_s: float
    tokens: int

    @property
    def tokens_s(self) -> float:
        """Tokens per second."""
        return self.tokens / (max(self.products_s, self.bytes_s) + self.sums_s)

    @property
    def limit(self) -> str:
        """What takes the largest part."""
        return _largest(products=self.products_s, bytes=self.bytes_s, sums=self.sums_s)


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a plan runs on: the chip of each rank, the link between hosts, the kernels.

    `divided`: each rank looks up pooled rows for its share of a prompt's tokens; else, for all.
    `measured_sum_s`: what a short sum over all ranks was seen to take; None: as the link says.
    """

    chips: tuple[Chip, ...]
    link: Link
    kernels: Kernels = Kernels.PLAIN
    divided: bool = True
    measured_sum_s: float | None = None

    @property
    def sum_s(self) -> float:
        """What a short sum over all ranks takes; nothing for a single one."""
        if self.measured_sum_s is not None:
            return self.measured_sum_s if len(self.chips) > 1 else 0.0
        return self._hops * self.link.hop_s

    def decode(self, plan: Plan, context: int, *, drafts: int = 0) -> Step:
        """A step of one sequence behind `context` tokens, in which `drafts` are made and verified.

        A draft takes what a layer takes, and the head.
        """
        how, layers = (plan.spec, plan.dtype, plan.cache_rows), plan.spec.num_hidden_layers
        reads = [
            step_reads(dict(held.kinds), *how, batch=1, context=context, drafts=drafts)
            for held in plan.rank_bytes
        ]
        again = [_drafts_read(each, layers, drafts, mtp=plan.mtp) for each in reads]
        fed = [sum(each.values()) + more for each, more in zip(reads, again, strict=True)]
        more_layers = 1 + drafts / layers
        sums = collectives(plan) + drafts * (_LAYER_SUMS[plan.attention] + 1)
        return Step(
            self._slowest_read_s(fed),
            operations(plan.spec, self.kernels) * OPERATION_S * more_layers,
            self.sum_s * sums,
            sum(DRAFTS_RIGHT**depth for depth in range(drafts + 1)),
        )

    def prefill(self, plan: Plan, context: int) -> Chunk:
        """A chunk in the middle of a prompt of `context` tokens: neither the first nor the last."""
        spec, tokens, ranks = plan.spec, min(plan.chunk, context), len(self.chips)
        heads = [len(part.heads) for part in plan.parts]
        products = [
            token_flop(
                spec,
                dict(held.counts),
                heads=own,
                context=context // 2,
                index_share=(own / sum(heads)) if self.divided else 1.0,
            )
            for held, own in zip(plan.rank_bytes, heads, strict=True)
        ]
        ways = zip(products, self.chips, strict=True)
        token_s = max(sum(p.values()) / (chip.products_flop_s * PRODUCTS) for p, chip in ways)
        sent = tokens * _summed_bytes(plan, divided=self.divided) * 2 * (ranks - 1) / ranks
        read_s = self._slowest_read_s([held.total for held in plan.rank_bytes])
        return Chunk(tokens * token_s, read_s, sent / self.link.bytes_s, tokens)

    @property
    def _hops(self) -> int:
        """Of a short sum: one, where a cable joins each two hosts."""
        others = len(self.chips) - 1
        ring = self.link.ring or len(self.chips) > MOST_IN_MESH
        return others if ring else min(others, 1)

    def _slowest_read_s(self, sizes: Sequence[int]) -> float:
        ways = zip(sizes, self.chips, strict=True)
        return max(size / (chip.bandwidth_bytes_s * REACHED) for size, chip in ways)


def _largest(**parts: float) -> str:
    return max(parts, key=parts.__getitem__)


def operations(spec: ModelSpec, kernels: Kernels) -> int:
    """Of all layers, for a token."""
    return sum(OPERATIONS[kernels][ratio] for ratio in spec.compress_ratios)


def collectives(plan: Plan) -> int:
    """Of a token."""
    return _LAYER_SUMS[plan.attention] * plan.spec.num_hidden_layers + 1


def _drafts_read(reads: Mapping[str, int], layers: int, drafts: int, *, mtp: bool) -> int:
    """What drafting reads beside `reads`, which have the MTP stage in them, once, if it is held."""
    head = reads.get("head", 0)
    layer = (sum(reads.values()) - head) // (layers + mtp)
    return (drafts - mtp) * layer + drafts * head


def _summed_bytes(plan: Plan, *, divided: bool) -> int:
    """Of a token, by all layers: the sums of each, and numbers of rows where indexers choose."""
    spec = plan.spec
    sums = (collectives(plan) - 1) * spec.hidden_size * dtype_bytes(plan.dtype)
    numbers = 4 * spec.index_topk * spec.compress_ratios.count(4)
    return sums + (numbers if divided and len(plan.parts) > 1 else 0)
