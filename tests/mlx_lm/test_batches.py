"""mlx-lm's BatchGenerator: each request gets what it gets alone, whoever shares its steps."""

from collections.abc import Sequence

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.generate import BatchGenerator, batch_generate

from dsv4_tp.errors import RequestError
from dsv4_tp.mlx_lm.cache import Dsv4LayerCache
from tests.mlx_lm.loaded import MORE, TURN, alone, encoded, loaded, prompts, steps

Steps = list[tuple[int, mx.array]]  # tokens with their logprobs
CLOSE = 1e-5


def run(
    together: BatchGenerator, uids: list[int], later: Sequence[tuple[int, list[int], int]] = ()
) -> dict[int, Steps]:
    """All that comes, by uid; `later` says who joins: (round, prompt, most tokens)."""
    found: dict[int, Steps] = {}
    for number in range(10_000):
        for _, prompt, most in [entry for entry in later if entry[0] == number]:
            uids += together.insert([prompt], [most])
        prompted, generated = together.next()
        for response in generated:
            found.setdefault(response.uid, []).append((response.token, response.logprobs))
        if not (prompted or generated):
            return found
    raise AssertionError("the batch never ends")


def far(found: Steps, own: Steps) -> float:
    """How much the logprobs differ, of their spread; infinite where a token does."""
    if not found or [token for token, _ in found] != [token for token, _ in own]:
        return float("inf")
    ours, theirs = (np.array([logprobs for _, logprobs in each]) for each in (found, own))
    return float(np.abs(ours - theirs).max() / theirs.std())


@pytest.fixture(scope="module")
def wanted() -> list[Steps]:
    """What each prompt gets alone."""
    return [steps(prompt) for prompt in prompts()]


def generator(**options) -> BatchGenerator:
    return BatchGenerator(loaded()[0], **options)


def test_eight_unequal_prompts(wanted: list[Steps]) -> None:
    together = generator(max_tokens=MORE)
    uids = together.insert(prompts())
    found = run(together, uids)
    for uid, own in zip(uids, wanted, strict=True):
        assert far(found[uid], own) <= CLOSE


@pytest.mark.slow
def test_requests_that_join_late_and_leave_early(wanted: list[Steps]) -> None:
    most = [5, MORE, 3, MORE, 7, 1, MORE, 9]
    together = generator(prefill_step_size=19, prefill_batch_size=3)
    given = list(zip(prompts(), most, strict=True))
    uids = together.insert([prompt for prompt, _ in given[:3]], most[:3])
    late = [(2 + 2 * number, *request) for number, request in enumerate(given[3:])]
    found = run(together, uids, late)
    for uid, own, count in zip(uids, wanted, most, strict=True):
        assert far(found[uid], own[:count]) <= CLOSE


def test_a_request_that_is_removed_leaves_the_others_alone(wanted: list[Steps]) -> None:
    together = generator(max_tokens=MORE, prefill_step_size=30)
    uids = together.insert(prompts()[:5])
    for _ in range(4):  # the longest prompts are still being fed
        together.next()
    together.remove([uids[0], uids[4]])
    found = run(together, uids)
    for uid, own in zip(uids[1:4], wanted[1:4], strict=True):
        assert far(found[uid], own[-len(found[uid]) :]) <= CLOSE


def test_padding_that_is_fed_is_caught(
    monkeypatch: pytest.MonkeyPatch, wanted: list[Steps]
) -> None:
    """The answers may be the same even so; what they were chosen from is not."""
    monkeypatch.setattr(Dsv4LayerCache, "prepare", lambda *_, **__: None)
    together = generator(max_tokens=2)
    uids = together.insert(prompts()[:4])
    found = run(together, uids)
    caught = [
        far(found[uid], own[:2]) > 100 * CLOSE for uid, own in zip(uids, wanted, strict=False)
    ]
    assert caught == [True, True, True, False]  # the longest has no padding


@pytest.mark.slow
def test_a_second_turn_goes_on_from_the_first() -> None:
    """Caches that come back go on, alone or in another batch, and stay as they were."""
    (model, tokenizer), given = loaded(), prompts()[2:5]
    options = {"max_tokens": MORE, "return_token_ids": True}
    first = batch_generate(model, tokenizer, given, return_prompt_caches=True, **options)
    assert first.token_ids == [alone(prompt) for prompt in given]
    turn = encoded(TURN)[1:]
    whole = [alone([*p, *text, *turn]) for p, text in zip(given, first.token_ids, strict=True)]
    held = [[layer.memory.copy() for layer in cache] for cache in first.caches]
    for numbers in ([1], [2, 0, 1], [1]):
        caches = [first.caches[number] for number in numbers]
        turns = [turn] * len(numbers)
        second = batch_generate(model, tokenizer, turns, prompt_caches=caches, **options)
        assert second.token_ids == [whole[number] for number in numbers]
    for cache, copies in zip(first.caches, held, strict=True):
        for layer, copy in zip(cache, copies, strict=True):
            assert layer.memory.positions == copy.positions
            assert all(map(mx.array_equal, layer.arrays, copy.state))


@pytest.mark.slow
def test_room_goes_with_the_sequence_that_needed_it() -> None:
    caches = [loaded()[0].make_cache() for _ in range(2)]
    for prompt, cache in zip((prompts()[7] * 3, prompts()[0]), caches, strict=True):
        steps(prompt, 1, prompt_cache=cache)
    long, short = (cache[1] for cache in caches)
    batch = Dsv4LayerCache.merge([long, short])
    left = batch.extract(1)
    assert left.nbytes <= short.nbytes < long.nbytes < batch.nbytes
    batch.filter([1])
    assert batch.nbytes == short.nbytes


def test_padding_at_the_left_is_refused() -> None:
    layer = Dsv4LayerCache.merge([loaded()[0].make_cache()[0] for _ in range(2)])
    layer.prepare(left_padding=[0, 0])
    with pytest.raises(RequestError, match="pad at the right"):
        layer.prepare(left_padding=[0, 3])


def test_a_prompt_that_was_not_finished_is_refused() -> None:
    model, _ = loaded()
    cache = [
        Dsv4LayerCache.merge(same)
        for same in zip(model.make_cache(), model.make_cache(), strict=True)
    ]
    for layer in cache:
        layer.prepare(lengths=[3, 1], right_padding=[0, 2])
    model(mx.array([[5, 6, 7], [8, 0, 0]]), cache=cache)
    with pytest.raises(RequestError, match="finalize"):
        model(mx.array([[5], [6]]), cache=cache)
    for layer in cache:
        layer.finalize()
    assert cache[0].memory.positions == (3, 1)
