"""The engine of one rank on a small random model."""

import math
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest

from dsv4_tp.core import Cancel, FinishReason, Sampling, ScoreRequest, TokenEvent
from dsv4_tp.engine import Limits, Team, refusal, score_rows
from dsv4_tp.errors import RequestError
from tests.engine.drive import Script, answer, finish, log, play, request, scores, tokens
from tests.model.golden import greedy
from tests.model.tiny import random_ids, tiny_model

PROMPT = (5, 17, 3, 60, 44, 8, 9, 21, 13, 70, 2, 35, 31, 77, 50, 6, 1, 12, 19)


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.mark.parametrize("prefill_chunk", [1, 7, 512])
def test_greedy_follows_the_model(model, prefill_chunk):
    events = answer(model, request("a", PROMPT, 6), prefill_chunk=prefill_chunk)
    assert tokens(events, "a") == greedy(model, list(PROMPT), 6)
    end = finish(events, "a")
    assert end.reason is FinishReason.LENGTH
    assert (end.prompt_tokens, end.generated_tokens, end.decode_steps) == (len(PROMPT), 6, 5)
    assert (end.collectives, end.wire_bytes, end.error) == (0, 0, "")


def test_a_stop_token_is_not_emitted(model):
    first = greedy(model, list(PROMPT), 6)
    stop = next(token for token in first[1:] if token != first[0])
    events = answer(model, request("a", PROMPT, 6, stop_ids=(stop,)))
    assert tokens(events, "a") == first[: first.index(stop)]
    assert finish(events, "a").reason is FinishReason.STOP


def test_requests_do_not_disturb_each_other(model):
    both = answer(model, request("a", PROMPT, 4), request("b", PROMPT[:5], 4))
    assert tokens(both, "b") == greedy(model, list(PROMPT[:5]), 4)


def test_a_seed_is_replayed(model):
    def sample(seed: int) -> list[int]:
        setting = Sampling(temperature=1.5, top_p=0.9, seed=seed)
        return tokens(answer(model, request("a", PROMPT, 12, sampling=setting)), "a")

    assert sample(1) == sample(1)
    assert sample(1) != sample(2)


def test_a_cancel_ends_the_active_request_between_steps(model):
    submit, cancel = log(request("a", PROMPT, 50), Cancel("a"))
    batches = [[submit], [], [], [], [], [cancel]]
    events, record = play(model, Script(*batches))
    end = finish(events, "a")
    assert end.reason is FinishReason.CANCELLED
    assert 0 < end.generated_tokens == len(tokens(events, "a")) < 6
    assert record.phases[-2:] == ["ready", "leaving"]


def test_a_cancel_during_prefill_generates_nothing(model):
    submit, cancel = log(request("a", PROMPT, 50), Cancel("a"))
    events, record = play(model, Script([submit], [], [cancel]), prefill_chunk=4)
    assert finish(events, "a").generated_tokens == 0
    assert 0 < record.prefill_tokens < len(PROMPT)


def test_progress_counts_every_step(model):
    _, record = play(model, Script(log(request("a", PROMPT, 5))), prefill_chunk=4)
    assert (record.prefill_tokens, record.decode_steps) == (len(PROMPT), 4)
    assert record.phases == ["ready", "prefill", "decode", "ready", "leaving"]


def test_every_step_is_told_with_what_it_did(model):
    asked = request("a", PROMPT, 3), request("b", PROMPT[:4], 3)
    score = ScoreRequest("s", (tuple(PROMPT), tuple(PROMPT)))
    _, record = play(model, Script(log(*asked, score)), prefill_chunk=40, batch=2)
    steps = [(s.phase, s.work.rows, s.work.tokens, s.running) for s in record.steps]
    assert steps == [
        ("prefill", 1, len(PROMPT), 2),
        ("decode", 1, 1, 2),
        ("prefill", 1, 4, 2),
        ("decode", 2, 2, 2),  # the first one is done, the score takes its place
        ("prefill", 2, 2 * len(PROMPT), 1),
        ("decode", 1, 1, 0),
    ]
    assert all(s.work.steps == 1 and s.work.time_s > 0 for s in record.steps)


@pytest.mark.parametrize(
    ("prompt", "count", "words"),
    [
        ((), 5, "prompt is empty"),
        ((1, 80), 5, "token 80"),
        ((1,), 0, "max_tokens"),
    ],
)
def test_impossible_requests_are_told_why(model, prompt, count, words):
    events = answer(model, request("bad", prompt, count), request("good", PROMPT, 1))
    assert words in finish(events, "bad").error
    assert len(tokens(events, "good")) == 1


@pytest.mark.parametrize(
    "setting",
    [
        *({"temperature": -1}, {"temperature": math.inf}, {"top_p": 0}, {"top_p": 1.1}),
        *({"top_k": -1}, {"seed": -1}, {"seed": 2**64}, {"min_p": -0.1}, {"min_p": math.nan}),
        *({"repetition_penalty": 0.0}, {"repetition_penalty": math.inf}, {"logprobs": 21}),
        *({"presence_penalty": 2.1}, {"presence_penalty": -2.1}, {"frequency_penalty": math.nan}),
        *({"logit_bias": ((0, 101),)}, {"logit_bias": ((0, math.nan),)}),
    ],
    ids=str,
)
def test_impossible_settings_are_told_why(model, setting):
    events = answer(model, request("bad", PROMPT, 1, sampling=Sampling(**setting)))
    (name,) = setting
    error = finish(events, "bad").error
    assert error.startswith(f"{name} ")
    assert "; it must " in error


