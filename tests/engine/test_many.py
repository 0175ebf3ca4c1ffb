"""Requests that share the engine: each gets what it would get alone."""

import random
from pathlib import Path

import numpy as np
import pytest

from dsv4_tp.core import FinishEvent, FinishReason, ScoreRequest
from dsv4_tp.engine import Engine, Limits, Team, passes
from dsv4_tp.engine.choice import choose_together
from dsv4_tp.model import Model
from tests.engine.drive import Record, Script, answer, finish, log, play, request, scores, tokens
from tests.engine.many import script, some_requests
from tests.engine.ring import run_ranks
from tests.model.tiny import random_ids, tiny_model

CHUNK = 16


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model()


@pytest.mark.parametrize(
    ("seed", "batch"),
    [*(pytest.param(*few, marks=pytest.mark.slow) for few in ((0, 2), (1, 3))), (2, 8)],
)
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


@pytest.mark.parametrize("room", [140_000, 300_000])
def test_a_snapshot_given_up_while_a_request_waits_is_not_missed(model: Model, room: int) -> None:
    """Those before it leave theirs, and drive out the one it was to go on from."""
    text = random_ids(1, 700, 64)[0].tolist()
    warm, again = request("warm", text[:150], 2), request("again", [*text[:150], 7, 8], 4)
    others = [request(str(n), text[20 * n : 20 * n + 64 + n], 2) for n in (15, 16, 17)]
    events, _ = play(
        model,
        Script(log(warm), *[[]] * 15, log(warm, *others, again)[1:]),
        batch=5,
        shelf_bytes=room,
        prefill_chunk=128,
    )
    assert tokens(events, "again") == tokens(answer(model, again, prefill_chunk=128), "again")


def test_what_came_in_the_last_step_is_not_waited_for(model: Model, monkeypatch) -> None:
    """Here it came before the step, on another rank after it: both go on at once."""
    commands, answered = log(request("a", [3], 2), request("b", [4], 2)), []

    class Inbox(Script):
        def wait(self):
            assert self.received == len(answered)
            return super().wait()

    def later(*args, least: list[int], **how):
        found, (command, *rest) = choose_together(*args, least=least, **how)
        return found, [1 if not answered else command, *rest]

    monkeypatch.setattr(passes, "choose_together", later)
    inbox = Inbox(commands[:1], [], commands[1:])
    how = {"limits": Limits.of(model.spec), "prefill_chunk": CHUNK, "progress": Record()}

    def emit(event) -> None:
        answered.extend([event] if isinstance(event, FinishEvent) else [])

    Engine(model, Team.of_one(model.part), inbox=inbox, emit=emit, **how).run()
    assert [event.request_id for event in answered] == ["a", "b"]


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
@pytest.mark.parametrize(
    ("size", "depth", "count"), [(2, 2, 6), pytest.param(3, 3, 12, marks=pytest.mark.slow)]
)
def test_ranks_agree_and_each_request_is_as_it_is_alone(
    tmp_path: Path, size: int, depth: int, count: int
) -> None:
    """Of three ranks and more, a ring adds up in an order that depends on the batch."""
    run_ranks("many", size, tmp_path, deadline_s=200, count=count, batch=6, depth=depth)
    first = np.load(tmp_path / "0.npz")
    assert len(first["together"]) > 2 * count
    assert first["right"] > count / 2
    np.testing.assert_array_equal(first["together"], first["alone"])
    for rank in range(1, size):
        np.testing.assert_array_equal(np.load(tmp_path / f"{rank}.npz")["ends"], first["ends"])
