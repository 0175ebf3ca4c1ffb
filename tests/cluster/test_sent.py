"""Weights that are sent to hosts over ssh, each of which has a disk of its own. Root only."""

import json
import sys
import time

import pytest

from dsv4_tp.prepared import rank_folder, read_digests
from tests.cluster import clusters
from tests.cluster.netns import usable
from tests.prepared.sets import prepare

pytestmark = [
    pytest.mark.hosts,
    pytest.mark.skipif(not usable(), reason="needs root, network namespaces and sshd"),
]
HOSTS = ("hostA", "hostB")
SLOW = """#!{python}
import sys, time
from dsv4_tp.cli.main import run
from dsv4_tp.prepared.sink import Writing

write = Writing.write

def slow_write(self, data):
    time.sleep(0.5)
    write(self, data)

Writing.write = slow_write
sys.exit(run(sys.argv[3:]))
"""


@pytest.fixture
def push(network, model_dir, tmp_path):
    """Starts `dsv4-tp push` to one rank on each host."""
    (tmp_path / "state").mkdir()
    slow = tmp_path / "slow-python"
    slow.write_text(SLOW.format(python=sys.executable))
    slow.chmod(0o755)
    started = []

    def push(*, python=sys.executable):
        config = tmp_path / "push.yaml"
        hosts = [{"name": host, "python": str(python)} for host in HOSTS]
        model = {"path": str(model_dir)}
        config.write_text(json.dumps({"version": 1, "model": model, "hosts": hosts}))
        options = ("-f", config, "--out", network.disk / "set", "--json")
        place = network.inside("launch")
        process = clusters.popen("push", *options, state_dir=tmp_path / "state", inside=place)
        started.append(process)
        return process

    push.slow = slow
    yield push
    for process in started:
        process.kill()
        process.communicate(timeout=30)


def finish(process):
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def whole(network, host):
    out = network.disk_of(host) / "set"
    return {
        (rank, name): file.sha256
        for rank in range(2)
        for name, file in read_digests(rank_folder(out, rank)).items()
    }


def test_each_host_gets_its_rank_and_a_launch_finds_it(network, push, start, model_dir, tmp_path):
    code, out, err = finish(push())
    assert code == 0, err
    local = prepare(model_dir, tmp_path / "local", [1, 1])
    for rank, (host, sent) in enumerate(zip(HOSTS, json.loads(out)["hosts"], strict=True)):
        files = read_digests(rank_folder(local, rank))
        assert whole(network, host) == {(rank, name): f.sha256 for name, f in files.items()}
        assert sent["host"] == host
        assert sent["sent_bytes"] == sum(file.nbytes for file in files.values())
    network.wait_empty(*HOSTS)
    texts = []
    for model in (model_dir, network.disk / "set"):
        options = ("--hosts", "hostA,hostB", "--model", model, "--temperature", 0, "--json")
        asked = ("--prompt", "Hello", "--max-tokens", 8)
        cluster = start(*options, *asked, inside=network.inside("launch"))
        code, out, err = cluster.finish(timeout_s=120)
        assert code == 0, err
        texts.append(json.loads(out.splitlines()[-1])["tokens"])
    assert texts[0] == texts[1]


def test_a_host_without_room_is_named_before_anything_is_sent_to_it(network, push):
    with (network.disk_of("hostB") / "film").open("wb") as film:
        film.write(bytes(28 << 20))
    code, _, err = finish(push())
    assert code == 2
    (line,) = err.splitlines()
    assert f"error: hostB: {network.disk}/set: " in line
    assert " bytes are to be written, 4," in line
    assert line.endswith(" are free; make room there")
    assert whole(network, "hostB") == {}
    network.wait_empty(*HOSTS)


@pytest.mark.slow
def test_a_host_that_is_cut_off_is_named_and_gone_on_with(network, push):
    process = push(python=push.slow)
    ends = time.monotonic() + 60
    while len(whole(network, "hostB")) < 2:
        assert process.poll() is None, finish(process)
        assert time.monotonic() < ends
        time.sleep(0.05)
    network.cut("hostB")
    code, _, err = finish(process)
    assert code == 1
    assert "error: hostB: the connection to its agent broke; repeat the command" in err
    network.wait_empty("hostA")
    network.join("hostB")
    network.wait_empty("hostB", within_s=45)
    before = whole(network, "hostB")
    code, out, err = finish(push())
    assert code == 0, err
    (_, sent) = json.loads(out)["hosts"]
    assert sent["held_bytes"] > 0
    assert before.items() < whole(network, "hostB").items()
