"""Requests that share the engine: each gets what it would get alone."""

import random
from pathlib import Path

import numpy as np
import pytest

from dsv4_tp.core import FinishReason, ScoreRequest
from dsv4_tp.model import Model
from tests.engine.drive import Script, answer, finish, log, play, request, scores, tokens
from tests.engine.many import script, some_requests
from tests.engine.ring import run_ranks
from tests.model.tiny import random_ids, tiny_model

CHUNK = 16


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model()


@pytest.mark.parametrize(("seed", "batch"), [(0, 2), (1, 3), (2, 8), (3, 8)])
def test_each_gets_what_it_would_get_alone(model: Model, seed: int, batch: int) -> None:
    rng = random.Random(seed)
    asked = some_requests(rng, 12)
    cancelled = rng.sample(asked, 3)
    events, _ = play(model, script(rng, asked, cancelled), prefill_chunk=CHUNK, batch=batch)
    for one in asked:
        alone = tokens(answer(model, one, prefill_chunk=CHUNK), one.id)
        said, end = tokens(events, one.id), finish(events, one.id)
        assert said == alone[: len(said)]
        assert len(said) == end.generated_tokens
        assert len(said) == len(alone) or end.reason is FinishReason.CANCELLED


def test_prefixes_are_shared_among_them(model: Model) -> None:
    text = random_ids(1, 200, 64)[0].tolist()
    asked = [request(str(n), [*text, *range(n)], 6) for n in range(1, 6)]
    first = request("first", text, 3)
    events, _ = play(
        model,
        Script(log(first), *[[]] * 20, log(first, *asked)[1:]),
        batch=4,
        shelf_bytes=1 << 30,
        prefill_chunk=CHUNK,
    )
    for one in asked:
        assert tokens(events, one.id) == tokens(answer(model, one, prefill_chunk=CHUNK), one.id)
        assert finish(events, one.id).cached_tokens >= 200


def test_a_score_runs_beside_them(model: Model) -> None:
    rows = tuple(tuple(row) for row in random_ids(3, 90, 64).tolist())
    asked = request("text", rows[0][:50], 9)
    alone = scores(answer(model, ScoreRequest("score", rows), prefill_chunk=CHUNK))[-1]
    events = answer(model, asked, ScoreRequest("score", rows), prefill_chunk=CHUNK, batch=2)
    assert scores(events)[-1].nll == alone.nll
    assert tokens(events, "text") == tokens(answer(model, asked, prefill_chunk=CHUNK), "text")


def test_a_running_text_goes_on_while_a_long_prompt_is_fed(model: Model) -> None:
    short, long = request("short", [3], 60), request("long", random_ids(1, 300, 64)[0].tolist(), 2)
    events = answer(model, short, long, prefill_chunk=CHUNK, batch=2)
    names = [event.request_id for event in events]
    assert names.index("long") - names.index("short") >= 300 // CHUNK


@pytest.mark.ranks
@pytest.mark.parametrize("size", [2, 3])
def test_ranks_agree_and_each_request_is_as_it_is_alone(tmp_path: Path, size: int) -> None:
    """Of three ranks and more, a ring adds up in an order that depends on the batch."""
    run_ranks("many", size, tmp_path, deadline_s=200, count=16, batch=6)
    first = np.load(tmp_path / "0.npz")
    assert len(first["together"]) > 60
    np.testing.assert_array_equal(first["together"], first["alone"])
    for rank in range(1, size):
        np.testing.assert_array_equal(np.load(tmp_path / f"{rank}.npz")["ends"], first["ends"])
