"""`dsv4-tp plan`: what each rank will need, and whether it fits.

Reads headers only and never imports MLX.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any

from dsv4_tp.cli.inputs import Checkpoint, read_checkpoint
from dsv4_tp.cli.ledger import ledger_of
from dsv4_tp.cli.memory import Memory, read_memory
from dsv4_tp.cli.speeds import Joined, chips_of, forecasts
from dsv4_tp.cli.tables import gigabytes, note, table
from dsv4_tp.cli.wish import Wish, wish
from dsv4_tp.config.precision import settle_dtype
from dsv4_tp.core import AttentionSplit, CacheRows, Part
from dsv4_tp.errors import PlanError
from dsv4_tp.plan import (
    Plan,
    Replan,
    fits,
    make_plan,
    misfits,
    proposed_split,
    sized,
    with_modest_context,
)


def run(
    *,
    memory: str | None,
    bandwidth: str | None,
    chips: str | None,
    link: str,
    sum_us: float | None,
    ledger: int | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Print the plan that the options ask for; PlanError if it does not fit into `memory`."""
    named = chips_of(chips)
    told = read_memory(memory, bandwidth, named)
    hosts = len(told.sizes) if told else len(named)
    nothing_said = not any(given[way] is not None for way in ("ranks", "split", "hosts", "file"))
    if hosts and nothing_said:
        given["ranks"] = hosts
    asked = wish(**given)
    checkpoint = read_checkpoint(asked.model, mtp=asked.mtp > 0)
    replan = _replan(asked, checkpoint)
    open_split = told is not None and nothing_said
    if told and open_split:
        asked = _with_proposed_split(asked, told, replan)
    result = replan(asked.weights)
    if told:
        result = _fitting(result, asked, told, replan)
    reads = None if ledger is None else ledger_of(result, replan, ledger)
    joined = Joined(link, sum_us)
    other = _otherwise(result, asked, checkpoint, told) if len(named) > 1 else None
    speeds = forecasts(result, other, asked, named, joined) if named else None
    more, notes = [each for each in (reads, speeds) if each], checkpoint.catalog.notes
    if as_json:
        _print_json(_as_json(result, asked, notes), *(each.as_json() for each in more))
        return
    print(_as_table(result), *(each.as_table() for each in more), sep="\n\n")
    if open_split:
        note(f"proposed: --split {':'.join(map(str, asked.weights))}")
    for line in notes:
        note(f"checkpoint: {line}")


def _print_json(*parts: Mapping[str, object]) -> None:
    """As one object."""
    print(json.dumps({key: value for part in parts for key, value in part.items()}))


def _replan(asked: Wish, checkpoint: Checkpoint) -> Replan:
    """The plan of these files for any weights."""
    return partial(
        make_plan,
        checkpoint.spec,
        checkpoint.catalog,
        expert_split=asked.experts,
        attention=asked.attention,
        dtype=settle_dtype(asked.dtype, device="metal", torch_dtype=checkpoint.spec.torch_dtype),
        context=asked.context,
        chunk=asked.chunk,
        cache_rows=asked.cache_rows,
        batch=asked.batch,
        prefix_bytes=asked.prefix_bytes,
    )


def _otherwise(
    result: Plan, asked: Wish, checkpoint: Checkpoint, told: Memory | None
) -> Plan | None:
    """The same with attention the other way; None, and a word on it, if that cannot be."""
    (turned,) = (way for way in AttentionSplit if way is not asked.attention)
    asked = replace(asked, attention=turned, context=result.context, chunk=result.chunk)
    replan = _replan(asked, checkpoint)
    try:
        other = replan(asked.weights)
    except PlanError as error:
        note(f"attention: {turned} is not forecast: {error}")
        return None
    if told and not fits(other, told.rooms(asked)):
        note(f"attention: {turned} would not fit at a context of {result.context} tokens")
        return None
    return other


def _with_proposed_split(asked: Wish, told: Memory, replan: Replan) -> Wish:
    """Equal ranks if no split was found; what is wrong with them is then said."""
    rooms, speeds = told.rooms(asked), told.speeds(asked)
    split = proposed_split(rooms, replan, speeds)
    if not split and asked.context is None:
        split = proposed_split(rooms, with_modest_context(replan), speeds)
    return replace(asked, weights=split or asked.weights)


def _fitting(result: Plan, asked: Wish, told: Memory, replan: Replan) -> Plan:
    """The plan, with what fits of what was not asked for; PlanError if it does not."""
    rooms, most = told.rooms(asked), result.context
    result = sized(result, rooms, context=asked.context, chunk=asked.chunk)
    if problems := misfits(result, rooms, replan, told.speeds(asked)):
        raise PlanError("; ".join(problems))
    if result.context < most:
        note(f"context: {result.context} tokens, of the model's {most}, fit into the memory given")
    return result


def _as_table(result: Plan) -> str:
    """Kinds of tensors, caches, snapshots and buffers down, ranks across, in GB."""
    held = [dict(rank.kinds) for rank in result.rank_bytes]
    rows = [_row(kind, [rank[kind] for rank in held]) for kind in held[0]]
    rows += [
        _row("weights", [rank.total for rank in result.rank_bytes]),
        _row(_cache(result), [result.cache_bytes] * len(held)),
        _row("prefix cache", [result.prefix_bytes] * len(held)),
        _row("buffers", result.buffer_bytes),
        _row("total", result.needed_bytes),
    ]
    return table(["GB", *(f"rank {rank}" for rank in range(len(held)))], rows)


def _cache(result: Plan) -> str:
    rows = "" if result.cache_rows is CacheRows.EXACT else f", {result.cache_rows} rows"
    return f"cache at {result.context} tokens{rows}"


def _row(name: str, sizes: Sequence[int]) -> list[str]:
    return [name, *map(gigabytes, sizes)]


def _as_json(result: Plan, asked: Wish, notes: tuple[str, ...]) -> dict[str, object]:
    ranks = zip(asked.weights, result.parts, result.rank_bytes, strict=True)
    return {
        "model": asked.model,
        "experts": asked.experts.value,
        "attention": asked.attention.value,
        "dtype": result.dtype.value,
        "context": result.context,
        "prefill_chunk": result.chunk,
        "cache_rows": result.cache_rows.value,
        "ranks": [
            {"rank": rank, "weight": weight, "total_bytes": held.total, "bytes": dict(held.kinds)}
            | {"cache_bytes": result.cache_bytes, "prefix_cache_bytes": result.prefix_bytes}
            | {"buffer_bytes": result.buffer_bytes[rank]}
            | {"needed_bytes": result.needed_bytes[rank], "part": _spans(part)}
            for rank, (weight, part, held) in enumerate(ranks)
        ],
        "notes": list(notes),
    }


def _spans(part: Part) -> dict[str, list[int]]:
    spans = ((field.name, getattr(part, field.name)) for field in fields(part))
    return {name: [span.start, span.stop] for name, span in spans}
