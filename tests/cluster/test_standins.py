"""Faults of ranks, agents and the coordinator, with ranks that cost nothing. See standin.py."""

import json
import re
import signal
import socket
import subprocess
from http.client import HTTPConnection
from urllib.parse import urlsplit

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.cluster.clusters import FOREVER, decoding, is_alive

pytestmark = pytest.mark.cluster

SLOW = {"all": {"token_s": 0.05}}


def test_generates_once_and_leaves(standins):
    cluster = standins("--prompt", "Hello", "--max-tokens", 5, "--json")
    code, out, err = cluster.finish()
    assert code == 0, err
    assert json.loads(out.splitlines()[-1])["tokens"] == [100, 101, 102, 103, 104]
    assert cluster.entry() is None


def test_serves_until_it_is_told_to_stop(standins):
    cluster = standins().wait_ready(ranks=2)
    assert is_serving(cluster)
    text = cluster.run("generate", "--prompt", "Hello", "--max-tokens", 3, "--json")
    assert json.loads(text.stdout)["tokens"] == [100, 101, 102], text.stderr
    (host,) = json.loads(cluster.run("down", "--json").stdout)["hosts"]
    assert (host["name"], host["ranks"], host["confirmed"]) == ("localhost", 2, True)
    # Everything but the launch itself is gone when `down` returns.
    assert [pid for pid in cluster.leftovers()[0] if pid != cluster.process.pid] == []
    assert cluster.finish()[0] == 0
    cluster.wait_gone(within_s=1)


def test_ranks_are_restarted_by_hand_and_work_that_outlasts_a_drain_is_counted(standins):
    cluster = standins(script=SLOW).wait_ready(ranks=2)
    old = [process.pid for process in cluster.workers()]
    with cluster.popen("generate", *FOREVER) as client:
        decoding(cluster)
        restarted = cluster.run("restart", "--json")
        assert json.loads(restarted.stdout)["epoch"] == 2, restarted.stderr
        assert not {process.pid for process in cluster.workers()} & {*old}
        assert client.poll() is None  # its text goes on
        drained = cluster.run("drain", "--timeout", 0.5)
        client.communicate(timeout=20)
    assert drained.returncode == 6
    assert "1 request was not finished in time" in drained.stderr
    kinds = [
        json.loads(line)["kind"] for line in cluster.run("events", "--json").stdout.splitlines()
    ]
    assert "request-replayed" in kinds
    assert kinds.count("ready") == 2


def test_a_client_that_leaves_frees_the_ranks(standins):
    cluster = standins(script=SLOW).wait_ready(ranks=2)
    with pytest.raises(subprocess.TimeoutExpired):
        cluster.run("generate", "--prompt", "Hello", "--max-tokens", 100000, timeout_s=5)
    text = cluster.run("generate", "--prompt", "Hello", "--max-tokens", 2, "--json")
    assert json.loads(text.stdout)["tokens"] == [100, 101], text.stderr


@pytest.mark.slow
def test_a_launch_goes_on_while_nobody_reads_what_it_says(standins):
    cluster = standins(script=SLOW).wait_ready(ranks=2)
    place = urlsplit(cluster.status()["endpoint"])
    client = HTTPConnection(place.hostname, place.port, timeout=20)
    for _ in range(500):  # each is a line of 200 characters, on a pipe that holds 64 KiB
        client.request("GET", f"/{'nothing' * 20}")
        client.getresponse().read()
    client.close()
    assert cluster.status()["phase"] == "ready"
    assert cluster.run("down").returncode == 0
    assert cluster.finish()[0] == 0


def test_clients_of_a_failed_cluster_are_told(standins):
    cluster = standins(script=SLOW).wait_ready(ranks=2)
    with cluster.popen("generate", *FOREVER) as client:
        decoding(cluster).kill(cluster.workers()[0])
        _, err = client.communicate(timeout=20)
    assert client.returncode == 5
    assert "rank 0 on localhost: killed by SIGKILL while decoding" in err


@pytest.mark.parametrize("phase", ["joining", "decode"])
def test_a_rank_that_leaves_unasked_is_named_with_its_last_words(standins, phase):
    cluster = standins(*FOREVER, script={"1": {"exit": phase}})
    code, _, err = cluster.finish()
    assert code == 5
    assert "rank 1 on localhost: exited with code 3 while" in err
    assert "Oops: as the script says" in err
    # All of it can still be asked for when the cluster is gone.
    events = [json.loads(line) for line in cluster.run("events", "--json").stdout.splitlines()]
    (lost,) = [event for event in events if event["kind"] == "rank-lost"]
    assert (lost["host"], lost["rank"], events[-1]["kind"]) == ("localhost", 1, "settled")
    assert "Oops: as the script says" in lost["fields"]["last_stderr"]
    logs = cluster.run("logs", "--rank", 1).stdout
    assert "localhost rank 1 epoch 1 | Oops: as the script says" in logs


