"""`dsv4-tp bench`: measures, and shows what came of it."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from dsv4_tp.cli.bench.bounds import Bound, bound, speeds_of
from dsv4_tp.cli.bench.figures import Figures, figures
from dsv4_tp.cli.bench.launched import Launched, read_launched
from dsv4_tp.cli.bench.measure import Meter
from dsv4_tp.cli.bench.sweep import Sweep, sweep_of
from dsv4_tp.cli.memory import positive_numbers
from dsv4_tp.cli.reach import address_of
from dsv4_tp.cli.tables import GB, gigabytes, note, table
from dsv4_tp.client import AsyncClient, ClusterStatus
from dsv4_tp.core import DType
from dsv4_tp.errors import NotReadyError
from dsv4_tp.plan.reads import step_reads

_HEAD = ("batch", "prompt", "prefill/s", "decode/s", "first p50", "p95", "p99", "GB read")
Result = tuple[Figures, Bound]


def run(*, name: str | None, address: str | None, **given: Any) -> None:
    """Measure the cluster that the options name, and print figures."""
    asyncio.run(_run(address_of(name, address), **given))


async def _run(
    address: str,
    *,
    batches: str | None,
    prompts: str | None,
    tokens: int,
    rounds: int,
    bandwidth: str | None,
    as_json: bool,
) -> None:
    widths = positive_numbers("--bandwidth", bandwidth) if bandwidth else None
    async with AsyncClient(address) as client:
        found = await client.status()
        _check(found)
        launched = read_launched(found.launch)
        speeds = speeds_of([each * GB for each in widths], found.hosts) if widths else None
        sizes = launched.batch, launched.context
        sweep = sweep_of(
            batches, prompts, tokens=tokens, rounds=rounds, batch=sizes[0], context=sizes[1]
        )
        took = await Meter(client, launched).run(sweep, note)
    measured = [figures(c.batch, c.prompt_tokens, rounds) for c, rounds in took.items()]
    results = [(each, _bound(each, found, launched, speeds, tokens)) for each in measured]
    print(json.dumps(_as_json(found, sweep, results)) if as_json else bench_table(results))
    note(_what(sweep, measured))


def _check(found: ClusterStatus) -> None:
    if found.phase != "ready":
        raise NotReadyError(f"the cluster is {found.phase}; measure it when it is ready")
    if others := found.totals.running + found.totals.waiting:
        note(f"{others} requests of others run or wait: the figures are of what they leave")


def _bound(
    each: Figures,
    found: ClusterStatus,
    launched: Launched,
    speeds: Sequence[float] | None,
    tokens: int,
) -> Bound:
    """In the middle of the texts."""
    context = each.prompt_tokens + tokens // 2
    how = (launched.spec, DType(found.dtype), launched.cache_rows)
    reads = [
        sum(step_reads(kinds, *how, batch=each.batch, context=context).values())
        for kinds in launched.kinds
    ]
    decode = each.decode_tokens_per_s
    return bound(reads, speeds, each.batch, decode and decode.median)


def bench_table(results: Sequence[Result]) -> str:
    """A row for each cell; rates in tokens per second, times in seconds."""
    roof = results[0][1].tokens_per_s is not None
    head = (*_HEAD, *(("roof/s", "reached") if roof else ()))
    return table(head, [_row(*each) for each in results])


def _row(each: Figures, limit: Bound) -> list[str]:
    waits, decode = each.first_token_s, each.decode_tokens_per_s
    roof = [] if limit.tokens_per_s is None else [f"{limit.tokens_per_s:.1f}"]
    reached = [] if not roof else ["-" if limit.share is None else f"{limit.share:.1%}"]
    return [
        str(each.batch),
        str(each.prompt_tokens),
        f"{each.prefill_tokens_per_s.median:.1f}",
        "-" if decode is None else f"{decode.median:.1f}",
        *(f"{wait_s:.3f}" for wait_s in (waits.p50, waits.p95, waits.p99)),
        gigabytes(max(limit.rank_bytes)),
        *roof,
        *reached,
    ]


def _what(sweep: Sweep, measured: Sequence[Figures]) -> str:
    requests = sum(each.requests for each in measured)
    fed = sum(each.fed_tokens for each in measured)
    made = sum(each.generated_tokens for each in measured)
    never = [each for each in measured if each.decode_tokens_per_s is None]
    more = "; where decode/s is -, the texts were never all decoding: take more --tokens"
    return (
        f"requests: {requests}, rounds: {sweep.rounds}, behind one that does not count; "
        f"tokens fed: {fed}, generated: {made}, greedy and without drafts; rates are the rounds' "
        f"medians; GB read: for a step, by the rank that reads most{more if never else ''}"
    )


def _as_json(found: ClusterStatus, sweep: Sweep, results: Sequence[Result]) -> dict[str, Any]:
    return {
        "name": found.name,
        "version": found.version,
        "model": found.model_path,
        "dtype": found.dtype,
        "tokens": sweep.tokens,
        "rounds": sweep.rounds,
        "cells": [asdict(each) | {"roofline": asdict(limit)} for each, limit in results],
    }
