"""Texts held to a schema: by the engine, whatever a guide says; and by the demo model's guides."""

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from dsv4_tp import demo
from dsv4_tp.core import DType, FinishReason, Sampling
from dsv4_tp.engine import Collectives, Pace
from dsv4_tp.engine.guided import compiled
from dsv4_tp.engine.masks import packed
from dsv4_tp.errors import RequestError
from dsv4_tp.model import Model
from dsv4_tp.parallel import load_rank
from dsv4_tp.text import Text
from dsv4_tp.worker.guides import Guides
from tests.engine.drive import Record, Script, answer, finish, log, play, request, tokens
from tests.engine.jobs import SCHEMA, guided_requests
from tests.engine.ring import run_ranks
from tests.model.tiny import randomise, tiny_model, tiny_spec

PROMPT = (5, 17, 3, 60, 44, 8, 9, 21)
STOP = 70


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model()


@pytest.fixture(scope="module")
def able() -> Model:
    return load_rank(demo.path(), None, dtype=DType.FLOAT32, mtp=True).model


class Said:
    """A guide that says what it is told, and keeps what it was asked."""

    def __init__(self, say: Callable[[tuple[int, ...]], bytes | None]) -> None:
        self.say, self.asked = say, []

    def allowed(self, generated: tuple[int, ...]) -> bytes | None:
        self.asked.append(generated)
        return self.say(generated)


def held(name: str, **rest: object):
    return request(name, PROMPT, 9, form="{}", stop_ids=(STOP,), **rest)


def refuse(*_: object) -> bytes:
    raise RequestError("json_schema: too much")


@pytest.mark.parametrize("setting", [Sampling(temperature=0), Sampling(top_p=0.9), Sampling(3.0)])
def test_only_what_is_allowed_is_chosen(model: Model, setting: Sampling):
    guide = Said(lambda made: packed([40 + len(made), 50] if len(made) < 4 else [STOP]))
    both = [held("a", sampling=setting), request("free", PROMPT, 9, sampling=setting)]
    events = answer(model, *both, batch=2, guide_for=lambda _: guide)
    text = tokens(events, "a")
    assert len(text) == 4
    assert all(token in (40 + n, 50) for n, token in enumerate(text))
    assert finish(events, "a").reason is FinishReason.STOP
    assert guide.asked == [tuple(text[:n]) for n in range(5)]
    assert tokens(events, "free") == tokens(answer(model, both[1]), "free")


def test_a_schema_is_compiled_in_a_phase_of_its_own(model: Model):
    phases: list[list[str]] = []
    record = Record()

    def make(_: object) -> Said:
        phases.append([*record.phases])
        return Said(lambda made: packed([40] if len(made) < 2 else [STOP]))

    script = Script(log(held("a"), request("free", PROMPT, 9)))
    play(model, script, record=record, batch=2, prefill_chunk=4, guide_for=make)
    assert [seen[-2:] for seen in phases] == [["prefill", "compiling"]]
    assert record.phases[:5] == ["ready", "prefill", "compiling", "prefill", "decode"]


def test_no_rank_goes_on_before_all_have_compiled():
    done: list[object] = []

    class Others(Collectives):
        def agree(self, number: int) -> int:
            done.append("all")
            return number

    class Page(Record):
        def phase(self, phase: str) -> None:
            done.append(phase)

    for one in (held("a"), request("free", PROMPT, 9)):
        compiled(one, lambda _: done.append("compiled"), Page(), Others())
    assert done == ["compiling", "compiled", "all", "prefill"]


def test_a_guide_that_fails_ends_its_request_alone(model: Model):
    guide = Said(lambda made: refuse() if len(made) == 3 else packed(range(60)))
    free = request("free", PROMPT, 9)
    events = answer(model, held("a"), free, batch=2, guide_for=lambda _: guide)
    end = finish(events, "a")
    assert (end.reason, end.error) == (FinishReason.CANCELLED, "json_schema: too much")
    assert len(tokens(events, "a")) == end.generated_tokens == 3
    assert tokens(events, "free") == tokens(answer(model, free), "free")


def test_a_schema_without_a_guide_is_told(model: Model):
    assert finish(answer(model, held("a"), guide_for=refuse), "a").error == "json_schema: too much"
    assert "without a tokenizer" in finish(answer(model, held("a")), "a").error
    endless = request("a", PROMPT, 9, form="{}")
    assert "needs stop ids" in finish(answer(model, endless, guide_for=refuse), "a").error


def test_a_draft_that_a_guide_fails_at_changes_nothing():
    model = randomise(Model(tiny_spec(), mtp=True))
    plain = tokens(answer(model, request("a", PROMPT, 9)), "a")

    def say(made: tuple[int, ...]) -> bytes | None:
        if list(made) != plain[: len(made)]:
            return refuse()
        return packed(range(80) if len(made) < 8 else [STOP])

    guide, pace = Said(say), Pace(most=3, steady=True, depth=3)
    events = answer(model, held("a"), guide_for=lambda _: guide, pace=pace)
    assert STOP not in plain
    assert tokens(events, "a") == plain[:8]
    assert any(list(made) != plain[: len(made)] for made in guide.asked)
    assert (finish(events, "a").reason, finish(events, "a").error) == (FinishReason.STOP, "")


@pytest.mark.slow
def test_drafts_do_not_change_a_text(able: Model):
    guides = Guides(demo.path(), able.spec.vocab_size, Collectives())
    asked = guided_requests()
    said = []
    for depth in (0, 3):
        pace = Pace(most=depth, steady=True, depth=depth)
        events = answer(able, *asked, batch=len(asked), guide_for=guides.guide, pace=pace)
        assert [finish(events, one.id).reason for one in asked] == ["stop"] * len(asked)
        said.append([tokens(events, one.id) for one in asked])
    assert said[0] == said[1]


@pytest.mark.ranks
@pytest.mark.slow
def test_two_ranks_hold_texts_to_their_schema(tmp_path: Path, able: Model):
    run_ranks("guided", 2, tmp_path)
    told = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    guides, asked = Guides(demo.path(), able.spec.vocab_size, Collectives()), guided_requests()
    alone = answer(able, *asked, batch=len(asked), guide_for=guides.guide)
    assert told[0]["texts"] == [tokens(alone, one.id) for one in asked]
    for text in told[0]["texts"]:
        jsonschema.validate(json.loads(Text.load(demo.path()).tokenizer.decode(text)), SCHEMA)
    assert all("is missing on a host" in each["lacking"] for each in told)
