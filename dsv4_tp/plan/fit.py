"""Does a plan fit into the memory there is? And if not, what would."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from dsv4_tp.config import LONG_CHUNK
from dsv4_tp.core import CacheRows
from dsv4_tp.errors import PlanError
from dsv4_tp.plan.plan import MOST_RANKS, Plan
from dsv4_tp.plan.propose import propose
from dsv4_tp.rules import not_trained

_GB = 1e9
_SMALLEST_CHUNK = 16
_MODEST_CONTEXT = 8192  # less is not offered beside another change, nor taken unasked
_SPARE_BYTES = 10**9  # is left of a room by long chunks: a host that returns may have less free
_STEP = 1024  # tokens, of a context that nobody asked for
_HOPELESS = f"no context, no split and no {MOST_RANKS} ranks on hosts like these would fit"

Replan = Callable[[Sequence[int]], Plan]  # the same model with other weights


@dataclass(frozen=True, slots=True)
class Room:
    """Memory that some ranks share: that of their host."""

    name: str
    ranks: tuple[int, ...]
    nbytes: int  # that the ranks may use

    @property
    def per_rank(self) -> int:
        """An equal share of it."""
        return self.nbytes // len(self.ranks)


def misfits(
    plan: Plan, rooms: Sequence[Room], replan: Replan, speeds: Sequence[float] | None = None
) -> tuple[str, ...]:
    """A line for every room that is too small, then one with what would fit; none if all fits.

    `speeds` by rank are for the split that is proposed.
    """
    if fits(plan, rooms):
        return ()
    ways = list(_ways(plan, rooms, replan, speeds))
    advice = f"what would fit: {', or '.join(ways)}" if ways else _HOPELESS
    needed = zip(rooms, _needed(plan, rooms), strict=True)
    small = (_line(plan, room, need) for room, need in needed if need > room.nbytes)
    return (*small, advice)


def fits(plan: Plan, rooms: Sequence[Room]) -> bool:
    """Whether every room takes its ranks."""
    needed = zip(rooms, _needed(plan, rooms), strict=True)
    return all(need <= room.nbytes for room, need in needed)


def largest_context(plan: Plan, rooms: Sequence[Room]) -> int:
    """The most tokens of context with which it fits, up to the model's; 0 if none does."""
    tokens = range(1, plan.spec.max_position_embeddings + 1)
    return bisect_right(tokens, 0, key=lambda n: not fits(replace(plan, context=n), rooms))


def sized(plan: Plan, rooms: Sequence[Room], *, context: int | None, chunk: int | None) -> Plan:
    """The plan with as much context, then as long chunks, as fit, where none were asked for."""
    plan = plan if context else _with_context_that_fits(plan, rooms)
    return plan if chunk else _with_chunk_that_fits(plan, rooms)


def with_modest_context(replan: Replan) -> Replan:
    """Plans of a context that is good for a conversation, where the model's is longer."""

    def modest(weights: Sequence[int]) -> Plan:
        plan = replan(weights)
        return replace(plan, context=min(plan.context, _MODEST_CONTEXT))

    return modest


def proposed_split(
    rooms: Sequence[Room], replan: Replan, speeds: Sequence[float] | None = None
) -> tuple[int, ...] | None:
    """Weights by rank with which all rooms take their ranks; None if none were found."""
    memory = {rank: room.per_rank for room in rooms for rank in room.ranks}

    def needs(weights: Sequence[int]) -> Sequence[int] | None:
        try:
            return replan(weights).needed_bytes
        except PlanError:
            return None

    return propose([memory[rank] for rank in sorted(memory)], needs, speeds)


