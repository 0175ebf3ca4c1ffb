"""`dsv4-tp status`: what a running cluster is doing."""

import asyncio
import json
from dataclasses import asdict

from dsv4_tp.cli.reach import address_of
from dsv4_tp.cli.show import status_page
from dsv4_tp.cli.watch import Screen, looks
from dsv4_tp.client import AsyncClient


def run(
    *, name: str | None, address: str | None, watch: bool, every_s: float, as_json: bool
) -> None:
    """Print the status of the cluster the options name, once or, with `watch`, as it changes."""
    most = None if watch else 1
    asyncio.run(_show(address_of(name, address), every_s, most, as_json))


async def _show(address: str, every_s: float, most: int | None, as_json: bool) -> None:
    screen = Screen() if most is None and not as_json else None
    async with AsyncClient(address) as client:
        async for found in looks(client, every_s, most):
            if screen:
                screen.show(status_page(found), always=False)
            else:
                print(json.dumps(asdict(found)) if as_json else status_page(found), flush=True)
