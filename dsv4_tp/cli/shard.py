"""`dsv4-tp shard`: a checkpoint's bytes sorted by rank, once. Never imports MLX."""

import json
from functools import partial
from pathlib import Path
from typing import Any

from dsv4_tp import demo
from dsv4_tp.cli.bars import Bars, somebody_looks
from dsv4_tp.cli.tables import gigabytes, note, table
from dsv4_tp.cli.wish import wish
from dsv4_tp.errors import ConfigError
from dsv4_tp.prepared import Project, fill_set, project, start_set


def run(*, out: Path, only: tuple[int, ...], as_json: bool, **plan: Any) -> None:
    """Write the set that the options ask for."""
    asked = wish(**plan)
    made = project(demo.model_dir(asked.model), asked.weights, asked.experts, asked.attention)
    ranks = _ranks(only, len(asked.weights))
    small = {name: file.read_bytes() for name, file in made.small_files.items()}
    start_set(out, made.manifest, small)
    files = made.of(ranks)
    with Bars() as bars:
        fill_set(out, files, partial(bars.show, out.name) if somebody_looks() else _to_nobody)
    if as_json:
        print(json.dumps(_as_json(made, out, ranks)))
        return
    rows = [[str(rank), str(len(made.of([rank]))), gigabytes(_bytes(made, rank))] for rank in ranks]
    print(table(["rank", "files", "GB"], rows))
    note(f"for {made.manifest.purpose}; launch it with --model {out}")


def _to_nobody(_done: int, _total: int) -> None:
    pass


def _ranks(only: tuple[int, ...], count: int) -> tuple[int, ...]:
    wrong = [rank for rank in only if rank >= count]
    if wrong:
        raise ConfigError(f"--rank {wrong[0]}: the plan has ranks 0 to {count - 1}")
    return tuple(sorted(set(only))) or tuple(range(count))


def _bytes(made: Project, rank: int) -> int:
    return sum(file.nbytes for file in made.of([rank]))


def _as_json(made: Project, out: Path, ranks: tuple[int, ...]) -> dict[str, object]:
    return {
        "out": str(out),
        "fingerprint": made.manifest.fingerprint,
        "ranks": [
            {"rank": rank, "files": len(made.of([rank])), "bytes": _bytes(made, rank)}
            for rank in ranks
        ],
    }
