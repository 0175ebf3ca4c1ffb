"""`dsv4-tp down`: the end of a running cluster."""

import asyncio

from dsv4_tp.cli.reach import address_of
from dsv4_tp.client import AsyncClient


def run(*, name: str | None, address: str | None) -> None:
    """Stop the cluster the options name."""
    asyncio.run(_down(address_of(name, address)))


async def _down(address: str) -> None:
    async with AsyncClient(address) as client:
        await client.down()
