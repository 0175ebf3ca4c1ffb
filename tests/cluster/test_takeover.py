"""A coordinator is killed, and the same command is given again."""

import json

import pytest

pytestmark = pytest.mark.cluster

SHORT = ("--prompt", "Once upon a time", "--max-tokens", 20, "--temperature", 0, "--json")
ENDLESS = ("--prompt", "Hello", "--max-tokens", 100000)
CONTEXT = 4096  # of the demo model
PATIENT = {"fence_s": 30}  # of agents, while a launch starts on a busy machine


def test_ranks_serve_the_next_coordinator_and_keep_their_weights(ranks):
    first = ranks("--batch", 1, restart={}, **PATIENT).wait_ready(ranks=2)
    known, before = text(first), first.status()
    with first.popen("generate", *ENDLESS) as client:
        first.wait_for(lambda: decoded(first.status()) > decoded(before) + 10, what="decoding")
        kill(first)
        second = successor(ranks("--batch", 1, restart={}, **PATIENT), first)
        assert client.wait(timeout=60) != 0
    assert text(second) == known
    after = second.status()
    assert decoded(after) < CONTEXT // 2, "the only place was free before the old text was whole"
    assert workers(after) == workers(before)
    assert (after["epoch"], after["launch"]) == (1, before["launch"])
    told = [json.loads(line) for line in second.run("events", "--json").stdout.splitlines()]
    assert [event["seq"] for event in told] == [*range(1, len(told) + 1)]
    (taken,) = [event["text"] for event in told if event["kind"] == "taken-over"]
    assert taken.endswith("; requests of the last one: 1, which are ended")
    assert second.run("restart").returncode == 0
    assert (text(second), second.status()["epoch"]) == (known, 2)
    assert end(second) == 0
    assert "took over 2 ranks of epoch 1" in second.err


@pytest.mark.slow
def test_where_another_thing_is_asked_for_all_begins_anew(standins):
    first = standins(**PATIENT).wait_ready(ranks=2)
    before = first.status()
    kill(first)
    second = successor(standins("--batch", 4, **PATIENT), first)
    first.wait_gone(within_s=1)  # it did not wait for their fence
    after = second.status()
    assert not workers(after) & workers(before)
    assert after["launch"] != before["launch"]
    assert end(second) == 0
    assert "nothing is taken over: other hosts, settings" in second.err


@pytest.mark.slow
def test_after_the_fence_all_begins_anew(standins):
    first = standins(fence_s=1).wait_ready(ranks=2)
    kill(first)
    first.wait_gone(within_s=60)
    second = successor(standins(fence_s=1), first)
    assert json.loads(second.run("generate", *SHORT).stdout)["tokens"]
    assert end(second) == 0
    assert "nothing is taken over: localhost: " in second.err


def text(cluster):
    return json.loads(cluster.run("generate", *SHORT, timeout_s=120).stdout)["tokens"]


def workers(status):
    return {rank["report"]["pid"] for host in status["hosts"] for rank in host["ranks"]}


def decoded(status):
    """Steps of each rank in its life."""
    return max(rank["report"]["decode_steps"] for host in status["hosts"] for rank in host["ranks"])


def kill(cluster):
    """The launch alone: what it has started is remembered."""
    cluster.kill(cluster.process)
    cluster.process.communicate()
    cluster.pids.remove(cluster.process.pid)


def successor(cluster, old):
    cluster.pids |= old.pids
    cluster.wait_for(lambda: cluster.status().get("phase") == "ready", what="ready")
    cluster.look()
    return cluster


def end(cluster):
    """Take it down; its exit code. Nothing is left."""
    assert cluster.run("down").returncode == 0
    code, _, cluster.err = cluster.finish()
    cluster.wait_gone(within_s=5)
    assert not list(cluster.state_dir.glob("*.launch"))
    return code