def test_a_rank_that_hangs_is_found_by_its_progress(standins):
    cluster = standins(*FOREVER, script={"1": {"hang": "decode"}}, step_s=1.5)
    code, _, err = cluster.finish()
    assert code == 5
    assert "rank 1 on localhost: no progress for 1.5 s while decoding" in err


def test_a_rank_that_never_joins_is_found(standins):
    cluster = standins(script={"0": {"hang": "joining"}}, join_s=5)
    code, _, err = cluster.finish()
    assert code == 5
    assert "rank 0 on localhost: no progress for 5 s while joining" in err


@pytest.mark.slow
def test_ranks_wait_for_one_that_does_not_prepare_and_meet_nobody(standins):
    cluster = standins(script={"0": {"hang": "starting"}}, join_s=8)

    def phases():
        hosts = cluster.status().get("hosts", [])
        return [rank["report"]["phase"] for host in hosts for rank in host["ranks"]]

    cluster.wait_for(lambda: phases() == ["starting", "prepared"], what="one waiting rank")
    code, _, err = cluster.finish()
    assert code == 5
    assert "rank 0 on localhost: no progress for 8 s while starting" in err


def test_ranks_that_differ_are_refused_before_they_meet(standins):
    cluster = standins(script={"1": {"dtype": "bfloat16", "hang": "joining"}})
    code, _, err = cluster.finish()
    assert code == 2
    assert "rank 1 on localhost has bfloat16, rank 0 on localhost float32" in err


@pytest.mark.slow
def test_a_rank_stopped_while_idle_is_found_by_the_next_request(standins):
    cluster = standins(step_s=2).wait_ready(ranks=2)
    cluster.kill(cluster.workers()[1], signal.SIGSTOP)
    cluster.run("generate", "--prompt", "Hello", "--max-tokens", 2)
    code, _, err = cluster.finish()
    assert code == 5
    assert "rank 1 on localhost: stopped by a signal while taking a request" in err


def test_what_a_rank_refuses_is_bad_input(standins):
    cluster = standins(script={"1": {"refuse": "model.safetensors: cut short"}})
    code, _, err = cluster.finish()
    assert code == 2
    assert "rank 1 on localhost: model.safetensors: cut short" in err


def test_ranks_that_ignore_sigterm_are_killed(standins):
    cluster = standins(script={"all": {"stubborn": True, "wedge": "decode"}}, step_s=1)
    cluster.wait_ready(ranks=2)
    asked = cluster.run("generate", "--prompt", "Hello")
    assert asked.returncode == 5
    cluster.wait_gone(within_s=10)
    assert re.search(
        r"no progress for 1 s while decoding \(File .*standin.py.* in enter", asked.stderr
    )


@pytest.mark.slow
def test_a_stopped_agent_loses_its_ranks_to_their_guard(standins):
    cluster = decoding(standins(*FOREVER, script=SLOW, fence_s=2.0))
    (agent,) = cluster.agents()
    workers = cluster.workers()
    cluster.kill(agent, signal.SIGSTOP)
    cluster.wait_for(lambda: not any(is_alive(worker.pid) for worker in workers), within_s=7)
    code, _, err = cluster.finish()
    assert code == 5
    assert "error: ranks 0, 1 on localhost: " in err


def test_sigterm_stops_everything(standins):
    cluster = standins(script=SLOW).wait_ready(ranks=2)
    cluster.process.send_signal(signal.SIGTERM)
    assert cluster.finish()[0] == 130
    assert cluster.leftovers() == ([], set())


def test_an_interrupt_while_starting_stops_everything(standins):
    cluster = standins(script={"all": {"hang": "loading"}})
    cluster.wait_for(lambda: cluster.status().get("phase") == "loading")
    cluster.look()
    cluster.process.send_signal(signal.SIGINT)
    assert cluster.finish()[0] == 130
    assert cluster.leftovers() == ([], set())


def test_the_second_interrupt_waits_for_nobody(standins):
    cluster = standins(script=SLOW).wait_ready(ranks=2)
    with cluster.popen("generate", *FOREVER) as client:
        decoding(cluster).process.send_signal(signal.SIGINT)
        cluster.wait_for(lambda: cluster.status()["phase"] == "draining")
        assert not is_serving(cluster)
        cluster.process.send_signal(signal.SIGINT)
        assert cluster.finish(timeout_s=15)[0] == 130
        _, err = client.communicate(timeout=10)
    assert client.returncode == 1
    assert "the cluster was stopped" in err
    assert cluster.leftovers() == ([], set())


def test_a_pinned_port_in_use_is_refused(standins):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        cluster = standins(ports={"data": port - 1})
        code, _, err = cluster.finish()
    assert code == 2
    assert f"localhost: cannot listen on 127.0.0.1:{port}: Address already in use" in err


def is_serving(cluster):
    with grpc.insecure_channel(cluster.entry()["address"]) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service="dsv4_tp.v1.ClusterService")
        response = stub.Check(request, timeout=5)
    return response.status == health_pb2.HealthCheckResponse.SERVING
