"""The shipped model writes the same text however its prompt is fed, on one rank and on two."""

import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from dsv4_tp import demo
from dsv4_tp.core import DType
from dsv4_tp.model import Cache, Model
from dsv4_tp.model.rows import Ring
from dsv4_tp.parallel import load_rank
from dsv4_tp.rules import REWIND, reach
from dsv4_tp.text import Text
from tests.engine.drive import greedy_text
from tests.engine.ring import run_ranks

PROMPTS = Path(__file__).parents[2] / "examples" / "demo_model" / "prompts"
RING_CHUNKS = (3, 127, 128)
ONE_SHOT = 1000
FOUND = "4182"  # stated 300 tokens before it is asked for
LENGTHS = (1, 5, 40, 127, 128, 200, 301, 449)
TOKENS, STEPS = 16, 10
# Linux' CPU backend multiplies a row with others as it does alone.
FAR = 0 if sys.platform == "linux" else 1e-5


def prompt_of(name: str) -> tuple[int, ...]:
    text = (PROMPTS / f"{name}.txt").read_text(encoding="utf-8").removesuffix("\n")
    return tuple(Text.load(demo.path()).prompt_ids(text))


QUESTION, STORY = prompt_of("question"), prompt_of("story")


def words(ids: list[int]) -> str:
    return Text.load(demo.path()).tokenizer.decode(ids)


@pytest.fixture(scope="module")
def model() -> Model:
    return load_rank(demo.path(), None, dtype=DType.FLOAT32).model


@pytest.fixture(scope="module")
def answered(model: Model) -> list[int]:
    """In one shot."""
    ids = greedy_text(model, QUESTION, TOKENS, prefill_chunk=ONE_SHOT)
    assert FOUND in words(ids)
    return ids


@pytest.mark.parametrize(
    "chunk", [64, *(pytest.param(size, marks=pytest.mark.slow) for size in (1, 3, 127, 128, 129))]
)
def test_it_finds_the_same_in_chunks(model: Model, answered: list[int], chunk: int):
    assert greedy_text(model, QUESTION, TOKENS, prefill_chunk=chunk) == answered


@pytest.mark.slow
@pytest.mark.parametrize(
    "chunk", [*(pytest.param(few, marks=pytest.mark.slow) for few in (1, 3)), 64]
)
def test_it_goes_on_with_the_same_story(model: Model, chunk: int):
    """Past the end of its window, and a row of 128 tokens."""
    written = greedy_text(model, STORY, 140, prefill_chunk=ONE_SHOT)
    assert len(set(written)) > 10  # not one word again and again
    assert greedy_text(model, STORY, 140, prefill_chunk=chunk) == written


def test_chunks_that_forget_open_windows_find_nothing(
    model: Model, answered: list[int], monkeypatch: pytest.MonkeyPatch
):
    read = Ring.read

    def forgetful(self: Ring, stop: int, count: int) -> mx.array | None:
        rows = read(self, stop, count)
        return mx.zeros_like(rows) if rows is not None and self.size == reach(4) + REWIND else rows

    monkeypatch.setattr(Ring, "read", forgetful)
    assert greedy_text(model, QUESTION, TOKENS, prefill_chunk=3) != answered


@pytest.mark.slow
@pytest.mark.ranks
def test_two_ranks_find_the_same_in_chunks(tmp_path: Path, answered: list[int]):
    how = {"prompt": QUESTION, "count": TOKENS, "chunks": RING_CHUNKS}
    run_ranks("write", 2, tmp_path, deadline_s=200, **how)
    texts = np.load(tmp_path / "0.npz")
    assert {name: text.tolist() for name, text in texts.items()} == {
        str(chunk): answered for chunk in RING_CHUNKS
    }


def feed(model: Model, ids: list[list[int]], cache: Cache) -> np.ndarray:
    """Logits [B, V] of the last of the tokens ids [B, L]."""
    logits = model(mx.array(ids, dtype=mx.int32), cache)[:, -1]
    mx.eval(logits, cache.arrays())
    return np.array(logits)


@pytest.mark.slow
def test_each_of_eight_prompts_goes_on_as_it_does_alone(model: Model):
    caches = [model.make_cache() for _ in LENGTHS]
    prompts = [list(QUESTION[-length:]) for length in LENGTHS]
    given = zip(prompts, caches, strict=True)
    last = [int(feed(model, [prompt], cache).argmax()) for prompt, cache in given]
    together = Cache.merged([cache.copy() for cache in caches])
    assert together.positions == LENGTHS
    for _ in range(STEPS):
        batch = feed(model, [[token] for token in last], together)
        pairs = zip(last, caches, strict=True)
        alone = np.concatenate([feed(model, [[token]], cache) for token, cache in pairs])
        assert (np.abs(batch - alone).max(axis=1) <= FAR * alone.std(axis=1)).all()
        assert batch.argmax(axis=1).tolist() == alone.argmax(axis=1).tolist()
        last = alone.argmax(axis=1).tolist()
