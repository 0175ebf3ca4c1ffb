"""Asking a cluster for texts, many at once, and looking at the clock."""

import asyncio
import random
import time
from collections.abc import Callable

from dsv4_tp.cli.bench.figures import Timed
from dsv4_tp.cli.bench.launched import Launched
from dsv4_tp.cli.bench.sweep import Cell, Sweep, prompt_ids
from dsv4_tp.client import Ask, AsyncClient, Piece
from dsv4_tp.errors import Dsv4Error

_NEVER = -100.0  # a bias under which a token does not come
_WARM_TOKENS = 4

Rounds = dict[Cell, list[list[Timed]]]


class Meter:
    """Measures one cluster."""

    def __init__(self, client: AsyncClient, launched: Launched) -> None:
        self._client = client
        self._launched = launched
        self._chance = random.Random()

    async def run(self, sweep: Sweep, tell: Callable[[str], None]) -> Rounds:
        """All of the sweep, behind a round that does not count. Raises all that a text can."""
        for cell in sweep.cells:
            await self._round(cell, min(_WARM_TOKENS, sweep.tokens))
        found: Rounds = {cell: [] for cell in sweep.cells}
        total = len(sweep.cells) * sweep.rounds
        for number, cell in enumerate(sweep.order(), start=1):
            tell(f"{number} of {total}: {cell.batch} at a time, {cell.prompt_tokens} tokens each")
            found[cell].append(await self._round(cell, sweep.tokens))
        return found

    async def _round(self, cell: Cell, tokens: int) -> list[Timed]:
        """The texts of one round, all asked for at once."""
        asks = [self._ask(cell, tokens) for _ in range(cell.batch)]
        began_s = time.monotonic()
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._text(ask, began_s)) for ask in asks]
        except ExceptionGroup as several:
            raise several.exceptions[0] from None  # the others have the same reason, or none
        return [task.result() for task in tasks]

    def _ask(self, cell: Cell, tokens: int) -> Ask:
        """Greedy, without drafts, and of full length: the last tokens never come."""
        return Ask(
            prompt_ids(self._chance, cell.prompt_tokens, self._launched.spec.vocab_size),
            max_tokens=tokens,
            temperature=0.0,
            logit_bias=dict.fromkeys(self._launched.last_ids, _NEVER),
            mtp=0,
        )

    async def _text(self, ask: Ask, began_s: float) -> Timed:
        came_s: list[float] = []
        last: Piece | None = None
        async for last in self._client.stream(ask):
            came_s += [time.monotonic() - began_s] * len(last.tokens)
        if last is None or last.finish is None or not came_s:
            raise Dsv4Error("a text ended without a token; see `dsv4-tp events`, and repeat it")
        stats = last.finish.stats
        if stats.restarts:
            raise Dsv4Error("the ranks were started again meanwhile; see `dsv4-tp events`")
        return Timed(stats.prompt_tokens, tuple(came_s), stats.cached_tokens)
