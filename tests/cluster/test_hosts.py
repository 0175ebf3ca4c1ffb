"""Clusters over ssh: each host is a network namespace with its own sshd. Root only."""

import json
import shutil
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path
from threading import Event, Thread

import pytest

import dsv4_tp
from tests.cluster.clusters import FOREVER, decoding
from tests.cluster.conftest import NEVER
from tests.cluster.netns import listening, run, usable
from tests.cluster.secrets_seen import in_processes

SCAN = """
import socket, sys
for place in sys.argv[1:]:
    ip, port = place.split(":")
    with socket.socket() as caller:
        caller.settimeout(5)
        if caller.connect_ex((ip, int(port))) == 0:
            print(place)
"""
LISTEN = "import socket; s = socket.create_server(('0.0.0.0', 4000)); print(flush=True); input()"

pytestmark = [
    pytest.mark.hosts,
    pytest.mark.skipif(not usable(), reason="needs root, network namespaces and sshd"),
]


@pytest.fixture
def launch(network, start, model_dir, tmp_path):
    """Launches a cluster of one rank on each host."""

    def launch(*arguments, ports=None, restart=NEVER, **timeouts):
        config = tmp_path / "cluster.yaml"
        words = {
            "version": 1,
            "model": {"path": str(model_dir)},
            "hosts": [{"name": "hostA"}, {"name": "hostB"}],
            "timeouts": timeouts,
            "ports": ports or {},
            "restart": restart,
        }
        config.write_text(json.dumps(words))
        return start("-f", config, *arguments, inside=network.inside("launch"))

    return launch


def test_generates_over_ssh_and_leaves_nothing(network, start, model_dir):
    options = ("--hosts", "hostA,hostB", "--model", model_dir, "--temperature", 0, "--json")
    cluster = start(
        *options, "--prompt", "Hello", "--max-tokens", 6, inside=network.inside("launch")
    )
    code, out, err = cluster.finish(timeout_s=120)
    assert code == 0, err
    there = json.loads(out.splitlines()[-1])
    assert [rank["host"] for rank in there["stats"]["ranks"]] == ["hostA", "hostB"]
    network.wait_empty("hostA", "hostB")


@pytest.mark.slow
def test_every_host_runs_the_demo_of_its_own_installation(network, start, tmp_path):
    theirs = tmp_path / "installed"
    shutil.copytree(Path(dsv4_tp.__file__).parent, theirs / "dsv4_tp")
    hosts = [{"name": "hostA"}, {"name": "hostB", "workdir": str(theirs)}]
    config = tmp_path / "cluster.yaml"
    config.write_text(json.dumps({"version": 1, "model": {"path": "demo"}, "hosts": hosts}))
    options = ("-f", config, "--prompt", "Hello", "--max-tokens", 3, "--json")
    code, out, err = start(*options, inside=network.inside("launch")).finish(timeout_s=120)
    assert code == 0, err
    assert [rank["host"] for rank in json.loads(out)["stats"]["ranks"]] == ["hostA", "hostB"]

    (theirs / "dsv4_tp/demo/checkpoint/config.json").unlink()
    code, _, err = start(*options, inside=network.inside("launch")).finish(timeout_s=120)
    assert code == 2
    assert f"hostB: cannot read {theirs}/dsv4_tp/demo/checkpoint/config.json" in err
    network.wait_empty("hostA", "hostB")


def test_this_machine_may_be_one_of_the_hosts(network, start, model_dir):
    options = ("--hosts", "localhost,hostB", "--model", model_dir, "--json")
    cluster = start(
        *options, "--prompt", "Hello", "--max-tokens", 3, inside=network.inside("hostA")
    )
    code, out, err = cluster.finish(timeout_s=120)
    assert code == 0, err
    assert len(json.loads(out.splitlines()[-1])["tokens"]) == 3
    network.wait_empty("hostA", "hostB")


def test_a_killed_coordinator_is_fenced_on_every_host(network, launch):
    cluster = decoding(launch(*FOREVER, fence_s=2.0))
    cluster.kill(cluster.process)
    network.wait_empty("hostA", "hostB", within_s=7)
    assert cluster.finish()[0] == -signal.SIGKILL


@pytest.mark.slow
def test_a_killed_rank_on_another_host_is_named(network, launch):
    cluster = decoding(launch(*FOREVER))
    assert "ssh" not in [process.name() for process in cluster.tree()]
    (worker,) = [p for p in network.processes("hostB") if "--progress" in p.cmdline()]
    worker.kill()
    network.wait_empty("hostA", "hostB", within_s=5)
    code, _, err = cluster.finish()
    assert code == 5
    assert "rank 1 on hostB: killed by SIGKILL while decoding" in err


@pytest.mark.slow
def test_a_cut_link_is_noticed_on_both_sides(network, launch):
    cluster = decoding(launch(*FOREVER, fence_s=3.0))
    network.cut("hostB")
    code, _, err = cluster.finish(timeout_s=30)
    assert code == 5
    assert "rank 1 on hostB: " in err
    network.wait_empty("hostA", "hostB", within_s=8)


