"""A plan: which part of the model each rank holds, and what that weighs."""

from collections.abc import Sequence
from dataclasses import dataclass

from dsv4_tp.config import BATCH, PREFILL_CHUNK
from dsv4_tp.config.precision import settle_dtype
from dsv4_tp.core import AttentionSplit, CacheRows, DType, ExpertSplit, Part
from dsv4_tp.errors import PlanError
from dsv4_tp.layouts import Catalog
from dsv4_tp.modelspec import ModelSpec
from dsv4_tp.plan.buffers import Buffers
from dsv4_tp.plan.cache import cache_bytes, room_bytes
from dsv4_tp.plan.memory import RankBytes, rank_bytes
from dsv4_tp.plan.partition import Granules, partition
from dsv4_tp.rules import Split, attention_of, not_trained, rule_of

MOST_RANKS = 16
_PREFIX_BYTES = 2 * 10**9  # for snapshots of prompts, unless something else is asked for


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that is decided before a process starts; rank r holds `parts[r]`."""

    spec: ModelSpec
    parts: tuple[Part, ...]
    expert_split: ExpertSplit
    rank_bytes: tuple[RankBytes, ...]
    dtype: DType  # of activations
    context: int  # tokens that a sequence may have, prompt and answer
    chunk: int = PREFILL_CHUNK  # most tokens fed at a time
    cache_rows: CacheRows = CacheRows.EXACT
    batch: int = BATCH  # most sequences at a time
    mtp: bool = False  # the first MTP stage has a cache, too
    asked_prefix_bytes: int | None = None  # what snapshots may take; None: nothing was asked for

    @property
    def attention(self) -> AttentionSplit:
        """Whether each of several ranks computes all of it; of one this means nothing."""
        return attention_of(self.parts)

    @property
    def prefix_bytes(self) -> int:
        """The most that snapshots of prompts take on any rank.

        If nothing is asked for, as much as the caches of one sequence, up to 2 GB.
        """
        if self.asked_prefix_bytes is not None:
            return self.asked_prefix_bytes
        spec, rows = self.spec, self.cache_rows
        one = cache_bytes(spec, self.context, self.dtype, rows, mtp=self.mtp)
        return min(one, _PREFIX_BYTES)

    @property
    def cache_bytes(self) -> int:
        """The most that any rank's caches hold; all hold the same."""
        spec, rows = self.spec, self.cache_rows
        return room_bytes(spec, self.context, self.batch, self.dtype, rows, mtp=self.mtp)

    @property
    def buffer_bytes(self) -> tuple[int, ...]:
        """By rank, the most beside weights and caches: a layer twice in loading, or a chunk."""
        fed = (
            Buffers(self.spec, part, self.dtype, self.context, self.chunk, self.cache_rows).total
            for part in self.parts
        )
        return tuple(max(b, r.largest_layer) for b, r in zip(fed, self.rank_bytes, strict=True))

    @property
    def needed_bytes(self) -> tuple[int, ...]:
        """By rank: weights, caches, snapshots and buffers."""
        kept, buffers = self.cache_bytes + self.prefix_bytes, self.buffer_bytes
        return tuple(
            held.total + kept + b for held, b in zip(self.rank_bytes, buffers, strict=True)
        )


def make_plan(
    spec: ModelSpec,
    catalog: Catalog,
    weights: Sequence[int],
    *,
    expert_split: ExpertSplit,
    attention: AttentionSplit = AttentionSplit.SPLIT,
    dtype: DType | None = None,
    context: int | None = None,
    chunk: int | None = None,
    batch: int = BATCH,
    prefix_bytes: int | None = None,
    cache_rows: CacheRows = CacheRows.EXACT,
) -> Plan:
    """Share the model out over `len(weights)` ranks in proportion to `weights`.

    Bytes are those of unquantised weights held as `dtype` (None: as stored), of sequences of up
    to `context` tokens (None: what the model was made for) whose rows are held as `cache_rows`
    says, of `chunk` tokens fed at a time (None: PREFILL_CHUNK), of `batch` sequences at a time, and
    of `prefix_bytes` for snapshots (None: see `Plan`).

    Raises:
        PlanError: too many ranks, a weight that is not positive, a rank left with nothing, a
            longer context than the model's, or trained rows of a model that has no such form.
    """
    _check_caches(spec, context, cache_rows)
    if not 1 <= len(weights) <= MOST_RANKS:
        raise PlanError(f"{len(weights)} ranks; a model is split over 1 to {MOST_RANKS}")
    if min(weights) <= 0:
        raise PlanError(f"split {_ratio(weights)}: every rank's share must be positive")
    parts = partition(spec, granules(catalog), weights, expert_split, attention)
    _check_parts(spec, parts, weights)
    held = tuple(rank_bytes(spec, catalog, part, dtype) for part in parts)
    acts = settle_dtype(dtype, device="metal", torch_dtype=spec.torch_dtype)
    most = context or spec.max_position_embeddings
    caches = (most, chunk or PREFILL_CHUNK, cache_rows, batch, catalog.has_mtp)
    return Plan(spec, parts, expert_split, held, acts, *caches, prefix_bytes)


def _check_parts(spec: ModelSpec, parts: Sequence[Part], weights: Sequence[int]) -> None:
    own_heads = attention_of(parts) is AttentionSplit.SPLIT
    idle = [rank for rank, part in enumerate(parts) if _holds_nothing(part, own_heads=own_heads)]
    if idle:
        raise PlanError(
            f"split {_ratio(weights)}: rank {idle[0]} of {len(weights)} would hold nothing of "
            f"{spec.num_attention_heads} heads, {spec.n_routed_experts} experts of width "
            f"{spec.moe_intermediate_size}, {spec.vocab_size} words; take fewer or more equal ranks"
        )


def _check_caches(spec: ModelSpec, context: int | None, rows: CacheRows) -> None:
    longest = spec.max_position_embeddings
    if context is not None and context > longest:
        raise PlanError(f"a context of {context} tokens; the model's is {longest} at most")
    if rows is CacheRows.TRAINED and (why := not_trained(spec)):
        raise PlanError(f"cache_rows: trained: {why}; take `exact`")


def granules(catalog: Catalog) -> Granules:
    """At which columns this catalog's tensors may be cut, from the formats they have."""
    return Granules(
        wo_a=_granule(catalog, Split.GROUP_BLOCKS),
        wo_b=_granule(catalog, Split.GROUP_COLUMNS),
        experts=_granule(catalog, Split.EXPERT_COLUMNS),
        shared=_granule(catalog, Split.SHARED_COLUMNS),
    )


def _granule(catalog: Catalog, split: Split) -> int:
    return max(
        source.format.granule
        for source in catalog.sources
        if rule_of(source.tensor.name).split is split
    )


def _holds_nothing(part: Part, *, own_heads: bool) -> bool:
    """Heads that all ranks hold are none of its own."""
    heads, experts = own_heads and len(part.heads), len(part.experts) * len(part.expert_width)
    return not any((heads, experts, len(part.shared_width), len(part.vocab)))


def _ratio(weights: Sequence[int]) -> str:
    return ":".join(str(weight) for weight in weights)
