"""The ranks of an epoch as processes, and the ring in which they take their steps together."""

import random
from dataclasses import replace
from signal import SIGALRM, SIGKILL
from typing import TYPE_CHECKING

from dsv4_tp.agent.ladder import ladder
from dsv4_tp.core import (
    Command,
    Event,
    RankReport,
    Request,
    ScoreEvent,
    StepEvent,
    TokenEvent,
    Work,
)
from dsv4_tp.engine import lockstep
from dsv4_tp.engine.meter import finish_event
from dsv4_tp.engine.refusal import Limits
from dsv4_tp.engine.state import State
from dsv4_tp.engine.steps import Decode, Ended, Feed, Leave, Score, Wait
from dsv4_tp.prefixes import Index
from tests.fleet.agenda import Agenda

if TYPE_CHECKING:
    from tests.fleet.agents import Agent

STOP_ID = 60
CHUNK = 4
BEAT_S = 0.5  # of a rank that is prepared


def text_of(request: Request) -> list[int]:
    """All tokens that anybody may ever be told of a request; its seed says when it stops."""
    length = min(request.max_tokens, request.sampling.seed)
    return [(7 * index + sum(request.prompt)) % STOP_ID for index in range(length)]


def next_token(request: Request, made: int) -> int:
    text = text_of(request)
    return text[made] if made < len(text) else STOP_ID


class Rank:
    """A process, from its start on."""

    def __init__(self, agent: "Agent", number: int, ring: "Ring") -> None:
        self.agent, self.number, self.ring = agent, number, ring
        self.alive, self.stopped, self.stuck = True, False, False
        self.wedged_until_s = 0.0  # no signal ends it before
        self.received = 0
        self.page = RankReport(number, "starting")
        self.agenda.after(ring.rng.uniform(0.3, 1.2), self._prepare)

    @property
    def agenda(self) -> Agenda:
        return self.agent.agenda

    @property
    def moves(self) -> bool:
        return self.alive and not self.stopped and not self.stuck

    def show(self, **news: object) -> None:
        """Write to the progress page."""
        self.page = replace(self.page, **news)

    def say(self, word: str, *args: object) -> None:
        self.agent.do(self.agent.said, self, word, *args)

    def mute(self) -> None:
        if self.alive:
            self.say("mute")

    def command(self, command: Command) -> None:
        if self.alive:
            assert command.number == self.received + 1, "the log has a gap"
            self.received = command.number
            known = self.ring.log.setdefault(command.number, command)
            assert known == command, "there are two logs"
            self.ring.wake()

    def exit(self, code: int) -> None:
        if self.alive:
            self.alive = False
            self.ring.lose(self)
            self.agent.do(self.agent.exited, self, code)

    def kill(self) -> None:
        """What the agent does about it: ask, wait, force."""
        after_s = 0.0
        for rung in ladder(stopped=self.stopped):
            if rung.number == SIGKILL or not self.stopped:
                self.agenda.after(after_s + 0.05, self.struck, -rung.number)
            after_s += rung.patience_s
        self.agenda.after(after_s, self.agent.do, self.agent.outlived, self)

    def struck(self, signal: int) -> None:
        """A signal has come that ends it; a process in the kernel's hands has it wait."""
        wait_s = self.wedged_until_s - self.agenda.now_s
        if wait_s > 0:
            self.agenda.after(wait_s, self.struck, signal)
        else:
            self.exit(signal)

    def _prepare(self) -> None:
        if not self.moves:
            return self._later(self._prepare)
        self.show(phase="prepared", waits=1)
        self.say("prepared")
        self._beat()
        return None

    def _beat(self) -> None:
        """It waits to be told to join, and shows that it could hear it."""
        if self.alive and self.page.phase == "prepared":
            if self.moves:
                self.show(beats=self.page.beats + 1)
            self.agenda.after(BEAT_S, self._beat)

    def join(self) -> None:
        if not self.moves:
            return self._later(self.join)
        self.show(phase="joining")
        self.ring.meet(self)
        self.agenda.after(self.ring.alarm_s, self._alarm)
        self.ring.arrive(self)
        return None

    def _alarm(self) -> None:
        if self.page.phase == "joining":
            self.struck(-SIGALRM)

    def joined(self) -> None:
        if not self.moves:
            return self._later(self.joined)
        self.say("joined")
        self.show(phase="loading", bytes_total=100)
        self.agenda.after(self.ring.rng.uniform(0.1, 0.6), self._load)
        return None

    def _load(self) -> None:
        if not self.moves:
            return self._later(self._load)
        self.show(bytes_loaded=self.page.bytes_loaded + 20)
        if self.page.bytes_loaded < 100:
            self.agenda.after(self.ring.rng.uniform(0.1, 0.6), self._load)
            return None
        self.show(phase="ready")
        self.ring.meet(self)
        self.say("loaded")
        self.ring.wake()
        return None

    def _later(self, again: object) -> None:
        if self.alive:
            self.agenda.after(0.5, again)


