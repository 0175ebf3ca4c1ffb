"""Faults of real ranks, in the middle of a token: everything is gone in time, and named."""

import signal

import pytest

from tests.cluster.clusters import FOREVER, decoding

pytestmark = pytest.mark.cluster


def test_a_killed_rank(ranks):
    cluster = decoding(ranks(*FOREVER))
    cluster.kill(cluster.workers()[1])
    cluster.wait_gone(within_s=5)
    code, _, err = cluster.finish()
    assert code == 5
    assert "rank 1 on localhost: killed by SIGKILL while decoding" in err


@pytest.mark.slow
def test_a_stopped_rank(ranks):
    cluster = decoding(ranks(*FOREVER, step_s=8))
    cluster.kill(cluster.workers()[1], signal.SIGSTOP)
    code, _, err = cluster.finish()
    assert code == 5
    assert "rank 1 on localhost: stopped by a signal while decoding" in err
    cluster.wait_gone(within_s=1)


def test_a_killed_agent(ranks):
    cluster = decoding(ranks(*FOREVER))
    cluster.kill(cluster.agents()[0])
    cluster.wait_gone(within_s=5)
    code, _, err = cluster.finish()
    assert code == 5
    assert "ranks 0, 1 on localhost: its agent is gone" in err


def test_a_killed_coordinator(ranks):
    cluster = decoding(ranks(*FOREVER, fence_s=2.0))
    cluster.kill(cluster.process)
    cluster.wait_gone(within_s=7)
    assert "no cluster is running" in cluster.run("status").stderr


def test_an_interrupt_in_the_middle_of_a_text(ranks):
    cluster = decoding(ranks(*FOREVER))
    cluster.process.send_signal(signal.SIGINT)
    assert cluster.finish()[0] == 130
    assert cluster.leftovers() == ([], set())
