"""Drafted tokens: they change how fast an answer comes, and never which one."""

import random

import pytest

from dsv4_tp import demo
from dsv4_tp.core import DType, FinishReason
from dsv4_tp.engine import Pace
from dsv4_tp.model import Model
from dsv4_tp.parallel import load_rank
from tests.engine.drive import answer, finish, play, tokens
from tests.engine.many import script, some_requests
from tests.model.tiny import randomise, tiny_spec

CHUNK = 16


@pytest.fixture(scope="module")
def model() -> Model:
    return randomise(Model(tiny_spec(), mtp=True))


@pytest.fixture(scope="module")
def able() -> Model:
    """A model whose drafts are mostly right."""
    return load_rank(demo.path(), None, dtype=DType.FLOAT32, mtp=True).model


def steady(depth: int) -> Pace:
    return Pace(most=depth, steady=True, depth=depth)


@pytest.mark.parametrize(("seed", "batch", "depth"), [(0, 1, 1), (1, 3, 2), (2, 8, 4), (3, 8, 3)])
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
