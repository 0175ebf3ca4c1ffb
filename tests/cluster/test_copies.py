"""Every host has a copy of the weights of its own, over ssh. Root only."""

import json
import os
import shutil
import time

import pytest

from tests.cluster.clusters import FOREVER, decoding
from tests.cluster.netns import usable

pytestmark = [
    pytest.mark.hosts,
    pytest.mark.skipif(not usable(), reason="needs root, network namespaces and sshd"),
]
HOSTS = ("hostA", "hostB")
SHARD = "model-00002-of-00002.safetensors"


@pytest.fixture
def copies(tmp_path, model_dir):
    """By host."""
    return {host: shutil.copytree(model_dir, tmp_path / f"of-{host}") for host in HOSTS}


@pytest.fixture
def launch(network, start, copies, tmp_path):
    """Launches a cluster of one rank on each host."""
    config = tmp_path / "cluster.yaml"
    hosts = [{"name": host, "model_path": str(copy)} for host, copy in copies.items()]
    model = {"path": str(copies["hostA"])}
    config.write_text(json.dumps({"version": 1, "model": model, "hosts": hosts}))
    return lambda *arguments: start("-f", config, *arguments, inside=network.inside("launch"))


def bytes_read(network, host):
    """By the agent there, in its life so far."""
    (agent,) = [p for p in network.processes(host) if "agent" in p.cmdline()]
    return agent.io_counters().read_chars


def flip(file, place):
    """Another byte, and the time as it was."""
    stat = file.stat()
    with file.open("r+b") as stream:
        stream.seek(place)
        byte = stream.read(1)[0]
        stream.seek(-1, os.SEEK_CUR)
        stream.write(bytes([byte ^ 1]))
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_copies_are_read_once(network, launch, copies):
    read = []
    for _ in range(2):
        cluster = decoding(launch(*FOREVER))
        read.append([bytes_read(network, host) for host in HOSTS])
        cluster.process.terminate()
        cluster.finish()
        network.wait_empty(*HOSTS)
    # What an agent reads besides, its own program above all, is the same each time.
    weights = sum(file.stat().st_size for file in copies["hostA"].glob("*.safetensors"))
    for first, second in zip(*read, strict=True):
        assert first - second == pytest.approx(weights, rel=0.5)  # not twice


@pytest.mark.slow
def test_a_copy_with_another_byte_is_named_before_any_rank_starts(network, launch, copies):
    once = ("--prompt", "Hello", "--max-tokens", 2)
    code, _, err = launch(*once).finish(timeout_s=120)
    assert code == 0, err
    shard = copies["hostB"] / SHARD
    size = shard.stat().st_size
    # One that a look at samples finds, and one that is found by reading everything.
    for place in (size - 1, size // 64 * 10 + 10000):
        flip(shard, place)
        cluster = launch(*once)
        while cluster.process.poll() is None:
            assert network.workers() == []
            time.sleep(0.1)
        code, _, err = cluster.finish()
        assert code == 2
        assert f"error: hostB: {shard} is not as on hostA; copy it there again" in err
        network.wait_empty(*HOSTS)
        flip(shard, place)
