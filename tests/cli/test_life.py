"""A cluster as a user has it: launch, generate, status, down; all by the real command."""

import json
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest

from dsv4_tp.text import Text
from tests.cluster.clusters import Launch, launch, run, sweep
from tests.storage_files import FP4

pytestmark = pytest.mark.cluster

PROMPT = ("--prompt", "Several machines", "--seed", "5", "--max-tokens", "6")
TWO = ("--hosts", "localhost,localhost")


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir()
    return folder


@pytest.fixture
def cluster(state_dir: Path) -> Generator[Launch]:
    """Two ranks that serve."""
    started = launch(*TWO, "--model", FP4, "--name", "lab", state_dir=state_dir)
    try:
        assert "ready\n" in iter(started.process.stderr.readline, "")
        started.look()
        assert started.find("coordinator") == [started.tree()[0]]
        yield started
    finally:
        sweep(started)


def test_a_served_cluster_from_launch_to_down(cluster: Launch, state_dir: Path):
    answer = json.loads(cluster.run("generate", *PROMPT, "--json").stdout)
    assert len(answer["tokens"]) == 6
    assert answer["finish_reason"] == "length"
    assert answer["text"] == text_of(answer["tokens"])
    assert answer["stats"]["generated_tokens"] == 6
    assert answer["stats"]["collectives_per_token"] > 0
    for rank in answer["stats"]["ranks"]:
        assert rank["weight_bytes"] == rank["planned_bytes"]

    shown = cluster.run("generate", "--name", "lab", *PROMPT, "--mtp", 2)
    assert shown.stdout == answer["text"] + "\n"
    assert "tokens/s" in shown.stderr
    assert "no drafts: the cluster was launched without --mtp" in shown.stderr

    stop = answer["text"][3:5]
    # Long enough that the ranks hear of the stop before the end.
    longer = (*PROMPT, "--max-tokens", 400, "--stop", stop, "--json")
    stopped = json.loads(cluster.run("generate", *longer).stdout)
    assert stopped["text"] == answer["text"].split(stop)[0]
    assert stopped["tokens"] == answer["tokens"][: len(stopped["tokens"])]
    assert stopped["finish_reason"] == "stop"

    page = cluster.run("status", "--address", cluster.entry()["address"]).stdout.splitlines()
    assert page[0].startswith("lab: ready, epoch 1, float32")
    assert page[1].startswith("openai endpoint: http://127.0.0.1:")
    assert page[2] == "requests: 0 running, 0 waiting, ended: 2 length, 1 stop"
    assert page[3].startswith("prefill: 51 tokens in 3 steps of 1.0 sequences, ")
    assert page[4].startswith("decode: ")
    assert [line.split()[:2] for line in page[6:]] == [["localhost", "0"], ["localhost", "1"]]

    told = [json.loads(line) for line in cluster.run("events", "--json").stdout.splitlines()]
    assert [event["seq"] for event in told] == list(range(1, len(told) + 1))
    assert {event["rank"] for event in told if event["kind"] == "rank-loaded"} == {0, 1}
    assert told[-1]["kind"] == "ready"
    logs = cluster.run("logs").stdout.splitlines()
    assert len([line for line in logs if line.startswith("localhost agent | ")]) == 2

    pace = json.loads(cluster.run("top", "--count", 1, "--json").stdout)
    assert [(rank["phase"], rank["decode_steps"] > 0) for rank in pace["ranks"]] == [
        ("ready", True)
    ] * 2
    assert 0 < pace["first_token_p50_s"] <= pace["first_token_p95_s"]

    made = json.loads(cluster.run("debug-bundle", "-o", state_dir / "b.tar.gz", "--json").stdout)
    expected = {"manifest.json", "launch.json", "status.json", "events.jsonl"}
    assert expected | {"logs/localhost/agent.log"} == {*made["files"]}
    assert made["missing"] == []

    # The same request, once and alone on one rank, gives the same tokens.
    alone = run(
        *("launch", "--hosts", "localhost", "--model", FP4, *PROMPT, "--json"), state_dir=state_dir
    )
    assert alone.stdout.count("\n") == 1
    assert json.loads(alone.stdout)["tokens"] == answer["tokens"]

    assert cluster.run("down").returncode == 0
    code, out, err = cluster.finish()
    assert (code, out) == (0, ""), err
    assert cluster.leftovers() == ([], set())
    assert list(state_dir.glob("*.json")) == []
    gone = run("status", state_dir=state_dir)
    assert gone.returncode == 2
    assert "no cluster is running" in gone.stderr


