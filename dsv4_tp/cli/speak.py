"""One text, from a running cluster to the terminal or to one line of JSON."""

import json
import sys
from dataclasses import asdict
from typing import Any

from dsv4_tp.cli.show import rank_table
from dsv4_tp.cli.tables import note
from dsv4_tp.client import Ask, Client, ClusterStatus, Finish, Piece
from dsv4_tp.errors import Dsv4Error


async def speak(address: str, ask: Ask, *, as_json: bool) -> None:
    """Generate and show: the text as it comes, then what it cost; or all of it as JSON."""
    pieces: list[Piece] = []
    async with Client(address) as client:
        async for piece in client.generate(ask):
            pieces.append(piece)
            if not as_json:
                sys.stdout.write(piece.text)
                sys.stdout.flush()
        status = await client.status()
    finish = pieces[-1].finish if pieces else None
    if finish is None:
        raise Dsv4Error(f"the cluster at {address} ended the text without a finish")
    if as_json:
        print(json.dumps(_as_json(pieces, finish, status)))
    else:
        print(flush=True)
        note(_cost(finish))
        note(rank_table(status))


def _as_json(pieces: list[Piece], finish: Finish, status: ClusterStatus) -> dict[str, Any]:
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
    return {
        "text": "".join(piece.text for piece in pieces),
        "tokens": [token for piece in pieces for token in piece.tokens],
        "finish_reason": finish.reason.value,
        "stats": asdict(finish.stats) | {"dtype": status.dtype, "ranks": ranks},
    }


def _cost(finish: Finish) -> str:
    stats = finish.stats
    return (
        f"\nprompt: {stats.prompt_tokens} tokens in {stats.prefill_s:.2f} s; "
        f"text: {stats.generated_tokens} tokens in {stats.decode_s:.2f} s, "
        f"{stats.tokens_per_s:.1f} tokens/s, ended by {finish.reason}\n"
        f"each token: {stats.collectives_per_token:g} collectives, "
        f"{stats.wire_bytes_per_token:,.0f} bytes sent by each rank"
    )
