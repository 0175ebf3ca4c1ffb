"""Drafted tokens: they change how fast an answer comes, and never which one."""

import random

import pytest

from dsv4_tp import demo
from dsv4_tp.core import DType, FinishReason, Sampling
from dsv4_tp.engine import Pace
from dsv4_tp.engine.steps import Row
from dsv4_tp.model import Model
from dsv4_tp.parallel import load_rank
from dsv4_tp.text import Text
from tests.engine.drive import GREEDY, Script, answer, finish, log, play, request, tokens
from tests.engine.many import script, some_requests
from tests.model.tiny import randomise, tiny_spec

CHUNK = 16
PROMPT = Text.load(demo.path()).prompt_ids("Once upon a time, ")
HEAT = Sampling(temperature=1.0, seed=3)
NARROW = Sampling(temperature=0.7, top_p=0.9, presence_penalty=0.5, logprobs=2, seed=4)


@pytest.fixture(scope="module")
def model() -> Model:
    return randomise(Model(tiny_spec(), mtp=True))


@pytest.fixture(scope="module")
def able() -> Model:
    """A model whose drafts are mostly right."""
    return load_rank(demo.path(), None, dtype=DType.FLOAT32, mtp=True).model


def steady(depth: int) -> Pace:
    return Pace(most=depth, steady=True, depth=depth)


@pytest.mark.parametrize(
    ("seed", "batch", "depth"),
    [
        pytest.param(0, 1, 1, marks=pytest.mark.slow),
        (1, 3, 2),
        pytest.param(2, 8, 4, marks=pytest.mark.slow),
        pytest.param(3, 8, 3, marks=pytest.mark.slow),
    ],
)
def test_each_gets_what_it_gets_without(model: Model, seed: int, batch: int, depth: int) -> None:
    rng = random.Random(seed)
    asked = some_requests(rng, 12)
    how = {"prefill_chunk": CHUNK, "pace": steady(depth)}
    events, _ = play(model, script(rng, asked, rng.sample(asked, 3)), batch=batch, **how)
    for one in asked:
        alone = tokens(answer(model, one, prefill_chunk=CHUNK), one.id)
        said, end = tokens(events, one.id), finish(events, one.id)
        assert said == alone[: len(said)]
        assert len(said) == end.generated_tokens
        assert len(said) == len(alone) or end.reason is FinishReason.CANCELLED


def test_a_wrong_draft_that_counted_would_be_seen(able: Model, monkeypatch) -> None:
    """The control: were each draft taken for what was chosen, texts would differ."""
    monkeypatch.setattr(Row, "told", lambda row, chosen: (*row.drafts, chosen[-1]))
    one = request("one", PROMPT, 40, sampling=HEAT)
    assert tokens(answer(able, one, pace=steady(2)), "one") != tokens(answer(able, one), "one")


@pytest.mark.parametrize("sampling", [GREEDY, pytest.param(HEAT, marks=pytest.mark.slow), NARROW])
def test_right_drafts_save_passes(able: Model, sampling: Sampling) -> None:
    """Chosen with the same chance, a draft is as often right when tokens are sampled."""
    one = request("one", PROMPT, 60, sampling=sampling)
    plain, quick = (answer(able, one, pace=pace) for pace in (None, steady(2)))
    assert tokens(quick, "one") == tokens(plain, "one")
    assert finish(quick, "one").decode_steps < 0.6 * finish(plain, "one").decode_steps


def test_no_draft_leads_beyond_the_end(able: Model) -> None:
    """Each of four requests is as long as it may be, and feeds no more than that."""
    asked = [request(str(n), PROMPT, n) for n in range(1, 5)]
    for one in asked:
        end = finish(answer(able, one, pace=steady(4)), one.id)
        assert end.generated_tokens == one.max_tokens
        assert end.drafted_tokens <= max(0, one.max_tokens - 2)
    full = answer(able, request("full", PROMPT, 99), context=len(PROMPT) + 3, pace=steady(4))
    assert finish(full, "full").generated_tokens == 3


def test_a_request_may_ask_for_fewer_or_none(able: Model) -> None:
    asked = [request(str(most), PROMPT, 30, mtp=most) for most in (0, 1)]
    events = answer(able, *asked, batch=2, pace=steady(4))
    none, one = (finish(events, name) for name in "01")
    assert none.drafted_tokens == 0
    assert 0 < one.drafted_tokens <= one.decode_steps


def test_a_stop_id_among_the_drafts_ends_the_text(able: Model) -> None:
    whole = tokens(answer(able, request("whole", PROMPT, 40)), "whole")
    for at in (5, 6, 7):
        one = request("one", PROMPT, 40, stop_ids=(whole[at],))
        events = answer(able, one, pace=steady(3))
        assert tokens(events, "one") == whole[: whole.index(whole[at])]
        assert finish(events, "one").reason is FinishReason.STOP


@pytest.mark.slow
def test_what_snapshots_hold_of_a_drafted_text_is_right(able: Model) -> None:
    """The next turn goes on behind the last token that was sure, with and without drafts."""
    first = request("first", 12 * PROMPT, 30, sampling=HEAT)
    said = tokens(answer(able, first), "first")
    second = request("second", (*first.prompt, *said, *PROMPT), 30, sampling=HEAT)
    inbox = Script(log(first), log(first, second)[1:])
    events, _ = play(able, inbox, shelf_bytes=1 << 30, pace=steady(3))
    assert finish(events, "second").cached_tokens == len(first.prompt) + len(said) - 1
    assert tokens(events, "second") == tokens(answer(able, second), "second")


@pytest.mark.slow
def test_it_finds_by_itself_how_many(able: Model) -> None:
    events = answer(able, request("one", PROMPT, 100), pace=Pace(most=4))
    assert tokens(events, "one") == tokens(answer(able, request("one", PROMPT, 100)), "one")
    assert finish(events, "one").drafted_tokens > 0
