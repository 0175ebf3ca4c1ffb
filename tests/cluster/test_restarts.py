"""Clusters that heal themselves, and those that give up."""

import json

import pytest

from tests.cluster.clusters import FOREVER, decoding

pytestmark = pytest.mark.cluster

AT_ONCE = {"backoff_s": [0.1, 1]}
GREEDY = ("--prompt", "Once upon a time", "--max-tokens", 40, "--temperature", 0, "--json")


def test_a_text_goes_on_after_a_rank_was_killed(ranks):
    cluster = ranks(restart=AT_ONCE).wait_ready(ranks=2)
    unbroken = json.loads(cluster.run("generate", *GREEDY, timeout_s=120).stdout)
    told = steps(cluster)
    with cluster.popen("generate", *GREEDY) as client:
        cluster.wait_for(lambda: steps(cluster) > told + 10, what="decoding")
        cluster.kill(cluster.workers()[1])
        out, err = client.communicate(timeout=120)
    text = json.loads(out)
    assert (text["tokens"], text["text"]) == (unbroken["tokens"], unbroken["text"]), err
    assert (unbroken["stats"]["restarts"], text["stats"]["restarts"]) == (0, 1)
    assert text["stats"]["generated_tokens"] == len(text["tokens"])
    status = cluster.status()
    assert (status["phase"], status["epoch"], status["restarts"]) == ("ready", 2, 1)
    assert "rank 1 on localhost: killed by SIGKILL while decoding" in status["failure"]
    assert (
        json.loads(cluster.run("generate", *GREEDY, timeout_s=120).stdout)["tokens"]
        == unbroken["tokens"]
    )
    assert cluster.run("down").returncode == 0
    assert cluster.finish()[0] == 0


def test_a_text_goes_on_with_another_agent(standins):
    slow = {"all": {"token_s": 0.05}}
    cluster = standins(script=slow, restart=AT_ONCE).wait_ready(ranks=2)
    with cluster.popen("generate", "--prompt", "x", "--max-tokens", 60, "--json") as client:
        decoding(cluster).kill(cluster.agents()[0])
        out, err = client.communicate(timeout=120)
    assert json.loads(out)["tokens"] == [100 + index % 50 for index in range(60)], err
    assert "ranks 0, 1 on localhost: its agent is gone" in cluster.status()["failure"]
    cluster.look()
    assert cluster.run("down").returncode == 0
    cluster.finish()
    cluster.wait_gone(within_s=1)


def test_a_rank_that_always_dies_ends_the_cluster_with_the_reason(standins):
    script = {"1": {"exit": "loading"}}
    code, _, err = standins(*FOREVER, script=script, restart=AT_ONCE).finish(timeout_s=120)
    assert code == 5
    assert (
        "error: rank 1 on localhost failed 3 times before a token: "
        "exited with code 3 while loading (Oops: as the script says)" in err
    )


def test_a_launch_with_a_prompt_heals_too(standins):
    script = {"1": {"exit": "decode", "epochs": 1}}
    options = ("--prompt", "x", "--max-tokens", 5, "--json")
    code, out, err = standins(*options, script=script, restart=AT_ONCE).finish(timeout_s=120)
    assert code == 0, err
    assert json.loads(out)["tokens"] == [100, 101, 102, 103, 104]
    assert "rank-lost cause='rank 1 on localhost: exited with code 3 while decoding'" in err


def steps(cluster):
    """Of the slower rank, in its present life."""
    ranks = [rank["report"] for host in cluster.status()["hosts"] for rank in host["ranks"]]
    return min(rank["decode_steps"] for rank in ranks)
