import socket

import pytest

from dsv4_tp import __version__, demo
from dsv4_tp.agent import machine
from dsv4_tp.agent.machine import free_ports, inspect
from dsv4_tp.macs.mac import OF_CABLES
from dsv4_tp.v1.agent_pb2 import InspectRequest
from tests.prepared.sets import begin


@pytest.fixture
def model_dir(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model-00001.safetensors").write_bytes(b"12345")
    return tmp_path


def test_facts_of_this_machine(model_dir):
    facts = inspect(InspectRequest(model_path=str(model_dir), free_ports=3))
    assert list(facts.problems) == []
    assert facts.version == __version__
    assert facts.mlx_version
    assert 0 < facts.available_bytes <= facts.memory_bytes
    assert len(set(facts.free_ports)) == 3


def test_a_port_somebody_listens_on_is_a_problem():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        facts = inspect(InspectRequest(ring=[f"127.0.0.1:{port}"]))
    assert list(facts.problems) == [f"cannot listen on 127.0.0.1:{port}: Address already in use"]
    assert list(inspect(InspectRequest(ring=[f"127.0.0.1:{port}"])).problems) == []


def test_an_address_of_another_machine_is_a_problem():
    (problem,) = inspect(InspectRequest(ring=["192.0.2.1:7000"])).problems
    assert problem.startswith("cannot listen on 192.0.2.1:7000: ")


def test_a_model_that_is_not_there_is_a_problem(tmp_path):
    facts = inspect(InspectRequest(model_path=str(tmp_path / "none")))
    expected = f"cannot read {tmp_path}/none/config.json: No such file or directory"
    assert list(facts.problems) == [expected]
    assert facts.model_digest == b""


def test_the_digest_tells_copies_apart(model_dir):
    def digest():
        return inspect(InspectRequest(model_path=str(model_dir))).model_digest

    first = digest()
    assert digest() == first
    (model_dir / "model-00001.safetensors").write_bytes(b"1234")
    assert digest() != first
    (model_dir / "model-00001.safetensors").write_bytes(b"12345")
    assert digest() == first


def test_demo_is_this_hosts_own_copy():
    facts = inspect(InspectRequest(model_path="demo"))
    assert list(facts.problems) == []
    assert facts.model_digest == inspect(InspectRequest(model_path=str(demo.path()))).model_digest


def test_free_ports_can_be_bound():
    ports = free_ports(4)
    assert len(set(ports)) == 4
    for port in ports:
        with socket.create_server(("127.0.0.1", port)) as server:
            assert server.getsockname()[1] == port


def test_a_set_is_known_by_the_checkpoint_that_it_was_made_from(tmp_path):
    begin(demo.path(), tmp_path / "set", (1, 1))
    digests = [
        inspect(InspectRequest(model_path=str(path))).model_digest
        for path in (demo.path(), tmp_path / "set")
    ]
    assert digests[0] == digests[1] != b""


def test_weights_that_are_not_there_are_a_problem(model_dir):
    (model_dir / "model-00001.safetensors").unlink()
    (problem,) = inspect(InspectRequest(model_path=str(model_dir))).problems
    assert problem.startswith(f"{model_dir}: no model*.safetensors file")


def test_only_who_asks_for_cables_waits_for_the_tools_of_a_mac(monkeypatch):
    monkeypatch.setattr(machine, "run_tools", lambda names: dict.fromkeys(names, "said"))
    assert dict(inspect(InspectRequest()).tools) == {}
    assert dict(inspect(InspectRequest(cables=True)).tools) == dict.fromkeys(OF_CABLES, "said")
