"""`dsv4-tp doctor`: what keeps a cluster from running. Never imports MLX."""

import asyncio
import json
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path

import click

from dsv4_tp.cli.inputs import Running, cluster, default_file, read_checkpoint
from dsv4_tp.cli.tables import left_table, note
from dsv4_tp.config import DEMO, ClusterConfig
from dsv4_tp.config.precision import settle_dtype
from dsv4_tp.config.rdma import given_rdma
from dsv4_tp.doctor.evidence import Case
from dsv4_tp.doctor.examine import examine
from dsv4_tp.doctor.ladder import EVERYWHERE, Row, State
from dsv4_tp.errors import ConfigError, Dsv4Error, InputError
from dsv4_tp.plan import make_plan, with_modest_context

_TOLD = (State.WARN, State.FAIL)


def run(
    *,
    model: str | None,
    hosts: str | None,
    file: Path | None,
    host: str | None,
    record: Path | None,
    as_json: bool,
    backend: str | None,
) -> None:
    """Print the rows; Dsv4Error if one of them failed."""
    file = default_file(file, hosts)
    given = None if hosts is None else DEMO
    try:
        running = Running(backend=backend)
        config = cluster(hosts=hosts, file=file, model=model or given, running=running)
        given_rdma(config)
    except ConfigError as error:
        if hosts is not None or file is None:
            raise  # the command line is wrong, not the cluster
        remedy = "the sample in README.md shows every key"
        rows = (Row("config", EVERYWHERE, "", State.FAIL, str(error), "", remedy),)
    else:
        if host is not None and host not in [each.name for each in config.hosts]:
            names = ", ".join(each.name for each in config.hosts)
            raise ConfigError(f"--host {host}: not one of {names}")
        found = asyncio.run(examine(config, partial(_needs, config)))
        rows = tuple(row for row in found.rows if host in (None, row.host, row.peer))
        if record is not None:
            _record(found.case, record)
    _print(rows, as_json)


def _needs(config: ClusterConfig, devices: Collection[str]) -> Mapping[str, int]:
    """What the ranks of each host need, in bytes, at a modest context; none if nobody knows."""
    try:
        checkpoint = read_checkpoint(config.model.path, mtp=config.mtp > 0)
        device = "cpu" if "cpu" in devices else next(iter(devices))
        torch_dtype = checkpoint.spec.torch_dtype
        plan = with_modest_context(
            partial(
                make_plan,
                checkpoint.spec,
                checkpoint.catalog,
                expert_split=config.experts,
                attention=config.attention,
                dtype=settle_dtype(config.model.dtype, device=device, torch_dtype=torch_dtype),
                context=config.context,
                cache_rows=config.cache_rows,
                batch=config.batch,
                prefix_bytes=config.prefix_cache.nbytes,
                chunk=config.prefill_chunk,
            )
        )(config.weights)
    except InputError as error:  # the checkpoint may lie on the other hosts only
        note(f"needs are not known: {error}")
        return {}
    needed = plan.needed_bytes
    return {host.name: sum(needed[rank] for rank in config.ranks_on(host)) for host in config.hosts}


def _record(case: Case, folder: Path) -> None:
    """What each Mac's tools printed, as `FOLDER/HOST/TOOL.txt`."""
    for name, found in case.found.items():
        for tool, text in found.said.items():
            file = folder / name / f"{tool}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    macs = ", ".join(case.macs)
    note(f"recorded in {folder}: {macs}" if macs else "nothing recorded: no Mac has answered")


def _print(rows: tuple[Row, ...], as_json: bool) -> None:
    counted = Counter(row.state for row in rows)
    if as_json:
        counts = {state.value: counted[state] for state in State}
        print(json.dumps({"counts": counts, "rows": [asdict(row) for row in rows]}))
    else:
        print(left_table([_cells(row) for row in rows]))
        for row in rows:
            if row.state in _TOLD:
                _tell(row)
        note(f"{counted[State.OK]} ok, {counted[State.WARN]} warnings")
    if failed := counted[State.FAIL]:
        raise Dsv4Error(f"{failed} checks failed" if failed > 1 else "1 check failed")


def _cells(row: Row) -> tuple[str, ...]:
    return (row.state.value, row.id, _where(row), row.evidence)


def _tell(row: Row) -> None:
    """What a row means, and what to type."""
    click.echo(f"\n{row.state.value}: {row.id} {_where(row)}: {row.diagnosis or row.evidence}")
    if row.remedy:
        click.echo(f"    {row.remedy}")


def _where(row: Row) -> str:
    return f"{row.host} -> {row.peer}" if row.peer else row.host or "all"
