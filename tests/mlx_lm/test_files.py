"""Prompt caches in files: written and read by mlx-lm, read again by another process, or refused."""

import os
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models.cache import KVCache, load_prompt_cache, save_prompt_cache

from dsv4_tp import demo
from dsv4_tp.errors import RequestError
from dsv4_tp.mlx_lm.cache import Dsv4LayerCache
from dsv4_tp.mlx_lm.identity import identity
from tests.mlx_lm.loaded import TEXTS, alone, encoded, loaded, prompts, steps

DEADLINE_S = 120


def fed(count: int, **options) -> list[Dsv4LayerCache]:
    """A cache with the first `count` tokens of a prompt of 174, by mlx-lm's generator."""
    cache = loaded(options.get("dtype", mx.float32))[0].make_cache()
    steps(prompts()[5][:count], 0, prompt_cache=cache, **options)
    return cache


def stored(cache: list[object], folder: Path) -> list[object]:
    path = str(folder / "cache.safetensors")
    save_prompt_cache(path, cache, {"note": "kept"})
    found, metadata = load_prompt_cache(path, return_metadata=True)
    assert metadata == {"note": "kept"}
    return found


@pytest.mark.parametrize("count", [2, 141])
def test_what_was_loaded_goes_on_as_what_was_saved(count: int, tmp_path: Path) -> None:
    cache = fed(count)
    read = stored(cache, tmp_path)
    for layer, own in zip(read, cache, strict=True):
        assert layer.memory.positions == own.memory.positions == (count,)
        assert layer.memory.rewindable == own.memory.rewindable
    prompt = prompts()[5]
    assert alone(prompt[count:], prompt_cache=read) == alone(prompt)


def test_an_empty_cache_and_a_batch_are_stored_too(tmp_path: Path) -> None:
    model, _ = loaded()
    assert all(layer.empty() for layer in stored(model.make_cache(), tmp_path))
    parts = [fed(9), fed(141)]
    batch = stored([Dsv4LayerCache.merge(same) for same in zip(*parts, strict=True)], tmp_path)
    last = mx.array([[5], [5]])
    logits = np.array(model(last, cache=batch)[:, 0])
    apart = [np.array(model(last[:1], cache=part)[0, 0]) for part in parts]
    assert np.abs(logits - np.array(apart)).max() <= 1e-5 * logits.std()


@pytest.mark.slow
def test_the_command_line_goes_on_in_a_new_process(tmp_path: Path) -> None:
    file, (told, asked) = tmp_path / "cache.safetensors", TEXTS[4].split(" What")
    mlx_lm("cache_prompt", "--model", demo.path(), "--prompt", told, "--prompt-cache-file", file)
    found = mlx_lm("generate", "--prompt-cache-file", file, "--prompt", f" What{asked}", *QUIET)
    prompt = encoded(TEXTS[4])[1:]
    own = loaded()[1].decode(alone(prompt, dtype=mx.bfloat16))
    assert found.strip() == own == "The code of the red box is 5406"


QUIET = ("--max-tokens", "12", "--verbose", "False")


def mlx_lm(*words: object) -> str:
    """What mlx-lm's command, with this model in it, says."""
    command = [sys.executable, "-m", "dsv4_tp.mlx_lm", *map(str, words)]
    done = subprocess.run(
        command,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_file_of_another_class_is_refused(tmp_path: Path) -> None:
    cache = [KVCache() for _ in range(3)]
    for layer in cache:
        layer.update_and_fetch(mx.zeros((1, 1, 4, 8)), mx.zeros((1, 1, 4, 8)))
    with pytest.raises(RequestError, match=r"KVCache.*make it with this model"):
        steps([5], prompt_cache=stored(cache, tmp_path))


def test_a_file_of_another_model_is_refused(tmp_path: Path) -> None:
    cache = stored(fed(9, dtype=mx.bfloat16), tmp_path)
    with pytest.raises(RequestError, match=f"{cache[0].model}.*{loaded()[0].identity}"):
        steps([5], prompt_cache=cache)
    with pytest.raises(RequestError, match="2 layers"):
        steps([5], prompt_cache=fed(9)[:2])
    with pytest.raises(RequestError, match="several models"):
        Dsv4LayerCache.merge([cache[0], fed(9)[0]])


@pytest.mark.parametrize("place", ["ring", "tail", "rows", "no ring"])
def test_a_file_that_lacks_something_is_refused(place: str, tmp_path: Path) -> None:
    cache = fed(40)
    (memory,) = cache[1].memory.memories
    if place == "ring":
        memory.ring.slots = memory.ring.slots[:, 1:]
    elif place == "tail":
        memory.pools[1].tail.slots = memory.pools[1].tail.slots[:, 1:]
    elif place == "rows":
        complete = memory.position // 4
        memory.pools[0].rows.rows = memory.pools[0].rows.rows[:, : complete - 1]
    else:
        memory.ring.slots = None
    with pytest.raises(RequestError, match="damaged, or of another version"):
        stored(cache, tmp_path)


def test_identity_tells_models_apart() -> None:
    model, _ = loaded()
    own = identity(model, model.spec)
    assert own == model.identity == identity(model, model.spec)
    changed = dict(model.layers[2].attn_norm.parameters())
    try:
        model.layers[2].attn_norm.weight = changed["weight"] * 1.01
        assert identity(model, model.spec) != own
    finally:
        model.layers[2].attn_norm.weight = changed["weight"]
    assert identity(model, model.spec) == own
