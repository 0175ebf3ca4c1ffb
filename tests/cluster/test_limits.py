"""Who has to wait, who is refused, who is late and who goes away, over real processes."""

import asyncio
from contextlib import aclosing

import pytest

from dsv4_tp.client import Ask, AsyncClient, ClusterStatus, Finish, Piece, Totals
from dsv4_tp.core import FinishReason
from dsv4_tp.errors import BusyError

pytestmark = pytest.mark.cluster

LONG = Ask("Hello", max_tokens=100_000, temperature=0)
SHORT = Ask("Hello", max_tokens=4, temperature=0)
_PATIENCE_S = 30.0


async def whole(client: AsyncClient, ask: Ask) -> tuple[list[int], Finish]:
    pieces = [piece async for piece in client.stream(ask)]
    return [token for piece in pieces for token in piece.tokens], pieces[-1].finish


async def until(client: AsyncClient, running: int, waiting: int) -> ClusterStatus:
    """The status, once so many run and wait."""
    async with asyncio.timeout(_PATIENCE_S):
        while True:
            status = await client.status()
            if (status.totals.running, status.totals.waiting) == (running, waiting):
                return status
            await asyncio.sleep(0.05)


async def crowd(client: AsyncClient) -> tuple[list[Piece], Finish]:
    """One runs, one waits until it is late, one is refused; the first goes away unasked."""
    heard: list[Piece] = []
    async with aclosing(client.stream(LONG)) as running:
        heard += [await anext(running), await anext(running)]
        waiting = asyncio.create_task(whole(client, Ask("Hello", time_limit_s=1.0)))
        await until(client, 1, 1)
        with pytest.raises(BusyError, match=r"^1 requests wait already.*\(queue: 1\)"):
            await whole(client, SHORT)
        tokens, late = await waiting
    assert tokens == []
    return heard, late


async def visit(address: str) -> tuple[Totals, ClusterStatus]:
    async with AsyncClient(address) as client:
        heard, late = await crowd(client)
        assert late.reason is FinishReason.TIMEOUT
        assert late.stats.queue_s >= 1.0
        assert late.stats.first_token_s is None
        # The place of the one that went away is free again: this one would wait for ever.
        tokens, finish = await whole(client, SHORT)
        assert (len(tokens), finish.reason) == (4, FinishReason.LENGTH)
        assert tokens[: len(heard)] == [token for piece in heard for token in piece.tokens]
        before = (await until(client, 0, 0)).totals
        tokens, finish = await whole(client, Ask("Hello", max_tokens=100_000, time_limit_s=0.5))
        assert finish.reason is FinishReason.TIMEOUT
        assert len(tokens) == finish.stats.generated_tokens > 0
        return before, await until(client, 0, 0)


def test_limits_and_what_is_counted(ranks):
    cluster = ranks("--batch", 1, "--queue", 1).wait_ready(ranks=2)
    before, status = asyncio.run(visit(cluster.entry()["address"]))
    totals = status.totals
    assert totals.ended == {"timeout": 2, "cancelled": 1, "length": 1}
    assert totals.prefill.steps == 3  # the one that was late had none
    ranked = [rank.report for host in status.hosts for rank in host.ranks]
    assert {rank.prefill_tokens for rank in ranked} == {totals.prefill.tokens}
    # Both ranks made the same steps; beats that tell of them may be a little late.
    steps = [rank["report"]["decode_steps"] for rank in cluster.wait_for(lambda: beats(cluster))]
    assert steps == [totals.decode.steps] * 2
    assert totals.decode.rows == totals.decode.steps > before.decode.steps
    assert totals.decode.collectives == 7 * totals.decode.steps  # as `make demo` shows


def beats(cluster) -> list[dict]:
    """The ranks, once both are known to rest."""
    ranks = [rank for host in cluster.status()["hosts"] for rank in host["ranks"]]
    return ranks if all(rank["report"]["phase"] == "ready" for rank in ranks) else []
