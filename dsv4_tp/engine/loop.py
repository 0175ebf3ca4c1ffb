"""The loop of one rank: performs, one after the other, the steps that `lockstep` decides.

It knows the model and the team; commands, events and progress reach the outside through what
it is given. Every rank of a team runs it on the same log.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import mlx.core as mx

from dsv4_tp.core import (
    Command,
    Event,
    FinishEvent,
    FinishReason,
    Request,
    ScoreEvent,
    ScoreRequest,
    TokenEvent,
)
from dsv4_tp.engine import lockstep
from dsv4_tp.engine.choice import choose_together
from dsv4_tp.engine.common import common
from dsv4_tp.engine.draws import Choice, Draw, History
from dsv4_tp.engine.lockstep import Due, Ended, Feed, Leave, Score, State, Wait
from dsv4_tp.engine.meter import Meter, finish_event
from dsv4_tp.engine.refusal import Limits
from dsv4_tp.engine.scoring import score_rows
from dsv4_tp.engine.team import Team
from dsv4_tp.errors import RankFailure
from dsv4_tp.model import Cache, Model
from dsv4_tp.prefixes import Index, Shelf, with_entries


class Inbox(Protocol):
    """Where commands arrive, in the order of their numbers."""

    def wait(self) -> Sequence[Command]:
        """At least one command."""
        ...

    def poll(self) -> Sequence[Command]:
        """The commands that are there; maybe none."""
        ...


class Progress(Protocol):
    """Who is told how far this rank is."""

    def phase(self, phase: str) -> None:
        """A phase begins: "ready", "prefill", "decode" or "leaving"."""
        ...

    def prefilled(self, tokens: int) -> None:
        """So many more given tokens were fed."""
        ...

    def decoded(self) -> None:
        """One more token was fed and the next one chosen."""
        ...


@dataclass(slots=True)
class _Turn:
    """What the active request holds while it has its turn."""

    request: Request | ScoreRequest
    meter: Meter
    cache: Cache  # of a generation
    pieces: Iterator[ScoreEvent]  # of a scoring


class Engine:
    """One rank at work.

    Args:
        model: this rank's model.
        team: the ranks that run it.
        prefill_chunk: prompt tokens fed at a time.
        context: most tokens of a sequence; None: what the model was made for.
        shelf: snapshots of prompts seen before; None: an empty one.
        shelf_bytes: the most it may hold; 0: none are made.
        inbox: where the command log arrives.
        progress: told of every step.
        emit: takes this rank's events; tokens and scores come from rank 0 only.
    """

    def __init__(
        self,
        model: Model,
        team: Team,
        *,
        prefill_chunk: int,
        inbox: Inbox,
        progress: Progress,
        emit: Callable[[Event], None],
        context: int | None = None,
        shelf: Shelf | None = None,
        shelf_bytes: int = 0,
    ) -> None:
        self._model = model
        self._team = team
        self._prefill_chunk = prefill_chunk
        self._limits = Limits.of(model.spec, context)
        self._shelf = shelf or Shelf()
        self._shelf_bytes = shelf_bytes
        self._inbox = inbox
        self._progress = progress
        self._emit = emit
        self._turn: _Turn | None = None

    def run(self) -> None:
        """Serves requests until the log says to drain.

        Raises RankFailure if the log has a gap or the model yields no numbers.
        """
        state = State(self._limits, self._prefill_chunk, self._shared_index())
        while not isinstance(step := lockstep.next_step(state), Leave):
            state = self._perform(state, step)
        self._progress.phase("leaving")

    def _perform(self, state: State, step: Wait | Feed | Score) -> State:
        match step:
            case Wait():
                self._progress.phase("ready")
                return self._meet(_received(state, self._inbox.wait()))
            case Score():
                return self._score(state, step)
            case Feed(choose=False):
                return self._feed(state, step)
            case Feed():
                return self._feed_and_choose(state, step)

    def _feed(self, state: State, step: Feed) -> State:
        self._progress.phase("prefill")
        cache = self._turn_of(state, step).cache
        mx.eval(self._streams(step, cache), cache.arrays())
        self._progress.prefilled(len(step.ids))
        state, due = lockstep.fed(state, len(step.ids))
        return self._meet(self._keep(state, due, cache))

    def _feed_and_choose(self, state: State, step: Feed) -> State:
        self._progress.phase("decode" if step.decoding else "prefill")
        turn = self._turn_of(state, step)
        state = _received(state, self._inbox.poll())
        streams = self._streams(step, turn.cache)
        assert state.active is not None
        history = History(step.request.prompt, state.active.tokens)
        position = step.position + len(step.ids)
        (choice,), agreed = choose_together(
            self._team,
            self._model.logits(streams[:, -1:])[0],
            [Draw(step.request.sampling, position, history)],
            command=state.received,
            caches=turn.cache.arrays(),
        )
        if choice.token is None:
            raise RankFailure(f"no logit of the token at position {position} is a number")
        self._count(step, turn.meter)
        state, ended, due = lockstep.chosen(state, choice.token)
        self._tell_token(step, choice, ended)
        return self._cross(self._keep(state, due, turn.cache), agreed, ended)

    def _score(self, state: State, step: Score) -> State:
        self._progress.phase("prefill")
        event = next(self._turn_of(state, step).pieces)
        self._progress.prefilled(event.count * len(step.request.rows))
        if self._team.leads and (event.logits or event.last):
            self._emit(event)
        if not event.last:
            return self._meet(state)
        state, ended = lockstep.scored(state)
        return self._meet(state, ended)

    def _shared_index(self) -> Index:
        """The index of the snapshots that all ranks have found; the others are given up."""
        shared = common(self._team.collectives, self._shelf.found)
        index = with_entries(self._shelf_bytes, shared)
        self._shelf.keep_only(index)
        return index

    def _keep(self, state: State, due: Due | None, cache: Cache) -> State:
        """Leaves a snapshot where one is due and there is room."""
        if due is None or not self._shelf_bytes:
            return state
        index = self._shelf.keep(state.index, due.ids, due.trail, cache)
        return lockstep.kept(state, index, due)

    def _streams(self, step: Feed, cache: Cache) -> mx.array:
        return self._model.streams(mx.array([step.ids], dtype=mx.int32), cache)

    def _count(self, step: Feed, meter: Meter) -> None:
        if step.decoding:
            meter.decoded()
            self._progress.decoded()
        else:
            meter.prefill_done()
            self._progress.prefilled(len(step.ids))

    def _tell_token(self, step: Feed, choice: Choice, ended: Ended | None) -> None:
        stopped = ended is not None and ended.reason is FinishReason.STOP
        if self._team.leads and not stopped and choice.token is not None:
            index = step.position + len(step.ids) - len(step.request.prompt)
            said = (choice.token, choice.logprob, choice.top)
            self._emit(TokenEvent(step.request.id, index, *said))

    def _meet(self, state: State, ended: Ended | None = None) -> State:
        """Agrees with the other ranks on what all have received, and goes on from there."""
        state = _received(state, self._inbox.poll())
        return self._cross(state, self._team.collectives.agree(state.received), ended)

    def _cross(self, state: State, agreed: int, ended: Ended | None) -> State:
        """Tells the end of the active request, if it ended, and applies the agreed commands."""
        state, more = lockstep.border(state, agreed)
        for each in ((ended,) if ended else ()) + more:
            self._emit(self._finished(each))
        return state

    def _turn_of(self, state: State, step: Feed | Score) -> _Turn:
        """The active request's; at its first step, one with what there is of its prompt."""
        if self._turn is None:
            request, cache = step.request, self._model.make_cache()
            if isinstance(step, Feed) and step.start:
                self._shelf.restore(state.index, step.start, cache)
            meter = Meter(self._team.collectives.ledger)
            self._turn = _Turn(request, meter, cache, self._pieces(request))
        return self._turn

    def _pieces(self, request: Request | ScoreRequest) -> Iterator[ScoreEvent]:
        if isinstance(request, Request):
            return iter(())
        return score_rows(self._model, request, team=self._team, piece_tokens=self._prefill_chunk)

    def _finished(self, ended: Ended) -> FinishEvent:
        if self._turn is None or self._turn.request is not ended.request:
            return finish_event(ended)
        meter, self._turn = self._turn.meter, None
        return meter.finish(ended)


def _received(state: State, commands: Sequence[Command]) -> State:
    for command in commands:
        state = lockstep.receive(state, command)
    return state
