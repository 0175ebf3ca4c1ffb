"""Several answers to one request: each a text of its own, told as they come."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import replace
from typing import Any

from dsv4_tp.asks import Ask, Piece, Stats
from dsv4_tp.core import FinishReason
from dsv4_tp.errors import DeadlineError

Pieces = AsyncGenerator[tuple[int, Piece]]  # with the number of the answer
_SEEDS = 2**64
_Coming = dict["asyncio.Future[Piece | None]", int]  # the next of each answer


def asks_of(ask: Ask, count: int) -> list[Ask]:
    """One for each answer. With a seed each has the next one, so they differ and come again."""
    if ask.seed is None:
        return [ask] * count
    return [replace(ask, seed=(ask.seed + number) % _SEEDS) for number in range(count)]


async def merged(streams: Sequence[AsyncGenerator[Piece]]) -> Pieces:
    """The pieces of all answers, in the order in which they come; one that fails ends all."""
    coming: _Coming = {_next(each): number for number, each in enumerate(streams)}
    try:
        while coming:
            done, _ = await asyncio.wait(coming, return_when=asyncio.FIRST_COMPLETED)
            for number, piece in _heard(coming, done):
                coming[_next(streams[number])] = number
                yield number, in_time(piece)
    finally:
        for task in coming:
            task.cancel()
        await asyncio.gather(*coming, return_exceptions=True)
        for each in streams:
            await each.aclose()


def _next(stream: AsyncGenerator[Piece]) -> "asyncio.Future[Piece | None]":
    return asyncio.ensure_future(anext(stream, None))


def _heard(
    coming: _Coming, done: Iterable["asyncio.Future[Piece | None]"]
) -> list[tuple[int, Piece]]:
    """What has come; raises what one of them failed of."""
    found = [(coming.pop(task), task.result()) for task in done]
    return [(number, piece) for number, piece in found if piece is not None]


def in_time(piece: Piece) -> Piece:
    """OpenAI has no word for a text that is cut by the clock; as an error it is not missed."""
    if piece.finish and piece.finish.reason is FinishReason.TIMEOUT:
        made = piece.finish.stats.generated_tokens
        raise DeadlineError(f"the time limit was reached after {made} tokens; the text is not done")
    return piece


def usage(costs: Sequence[Stats]) -> dict[str, Any]:
    """What all answers cost together; their prompt counts once."""
    first, made = costs[0], sum(each.generated_tokens for each in costs)
    return {
        "prompt_tokens": first.prompt_tokens,
        "completion_tokens": made,
        "total_tokens": first.prompt_tokens + made,
        "prompt_tokens_details": {"cached_tokens": first.cached_tokens},
    }
