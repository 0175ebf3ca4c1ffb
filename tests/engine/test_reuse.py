"""Prompts that begin like earlier ones: what is fed again, and that nobody can tell."""

from pathlib import Path

import pytest

from dsv4_tp.core import Cancel, Request, Sampling
from dsv4_tp.model import Model
from dsv4_tp.prefixes import Shelf, open_folder
from tests.engine.drive import Script, answer, finish, log, play, request, tokens
from tests.model.tiny import random_ids, tiny_model

MB = 1 << 20
CHUNK = 128
TEXT = tuple(random_ids(1, 2000, 64)[0].tolist())
HEAT = Sampling(temperature=1.2, seed=3)


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model()


def alone(model: Model, asked: Request) -> list[int]:
    return tokens(answer(model, asked, prefill_chunk=CHUNK), asked.id)


def together(model: Model, *asked: Request, room: int = 64 * MB, **how: object) -> list[object]:
    return answer(model, *asked, prefill_chunk=CHUNK, shelf_bytes=room, **how)


def cached(events: list[object], *names: str) -> list[int]:
    return [finish(events, name).cached_tokens for name in names]


def test_the_next_turn_feeds_only_what_is_new(model: Model) -> None:
    first = request("first", TEXT[:300], 20)
    said = tuple(alone(model, first))
    second = request("second", (*TEXT[:300], *said, *TEXT[300:350]), 20, sampling=HEAT)
    events, record = play(
        model, Script(log(first), log(first, second)[1:]), prefill_chunk=CHUNK, shelf_bytes=64 * MB
    )
    # Of the answer, the last token was chosen but never fed.
    assert cached(events, "first", "second") == [0, 319]
    assert record.prefill_tokens == 300 + 51
    assert tokens(events, "second") == alone(model, second)


def test_the_same_prompt_feeds_one_token(model: Model) -> None:
    asked = [request(name, TEXT[:300], 5, sampling=HEAT) for name in "ab"]
    events = together(model, *asked)
    assert cached(events, "a", "b") == [0, 299]
    assert tokens(events, "a") == tokens(events, "b") == alone(model, asked[0])


def test_a_shared_beginning_is_found_at_a_border(model: Model) -> None:
    """The chunks behind it end where they end without a snapshot, so the bits are the same."""
    one = request("one", TEXT[:1400], 3)
    other = request("other", (*TEXT[:1100], *TEXT[:200]), 3)
    events = together(model, one, other)
    assert cached(events, "one", "other") == [0, 1024]
    assert tokens(events, "other") == alone(model, other)


def test_a_border_within_chunks_of_another_length(model: Model) -> None:
    one, other = request("one", TEXT[:700], 2), request("other", (*TEXT[:650], 1, 2), 2)
    events = answer(model, one, other, prefill_chunk=100, shelf_bytes=64 * MB)
    assert cached(events, "one", "other") == [0, 600]


def test_without_room_nothing_is_kept(model: Model) -> None:
    asked = [request(name, TEXT[:300], 5) for name in "ab"]
    events = together(model, *asked, room=0)
    assert cached(events, "a", "b") == [0, 0]
    assert tokens(events, "a") == tokens(events, "b")


def test_with_little_room_the_latest_is_kept(model: Model) -> None:
    asked = [request(str(n), TEXT[n * 300 : n * 300 + 300], 2) for n in range(3)]
    again = [request(f"again {r.id}", r.prompt, 2) for r in (asked[2], asked[0])]
    shelf = Shelf()
    together(model, asked[0], shelf=shelf)  # its prompt's end and its answer's
    events = together(model, *asked, *again, room=shelf.nbytes)
    assert cached(events, "again 2", "again 0") == [299, 0]


def test_a_cancelled_prompt_leaves_its_borders(model: Model) -> None:
    first, second = request("first", TEXT[:1990], 9), request("second", TEXT[:1990], 2)
    commands = log(first, Cancel("first"), second)
    quiet = [[] for _ in range(8)]
    events, _ = play(
        model,
        Script([commands[0]], *quiet, commands[1:]),
        prefill_chunk=CHUNK,
        shelf_bytes=64 * MB,
    )
    assert cached(events, "first", "second") == [0, 1024]
    assert tokens(events, "second") == alone(model, second)


@pytest.mark.slow
def test_a_launch_goes_on_from_what_the_last_one_left(model: Model, tmp_path: Path) -> None:
    def shelf() -> Shelf:
        return Shelf(open_folder(tmp_path, rank=0, facts="this"), 64 * MB)

    first = request("first", TEXT[:600], 20)
    together(model, first, shelf=shelf())
    second = request("second", (*TEXT[:600], *alone(model, first), 7), 20)
    events = together(model, second, shelf=shelf())
    assert cached(events, "second") == [619]
    assert tokens(events, "second") == alone(model, second)