def test_a_bias_of_an_unknown_token_is_told():
    setting = Sampling(logit_bias=((3, 1.0), (10**6, 1.0)))
    events = answer(tiny_model(), request("bad", PROMPT, 1, sampling=setting))
    assert "logit_bias: token 1000000 is not in the vocabulary" in finish(events, "bad").error


def test_an_unknown_stop_id_is_told():
    events = answer(tiny_model(), request("bad", PROMPT, 1, form_after=10**6))
    assert finish(events, "bad").error.startswith("form_after: token 1000000 is not in the")
    events = answer(tiny_model(), request("bad", PROMPT, 1, stop_ids=(3, 10**6)))
    assert finish(events, "bad").error.startswith("stop_ids: token 1000000 is not in the vocab")


def test_logprobs_come_with_their_tokens(model):
    setting = Sampling(temperature=0, logprobs=3)
    events = answer(model, request("a", PROMPT, 4, sampling=setting), request("b", PROMPT, 4))
    asked, plain = (
        [e for e in events if isinstance(e, TokenEvent) and e.request_id == name] for name in "ab"
    )
    for event in asked:
        assert event.top[0] == (event.token, event.logprob)
        assert len(event.top) == 3
    assert [e.token for e in asked] == [e.token for e in plain]
    assert [(e.logprob, e.top) for e in plain] == [(None, ())] * 4


def test_penalties_count_what_was_generated_so_far(model):
    ban = Sampling(temperature=0, logit_bias=tuple((token, -100.0) for token in range(8, 40)))
    free = tokens(answer(model, request("a", PROMPT, 12, sampling=ban)), "a")
    once = replace(ban, frequency_penalty=2.0, presence_penalty=2.0, repetition_penalty=100.0)
    held = tokens(answer(model, request("a", PROMPT, 12, sampling=once)), "a")
    assert len(set(held)) > len(set(free))


def test_a_prompt_that_fills_the_context_is_refused():
    short = tiny_model(max_position_embeddings=19)
    events = answer(short, request("full", PROMPT, 5), request("one", PROMPT[1:], 5))
    assert "context is 19" in finish(events, "full").error
    assert finish(events, "one").generated_tokens == 1


def test_a_context_shorter_than_the_models_bounds_prompt_and_answer(model):
    events = answer(model, request("full", PROMPT, 5), request("one", PROMPT[2:], 5), context=19)
    assert "context is 19" in finish(events, "full").error
    ended = finish(events, "one")
    assert (ended.generated_tokens, ended.reason) == (2, FinishReason.LENGTH)


def plain_nll(logits: np.ndarray, ids: np.ndarray) -> np.ndarray:
    wide = logits[:, :-1].astype(np.float64)
    log_sum = np.log(np.exp(wide).sum(-1))
    hit = np.take_along_axis(wide, ids[:, 1:, None], axis=-1)[..., 0]
    return (log_sum - hit).mean(-1)


@pytest.mark.parametrize("chunk", [0, 1, 13, 400])
def test_scores_match_the_models_logits(model, chunk):
    ids = np.array(random_ids(2, 50, 80))
    asked = ScoreRequest("s", tuple(map(tuple, ids.tolist())), chunk, want_logits=True)
    events = list(score_rows(model, asked, piece_tokens=20))
    expected = np.array(model(mx.array(ids)))
    logits = [np.frombuffer(e.logits, np.float32).reshape(2, e.count, 80) for e in events]
    np.testing.assert_allclose(np.concatenate(logits, axis=1), expected, atol=1e-4)
    np.testing.assert_allclose(events[-1].nll, plain_nll(expected, ids), atol=1e-5)
    starts = np.cumsum([0, *(e.count for e in events)])
    assert [e.start for e in events] == starts[:-1].tolist()
    assert [e.last for e in events] == [False] * (len(events) - 1) + [True]


def test_the_engine_tells_only_the_end_of_a_score(model):
    asked = ScoreRequest("s", ((1, 2, 3, 4),), chunk=2)
    events = answer(model, asked)
    (score,) = scores(events)
    assert score == list(score_rows(model, asked))[-1]
    assert finish(events, "s").reason is FinishReason.STOP


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ((), "at least one"),
        (((1, 2), (1,)), "equally long"),
        (((1,),), "2 tokens"),
        (((1, 99),), "token 99"),
    ],
)
def test_impossible_rows_are_refused(model, rows, words):
    with pytest.raises(RequestError, match=words):
        score_rows(model, ScoreRequest("s", rows))
    assert words in finish(answer(model, ScoreRequest("s", rows)), "s").error


def test_rows_take_no_more_memory_than_was_planned(model):
    limits = Limits(80, 50, room_bytes=100, cache_bytes=lambda tokens: 10 * tokens)
    two, one = (ScoreRequest("s", (tuple(PROMPT[:6]),) * count) for count in (2, 1))
    assert "2 rows of 6 tokens need 120 bytes of caches, and 100 are" in refusal(two, limits)
    assert refusal(one, limits) == ""
    rows = ScoreRequest("s", (tuple(PROMPT),) * 3, chunk=100, want_logits=True)
    assert {e.count for e in scores(answer(model, rows, prefill_chunk=16))} == {5, len(PROMPT) % 5}


def test_others_do_not_wait_for_a_long_piece_of_a_row(model):
    row = ScoreRequest("s", (tuple(PROMPT * 600)[:600],), want_logits=True)
    assert {e.count for e in scores(answer(model, row, prefill_chunk=1024))} == {512, 600 - 512}


def test_a_team_of_one_counts_no_collectives(model):
    team = Team.of_one(model.part)
    answer(model, request("a", PROMPT, 3), team=team)
    assert not team.collectives.ledger.calls
