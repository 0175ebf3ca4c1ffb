"""Several answers to one request."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from dsv4_tp.asks import Ask, Piece
from dsv4_tp.serving.choices import asks_of, merged


def piece(token: int) -> Piece:
    return Piece((token,), "", None)


def test_pieces_come_as_they_are_made():
    async def slow() -> AsyncGenerator[Piece]:
        yield piece(1)
        await told.wait()
        yield piece(4)

    async def quick() -> AsyncGenerator[Piece]:
        for token in (2, 3):
            yield piece(token)
            await asyncio.sleep(0)
        told.set()

    async def act() -> list[tuple[int, int]]:
        return [(number, each.tokens[0]) async for number, each in merged([slow(), quick()])]

    told = asyncio.Event()
    heard = asyncio.run(act())
    assert [token for number, token in heard if number] == [2, 3]
    assert heard[-1] == (0, 4)


def test_one_that_fails_ends_all():
    ended: list[str] = []

    async def failing() -> AsyncGenerator[Piece]:
        yield piece(1)
        raise RuntimeError("as planted")

    async def endless() -> AsyncGenerator[Piece]:
        try:
            yield piece(2)
            await asyncio.Event().wait()
        finally:
            ended.append("endless")

    async def act() -> None:
        with pytest.raises(RuntimeError, match="as planted"):
            async for _ in merged([endless(), failing()]):
                pass
        assert ended == ["endless"]

    asyncio.run(asyncio.wait_for(act(), 10))


def test_each_has_a_seed_of_its_own():
    asks = asks_of(Ask("x", seed=2**64 - 1), 3)
    assert [ask.seed for ask in asks] == [2**64 - 1, 0, 1]
    assert asks_of(Ask("x"), 2) == [Ask("x")] * 2
