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
PADDING = 64 << 20  # more than a Python that starts reads by itself


@pytest.fixture
def copies(tmp_path, model_dir):
    """By host. Behind the last tensor there are zeros, which make them large and change nothing."""
    made = {host: shutil.copytree(model_dir, tmp_path / f"of-{host}") for host in HOSTS}
    for copy in made.values():
        os.truncate(copy / SHARD, (copy / SHARD).stat().st_size + PADDING)
    return made


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


def flip(file):
    """Another byte, and the time as it was."""
    stat = file.stat()
    with file.open("r+b") as stream:
        stream.seek(-PADDING - 1, os.SEEK_END)
        byte = stream.read(1)[0]
        stream.seek(-1, os.SEEK_CUR)
        stream.write(bytes([byte ^ 1]))
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_copies_are_read_once(network, launch):
    read = []
    for _ in range(2):
        cluster = decoding(launch(*FOREVER))
        read.append([bytes_read(network, host) for host in HOSTS])
        cluster.process.terminate()
        cluster.finish()
        network.wait_empty(*HOSTS)
    assert min(read[0]) > PADDING
    assert max(read[1]) < PADDING


def test_a_copy_with_another_byte_is_named_before_any_rank_starts(network, launch, copies):
    once = ("--prompt", "Hello", "--max-tokens", 2)
    code, _, err = launch(*once).finish(timeout_s=120)
    assert code == 0, err
    flip(copies["hostB"] / SHARD)
    cluster = launch(*once)
    while cluster.process.poll() is None:
        assert network.workers() == []
        time.sleep(0.1)
    code, _, err = cluster.finish()
    assert code == 2
    assert f"hostB: {copies['hostB']}/{SHARD} is not as on hostA; copy it there again" in err
    network.wait_empty(*HOSTS)