class Ring:
    """All ranks of an epoch, which take each step together or not at all."""

    def __init__(self, agenda: Agenda, rng: random.Random, size: int, *, alarm_s: float) -> None:
        self.agenda, self.rng, self.size, self.alarm_s = agenda, rng, size, alarm_s
        self.ranks: dict[int, Rank] = {}
        self.met = False
        self.cut = False  # the way between its hosts
        self.slow = 1.0
        self.log: dict[int, Command] = {}
        self.state = State(Limits(100, 10_000, batch=3, room_bytes=1), CHUNK, Index(0))
        self.scored: dict[str, int] = {}
        self.exchanges = 1  # that all ranks have left: they are told to meet
        self._stepping = False

    def arrive(self, rank: Rank) -> None:
        self.ranks[rank.number] = rank
        self.wake()

    def meet(self, rank: Rank) -> None:
        """It comes to the next exchange, unless it has waited there before."""
        rank.show(waits=2 * self.exchanges + 1)

    def _part(self) -> None:
        """All have been there, and go on."""
        self.exchanges += 1
        for rank in self.ranks.values():
            rank.show(waits=2 * self.exchanges)

    def lose(self, rank: Rank) -> None:
        """Some of the others get an error in time, the rest hang."""
        for other in self.ranks.values():
            if self.met and other.alive and self.rng.random() < 0.3:
                self.agenda.after(self.rng.uniform(0.5, 3), self._bereft, other)

    def wake(self) -> None:
        if not self._stepping:
            self._stepping = True
            self.agenda.after(self.slow * self.rng.uniform(0.05, 0.3), self._step)

    def _bereft(self, rank: Rank) -> None:
        if rank.moves and rank.page.phase in ("prefill", "decode"):
            rank.exit(1)

    @property
    def _whole(self) -> bool:
        everyone = len(self.ranks) == self.size and not self.cut
        return everyone and all(rank.moves for rank in self.ranks.values())

    def _step(self) -> None:
        self._stepping = False
        if not self._whole:
            for rank in self.ranks.values():
                if rank.moves and (not self.met or rank.page.bytes_loaded == 100):
                    self.meet(rank)
            return
        if not self.met:
            self.met = True
            self._part()
            for rank in self.ranks.values():
                rank.joined()
        elif all(rank.page.bytes_loaded == 100 for rank in self.ranks.values()):
            self._part()
            self._serve()

    def _serve(self) -> None:
        match lockstep.next_step(self.state):
            case Wait():
                self._cross(())
            case Leave():
                self._show("leaving", 0)
                for rank in self.ranks.values():
                    self.agenda.after(self.rng.uniform(0.01, 0.2), rank.exit, 0)
                return
            case Feed(choose=False) as step:
                self._show("prefill", len(step.ids))
                self.state, _ = lockstep.fed(self.state, step)
                self._cross(())
            case Feed() | Decode() as step:
                self._choose(step)
            case Score() as step:
                self._score(step)
        step = lockstep.next_step(self.state)
        if isinstance(step, Wait):
            self._show("ready", 0)
        if not isinstance(step, Wait) or self._agreed > self.state.applied:
            self.wake()

    @property
    def _agreed(self) -> int:
        return min(rank.received for rank in self.ranks.values())

    def _choose(self, step: Feed | Decode) -> None:
        feeds = isinstance(step, Feed)
        self._show("prefill" if feeds else "decode", 1)
        made = [len(self.state.of(one.id).tokens) for one in step.requests]
        tokens = [next_token(one, at) for one, at in zip(step.requests, made, strict=True)]
        for one, at, token in zip(step.requests, made, tokens, strict=True):
            if token != STOP_ID:
                self._tell(TokenEvent(one.id, at, token))
        self.state, ended, _ = lockstep.chosen(self.state, step, [(token,) for token in tokens])
        self._tell(StepEvent("prefill" if feeds else "decode", Work(steps=1), 1))
        self._cross(ended)

    def _score(self, step: Score) -> None:
        """A chunk of all rows; how far it is, the progress page tells."""
        self._show("prefill", 1)
        done, length = self.scored.get(step.request.id, 0), len(step.request.rows[0])
        count = min(CHUNK, length - done)
        self.scored[step.request.id] = done + count
        last = done + count == length
        self._tell(ScoreEvent(step.request.id, done, count=count, last=last))
        self.state, ended = lockstep.scored(self.state, step, last=last)
        self._cross(ended)

    def _cross(self, ended: tuple[Ended, ...]) -> None:
        commands = [self.log[n] for n in range(self.state.received + 1, self._agreed + 1)]
        self.state = lockstep.received(self.state, commands)
        self.state, more = lockstep.border(self.state, self.state.received)
        for each in (*ended, *more):
            for rank in self.ranks.values():
                rank.say("event", finish_event(each))

    def _tell(self, event: Event) -> None:
        self.ranks[0].say("event", event)

    def _show(self, phase: str, tokens: int) -> None:
        for rank in self.ranks.values():
            done = {"decode": "decode_steps"}.get(phase, "prefill_tokens")
            rank.show(phase=phase, **{done: getattr(rank.page, done) + tokens})
