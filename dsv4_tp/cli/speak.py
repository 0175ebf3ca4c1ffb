"""Texts, from a running cluster to the terminal or to a line of JSON each."""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import asdict
from typing import Any

from dsv4_tp.cli.show import cost, rank_table
from dsv4_tp.cli.tables import note
from dsv4_tp.client import Answer, Ask, AsyncClient, ClusterStatus, Finish, Piece, Stats, whole
from dsv4_tp.errors import ConfigError, NotReadyError

_SHOWN_CHARACTERS = 100  # of a prompt
_RETRY_S = 1.0


def asks_for(texts: Iterable[str], wishes: dict[str, Any], *, as_json: bool) -> list[Ask]:
    """To continue each text, as the options wish.

    Raises ConfigError for what would not be shown.
    """
    if wishes["logprobs"] is not None and not as_json:
        raise ConfigError("--logprobs needs --json, which shows them")
    return [Ask(text, **wishes) for text in texts]


async def speak(address: str, asks: Sequence[Ask], *, as_json: bool, patient: bool = False) -> None:
    """Generate and show, one after the other: each text as it comes, then what it cost.

    As JSON each is one line when it is done. Among several, each is told by its prompt. `patient`
    waits for a cluster that recovers, for as long as it does.
    """
    async with AsyncClient(address) as client:
        for number, ask in enumerate(asks, start=1):
            if len(asks) > 1 and not as_json:
                note(f"\nprompt {number} of {len(asks)}: {_shown(str(ask.prompt))}")
            if as_json:
                answer = whole([piece async for piece in _pieces(client, ask, patient=patient)])
                print(json.dumps(_as_json(answer, await client.status())), flush=True)
            else:
                note(_cost(ask, await _say(_pieces(client, ask, patient=patient))))
        if not as_json:
            note(rank_table(await client.status()))


async def _pieces(client: AsyncClient, ask: Ask, *, patient: bool) -> AsyncGenerator[Piece]:
    """The text as it comes."""
    while True:
        try:
            async for piece in client.stream(ask):
                yield piece
            return
        except NotReadyError:  # comes before any piece
            if not patient:
                raise
        await asyncio.sleep(_RETRY_S)


async def _say(coming: AsyncGenerator[Piece]) -> Finish:
    """One whole text, on the terminal as it comes."""
    pieces: list[Piece] = []
    async for piece in coming:
        pieces.append(piece)
        sys.stdout.write(piece.text)
        sys.stdout.flush()
    print(flush=True)
    return whole(pieces).finish


def _shown(prompt: str) -> str:
    """The end of a prompt, which the text continues, in one line."""
    words = " ".join(prompt.split())
    return words if len(words) <= _SHOWN_CHARACTERS else "... " + words[-_SHOWN_CHARACTERS:]


def _as_json(answer: Answer, status: ClusterStatus) -> dict[str, Any]:
    ranks = [
        {
            "rank": rank.report.rank,
            "host": host.name,
            "planned_bytes": rank.planned_bytes,
            "weight_bytes": rank.weight_bytes,
            "active_bytes": rank.report.active_bytes,
            "peak_bytes": rank.report.peak_bytes,
        }
        for host in status.hosts
        for rank in host.ranks
    ]
    likely = [asdict(each) for each in answer.logprobs]
    return {
        "text": answer.text,
        "tokens": list(answer.tokens),
        **({"logprobs": likely} if likely else {}),
        "finish_reason": answer.reason.value,
        "stats": asdict(answer.finish.stats) | {"dtype": status.dtype, "ranks": ranks},
    }


def _drafts(ask: Ask, stats: Stats) -> str:
    if stats.drafted_tokens:
        return f"{stats.accepted_tokens} of {stats.drafted_tokens} drafts were right; "
    unheard = "no drafts: the cluster was launched without --mtp, or they did not pay; "
    return unheard if ask.mtp else ""


def _cost(ask: Ask, finish: Finish) -> str:
    stats = finish.stats
    return (
        f"\n{cost(finish)}\n"
        f"{_drafts(ask, stats)}each token: {stats.collectives_per_token:g} collectives, "
        f"{stats.wire_bytes_per_token:,.0f} bytes sent by each rank"
    )
