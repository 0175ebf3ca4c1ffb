"""Clusters that heal themselves, and those that give up."""

import asyncio
import json
import signal

import pytest

from dsv4_tp.agent import quarantine
from dsv4_tp.asks import Ask, whole
from dsv4_tp.client import AsyncClient
from tests.cluster.clusters import FOREVER, decoding

pytestmark = pytest.mark.cluster

AT_ONCE = {"backoff_s": [0.1, 1]}
BEGINNING = "Once upon a time"
GREEDY = Ask(BEGINNING, max_tokens=80, temperature=0, mtp=0)
SEEDED = Ask(BEGINNING, max_tokens=80, seed=7, mtp=2)


def test_texts_go_on_after_a_rank_was_killed(ranks):
    """One greedy, one seeded and with drafts."""
    cluster = ranks("--mtp", 2, restart=AT_ONCE).wait_ready(ranks=2)
    unbroken = asyncio.run(texts(cluster, lambda: None))
    broken = asyncio.run(texts(cluster, cluster.workers()[1].kill))
    for text, before in zip(broken, unbroken, strict=True):
        assert (text.tokens, text.text) == (before.tokens, before.text)
        assert (before.finish.stats.restarts, text.finish.stats.restarts) == (0, 1)
        assert text.finish.stats.generated_tokens == len(text.tokens)
    status = cluster.status()
    assert (status["phase"], status["epoch"], status["restarts"]) == ("ready", 2, 1)
    assert "rank 1 on localhost: killed by SIGKILL while decoding" in status["failure"]
    cluster.look()
    assert cluster.run("down").returncode == 0
    assert cluster.finish()[0] == 0


@pytest.mark.slow
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


def test_a_request_that_a_rank_always_dies_of_ends_alone(standins):
    # The first rank, for stand-ins do not wait for each other: it alone tells tokens.
    cluster = standins(script={"0": {"longest": 20}}, restart=AT_ONCE).wait_ready(ranks=2)
    deadly = cluster.run("generate", "--prompt", "word " * 30, timeout_s=120)
    assert deadly.returncode == 5
    assert (
        "the ranks failed each of 3 times they were fed this request; the last time: "
        "rank 0 on localhost: exited with code 3 while reading a prompt" in deadly.stderr
    )
    done = cluster.wait_ready(ranks=2).run("generate", "--prompt", "x", "--max-tokens", 3, "--json")
    assert json.loads(done.stdout)["tokens"] == [100, 101, 102]
    status = cluster.status()
    assert status["epoch"] == 4, status["failure"]
    assert cluster.run("down").returncode == 0
    cluster.finish()


def test_a_launch_with_a_prompt_heals_too(standins):
    script = {"1": {"exit": "decode", "epochs": 1}}
    options = ("--prompt", "x", "--max-tokens", 5, "--json")
    code, out, err = standins(*options, script=script, restart=AT_ONCE).finish(timeout_s=120)
    assert code == 0, err
    assert json.loads(out)["tokens"] == [100, 101, 102, 103, 104]
    assert "rank-lost cause='rank 1 on localhost: exited with code 3 while decoding'" in err


@pytest.mark.slow
def test_a_text_goes_on_when_a_port_is_up_again(standins, tmp_path):
    """Devices are looked at before each epoch; stand-ins take whatever joins them."""

    def script_with(state):
        info = f"hca_id: rdma_en2\n state: {state} (1)\n GID[ 1]: ::ffff:169.254.1.1\n"
        return {"all": {"token_s": 0.05}, "tools": {"ibv_devinfo": info}}

    rows = [[None, "rdma_en2"], ["rdma_en2", None]]
    up, down = script_with("PORT_ACTIVE"), script_with("PORT_DOWN")
    cluster = standins(script=up, rdma=rows, restart=AT_ONCE).wait_ready(ranks=2)
    with cluster.popen("generate", "--prompt", "x", "--max-tokens", 60, "--json") as client:
        decoding(cluster)
        (tmp_path / "script.json").write_text(json.dumps(down))
        cluster.kill(cluster.workers()[0], signal.SIGSEGV)
        missing = "from localhost to localhost: rdma_en2 on localhost is PORT_DOWN"
        cluster.wait_for(lambda: missing in cluster.status()["failure"])
        assert (cluster.status()["phase"], cluster.workers()) == ("recovering", [])
        (tmp_path / "script.json").write_text(json.dumps(up))
        out, err = client.communicate(timeout=120)
    assert json.loads(out)["tokens"] == [100 + index % 50 for index in range(60)], err
    assert cluster.run("down").returncode == 0
    cluster.finish()


@pytest.mark.slow
def test_no_rank_starts_on_a_host_that_needs_a_reboot(standins, monkeypatch):
    cluster = standins(restart=AT_ONCE).wait_ready(ranks=2)
    monkeypatch.setenv("DSV4TP_STATE_DIR", str(cluster.state_dir))
    quarantine.keep("as planted; reboot it")
    cluster.kill(cluster.workers()[0])
    cluster.wait_for(lambda: "as planted; reboot it" in cluster.status()["failure"])
    assert (cluster.status()["phase"], cluster.workers()) == ("recovering", [])
    next(cluster.state_dir.glob("*.note")).unlink()
    cluster.wait_for(lambda: cluster.status()["phase"] == "ready")
    cluster.look()
    assert cluster.run("down").returncode == 0
    cluster.finish()


async def texts(cluster, harm):
    """Two at once; `harm` is done when both are well under way."""
    begun = [asyncio.Event(), asyncio.Event()]
    async with AsyncClient(cluster.entry()["address"]) as client, asyncio.TaskGroup() as tasks:
        asked = zip((GREEDY, SEEDED), begun, strict=True)
        told = [tasks.create_task(heard(client.stream(ask), event)) for ask, event in asked]
        for event in begun:
            await asyncio.wait_for(event.wait(), 60)
        harm()
    return [whole(task.result()) for task in told]


async def heard(stream, begun):
    """Its pieces, which are all at its end."""
    pieces = []
    async for piece in stream:
        pieces.append(piece)
        if len(pieces) == 10:
            begun.set()
    return pieces
