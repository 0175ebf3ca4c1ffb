"""MLX's hostfiles become clusters and back, and MLX itself reads ours."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from mlx._distributed_utils.common import Hostfile as MlxHostfile

from dsv4_tp.config import Ports, read_cluster
from dsv4_tp.config.hostfile import cluster_of_hostfile, hostfile_of_cluster, read_hostfile
from dsv4_tp.core import Backend
from dsv4_tp.errors import ConfigError

# MLX's reader leaves the file to the garbage collector.
read_by_mlx = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
TWO = [{"ssh": "127.0.0.1", "ips": ["10.0.0.1"]}, {"ssh": "me@mac-b.local", "ips": ["10.0.0.2"]}]


@pytest.fixture
def hostfile(tmp_path: Path):
    def write(words) -> Path:
        file = tmp_path / "hosts.json"
        file.write_text(words if isinstance(words, str) else json.dumps(words))
        return file

    return write


@pytest.fixture
def cluster(tmp_path: Path):
    def read(text: str):
        file = tmp_path / "cluster.yaml"
        file.write_text(text)
        return read_cluster(file)

    return read


@pytest.mark.parametrize("words", [TWO, {"hosts": TWO}, {"backend": "ring", "hosts": TWO}])
def test_a_ring_becomes_a_cluster_and_loses_nothing(hostfile, cluster, words):
    found = cluster_of_hostfile(read_hostfile(hostfile(words)), "demo")
    assert found.lost == ()
    config = cluster(found.text)
    assert config.model.path == "demo"
    assert [(h.name, h.ssh, h.address) for h in config.hosts] == [
        ("localhost", "localhost", "10.0.0.1"),
        ("mac-b.local", "me@mac-b.local", "10.0.0.2"),
    ]


def test_what_cluster_yaml_has_no_word_for_is_named(hostfile, cluster):
    hosts = [
        {"ssh": "mac-a", "ips": ["10.0.0.1", "10.1.0.1"], "rdma": [None, "rdma_en2"], "gpu": 1},
        {"ssh": "mac-b", "ips": ["fe80::1"], "rdma": [["rdma_en3", "rdma_en4"], None]},
    ]
    words = {"backend": "nccl", "envs": ["MLX_METAL_FAST_SYNCH=1"], "hosts": hosts, "x": 1}
    found = cluster_of_hostfile(read_hostfile(hostfile(words)), "demo")
    assert [line.rpartition(": ")[0] for line in found.lost] == [
        "backend nccl",
        "envs MLX_METAL_FAST_SYNCH=1",
        "mac-a: ips 10.1.0.1",
        "mac-a: rdma",
        "mac-b: ips fe80::1",
        "mac-b: rdma",
        "x",
        "hosts[0].gpu",
    ]
    assert [host.address for host in cluster(found.text).hosts] == ["10.0.0.1", None]


@read_by_mlx
def test_a_device_matrix_goes_there_and_back(hostfile, cluster):
    rows = [[None, ["rdma_en2", "rdma_en4"]], [["rdma_en3", "rdma_en5"], None]]
    hosts = [entry | {"rdma": row} for entry, row in zip(TWO, rows, strict=True)]
    words = {"backend": "jaccl-ring", "hosts": hosts}
    found = cluster_of_hostfile(read_hostfile(hostfile(words)), "demo")
    assert found.lost == ()
    config = cluster(found.text)
    assert config.backend is Backend.JACCL_RING
    assert config.ranks[1].rdma == (("rdma_en3", "rdma_en5"), None)
    theirs = MlxHostfile.from_file(hostfile(hostfile_of_cluster(config).text))
    assert (theirs.backend, [h.rdma for h in theirs.hosts]) == ("jaccl-ring", rows)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("{", "not JSON"),
        ({}, "hosts: None; expected a list"),
        ([], "hosts: []; expected a list"),
        ([1], "hosts[0]: 1; expected an object with `ssh`"),
        ([{"ssh": ""}], "hosts[0].ssh: ''; expected an ssh destination"),
        ([{"ssh": "-oProxyCommand=x"}], "expected an ssh destination"),
        ([{"ssh": "a", "ips": "10.0.0.1"}], "hosts[0].ips: '10.0.0.1'; expected a list of texts"),
        ([{"ssh": "a", "rdma": 2}], "hosts[0].rdma: 2; expected a list"),
        ({"hosts": TWO, "envs": [1]}, "envs: [1]; expected a list of texts"),
        ({"hosts": TWO, "backend": 1}, "backend: 1; expected text"),
    ],
)
def test_a_hostfile_that_is_none_is_refused(hostfile, words, expected: str):
    with pytest.raises(ConfigError) as caught:
        read_hostfile(hostfile(words))
    assert expected in str(caught.value)
    assert "hosts.json: " in str(caught.value)


def test_a_hostfile_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"none.json: No such file"):
        read_hostfile(tmp_path / "none.json")


@read_by_mlx
def test_mlx_reads_what_is_exported(hostfile, cluster):
    config = cluster(cluster_of_hostfile(read_hostfile(hostfile(TWO)), "demo").text)
    found = hostfile_of_cluster(config)
    theirs = MlxHostfile.from_file(hostfile(found.text))
    assert (theirs.backend, theirs.envs) == ("ring", [])
    assert [(h.ssh_hostname, h.ips) for h in theirs.hosts] == [
        ("localhost", ["10.0.0.1"]),
        ("me@mac-b.local", ["10.0.0.2"]),
    ]
    assert [line.partition(" ")[0] for line in found.lost] == ["model.path"]


@read_by_mlx
def test_a_device_matrix_orders_the_ranks(hostfile, cluster):
    config = cluster(cluster_of_hostfile(read_hostfile(hostfile(TWO)), "demo").text)
    rows = {"mac-b.local": (None, "rdma_en3"), "localhost": (("rdma_en2", "rdma_en4"), None)}
    text = hostfile_of_cluster(config, backend="jaccl", rdma=rows).text
    theirs = MlxHostfile.from_file(hostfile(text))
    assert theirs.backend == "jaccl"
    assert [(h.ssh_hostname, h.rdma) for h in theirs.hosts] == [
        ("me@mac-b.local", [None, "rdma_en3"]),
        ("localhost", [["rdma_en2", "rdma_en4"], None]),
    ]


def test_what_a_hostfile_has_no_word_for_is_named(cluster):
    config = cluster(
        """
        version: 1
        model: {path: /m}
        hosts:
          - {name: localhost, weight: 3}
          - {name: b, address: 10.0.0.2, fabric: 10.1.0.2, python: /p, workdir: /w, model_path: /x}
        context: 5
        """
    )
    config = replace(config, ports=Ports(data=4000), backend=Backend.JACCL)
    lost = hostfile_of_cluster(config).lost
    assert [line.rpartition(": ")[0] for line in lost] == [
        "model.path /m",
        "localhost",
        "b: address 10.0.0.2",
        "b: python /p",
        "b: workdir /w",
        "b: model_path /x",
        "rank 0: weight 3",
        "ports.data 4000",
        "backend jaccl",
        "context",
    ]
