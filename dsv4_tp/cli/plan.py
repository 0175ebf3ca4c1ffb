"""`dsv4-tp plan`: what each rank will hold. Reads headers only and never imports MLX."""

import json
from dataclasses import fields
from pathlib import Path

from dsv4_tp.cli.inputs import read_checkpoint
from dsv4_tp.cli.tables import gigabytes, note, table
from dsv4_tp.cli.wish import Wish, wish
from dsv4_tp.core import Part
from dsv4_tp.plan import Plan, make_plan


def run(
    *,
    model: str | None,
    ranks: int | None,
    split: str | None,
    hosts: str | None,
    file: Path | None,
    as_json: bool,
) -> None:
    """Print the plan that the options ask for."""
    asked = wish(model=model, ranks=ranks, split=split, hosts=hosts, file=file)
    checkpoint = read_checkpoint(asked.model)
    result = make_plan(
        checkpoint.spec,
        checkpoint.catalog,
        asked.weights,
        expert_split=asked.experts,
        dtype=asked.dtype,
    )
    if as_json:
        print(json.dumps(_as_json(result, asked, checkpoint.catalog.notes)))
        return
    print(_as_table(result))
    for line in checkpoint.catalog.notes:
        note(f"checkpoint: {line}")


def _as_table(result: Plan) -> str:
    """Kinds of tensors down, ranks across, in GB."""
    held = [dict(rank.kinds) for rank in result.rank_bytes]
    rows = [[kind, *(gigabytes(rank[kind]) for rank in held)] for kind in held[0]]
    totals = ["total", *(gigabytes(rank.total) for rank in result.rank_bytes)]
    return table(["GB", *(f"rank {rank}" for rank in range(len(held)))], [*rows, totals])


def _as_json(result: Plan, asked: Wish, notes: tuple[str, ...]) -> dict[str, object]:
    ranks = zip(asked.weights, result.parts, result.rank_bytes, strict=True)
    return {
        "model": asked.model,
        "experts": asked.experts.value,
        "ranks": [
            {"rank": rank, "weight": weight, "total_bytes": held.total, "bytes": dict(held.kinds)}
            | {"part": _spans(part)}
            for rank, (weight, part, held) in enumerate(ranks)
        ],
        "notes": list(notes),
    }


def _spans(part: Part) -> dict[str, list[int]]:
    spans = ((field.name, getattr(part, field.name)) for field in fields(part))
    return {name: [span.start, span.stop] for name, span in spans}