def test_log_probabilities_and_a_bias(cluster: Launch):
    greedy = (*PROMPT, "--temperature", "0", "--json", "--logprobs", "3")
    free = json.loads(cluster.run("generate", *greedy).stdout)
    assert [len(each["top"]) for each in free["logprobs"]] == [3] * 6
    own = [
        (token, each["logprob"])
        for token, each in zip(free["tokens"], free["logprobs"], strict=True)
    ]
    assert [tuple(each["top"][0]) for each in free["logprobs"]] == own

    first = free["tokens"][0]
    held = json.loads(cluster.run("generate", *greedy, "--logit-bias", f"{first}=-100").stdout)
    assert first not in held["tokens"]
    assert held["logprobs"][0]["top"][0][0] == first
    assert "logprobs" not in json.loads(cluster.run("generate", *PROMPT, "--json").stdout)

    refused = cluster.run("generate", *PROMPT, "--logit-bias", "999999=1")
    assert refused.returncode == 2
    assert "logit_bias: token 999999 is not in the vocabulary" in refused.stderr


def test_several_texts_are_continued_in_the_order_they_were_given(state_dir: Path):
    greedy = ("--temperature", "0", "--max-tokens", "5")
    one, two = ("--prompt", "One"), ("--prompt", "Two " * 30 + "three")
    lines = run("launch", *TWO, "--model", FP4, *one, *two, *greedy, "--json", state_dir=state_dir)
    first, second = map(json.loads, lines.stdout.splitlines())
    assert [answer["stats"]["prompt_tokens"] for answer in (first, second)] == [4, 126]
    shown = run("launch", *TWO, "--model", FP4, *two, *one, *greedy, state_dir=state_dir)
    assert shown.stdout == second["text"] + "\n" + first["text"] + "\n"
    heads = [line for line in shown.stderr.splitlines() if line.startswith("prompt ")]
    assert [head for head in heads if " of 2: " in head] == [
        "prompt 1 of 2: ... " + ("Two " * 30 + "three")[-100:],
        "prompt 2 of 2: One",
    ]
    assert list(state_dir.glob("*.json")) == []


def test_a_score_by_a_cluster_is_the_score_by_one_device(state_dir: Path, tmp_path: Path):
    tokens = tmp_path / "ids.json"
    tokens.write_text(json.dumps(np.load(FP4 / "expected.npz")["ids"][:, :12].tolist()))
    nlls, logits = [], []
    for number, hosts in enumerate([(), TWO]):
        out = tmp_path / f"{number}.npz"
        files = ("--tokens", tokens, "--logits", out, "--chunk", "5")
        done = run("score", "--model", FP4, *hosts, *files, state_dir=state_dir)
        assert done.returncode == 0, done.stderr
        nlls.append(json.loads(done.stdout)["nll"])
        logits.append(np.load(out)["logits"])
    np.testing.assert_allclose(nlls[0], nlls[1], atol=1e-5)
    assert np.abs(logits[0] - logits[1]).max() <= 1e-5 * logits[0].std()


def text_of(tokens: list[int]) -> str:
    stream = Text.load(FP4).stream()
    return stream.add(tokens) + stream.finish()


@pytest.mark.slow
def test_a_prepared_set_is_used_where_it_fits_and_refused_where_not(
    state_dir: Path, tmp_path: Path
):
    out = tmp_path / "set"
    made = run("shard", "--model", FP4, "--ranks", "2", "--out", out, state_dir=state_dir)
    assert made.returncode == 0, made.stderr
    straight, prepared = (
        run("launch", *TWO, "--model", place, *PROMPT, "--json", state_dir=state_dir)
        for place in (FP4, out)
    )
    assert "prepared for 2 ranks 1:1" in prepared.stderr
    assert json.loads(prepared.stdout)["tokens"] == json.loads(straight.stdout)["tokens"]
    three = ("--hosts", "localhost,localhost,localhost", "--model", out)
    refused = run("launch", *three, *PROMPT, state_dir=state_dir)
    assert refused.returncode == 2
    assert "prepared for 2 ranks 1:1, experts by width, not for" in refused.stderr
