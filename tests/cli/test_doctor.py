"""`dsv4-tp doctor` and `dsv4-tp hostfile`, as they are typed."""

import json
from pathlib import Path

import pytest

from dsv4_tp.cli.main import run
from dsv4_tp.config import read_cluster


@pytest.mark.cluster
def test_two_interpreters_here_meet_in_a_ring(capsys):
    code = run(["doctor", "--hosts", "localhost,localhost", "--json"])
    found = json.loads(capsys.readouterr().out)
    states = {row["id"]: row["state"] for row in found["rows"]}
    assert code == 0, found
    assert found["counts"]["fail"] == 0
    assert {states[name] for name in ("config", "ssh", "python", "model", "control")} == {"ok"}
    (ring,) = (row for row in found["rows"] if row["id"] == "ring")
    # Beside another cluster of this machine none is tried.
    assert ring["state"] == "ok" or ring["evidence"].startswith("a cluster runs: "), ring


def test_a_file_that_is_wrong_is_the_first_row_and_the_only_one(tmp_path: Path, capsys):
    file = tmp_path / "cluster.yaml"
    file.write_text("version: 1\nmodel: {path: demo}\nhosts: [{name: localhost}]\nport: 1\n")
    assert run(["doctor", "-f", str(file), "--json"]) == 1
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert (row["id"], row["state"]) == ("config", "fail")
    assert "port: unknown key (did you mean ports?)" in row["evidence"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--hosts", "a", "-f", "x"], "give one of them"),
        (["--hosts", "localhost", "--host", "mac"], "--host mac: not one of localhost"),
        (["--hosts", ""], "a host has no name"),
    ],
)
def test_a_command_line_that_is_wrong_is_refused(options, words: str, capsys):
    assert run(["doctor", *options]) == 2
    assert words in capsys.readouterr().err


def test_a_hostfile_there_and_back(tmp_path: Path, capsys):
    source = tmp_path / "hosts.json"
    hosts = [{"ssh": "a", "ips": ["10.0.0.1"], "rdma": []}, {"ssh": "b", "ips": ["10.0.0.2"]}]
    source.write_text(json.dumps({"backend": "jaccl", "hosts": hosts}))
    assert run(["hostfile", "import", str(source), "--model", "demo"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    file = tmp_path / "cluster.yaml"
    file.write_text(said.out)
    config = read_cluster(file)
    assert (config.backend, [host.name for host in config.hosts]) == ("jaccl", ["a", "b"])
    assert run(["hostfile", "export", "-f", str(file)]) == 0
    back = json.loads(capsys.readouterr().out)
    assert back["hosts"] == [hosts[0], hosts[1] | {"rdma": []}]
