"""A real cluster over HTTP, by the real client: from its launch to its end."""

import json
import re
import signal
from pathlib import Path

import openai
import pytest
from openai import OpenAI

from tests.cluster.clusters import Launch

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
LONG = {"prompt": "Hello", "max_tokens": 100_000, "temperature": 0}
SEEDED = {"prompt": "Once upon a time", "max_tokens": 6, "seed": 7}


def test_from_launch_to_end(ranks):
    cluster = ranks("--batch", 1, "--queue", 0, restart={"backoff_s": [0.1, 1]})
    client, name = endpoint(cluster)
    with client:
        not_yet(client, name)
        cluster.wait_ready(ranks=2)
        assert health(client)[:2] == (200, "ready")
        assert [model.id for model in client.models.list()] == [name]
        a_stream_is_what_generate_says(cluster, client, name)
        the_example_in_the_readme(client, name)
        who_leaves_has_left(cluster, client, name)
        a_stream_outlives_a_rank(cluster, client, name)
        the_end(cluster, client, name)


def endpoint(cluster: Launch) -> tuple[OpenAI, str]:
    """A client of what the launch says, and the name of its model."""
    for line in iter(cluster.process.stderr.readline, ""):
        if said := re.fullmatch(r"openai endpoint: (\S+), model (\S+)\n", line):
            return OpenAI(base_url=said[1], api_key="-", max_retries=0, timeout=60), said[2]
    raise AssertionError(cluster.finish())


def health(client: OpenAI) -> tuple[int, str, str | None]:
    """Status, state and when to come again."""
    response = client._client.get(str(client.base_url).replace("/v1/", "/health/ready"))
    return response.status_code, response.json()["state"], response.headers.get("retry-after")


def not_yet(client: OpenAI, name: str) -> None:
    """No rank can be ready so soon."""
    status, state, again_s = health(client)
    assert (status, again_s) == (503, "5")
    assert state in ("starting", "preparing", "joining", "loading")
    with pytest.raises(openai.InternalServerError, match=r"the cluster is .*; try again") as caught:
        client.completions.create(model=name, **SEEDED)
    assert (caught.value.status_code, caught.value.response.headers["retry-after"]) == (503, "5")


def a_stream_is_what_generate_says(cluster: Launch, client: OpenAI, name: str) -> None:
    options = (f"--{key.replace('_', '-')}={value}" for key, value in SEEDED.items())
    told = json.loads(cluster.run("generate", *options, "--json").stdout)
    stream = client.completions.create(
        model=name, **SEEDED, stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = list(stream)
    assert "".join(chunk.choices[0].text for chunk in chunks) == told["text"]
    assert chunks[-1].choices[0].finish_reason == told["finish_reason"] == "length"
    assert last.usage.completion_tokens == len(told["tokens"]) == 6
    assert last.usage.prompt_tokens == told["stats"]["prompt_tokens"]
    whole = client.completions.create(model=name, **SEEDED, logprobs=1)
    assert whole.choices[0].text == told["text"]
    assert "".join(whole.choices[0].logprobs.tokens) == told["text"]
    with pytest.raises(openai.BadRequestError, match=r"top_p is 3.0") as caught:
        client.completions.create(model=name, prompt="x", top_p=3, stream=True)
    assert caught.value.param == "top_p"  # which the ranks have refused


def the_example_in_the_readme(client: OpenAI, name: str) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(from openai.*?)```", readme, flags=re.DOTALL)
    places = {"http://127.0.0.1:8000/v1": str(client.base_url), '"demo"': repr(name), "=80": "=8"}
    for shown, here in places.items():
        assert shown in example
        example = example.replace(shown, here)
    exec(compile(example, "README.md", "exec"), {})


def who_leaves_has_left(cluster: Launch, client: OpenAI, name: str) -> None:
    """And who would have had to wait for it is refused, as nobody may wait here."""
    before = cluster.status()["totals"]["ended"].get("cancelled", 0)
    with client.completions.create(model=name, **LONG, stream=True) as stream:
        next(stream)
        with pytest.raises(openai.RateLimitError, match="requests wait already") as caught:
            client.completions.create(model=name, **SEEDED)
        assert caught.value.response.headers["retry-after"] == "1"
        assert health(client)[0] == 200  # for busy is ready
    # The place is free again: this one would wait for ever.
    cluster.wait_for(lambda: cluster.status()["totals"]["running"] == 0, what="a free place")
    assert len(client.completions.create(model=name, **SEEDED).choices) == 1
    assert cluster.status()["totals"]["ended"]["cancelled"] == before + 1


def a_stream_outlives_a_rank(cluster: Launch, client: OpenAI, name: str) -> None:
    """It waits, and readiness says so meanwhile."""
    longer = LONG | {"max_tokens": 40}
    unbroken = client.completions.create(model=name, **longer).choices[0].text
    stream = client.completions.create(model=name, **longer, stream=True)
    told = [next(stream).choices[0].text for _ in range(3)]
    cluster.kill(cluster.workers()[1])
    cluster.wait_for(lambda: health(client)[0] == 503, what="no readiness")
    told += [chunk.choices[0].text for chunk in stream]
    assert "".join(told) == unbroken
    cluster.wait_for(lambda: health(client)[:2] == (200, "ready"), what="readiness again")
    cluster.look()


def the_end(cluster: Launch, client: OpenAI, name: str) -> None:
    """Asked to end it finishes what runs and takes nothing new; asked again it says so and ends."""
    stream = client.completions.create(model=name, **LONG, stream=True)
    next(stream)
    cluster.process.send_signal(signal.SIGINT)
    cluster.wait_for(lambda: health(client)[:2] == (503, "draining"), what="draining")
    with pytest.raises(openai.InternalServerError, match="it is draining"):
        client.completions.create(model=name, **SEEDED)
    next(stream)
    cluster.process.send_signal(signal.SIGINT)
    with pytest.raises(openai.APIError, match="the cluster was stopped"):
        list(stream)
    assert cluster.finish()[0] == 130
    assert cluster.leftovers() == ([], set())
