"""`dsv4-tp down` and `drain`: the end of a running cluster."""

import asyncio
import json
from dataclasses import asdict

from dsv4_tp.cli.reach import address_of
from dsv4_tp.cli.tables import gigabytes, table
from dsv4_tp.client import AsyncClient, Downfall
from dsv4_tp.errors import DeadlineError, RankFailure


def run(*, name: str | None, address: str | None, force: bool, as_json: bool) -> None:
    """Stop the cluster the options name."""
    _show(asyncio.run(_down(address_of(name, address), now=force)), as_json)


def drain(*, name: str | None, address: str | None, timeout_s: float | None, as_json: bool) -> None:
    """Stop it when its work is done.

    Raises:
        DeadlineError: not all of it was done in time.
        RankFailure: the cluster failed meanwhile.
    """
    done = asyncio.run(_down(address_of(name, address), drain_s=timeout_s))
    _show(done, as_json)
    if done.failure:
        raise RankFailure(done.failure)
    if done.unfinished:
        raise DeadlineError(
            f"{_requests(done.unfinished)} not finished in time; give more: --timeout"
        )


async def _down(address: str, *, now: bool = False, drain_s: float | None = None) -> Downfall:
    async with AsyncClient(address) as client:
        return await client.down(now=now, drain_s=drain_s)


def _show(done: Downfall, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(done)))
        return
    rows = [
        [host.name, str(host.ranks), gigabytes(host.held_bytes), "yes" if host.confirmed else "NO"]
        for host in done.hosts
    ]
    print(table(("host", "ranks", "GB held", "gone"), rows))
    if done.unfinished:
        print(f"{_requests(done.unfinished)} cut")


def _requests(count: int) -> str:
    return "1 request was" if count == 1 else f"{count} requests were"
