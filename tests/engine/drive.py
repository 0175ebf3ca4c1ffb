"""Running an engine with a scripted log, and what came out of it."""

from collections.abc import Sequence
from dataclasses import replace

from dsv4_tp.core import (
    Command,
    Drain,
    Event,
    FinishEvent,
    Request,
    Sampling,
    ScoreEvent,
    ScoreRequest,
    StepEvent,
    Submit,
    TokenEvent,
)
from dsv4_tp.engine import Engine, Limits, Team
from dsv4_tp.model import Model

GREEDY = Sampling(temperature=0)


class Script:
    """An inbox whose commands arrive in the given batches, one per look; then a drain, at rest."""

    def __init__(self, *batches: Sequence[Command]) -> None:
        self.batches = list(batches)
        self.received = 0

    def wait(self) -> Sequence[Command]:
        while self.batches:
            if commands := self.poll():
                return commands
        return [Command(self.received + 1, Drain())]

    def poll(self) -> Sequence[Command]:
        commands = self.batches.pop(0) if self.batches else ()
        self.received += len(commands)
        return commands


class Record:
    """Progress, as it was told."""

    def __init__(self) -> None:
        self.phases: list[str] = []
        self.prefill_tokens = self.decode_steps = 0
        self.steps: list[StepEvent] = []

    def phase(self, phase: str) -> None:
        if self.phases[-1:] != [phase]:
            self.phases.append(phase)

    def prefilled(self, tokens: int) -> None:
        self.prefill_tokens += tokens

    def decoded(self) -> None:
        self.decode_steps += 1


def request(name: str, prompt: Sequence[int], count: int, **rest: object) -> Request:
    return Request(name, tuple(prompt), count, rest.pop("sampling", GREEDY), **rest)


def log(*actions: object) -> list[Command]:
    """The actions numbered from 1; requests are submitted."""
    wrapped = (Submit(a) if isinstance(a, Request | ScoreRequest) else a for a in actions)
    return [Command(number, action) for number, action in enumerate(wrapped, start=1)]


def play(
    model: Model,
    inbox: Script,
    *,
    team: Team | None = None,
    prefill_chunk: int = 16,
    context: int | None = None,
    batch: int = 1,
    record: Record | None = None,
    **rest: object,
) -> tuple[list[Event], Record]:
    """The events and the progress of one engine that runs the script to its end."""
    events: list[Event] = []
    record = record or Record()

    def emit(event: Event) -> None:
        (record.steps if isinstance(event, StepEvent) else events).append(event)

    Engine(
        model,
        team or Team.of_one(model.part),
        limits=replace(
            Limits.of(model.spec), batch=batch, **({"context": context} if context else {})
        ),
        prefill_chunk=prefill_chunk,
        inbox=inbox,
        progress=record,
        emit=emit,
        **rest,
    ).run()
    return events, record


def answer(model: Model, *requests: Request | ScoreRequest, **how: object) -> list[Event]:
    """The events of these requests, submitted at once."""
    return play(model, Script(log(*requests)), **how)[0]


def greedy_text(model: Model, prompt: Sequence[int], count: int, **how: object) -> list[int]:
    """Up to `count` tokens that an engine, built as `play` is told, goes on with."""
    stops = model.spec.eos_token_ids
    return tokens(answer(model, request("text", prompt, count, stop_ids=stops), **how), "text")


def tokens(events: Sequence[Event], name: str) -> list[int]:
    return [e.token for e in events if isinstance(e, TokenEvent) and e.request_id == name]


def finish(events: Sequence[Event], name: str) -> FinishEvent:
    (event,) = [e for e in events if isinstance(e, FinishEvent) and e.request_id == name]
    return event


def scores(events: Sequence[Event]) -> list[ScoreEvent]:
    return [e for e in events if isinstance(e, ScoreEvent)]
