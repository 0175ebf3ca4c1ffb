"""`dsv4-tp restart`: another epoch, by hand."""

import asyncio
import json
import time

from dsv4_tp.cli.reach import address_of
from dsv4_tp.client import AsyncClient


def run(*, name: str | None, address: str | None, as_json: bool) -> None:
    """Restart the ranks of the cluster the options name."""
    begun_s = time.monotonic()
    epoch = asyncio.run(_restart(address_of(name, address)))
    took_s = time.monotonic() - begun_s
    told = {"epoch": epoch, "took_s": round(took_s, 3)}
    print(json.dumps(told) if as_json else f"epoch {epoch} serves, after {took_s:.1f} s")


async def _restart(address: str) -> int:
    async with AsyncClient(address) as client:
        return await client.restart()
