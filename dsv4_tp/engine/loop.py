"""The loop of one rank: performs, one after the other, the steps that `lockstep` decides.

It knows the model and the team; commands, events and progress reach the outside through what
it is given. Every rank of a team runs it on the same log.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import mlx.core as mx

from dsv4_tp.config import PREFILL_CHUNK
from dsv4_tp.core import (
    Event,
    FinishEvent,
    Request,
    ScoreEvent,
    ScoreRequest,
    TokenEvent,
)
from dsv4_tp.engine import drafting, lockstep
from dsv4_tp.engine.common import common_index
from dsv4_tp.engine.draws import Choice, Draw, draw_of
from dsv4_tp.engine.faults import find_fault
from dsv4_tp.engine.guided import Guided, GuideFor, compiled, no_guides
from dsv4_tp.engine.meter import Meter, finish_event
from dsv4_tp.engine.outside import Inbox, Progress
from dsv4_tp.engine.pace import Pace
from dsv4_tp.engine.passes import Passes
from dsv4_tp.engine.refusal import Limits
from dsv4_tp.engine.scoring import score_rows
from dsv4_tp.engine.state import State
from dsv4_tp.engine.steps import Check, Decode, Due, Ended, Feed, Leave, Row, Score, Wait
from dsv4_tp.engine.team import Team
from dsv4_tp.engine.watch import Watch
from dsv4_tp.model import Cache, Model
from dsv4_tp.prefixes import Shelf


@dataclass(slots=True)
class _Turn:
    """What an active request holds."""

    meter: Meter
    cache: Cache  # of a generation
    pieces: Iterator[ScoreEvent]  # of a scoring
    guided: Guided


class Engine:
    """One rank at work.

    Args:
        model: this rank's model.
        team: the ranks that run it.
        limits: what bounds requests.
        prefill_chunk: most prompt tokens fed at a time.
        shelf: snapshots of prompts seen before; None: an empty one.
        shelf_bytes: the most it may hold; 0: none are made.
        guide_for: makes the guide of a request that has a schema.
        pace: of drafting, for a model with an MTP stage; None: nothing is drafted.
        inbox: where the command log arrives.
        progress: told of every step.
        emit: takes this rank's events; tokens, scores and steps come from rank 0 only.
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
        pace: Pace | None = None,
        guide_for: GuideFor = no_guides,
    ) -> None:
        self._pace = pace or Pace()
        assert model.drafts or not self._pace.most, "a model without an MTP stage drafts nothing"
        self._model = model
        self._team = team
        self._passes = Passes(model, team)
        self._limits = limits
        self._prefill_chunk = prefill_chunk
        self._shelf = shelf or Shelf()
        self._shelf_bytes = shelf_bytes
        self._guide_for = guide_for
        self._inbox = inbox
        ledger = team.collectives.ledger
        self._progress = self._watch = Watch(progress, emit, ledger, tells=team.leads)
        self._emit = self._watch.emit
        self._turns: dict[str, _Turn] = {}
        self._spent_us = 0  # by the last decode step
        # The last that one rank waits for another before there is work: who is made is ready.
        self._found = common_index(team.collectives, self._shelf, shelf_bytes)

    def run(self) -> None:
        """Serves requests until the log says to drain.

        Raises RankFailure if the log has a gap.
        """
        state = State(self._limits, self._prefill_chunk, self._found, self._pace)
        while not isinstance(step := lockstep.next_step(state), Leave):
            state = self._perform(state, step)
            self._watch.done(step, running=len(state.active))
        self._progress.phase("leaving")

    def _perform(self, state: State, step: Wait | Feed | Decode | Score | Check) -> State:
        match step:
            case Wait():
                self._progress.phase("ready")
                # What was not everywhere at the last border is here, and nothing may follow it.
                commands = self._inbox.poll() if state.pending else self._inbox.wait()
                return self._meet(lockstep.received(state, commands))
            case Score():
                return self._score(state, step)
            case Check():
                return self._check(state, step)
            case Feed(choose=False):
                return self._feed(state, step)
            case Feed():
                return self._feed_last(state, step)
            case Decode():
                return self._decode(state, step)

    def _feed(self, state: State, step: Feed) -> State:
        self._progress.phase("prefill")
        cache = self._turn_of(state, step).cache
        streams = self._passes.feed([step.ids], cache)
        self._passes.settle(streams, [step.following], cache)
        self._team.collectives.evaluate(streams, cache.arrays())
        self._progress.prefilled(len(step.ids))
        state, due = lockstep.fed(state, step)
        return self._meet(self._keep(state, [due] if due else []))

    def _feed_last(self, state: State, step: Feed) -> State:
        self._progress.phase("prefill")
        turn, last = self._turn_of(state, step), len(step.ids) - 1
        state = lockstep.received(state, self._inbox.poll())
        streams = self._passes.feed([step.ids], turn.cache)
        row = Row(step.request, step.request.told)
        draws, least = [self._draw(row.request, row.tokens)], [state.received]
        choices, (agreed,) = self._passes.choose(
            streams, [(0, last)], draws, least=least, cache=turn.cache
        )
        told = row.told([choice.token for choice in choices])
        turn.meter.prefill_done()
        self._progress.prefilled(len(step.ids))
        self._tell(row, choices)
        following = [(*step.following, *told)]
        self._passes.settle(streams, following, turn.cache)
        state, ended, due = lockstep.chosen(state, step, [told])
        state = self._keep(state, due)
        state = self._draft(state, step, streams, following, turn.cache)
        return self._cross(state, agreed, ended)

    def _decode(self, state: State, step: Decode) -> State:
        self._progress.phase("decode")
        began_s, before = time.monotonic(), self._team.collectives.ledger.traffic
        state = lockstep.received(state, self._inbox.poll())
        cache = Cache.merged([self._turns[row.request.id].cache for row in step.rows])
        streams = self._passes.feed([row.ids for row in step.rows], cache)
        choices, (agreed, *spent_us) = self._choose(state, step, streams, cache)
        told = [
            row.told([choice.token for choice in some])
            for row, some in zip(step.rows, choices, strict=True)
        ]
        for row, some, tokens in zip(step.rows, choices, told, strict=True):
            self._tell(row, some[: len(tokens)])
        self._passes.settle(streams, told, cache)
        self._progress.decoded()
        state, ended, due = lockstep.chosen(drafting.timed(state, *spent_us), step, told)
        state = self._keep(state, due)
        state = self._draft(state, step, streams, told, cache)
        spent = self._team.collectives.ledger.traffic - before
        for row, tokens in zip(step.rows, told, strict=True):
            right = max(0, len(tokens) - 1)
            self._turns[row.request.id].meter.decoded(spent, len(row.drafts), right)
        self._spent_us = _microseconds(time.monotonic() - began_s)
        return self._cross(state, agreed, ended)

    def _choose(
        self, state: State, step: Decode, streams: mx.array, cache: Cache
    ) -> tuple[list[list[Choice]], list[int]]:
        """What follows each id of each row, and the least of what the ranks told beside it."""
        at = [(n, place) for n, row in enumerate(step.rows) for place in range(len(row.ids))]
        draws = [
            self._draw(row.request, (*row.tokens, *row.drafts[:place]))
            for row in step.rows
            for place in range(len(row.ids))
        ]
        least = [state.received, *([self._spent_us] if state.pace.most else [])]
        choices, lowest = self._passes.choose(streams, at, draws, least=least, cache=cache)
        rest = iter(choices)
        return [[next(rest) for _ in row.ids] for row in step.rows], lowest

    def _draft(
        self,
        state: State,
        step: Feed | Decode,
        streams: mx.array,
        told: Sequence[tuple[int, ...]],
        cache: Cache,
    ) -> State:
        """Guesses what follows the tokens that the step told."""
        if not state.pace.most:
            return state
        state, counts = drafting.wanted(state, step)
        texts = {one.request.id: one.tokens for one in state.active}

        def draw(row: int, drafts: tuple[int, ...]) -> Draw:
            request = step.requests[row]
            return self._draw(request, (*texts[request.id], *drafts))

        drafts = self._passes.draft(streams, told, cache, counts=counts, draw=draw)
        return drafting.drafted(state, step, drafts)

    def _score(self, state: State, step: Score) -> State:
        self._progress.phase("prefill")
        event = next(self._turn_of(state, step).pieces)
        self._progress.prefilled(event.count * len(step.request.rows))
        if self._team.leads and (event.logits or event.last):
            self._emit(event)
        state, ended = lockstep.scored(state, step, last=event.last)
        return self._meet(state, ended)

    def _check(self, state: State, step: Check) -> State:
        self._progress.phase("prefill")
        turn = self._turns[step.request.id]
        if step.position == 0:
            turn.cache = self._model.make_cache()
        at = step.position
        fault = find_fault(self._model, self._team, step.ids, turn.cache, position=at)
        self._progress.prefilled(len(step.ids))
        return self._meet(*lockstep.checked(state, step, fault))

    def _keep(self, state: State, due: Sequence[Due]) -> State:
        """Leaves snapshots where they are due and there is room."""
        if any(one.suspects for one in state.active):
            self._shelf.keep_only(state.index)  # which has lost theirs
        for each in due if self._shelf_bytes else ():
            cache = self._turns[each.request.id].cache
            index = self._shelf.keep(state.index, each.ids, each.trail, cache)
            state = lockstep.kept(state, index, each)
        return state

    def _tell(self, row: Row, choices: Sequence[Choice]) -> None:
        """These tokens, which follow the row's."""
        request = row.request
        for at, choice in enumerate(choices if self._team.leads else (), start=len(row.tokens)):
            if choice.token is not None and choice.token not in request.stop_ids:
                said = (choice.token, choice.logprob, choice.top)
                self._emit(TokenEvent(request.id, at, *said))

    def _meet(self, state: State, ended: Sequence[Ended] = ()) -> State:
        """Agrees with the other ranks on what all have received, and goes on from there."""
        state = lockstep.received(state, self._inbox.poll())
        return self._cross(state, self._team.collectives.agree(state.received), ended)

    def _cross(self, state: State, agreed: int, ended: Sequence[Ended]) -> State:
        """Tells which requests have ended, and applies the agreed commands."""
        state, more = lockstep.border(state, agreed)
        for each in (*ended, *more):
            self._emit(self._finished(each))
        return state

    def _turn_of(self, state: State, step: Feed | Score) -> _Turn:
        """What the step's request holds; at its first step, with what a snapshot has of it."""
        if step.request.id not in self._turns:
            cache = self._model.make_cache()
            if isinstance(step, Feed) and step.start:
                self._shelf.restore(state.index, step.start, cache)
            collectives = self._team.collectives
            guided = compiled(step.request, self._guide_for, self._progress, collectives)
            self._turns[step.request.id] = _Turn(Meter(), cache, self._pieces(step.request), guided)
        return self._turns[step.request.id]

    def _pieces(self, request: Request | ScoreRequest) -> Iterator[ScoreEvent]:
        if isinstance(request, Request):
            return iter(())
        # As memory was planned for, and no longer than others wait for a chunk of a prompt.
        most = max(1, min(self._prefill_chunk, PREFILL_CHUNK) // len(request.rows))
        pieces = replace(request, chunk=min(request.chunk or most, most))
        return score_rows(self._model, pieces, team=self._team)

    def _finished(self, ended: Ended) -> FinishEvent:
        turn = self._turns.pop(ended.request.id, None)
        return turn.meter.finish(turn.guided.told(ended)) if turn else finish_event(ended)

    def _draw(self, request: Request, tokens: tuple[int, ...]) -> Draw:
        return draw_of(request, tokens, self._turns[request.id].guided.allowed(tokens))


def _microseconds(seconds: float) -> int:
    return min(int(seconds * 1e6), 2**31 - 1)