@pytest.mark.slow
@pytest.mark.parametrize("away_s", [1, 8], ids=["briefly", "beyond its lease"])
def test_a_cluster_is_back_when_its_link_is(network, launch, away_s):
    """Briefly: the agent there still lives. Else it has ended, and another one is started."""
    cluster = launch(restart={"backoff_s": [0.5, 2]}, fence_s=6.0)
    cluster.wait_for(lambda: cluster.status().get("phase") == "ready", what="ready")
    network.cut("hostB")
    cluster.wait_for(lambda: cluster.status().get("phase") == "recovering", what="the loss")
    time.sleep(away_s)
    network.join("hostB")
    cluster.wait_for(lambda: cluster.status().get("phase") == "ready", what="ready again")
    assert "rank 1 on hostB: " in cluster.status()["failure"]
    text = cluster.run("generate", "--prompt", "Hello", "--max-tokens", 3, "--json", timeout_s=120)
    assert len(json.loads(text.stdout)["tokens"]) == 3, text.stderr
    assert cluster.run("down").returncode == 0
    cluster.finish()
    network.wait_empty("hostA", "hostB")


@pytest.mark.slow
def test_a_host_without_power_is_named(network, launch):
    cluster = decoding(launch(*FOREVER))
    network.kill("hostB")
    code, _, err = cluster.finish(timeout_s=30)
    assert code == 5
    assert "rank 1 on hostB: " in err
    network.wait_empty("hostA")


def test_a_host_that_cannot_be_reached_is_refused_in_time(network, launch):
    network.cut("hostB")
    began_s = time.monotonic()
    code, _, err = launch().finish(timeout_s=60)
    assert code == 2
    assert "hostB: cannot be reached by ssh: " in err
    assert time.monotonic() - began_s < 30
    network.wait_empty("hostA")


def test_the_doctor_tells_a_cut_data_path_from_a_lost_host(network):
    run(*network.inside("hostB", "ip", "route", "add", "unreachable", "10.77.0.2"))
    doctor = [sys.executable, "-m", "dsv4_tp", "doctor", "--hosts", "hostA,hostB", "--json"]
    done = subprocess.run(
        network.inside("launch", *doctor), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1, done.stderr
    rows = json.loads(done.stdout)["rows"]
    failed = {(row["id"], row["host"], row["peer"]): row for row in rows if row["state"] == "fail"}
    assert set(failed) == {("data", "hostA", "hostB"), ("data", "hostB", "hostA")}
    # Packets from B go nowhere, and so do B's answers to A.
    assert ": EHOSTUNREACH after" in failed["data", "hostB", "hostA"]["evidence"]
    assert ": ETIMEDOUT after" in failed["data", "hostA", "hostB"]["evidence"]
    states = {(row["id"], row["host"]): row["state"] for row in rows}
    assert {states[rung, host] for rung in ("ssh", "control") for host in ("hostA", "hostB")} == {
        "ok"
    }
    assert states["ring", ""] == "skipped"
    network.wait_empty("hostA", "hostB")


def test_nothing_is_open_but_what_the_docs_list(network, launch):
    network.invite("stranger")
    cluster = launch(*FOREVER, ports={"data": 32323})
    with Watch(network, cluster) as watch:
        decoding(cluster)
    agents = set()
    for rank, host in enumerate(network.hosts):
        ip = network.address(host)
        ssh = {("0.0.0.0", 22), ("::", 22)}
        (agent,) = listening(network.daemons[host].pid) - ssh  # the ring listens only to meet
        assert watch.open[host] - ssh <= {agent, (ip, 32323 + rank)}
        assert agent[0] == ip
        agents.add(agent)
    ((control, _),) = watch.open["launch"]
    assert control == "127.0.0.1"
    assert watch.shown == set()

    ports = {port for places in watch.open.values() for _, port in places} | {32323, 32324}
    found = agents | {(network.address(host), 22) for host in network.hosts}
    assert scan(network, ports) == found
    steps = cluster.status()["hosts"][0]["ranks"][0]["report"]["decode_steps"]
    assert steps > 2  # it has not minded the scan
    command = network.inside("launch", sys.executable, "-c", LISTEN)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as careless:
        careless.stdout.readline()
        assert scan(network, {4000}) == {(network.address("launch"), 4000)}


class Watch:
    """What listens at each place, and what processes show, for as long as the block lasts."""

    def __init__(self, network, cluster):
        self.network = network
        self.pids = {name: daemon.pid for name, daemon in network.daemons.items()}
        self.pids["launch"] = cluster.process.pid
        self.open = {place: set() for place in self.pids}
        self.shown = set()
        self.over = Event()
        self.thread = Thread(target=self.run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def run(self):
        for look in count():
            for place, pid in self.pids.items():
                self.open[place] |= listening(pid)
            if look % 20 == 0:  # it looks at every process of this machine
                found = [p.pid for host in self.network.hosts for p in self.network.processes(host)]
                self.shown.update(in_processes(found))
            if self.over.wait(0.02):
                return


def scan(network, ports):
    """What a stranger on the same network can connect to, of these ports everywhere."""
    addresses = map(network.address, ["launch", *network.hosts])
    places = [f"{ip}:{port}" for ip in addresses for port in ports]
    found = run(*network.inside("stranger", sys.executable, "-c", SCAN, *places)).split()
    return {(ip, int(port)) for ip, _, port in (place.partition(":") for place in found)}
