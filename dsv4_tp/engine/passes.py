"""Passes through the model: tokens are fed, those that follow are chosen, further ones drafted.

A pass leaves the cache with what is sure: what was fed on the strength of a wrong draft is taken
back. The MTP stage's memory, where there is one, keeps up with the layers': of each token it needs
the one that follows, so it is told after the choice.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import mlx.core as mx

from dsv4_tp.core import Sampling
from dsv4_tp.engine.choice import choose_together
from dsv4_tp.engine.draws import Choice, Draw
from dsv4_tp.engine.team import Team
from dsv4_tp.model import Cache, Model

_ANY = Draw(Sampling(temperature=0), 0)  # for a row that nothing is asked of

Ids = Sequence[tuple[int, ...]]  # by row


class Passes:
    """One rank's share of every pass; all ranks make the same ones."""

    def __init__(self, model: Model, team: Team) -> None:
        self._model, self._team = model, team

    def feed(self, ids: Ids, cache: Cache) -> mx.array:
        """Streams [B, L, hc_mult, D] of ids, shorter rows filled up to the longest one's L."""
        return self._model.streams(_filled(ids, max(map(len, ids))), cache)

    def choose(
        self,
        streams: mx.array,
        at: Sequence[tuple[int, int]],
        draws: Sequence[Draw],
        *,
        least: Sequence[int],
        cache: Cache,
    ) -> tuple[list[Choice], list[int]]:
        """What follows the tokens at these rows and places; see `choose_together`."""
        rows, places = zip(*at, strict=True)
        picked = streams[mx.array(rows), mx.array(places)][:, None]
        logits = self._model.logits(picked)[:, 0]
        return choose_together(self._team, logits, draws, least=least, caches=cache.arrays())

    def settle(self, streams: mx.array, following: Ids, cache: Cache) -> None:
        """Of what was fed last, keep as many tokens as have a sure one that follows."""
        length = streams.shape[1]
        if self._model.drafts:
            self._model.mtp_note(streams, _filled(following, length), cache)
        cache.rewind([length - len(known) for known in following])

    def draft(
        self,
        streams: mx.array,
        following: Ids,
        cache: Cache,
        *,
        counts: Sequence[int],
        draw: Callable[[int, tuple[int, ...]], Draw],
    ) -> list[tuple[int, ...]]:
        """Guess `counts` tokens behind the sure ones, after `settle` of the same arguments.

        `draw(row, drafts)` is how the token behind these drafts will be chosen: the same is asked
        of the stage's logits, chance included, so that right drafts are likeliest.
        """
        drafts: list[tuple[int, ...]] = [() for _ in following]
        if not (depth := max(counts)):
            return drafts
        stage, rows = cache[-1], len(following)
        lasts = mx.array([max(0, len(known) - 1) for known in following])
        ahead = streams[mx.arange(rows), lasts][:, None]
        tokens = [known[-1] if known else 0 for known in following]
        stage.rewind([1] * rows)  # the last one again, and now what it predicts
        for place in range(depth):
            ahead = self._model.mtp_streams(ahead, mx.array(tokens)[:, None], cache)
            draws = [
                _unasked(draw(row, drafts[row])) if count > place else _ANY
                for row, count in enumerate(counts)
            ]
            logits = self._model.mtp_head(ahead)[:, 0]
            choices, _ = choose_together(self._team, logits, draws, least=(), caches=stage.state)
            tokens = [choice.token or 0 for choice in choices]
            drafts = [(*some, token) for some, token in zip(drafts, tokens, strict=True)]
        stage.rewind([depth - 1] * rows)
        return [some[:count] for some, count in zip(drafts, counts, strict=True)]


def _filled(ids: Ids, length: int) -> mx.array:
    """int32 [B, length]; what is filled in has no meaning."""
    return mx.array([row + (0,) * (length - len(row)) for row in ids], dtype=mx.int32)


def _unasked(draw: Draw) -> Draw:
    """The same, but nobody wants to know how likely a draft is."""
    return replace(draw, sampling=replace(draw.sampling, logprobs=None))
