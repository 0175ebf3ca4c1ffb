"""`dsv4-tp status`: what a running cluster is doing."""

import asyncio
import json
from dataclasses import asdict

from dsv4_tp.cli.reach import address_of
from dsv4_tp.cli.show import status_page
from dsv4_tp.client import AsyncClient, ClusterStatus


def run(*, name: str | None, address: str | None, as_json: bool) -> None:
    """Print the status of the cluster the options name."""
    found = asyncio.run(_status(address_of(name, address)))
    print(json.dumps(asdict(found)) if as_json else status_page(found))


async def _status(address: str) -> ClusterStatus:
    async with AsyncClient(address) as client:
        return await client.status()
