"""Requests that were told a part of their text in an earlier life: nobody can tell."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from dsv4_tp import demo
from dsv4_tp.core import Cancel, Drain, DType, Event, FinishReason, Request, Sampling, TokenEvent
from dsv4_tp.engine import Collectives, Pace, lockstep, loop
from dsv4_tp.engine.draws import Draw, draw_of
from dsv4_tp.engine.refusal import Limits
from dsv4_tp.engine.state import State
from dsv4_tp.engine.steps import Decode, Ended, Feed, Row, Wait
from dsv4_tp.model import Model
from dsv4_tp.parallel import load_rank
from dsv4_tp.prefixes import Index
from dsv4_tp.text import Text
from dsv4_tp.worker.guides import Guides
from tests.engine.drive import Script, answer, finish, log, play, request, tokens
from tests.engine.jobs import WAYS, guided_requests
from tests.model.tiny import random_ids, tiny_model

START = State(Limits(vocab_size=100, context=20), prefill_chunk=4, index=Index(0))
AT = (0, 1, 37)  # tokens, behind which the first life ends
LONG = 40
KINDS = ("greedy", "nucleus", "rare")
PROMPT = Text.load(demo.path()).prompt_ids("Once upon a time, ")


def after(*actions: object, state: State = START) -> tuple[State, tuple[Ended, ...]]:
    """The state once all actions are received and agreed on."""
    for command in log(*actions):
        state = lockstep.receive(state, replace(command, number=state.received + 1))
    return lockstep.border(state, state.received)


def choose(state: State, token: int) -> tuple[State, tuple[Ended, ...]]:
    """The state after the next step chose this token."""
    return lockstep.chosen(state, lockstep.next_step(state), [(token,)])[:2]


def test_what_was_told_is_fed_behind_the_prompt_and_counts():
    asked = request("a", range(1, 4), 4, told=(50, 51))
    state, _ = after(asked)
    step = lockstep.next_step(state)
    assert (step, step.following) == (Feed(asked, (1, 2, 3, 50), 0, choose=False), (2, 3, 50, 51))
    state, _ = lockstep.fed(state, step)
    assert lockstep.next_step(state) == Feed(asked, (51,), 4, choose=True)
    state, _ = choose(state, 52)
    assert lockstep.next_step(state) == Decode((Row(asked, (50, 51, 52)),))
    assert choose(state, 53)[1] == (Ended(asked, FinishReason.LENGTH, generated=4),)


def test_what_was_told_is_checked_where_no_token_can_be_chosen():
    state, _ = after(request("a", [1], 5, told=(7, 8)))
    state, *_ = lockstep.chosen(state, lockstep.next_step(state), [()])
    assert lockstep.next_step(state).ids == (1, 7, 8)


@pytest.mark.parametrize(
    ("asked", "reason", "generated"),
    [
        (request("a", [1], 3, told=(7, 8, 6)), FinishReason.LENGTH, 3),
        (request("a", range(18), 9, told=(7, 8)), FinishReason.LENGTH, 2),
        (request("a", [1], 3, told=(7, 8, 9), stop_ids=(9,)), FinishReason.STOP, 2),
    ],
)
def test_a_text_that_was_told_whole_ends_at_once(asked: Request, reason: str, generated: int):
    state, ended = after(asked)
    assert ended == (Ended(asked, reason, generated),)
    assert lockstep.next_step(state) == Wait(2)


def test_what_was_told_counts_wherever_it_ends():
    asked = [request(name, [1], 5, told=(7, 8)) for name in "abc"]
    _, ended = after(*asked, Cancel("b"), Cancel("a"), Drain())
    assert [(end.request.id, end.generated) for end in ended] == [("b", 2), ("a", 2), ("c", 2)]


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ((7, 100), "told: token 100 is not in the vocabulary"),
        ((7,) * 6, "told: 6 tokens, and the request may have 5"),
        ((7, 9, 7), "told: the text goes on behind token 9"),
    ],
)
def test_what_cannot_have_been_told_is_refused(told: tuple[int, ...], words: str):
    _, (ended,) = after(request("a", range(9), 5, told=told, stop_ids=(9,)))
    assert words in ended.error


@pytest.fixture(scope="module")
def able() -> Model:
    return load_rank(demo.path(), None, dtype=DType.FLOAT32, mtp=True).model


@pytest.fixture(scope="module")
def asked() -> list[Request]:
    """Chosen in several ways, one with all penalties; and one held to a schema."""
    free = [request(name, PROMPT, LONG, sampling=WAYS[name]) for name in KINDS]
    return [*free, replace(guided_requests()[1], id="held")]


def run(model: Model, asked: Sequence[Request], depth: int = 0, **how: object) -> list[Event]:
    guides = Guides(demo.path(), model.spec.vocab_size, Collectives())
    pace = Pace(depth, steady=True, depth=depth)
    how = {"batch": len(asked), "guide_for": guides.guide, "pace": pace, **how}
    return answer(model, *asked, **how)


@pytest.fixture(scope="module")
def whole(able: Model, asked: list[Request]) -> dict[str, list[TokenEvent]]:
    """What each is told in one life."""
    events = run(able, asked)
    return {one.id: told_of(events, one.id) for one in asked}


def told_of(events: Sequence[Event], name: str) -> list[TokenEvent]:
    return [e for e in events if isinstance(e, TokenEvent) and e.request_id == name]


def lives(asked: list[Request], whole: dict[str, list[TokenEvent]]) -> list[tuple[Request, int]]:
    """Each request, begun anew behind its first tokens; behind none, it is as any other."""
    texts = {name: tuple(event.token for event in told) for name, told in whole.items()}
    return [
        (replace(one, id=f"{one.id} at {at}", told=texts[one.id][:at]), at)
        for one in asked
        for at in (AT if one.id == "rare" else AT[1:])
    ]


@pytest.mark.slow
@pytest.mark.parametrize("depth", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_the_rest_is_that_of_one_life(able: Model, asked, whole, depth: int):
    again = lives(asked, whole)
    events = run(able, [one for one, _ in again], depth)
    for one, at in again:
        first, said = whole[one.id.rpartition(" at ")[0]], told_of(events, one.id)
        assert [(e.index, e.token) for e in said] == [(e.index, e.token) for e in first[at:]]
        assert [e.logprob for e in said] == pytest.approx([e.logprob for e in first[at:]], abs=1e-4)
        end = finish(events, one.id)
        assert (end.generated_tokens, end.prompt_tokens) == (len(first), len(one.prompt))
        assert end.reason is (FinishReason.STOP if one.form else FinishReason.LENGTH)


def test_a_draw_from_the_prompts_end_would_be_seen(able: Model, asked, whole, monkeypatch):
    """The control: were positions counted anew, a text that depends on chance would differ."""

    def anew(request: Request, text: tuple[int, ...], allowed: bytes | None) -> Draw:
        draw = draw_of(request, text, allowed)
        return replace(draw, position=draw.position - len(request.told))

    monkeypatch.setattr(loop, "draw_of", anew)
    one = next(one for one, _ in lives(asked, whole) if one.id == "rare at 37")
    rest = [event.token for event in whole["rare"][37:]]
    assert tokens(run(able, [one]), one.id) != rest


def test_a_snapshot_serves_what_was_told():
    """Of the second life's start only what no snapshot has is fed; the prompt's ids are counted."""
    model = tiny_model()
    first = request("first", random_ids(1, 90, 64)[0].tolist(), 30, sampling=Sampling(seed=3))
    text = tuple(tokens(answer(model, first), "first"))
    second = replace(first, id="second", told=text[:25])
    events, record = play(model, Script(log(first), log(first, second)[1:]), shelf_bytes=1 << 26)
    assert tokens(events, "second") == list(text[25:])
    assert finish(events, "second").cached_tokens == 90
    assert record.prefill_tokens == 90 + 1


def test_a_text_against_its_schema_is_refused(able: Model):
    one = replace(guided_requests()[0], told=(300, 301))
    end = finish(run(able, [one]), one.id)
    assert (end.reason, end.generated_tokens) == (FinishReason.CANCELLED, 2)
    assert "told: these tokens are against" in end.error
