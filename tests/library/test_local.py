"""A model in this process: the same answers, ends and refusals as from a cluster."""

import subprocess
import sys
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from dsv4_tp import Ask, Dsv4Error, FinishReason, LocalModel, load
from dsv4_tp.errors import ConfigError, ModelError, RequestError

ASK = Ask("One day", max_tokens=12, temperature=0)
ENDLESS = {1: -100.0}  # but for the token that ends a text
LONG = Ask("One day", max_tokens=100_000, temperature=0, logit_bias=ENDLESS)


@pytest.fixture(scope="module")
def model() -> Generator[LocalModel]:
    with load("demo", batch=4) as loaded:
        yield loaded


def test_a_text_at_once_and_as_it_comes(model: LocalModel):
    answer = model.generate(ASK)
    assert answer.reason is FinishReason.LENGTH
    assert len(answer.tokens) == answer.finish.stats.generated_tokens == 12
    assert answer.finish.stats.first_token_s > 0
    pieces = list(model.stream(ASK))
    assert len(pieces) == 13
    assert "".join(piece.text for piece in pieces) == answer.text
    with closing(model.stream("One day")) as alone:  # a prompt, and all else by default
        assert len(next(alone).tokens) == 1


def test_a_stop_string_and_a_time_limit(model: LocalModel):
    text = model.generate(ASK).text
    stop = text[10:14]
    stopped = model.generate(Ask("One day", max_tokens=12, temperature=0, stop=stop))
    assert (stopped.text, stopped.reason) == (text.split(stop)[0], FinishReason.STOP)
    late = Ask("One day", max_tokens=100_000, logit_bias=ENDLESS, time_limit_s=0.2)
    assert model.generate(late).reason is FinishReason.TIMEOUT


def test_several_threads_share_it_and_one_leaves(model: LocalModel):
    alone = model.generate(ASK)
    with closing(model.stream(LONG)) as left, ThreadPoolExecutor(3) as pool:
        next(left)
        answers = list(pool.map(model.generate, [ASK] * 3))
    assert [answer.tokens for answer in answers] == [alone.tokens] * 3
    # All places are free again.
    assert len(list(model.stream(ASK))) == 13


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (Ask(""), "the prompt is empty"),
        (Ask("x", seed=1.5), "seed is 1.5"),
        (Ask("x", top_p=2.0), "top_p is 2.0"),
        (Ask("x", stop_ids=[10**6]), "stop_ids: token 1000000"),
        (Ask("x", time_limit_s=0.0), "time_limit_s is 0.0"),
    ],
)
def test_what_cannot_be_asked(model: LocalModel, ask: Ask, says: str):
    with pytest.raises(RequestError, match=says):
        model.generate(ask)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"dtype": "float16"}, "dtype is 'float16'; it must be one of auto, float32, bfloat16"),
        ({"batch": 0}, "batch is 0; it must be 1 to 64"),
        ({"mtp": 5}, "mtp is 5; it must be 0 to 4"),
        ({"context": -1}, "context is -1; it must be 1 or more"),
    ],
)
def test_what_cannot_be_loaded(settings: dict, says: str):
    with pytest.raises(ConfigError, match=says):
        load("demo", **settings)


def test_no_model_is_named(tmp_path):
    with pytest.raises(ModelError, match="no such file"):
        load(tmp_path / "none")


def test_a_program_that_does_not_close_it_ends_well():
    words = (
        "from dsv4_tp import Ask, load",
        "stream = load('demo').stream(Ask('One day', max_tokens=10**6, logit_bias={1: -100.0}))",
        "next(stream)",
    )
    program = [sys.executable, "-c", "\n".join(words)]
    runs = [
        subprocess.run(program, timeout=60) for _ in range(2)
    ]  # it once aborted every other time
    assert [run.returncode for run in runs] == [0, 0]


def test_a_closed_model_says_so():
    model = load("demo")
    stream = model.stream(LONG)
    next(stream)
    model.close()
    assert list(stream)[-1].finish.reason is FinishReason.CANCELLED
    with pytest.raises(Dsv4Error, match="the model was closed"):
        model.generate(ASK)
    model.close()
