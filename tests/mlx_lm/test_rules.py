"""What mlx-lm may do with a cache, what it may not, and that it is told so."""

from pathlib import Path

import mlx.core as mx
import pytest
from mlx_lm.generate import generate_step, stream_generate
from mlx_lm.models.cache import LRUPromptCache, can_trim_prompt_cache, trim_prompt_cache

from dsv4_tp.errors import RequestError
from dsv4_tp.mlx_lm.cache import Dsv4LayerCache
from tests.mlx_lm.loaded import alone, loaded, prompts, steps


def test_nothing_is_trimmed() -> None:
    """Not even what could be: mlx-lm takes the answer for any number, now and later."""
    cache = loaded()[0].make_cache()
    assert not can_trim_prompt_cache(cache)
    steps(prompts()[0], 0, prompt_cache=cache)
    positions = cache[0].memory.positions
    assert not can_trim_prompt_cache(cache)
    assert trim_prompt_cache(cache, 2) == 0
    assert cache[0].memory.positions == positions


def test_speculation_is_refused_before_it_starts() -> None:
    model, tokenizer = loaded()
    with pytest.raises(ValueError, match=r"requires a trimmable prompt cache.*Dsv4LayerCache"):
        next(stream_generate(model, tokenizer, prompts()[0], draft_model=model))


def test_kv_bits_are_refused() -> None:
    with pytest.raises(RequestError, match="--kv-bits"):
        steps(prompts()[0], 2, kv_bits=8, quantized_kv_start=0)


@pytest.mark.slow
def test_its_lru_goes_on_from_a_shorter_prompt_and_never_from_a_longer_one() -> None:
    held, model, prompt = LRUPromptCache(), loaded()[0], prompts()[5]
    answer = alone(prompt)
    for known in (prompt[:30], [*prompt, *answer]):
        cache = model.make_cache()
        steps(known, 0, prompt_cache=cache)
        held.insert_cache("demo", known, cache)
    assert len(held) == 2
    for _ in range(2):  # what it hands out is a copy
        cache, rest = held.fetch_nearest_cache("demo", prompt)
        assert rest == prompt[30:]
        assert alone(rest, prompt_cache=cache) == answer
    assert held.fetch_nearest_cache("demo", prompt[:20]) == (None, prompt[:20])


def test_an_approximate_trim_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a yes would do: the same lookup, with the position lowered by more than is kept."""

    def trim(layer: Dsv4LayerCache, count: int) -> int:
        layer.memory.memories[0].position -= count
        return count

    monkeypatch.setattr(Dsv4LayerCache, "is_trimmable", lambda _: True)
    monkeypatch.setattr(Dsv4LayerCache, "trim", trim, raising=False)
    held, prompt = LRUPromptCache(), prompts()[5]
    cache = loaded()[0].make_cache()
    steps(prompt, 0, prompt_cache=cache)
    held.insert_cache("demo", prompt, cache)
    cache, rest = held.fetch_nearest_cache("demo", prompt[:60])
    own = steps(prompt[:60], 1)[0][1]
    assert len(rest) == 1
    far = mx.abs(steps(rest, 1, prompt_cache=cache)[0][1] - own).max()
    assert far.item() > 0.1


def nodes(cache: list[Dsv4LayerCache], path: Path) -> int:
    """Of the graph that the cache still waits for."""
    mx.export_to_dot(str(path), [array for layer in cache for array in layer.arrays])
    return path.read_text().count("->")


@pytest.mark.parametrize("tied", [True, False])
def test_nothing_waits_from_step_to_step(
    tied: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mlx-lm evaluates tokens only, and the first ones read no index rows."""
    if not tied:
        monkeypatch.setattr(mx, "depends", lambda logits, _: logits)
    model = loaded()[0]
    cache = model.make_cache()
    generated = generate_step(mx.array([0, 5]), model, max_tokens=16, prompt_cache=cache)
    counts = [nodes(cache, tmp_path / "graph.dot") for _ in generated]
    if tied:
        assert max(counts) == 0
    else:
        assert counts[-1] > counts[0] + 100
