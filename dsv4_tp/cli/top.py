"""`dsv4-tp top`: how fast a cluster works, from the difference of two looks at it."""

import asyncio
import json
import time
from dataclasses import asdict, dataclass

from dsv4_tp.cli.reach import address_of
from dsv4_tp.cli.tables import gigabytes, table
from dsv4_tp.cli.watch import Screen, looks
from dsv4_tp.client import AsyncClient, ClusterStatus

_HEAD = ("host", "rank", "phase", "idle", "steps", "steps/s", "prefill", "GB held", "GB peak")


@dataclass(frozen=True, slots=True)
class RankPace:
    """One rank now."""

    host: str
    rank: int
    phase: str
    idle_s: float  # since its counters last moved
    decode_steps: int
    steps_per_s: float
    prefill_tokens: int
    active_bytes: int
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class Pace:
    """A cluster between two looks."""

    name: str
    phase: str
    epoch: int
    running: int
    waiting: int
    decode_tokens_per_s: float
    prefill_tokens_per_s: float
    first_token_p50_s: float | None
    first_token_p95_s: float | None
    ranks: tuple[RankPace, ...]


def run(
    *, name: str | None, address: str | None, every_s: float, count: int | None, as_json: bool
) -> None:
    """Print the pace of the cluster the options name, again and again."""
    asyncio.run(_run(address_of(name, address), every_s, count, as_json))


async def _run(address: str, every_s: float, count: int | None, as_json: bool) -> None:
    screen, last, at_s = Screen(), None, 0.0
    async with AsyncClient(address) as client:
        # The first look is only there to be compared with.
        async for found in looks(client, every_s, count + 1 if count else None):
            now_s = time.monotonic()
            if last:
                pace = pace_of(last, found, now_s - at_s)
                screen.show(json.dumps(asdict(pace)) if as_json else pace_page(pace))
            last, at_s = found, now_s


def pace_of(before: ClusterStatus, after: ClusterStatus, seconds: float) -> Pace:
    """What was done between two looks; counters that began anew, in another epoch, count as 0."""
    old = {rank.report.rank: rank.report for host in before.hosts for rank in host.ranks}
    ranks = [
        RankPace(
            host.name,
            report.rank,
            report.phase,
            rank.idle_s,
            report.decode_steps,
            max(0, report.decode_steps - old[report.rank].decode_steps) / seconds,
            report.prefill_tokens,
            report.active_bytes,
            report.peak_bytes,
        )
        for host in after.hosts
        for rank in host.ranks
        for report in [rank.report]
    ]
    was, now = before.totals, after.totals
    return Pace(
        after.name,
        after.phase,
        after.epoch,
        now.running,
        now.waiting,
        (now.decode.tokens - was.decode.tokens) / seconds,
        (now.prefill.tokens - was.prefill.tokens) / seconds,
        now.first_token_p50_s,
        now.first_token_p95_s,
        tuple(sorted(ranks, key=lambda rank: rank.rank)),
    )


def pace_page(pace: Pace) -> str:
    """The cluster in two lines, then a row for each rank."""
    waits = (
        f"; first token {pace.first_token_p50_s:.2f} s, p95 {pace.first_token_p95_s:.2f} s"
        if pace.first_token_p50_s is not None and pace.first_token_p95_s is not None
        else ""
    )
    head = (
        f"{pace.name}: {pace.phase}, epoch {pace.epoch}; "
        f"{pace.running} running, {pace.waiting} waiting{waits}\n"
        f"{pace.decode_tokens_per_s:.1f} tokens/s, "
        f"{pace.prefill_tokens_per_s:.1f} prompt tokens/s\n"
    )
    return head + table(_HEAD, [_row(rank) for rank in pace.ranks])


def _row(rank: RankPace) -> list[str]:
    return [
        rank.host,
        str(rank.rank),
        rank.phase,
        f"{rank.idle_s:.1f}s",
        str(rank.decode_steps),
        f"{rank.steps_per_s:.1f}",
        str(rank.prefill_tokens),
        gigabytes(rank.active_bytes),
        gigabytes(rank.peak_bytes),
    ]
