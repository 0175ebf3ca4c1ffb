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
    Request,
    ScoreEvent,
    ScoreRequest,
    TokenEvent,
)
from dsv4_tp.engine import lockstep
from dsv4_tp.engine.choice import choose_together
from dsv4_tp.engine.common import common
from dsv4_tp.engine.draws import Choice, Draw, History
from dsv4_tp.engine.lockstep import State
from dsv4_tp.engine.meter import Meter, finish_event
from dsv4_tp.engine.refusal import Limits
from dsv4_tp.engine.scoring import score_rows
from dsv4_tp.engine.steps import Decode, Due, Ended, Feed, Leave, Score, Wait
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
    """What an active request holds."""

    meter: Meter
    cache: Cache  # of a generation
    pieces: Iterator[ScoreEvent]  # of a scoring


class Engine:
    """One rank at work.

    Args:
        model: this rank's model.
        team: the ranks that run it.
        limits: what bounds requests.
        prefill_chunk: prompt tokens fed at a time.
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
        limits: Limits,
        prefill_chunk: int,
        inbox: Inbox,
        progress: Progress,
        emit: Callable[[Event], None],
        shelf: Shelf | None = None,
        shelf_bytes: int = 0,
    ) -> None:
        self._model = model
        self._team = team
        self._limits = limits
        self._prefill_chunk = prefill_chunk
        self._shelf = shelf or Shelf()
        self._shelf_bytes = shelf_bytes
        self._inbox = inbox
        self._progress = progress
        self._emit = emit
        self._turns: dict[str, _Turn] = {}

    def run(self) -> None:
        """Serves requests until the log says to drain.

        Raises RankFailure if the log has a gap or the model yields no numbers.
        """
        state = State(self._limits, self._prefill_chunk, self._shared_index())
        while not isinstance(step := lockstep.next_step(state), Leave):
            state = self._perform(state, step)
        self._progress.phase("leaving")

    def _perform(self, state: State, step: Wait | Feed | Decode | Score) -> State:
        match step:
            case Wait():
                self._progress.phase("ready")
                # What was not everywhere at the last border is here, and nothing may follow it.
                commands = self._inbox.poll() if state.pending else self._inbox.wait()
                return self._meet(_received(state, commands))
            case Score():
                return self._score(state, step)
            case Feed(choose=False):
                return self._feed(state, step)
            case Feed():
                return self._feed_last(state, step)
            case Decode():
                return self._decode(state, step)

    def _feed(self, state: State, step: Feed) -> State:
        self._progress.phase("prefill")
        cache = self._turn_of(state, step).cache
        mx.eval(self._streams([step.ids], cache), cache.arrays())
        self._progress.prefilled(len(step.ids))
        state, due = lockstep.fed(state, step)
        return self._meet(self._keep(state, [due] if due else []))

    def _feed_last(self, state: State, step: Feed) -> State:
        self._progress.phase("prefill")
        turn = self._turn_of(state, step)
        draw = _draw(step.request, ())
        state, choices, agreed = self._choose(state, [step.ids], turn.cache, [draw])
        turn.meter.prefill_done()
        self._progress.prefilled(len(step.ids))
        state, ended, due = lockstep.chosen(state, step, _tokens(choices, [draw]))
        self._tell_token(step.request, 0, choices[0])
        return self._cross(self._keep(state, due), agreed, ended)

    def _decode(self, state: State, step: Decode) -> State:
        self._progress.phase("decode")
        cache = Cache.merged([self._turns[row.request.id].cache for row in step.rows])
        draws = [_draw(row.request, row.tokens) for row in step.rows]
        before = self._team.collectives.ledger.traffic
        ids = [row.tokens[-1:] for row in step.rows]
        state, choices, agreed = self._choose(state, ids, cache, draws)
        tokens = _tokens(choices, draws)
        spent = self._team.collectives.ledger.traffic - before
        for row, choice in zip(step.rows, choices, strict=True):
            self._turns[row.request.id].meter.decoded(spent)
            self._tell_token(row.request, len(row.tokens), choice)
        self._progress.decoded()
        state, ended, due = lockstep.chosen(state, step, tokens)
        return self._cross(self._keep(state, due), agreed, ended)

    def _score(self, state: State, step: Score) -> State:
        self._progress.phase("prefill")
        event = next(self._turn_of(state, step).pieces)
        self._progress.prefilled(event.count * len(step.request.rows))
        if self._team.leads and (event.logits or event.last):
            self._emit(event)
        state, ended = lockstep.scored(state, step, last=event.last)
        return self._meet(state, ended)

    def _choose(
        self, state: State, ids: list[tuple[int, ...]], cache: Cache, draws: Sequence[Draw]
    ) -> tuple[State, list[Choice], int]:
        """Feeds these ids [B, L] and chooses what follows each row."""
        state = _received(state, self._inbox.poll())
        streams = self._streams(ids, cache)
        logits = self._model.logits(streams[:, -1:])[:, 0]
        choices, agreed = choose_together(
            self._team, logits, draws, command=state.received, caches=cache.arrays()
        )
        return state, choices, agreed

    def _shared_index(self) -> Index:
        """The index of the snapshots that all ranks have found; the others are given up."""
        shared = common(self._team.collectives, self._shelf.found)
        index = with_entries(self._shelf_bytes, shared)
        self._shelf.keep_only(index)
        return index

    def _keep(self, state: State, due: Sequence[Due]) -> State:
        """Leaves snapshots where they are due and there is room."""
        for each in due if self._shelf_bytes else ():
            cache = self._turns[each.request.id].cache
            index = self._shelf.keep(state.index, each.ids, each.trail, cache)
            state = lockstep.kept(state, index, each)
        return state

    def _streams(self, ids: list[tuple[int, ...]], cache: Cache) -> mx.array:
        return self._model.streams(mx.array(ids, dtype=mx.int32), cache)

    def _tell_token(self, request: Request, index: int, choice: Choice) -> None:
        if self._team.leads and choice.token is not None and choice.token not in request.stop_ids:
            said = (choice.token, choice.logprob, choice.top)
            self._emit(TokenEvent(request.id, index, *said))

    def _meet(self, state: State, ended: Sequence[Ended] = ()) -> State:
        """Agrees with the other ranks on what all have received, and goes on from there."""
        state = _received(state, self._inbox.poll())
        return self._cross(state, self._team.collectives.agree(state.received), ended)

    def _cross(self, state: State, agreed: int, ended: Sequence[Ended]) -> State:
        """Tells which requests have ended, and applies the agreed commands."""
        state, more = lockstep.border(state, agreed)
        for each in (*ended, *more):
            self._emit(self._finished(each))
        return state

    def _turn_of(self, state: State, step: Feed | Score) -> _Turn:
        """What the step's request holds; at its first step, with what there is of its prompt."""
        if step.request.id not in self._turns:
            cache = self._model.make_cache()
            if isinstance(step, Feed) and step.start:
                self._shelf.restore(state.index, step.start, cache)
            meter = Meter()
            self._turns[step.request.id] = _Turn(meter, cache, self._pieces(step.request))
        return self._turns[step.request.id]

    def _pieces(self, request: Request | ScoreRequest) -> Iterator[ScoreEvent]:
        if isinstance(request, Request):
            return iter(())
        return score_rows(self._model, request, team=self._team, piece_tokens=self._prefill_chunk)

    def _finished(self, ended: Ended) -> FinishEvent:
        turn = self._turns.pop(ended.request.id, None)
        return turn.meter.finish(ended) if turn else finish_event(ended)


def _draw(request: Request, tokens: tuple[int, ...]) -> Draw:
    """The token that follows a prompt and what was generated of it."""
    position = len(request.prompt) + len(tokens)
    return Draw(request.sampling, position, History(request.prompt, tokens))


def _tokens(choices: Sequence[Choice], draws: Sequence[Draw]) -> list[int]:
    """What was chosen; RankFailure if a row's logits were no numbers."""
    for choice, draw in zip(choices, draws, strict=True):
        if choice.token is None:
            raise RankFailure(f"no logit of the token at position {draw.position} is a number")
    return [choice.token for choice in choices if choice.token is not None]


def _received(state: State, commands: Sequence[Command]) -> State:
    for command in commands:
        state = lockstep.receive(state, command)
    return state
