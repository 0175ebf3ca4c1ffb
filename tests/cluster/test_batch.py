"""Several users at once, over real processes: each gets the answer it would get alone."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from dsv4_tp.client import Ask, AsyncClient
from tests.cluster.clusters import launch, sweep

pytestmark = pytest.mark.cluster

STORIES = (
    "It was a cold morning.",
    "Tom had a red ball.",
    "One day",
    "The king said:",
    "A dog ran.",
)
ASKS = tuple(
    Ask(story * (1 + 9 * number), max_tokens=24 + number, temperature=number % 2, seed=number)
    for number, story in enumerate(STORIES)
)


async def told(address: str, *, together: bool, mtp: int | None = None) -> list[list[int]]:
    """The tokens of every answer."""

    async def one(client: AsyncClient, ask: Ask) -> list[int]:
        pieces = client.stream(replace(ask, mtp=mtp))
        return [token async for piece in pieces for token in piece.tokens]

    async with AsyncClient(address) as client:
        if together:
            return await asyncio.gather(*(one(client, ask) for ask in ASKS))
        return [await one(client, ask) for ask in ASKS]


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "mtp"), [(2, 3), (8, 0)])
def test_each_of_several_users_gets_what_he_would_get_alone(tmp_path: Path, batch: int, mtp: int):
    """With drafts as well: alone, each asks for none."""
    hosts = ("--hosts", "localhost,localhost", "--model", "demo", "--batch", batch, "--mtp", mtp)
    # Equal bits need the stock BLAS; a prefix cache would feed the prompts otherwise.
    env = {"DSV4TP_PRELOAD": "off"}
    cluster = launch(*hosts, "--prefix-cache-gb", 0, state_dir=tmp_path, env=env)
    try:
        cluster.wait_ready(ranks=2)
        address = cluster.entry()["address"]
        alone = asyncio.run(told(address, together=False, mtp=0))
        assert asyncio.run(told(address, together=True)) == alone
        steps = [rank["report"]["decode_steps"] for rank in cluster.status()["hosts"][0]["ranks"]]
        tokens = sum(map(len, alone))
        assert max(steps) < 1.9 * tokens  # some of them were shared
    finally:
        sweep(cluster)
