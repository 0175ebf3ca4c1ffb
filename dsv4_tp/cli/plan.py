"""`dsv4-tp plan`: what each rank will hold. Reads headers only and never imports MLX."""

import json
from dataclasses import dataclass, fields
from pathlib import Path

from dsv4_tp.cli.inputs import cluster, default_file, read_checkpoint
from dsv4_tp.cli.tables import gigabytes, note, table
from dsv4_tp.config import model_path, parse_weights
from dsv4_tp.core import DType, ExpertSplit, Part
from dsv4_tp.errors import ConfigError
from dsv4_tp.plan import Plan, make_plan


@dataclass(frozen=True, slots=True)
class _Wish:
    """What is to be planned."""

    model: str
    weights: tuple[int, ...]
    experts: ExpertSplit = ExpertSplit.WIDTH
    dtype: DType | None = None  # None: as stored


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
    wish = _wish(model, _weights(ranks=ranks, split=split, hosts=hosts, file=file), hosts, file)
    checkpoint = read_checkpoint(wish.model)
    result = make_plan(
        checkpoint.spec,
        checkpoint.catalog,
        wish.weights,
        expert_split=wish.experts,
        dtype=wish.dtype,
    )
    if as_json:
        print(json.dumps(_as_json(result, wish, checkpoint.catalog.notes)))
        return
    print(_as_table(result))
    for line in checkpoint.catalog.notes:
        note(f"checkpoint: {line}")


def _weights(
    *, ranks: int | None, split: str | None, hosts: str | None, file: Path | None
) -> tuple[int, ...] | None:
    """The ranks' weights the options state; None: the cluster does."""
    ways = {"--ranks": ranks, "--split": split, "--hosts": hosts, "-f": file}
    given = [way for way, value in ways.items() if value is not None]
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)} all say how many ranks; give one of them")
    if ranks is not None:
        return (1,) * ranks
    return None if split is None else parse_weights(split)


def _wish(
    model: str | None, weights: tuple[int, ...] | None, hosts: str | None, file: Path | None
) -> _Wish:
    if model is not None and weights is not None:
        return _Wish(model_path(model, Path.cwd()), weights)
    file = default_file(file, hosts)
    if file is None and hosts is None:
        missing = "--model PATH" if weights else "--ranks N, --split 3:5, --hosts A,B or -f FILE"
        raise ConfigError(f"there is no ./cluster.yaml; give {missing}")
    config = cluster(hosts=hosts, file=file, model=model, dtype=None)
    return _Wish(config.model.path, weights or config.weights, config.experts, config.model.dtype)


def _as_table(result: Plan) -> str:
    """Kinds of tensors down, ranks across, in GB."""
    held = [dict(rank.kinds) for rank in result.rank_bytes]
    rows = [[kind, *(gigabytes(rank[kind]) for rank in held)] for kind in held[0]]
    totals = ["total", *(gigabytes(rank.total) for rank in result.rank_bytes)]
    return table(["GB", *(f"rank {rank}" for rank in range(len(held)))], [*rows, totals])


def _as_json(result: Plan, wish: _Wish, notes: tuple[str, ...]) -> dict[str, object]:
    ranks = zip(wish.weights, result.parts, result.rank_bytes, strict=True)
    return {
        "model": wish.model,
        "experts": wish.experts.value,
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
