"""A cut between ranks, a cut to a host, a host that is gone and a cut-off launch are told apart.

The hosts have two networks: agents are called on one, and ranks meet on the other.
"""

import json
import re
import time

import pytest

from tests.cluster.netns import Network, usable
from tests.cluster.watching import Watch

pytestmark = [
    pytest.mark.hosts,
    pytest.mark.slow,
    pytest.mark.skipif(not usable(), reason="needs root, network namespaces and sshd"),
]
CONTROL, DATA = "eth0", "eth1"
# What is cut where, and what is said of it.
CUTS = [
    ([("hostB", DATA)], "the link between hostA and hostB: nothing from host[AB] has reached host"),
    ([("hostB", CONTROL)], "rank 1 on hostB: .*; hostB lives, for hostA hears it"),
    ([("hostB", CONTROL), ("hostB", DATA)], "rank 1 on hostB: .*; hostA does not hear it either"),
    ([("launch", CONTROL)], "on host[AB]: .*; all others fell silent with it"),
]


@pytest.fixture
def network(tmp_path):
    with Network(tmp_path, "hostA", "hostB", fabric=True) as network:
        yield network


@pytest.fixture
def cluster(network, start, model_dir, tmp_path):
    """One rank on each host, which meet on a network of their own."""
    config = tmp_path / "cluster.yaml"
    words = {
        "version": 1,
        "model": {"path": str(model_dir)},
        "hosts": [{"name": h, "fabric": network.address(h, DATA)} for h in network.hosts],
        "timeouts": {"fence_s": 5},
        "restart": {"backoff_s": [0.2, 1], "most": 20},
    }
    config.write_text(json.dumps(words))
    inside = network.inside("launch")
    return start("-f", config, inside=inside).wait_ready(ranks=0)


@pytest.fixture
def watch(cluster):
    with Watch(inside=cluster.inside) as watch:
        watch.at(cluster.state_dir)
        yield watch


def seen(watch, holds, *, since_s):
    """The first look that holds."""
    ends_s = time.monotonic() + 90
    while not (look := watch.first(holds, since_s=since_s)):
        assert time.monotonic() < ends_s, watch.last
        time.sleep(0.1)
    return look


def test_a_way_that_is_gone_for_two_seconds_is_not_missed(network, cluster, watch):
    seen(watch, lambda look: look.serving, since_s=0.0)
    done = cluster.run("generate", "--prompt", "Hello", "--max-tokens", 2)
    assert done.returncode == 0, done.stderr
    cut_s = time.monotonic()
    network.cut("hostB", DATA)
    time.sleep(2)
    network.join("hostB", DATA)
    time.sleep(3)
    assert not watch.first(lambda look: not look.serving, since_s=cut_s)
    assert watch.last.at_s > cut_s + 4


def test_where_the_network_is_cut_is_told(network, cluster, watch):
    for cuts, told in CUTS:
        seen(watch, lambda look: look.serving, since_s=time.monotonic())
        # Failures without a token between them would be too many in a row.
        done = cluster.run("generate", "--prompt", "Hello", "--max-tokens", 2)
        assert done.returncode == 0, done.stderr
        cut_s = time.monotonic()
        for place, way in cuts:
            network.cut(place, way)
        failed = seen(watch, lambda look: look.failure and not look.serving, since_s=cut_s)
        print(f"{failed.at_s - cut_s:.1f} s: {failed.failure}")
        assert re.search(told, failed.failure), failed
        for place, way in cuts:
            network.join(place, way)
