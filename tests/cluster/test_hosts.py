"""Clusters over ssh: each host is a network namespace with its own sshd. Root only."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import dsv4_tp
from tests.cluster.clusters import FOREVER, decoding
from tests.cluster.netns import run, usable

pytestmark = [
    pytest.mark.hosts,
    pytest.mark.skipif(not usable(), reason="needs root, network namespaces and sshd"),
]


@pytest.fixture
def launch(network, start, model_dir, tmp_path):
    """Launches a cluster of one rank on each host."""

    def launch(*arguments, **timeouts):
        config = tmp_path / "cluster.yaml"
        words = {
            "version": 1,
            "model": {"path": str(model_dir)},
            "hosts": [{"name": "hostA"}, {"name": "hostB"}],
            "timeouts": timeouts,
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


def test_a_killed_rank_on_another_host_is_named(network, launch):
    cluster = decoding(launch(*FOREVER))
    assert "ssh" not in [process.name() for process in cluster.tree()]
    (worker,) = [p for p in network.processes("hostB") if "--progress" in p.cmdline()]
    worker.kill()
    network.wait_empty("hostA", "hostB", within_s=5)
    code, _, err = cluster.finish()
    assert code == 5
    assert "rank 1 on hostB: killed by SIGKILL while decoding" in err


def test_a_cut_link_is_noticed_on_both_sides(network, launch):
    cluster = decoding(launch(*FOREVER, fence_s=3.0))
    network.cut("hostB")
    code, _, err = cluster.finish(timeout_s=30)
    assert code == 5
    assert "rank 1 on hostB: " in err
    network.wait_empty("hostA", "hostB", within_s=8)


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
