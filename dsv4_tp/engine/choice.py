"""The tokens of one step, chosen by the whole team: `packets` sent over its collectives."""

from collections.abc import Sequence
from dataclasses import replace

import mlx.core as mx
import numpy as np

from dsv4_tp.engine import sampling as rules
from dsv4_tp.engine.draws import Choice, Draw
from dsv4_tp.engine.masks import masked
from dsv4_tp.engine.packets import Rows, packet, read_packets, whole_candidates
from dsv4_tp.engine.penalties import adjusted
from dsv4_tp.engine.sampling import Heard
from dsv4_tp.engine.team import Team


def choose_together(
    team: Team,
    logits: mx.array,
    draws: Sequence[Draw],
    *,
    least: Sequence[int],
    caches: list[mx.array],
) -> tuple[list[Choice], list[int]]:
    """The token of each draw, and of each of the numbers in `least` that of the rank with least.

    One collective for all rows; a second one for those of which more ids may be chosen than the
    ranks send. All ranks choose the same.

    Args:
        team: the ranks.
        logits: of this rank's vocabulary rows, float32 [B, len(span)].
        draws: one for each of the B rows, the same on all ranks.
        least: this rank's numbers, such as the command that it received last.
        caches: evaluated with the logits, so that no graph outlives its step.
    """
    rows = _rows(team, logits, draws)
    packets = team.collectives.gather(packet(rows, draws, span=team.span, least=least))
    team.collectives.evaluate(packets, caches)
    heard, lowest = read_packets(np.array(packets, dtype=np.int32), team.vocab, draws)
    heard = _widened(team, rows, draws, heard)
    return [_choice(*each) for each in zip(heard, draws, strict=True)], lowest


def _rows(team: Team, logits: mx.array, draws: Sequence[Draw]) -> Rows:
    span = team.span
    changed = masked(adjusted(logits, draws, span), draws, span)
    scores = rules.scored(changed, draws, span=span, vocab_size=team.vocab_size)
    return Rows(logits, changed, scores)


def _widened(team: Team, rows: Rows, draws: Sequence[Draw], heard: list[Heard]) -> list[Heard]:
    """With the whole vocabulary as candidates where the token is not sure without."""
    wide = [row for row, draw in enumerate(draws) if rules.is_wide(heard[row], draw)]
    if not wide:
        return heard
    planes = [plane for row in wide for plane in _planes(rows, row, draws[row])]
    joined = team.whole(mx.stack(planes))
    team.collectives.evaluate(joined)
    whole = iter(np.array(joined, dtype=np.float32))
    heard = list(heard)
    for row in wide:
        mine = np.stack([next(whole) for _ in _planes(rows, row, draws[row])])
        heard[row] = replace(heard[row], candidates=whole_candidates(mine))
    return heard


def _planes(rows: Rows, row: int, draw: Draw) -> list[mx.array]:
    """What ranks must tell of all their ids, [len(span)] each."""
    asked = [] if draw.sampling.logprobs is None else [rows.raws[row]]
    return [rows.logits[row], rows.scores[row], *asked]


def _choice(heard: Heard, draw: Draw) -> Choice:
    count = rules.kept(heard, draw) if rules.is_number(heard) else None
    return Choice(None) if count is None else rules.choose(heard, count, draw)