def _with_context_that_fits(plan: Plan, rooms: Sequence[Room]) -> Plan:
    """The plan with as much of its context as fits; as it is where that would be little."""
    most = largest_context(plan, rooms)
    if most == plan.context or most < _MODEST_CONTEXT:
        return plan
    return replace(plan, context=most // _STEP * _STEP)


def _with_chunk_that_fits(plan: Plan, rooms: Sequence[Room]) -> Plan:
    """The plan with long chunks, where several ranks have memory for them and some to spare."""
    longer = replace(plan, chunk=max(plan.chunk, LONG_CHUNK))
    spared = [replace(room, nbytes=room.nbytes - _SPARE_BYTES) for room in rooms]
    return longer if len(plan.parts) > 1 and fits(longer, spared) else plan


def _ways(
    plan: Plan, rooms: Sequence[Room], replan: Replan, speeds: Sequence[float] | None
) -> Iterator[str]:
    """What one change would do; two changes at once only where that is not possible."""
    context = largest_context(plan, rooms)
    if context:
        yield f"a context of {context} tokens"
    if fits(replace(plan, asked_prefix_bytes=0), rooms):
        yield "no prefix cache (0 GB)"
    if not not_trained(plan.spec) and fits(replace(plan, cache_rows=CacheRows.TRAINED), rooms):
        yield "cache_rows: trained"
    if chunk := _smaller_chunk(plan, rooms):
        yield f"prefill_chunk {chunk}"
    if split := proposed_split(rooms, replan, speeds):
        yield _weights(split)
        return

    modest = with_modest_context(replan)
    if not context and (split := proposed_split(rooms, modest, speeds)):
        yield _and_context(_weights(split), replan(split), rooms)
    if more := _more_rooms(rooms, replan):
        yield _hosts(more, len(rooms))
    elif not context and (more := _more_rooms(rooms, modest)):
        yield _and_context(_hosts(more, len(rooms)), replan(more.split), more.rooms)


@dataclass(frozen=True, slots=True)
class _More:
    """Rooms with enough added to them, and the split for them."""

    rooms: tuple[Room, ...]
    split: tuple[int, ...]


def _more_rooms(rooms: Sequence[Room], replan: Replan) -> _More | None:
    """The fewest more hosts, with a rank each and as much memory as the largest share now."""
    count = sum(len(room.ranks) for room in rooms)
    size = max(room.per_rank for room in rooms)
    for more in range(count + 1, MOST_RANKS + 1):
        wider = (*rooms, *(Room("", (rank,), size) for rank in range(count, more)))
        if split := proposed_split(wider, replan):
            return _More(wider, split)
    return None


def _hosts(more: _More, before: int) -> str:
    count = len(more.rooms) - before
    hosts = "1 more host" if count == 1 else f"{count} more hosts"
    return f"{hosts} with {_gb(more.rooms[-1].nbytes)} GB and {_weights(more.split)}"


def _and_context(change: str, plan: Plan, rooms: Sequence[Room]) -> str:
    return f"{change} and a context of {largest_context(plan, rooms)} tokens"


def _weights(split: Sequence[int]) -> str:
    return f"weights {':'.join(map(str, split))}"


def _smaller_chunk(plan: Plan, rooms: Sequence[Room]) -> int:
    """The largest half, quarter and so on of the chunk with which it fits; 0 if none does."""
    chunk = plan.chunk // 2
    while chunk >= _SMALLEST_CHUNK and not fits(replace(plan, chunk=chunk), rooms):
        chunk //= 2
    return chunk if chunk >= _SMALLEST_CHUNK else 0


def _needed(plan: Plan, rooms: Sequence[Room]) -> list[int]:
    """What the ranks of each room need together."""
    needed = plan.needed_bytes
    return [sum(needed[rank] for rank in room.ranks) for room in rooms]


def _line(plan: Plan, room: Room, need_bytes: int) -> str:
    ranks = "rank" if len(room.ranks) == 1 else "ranks"
    need = "needs" if len(room.ranks) == 1 else "need"
    kinds = {
        "weights": sum(plan.rank_bytes[rank].total for rank in room.ranks),
        "caches": plan.cache_bytes * len(room.ranks),
        "prefix cache": plan.prefix_bytes * len(room.ranks),
        "buffers": sum(plan.buffer_bytes[rank] for rank in room.ranks),
    }
    return (
        f"{room.name and f'{room.name}: '}{ranks} {', '.join(map(str, room.ranks))} {need} "
        f"{_gb(need_bytes)} GB at a context of {plan.context} tokens "
        f"({', '.join(f'{kind} {_gb(size)}' for kind, size in kinds.items())}), "
        f"{_gb(room.nbytes)} GB may be used"
    )


def _gb(count: int) -> str:
    return f"{count / _GB:.1f}" if count >= _GB / 10 else f"{count / _GB:.4f}"
