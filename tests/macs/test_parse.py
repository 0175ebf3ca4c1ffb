"""What macOS's tools print becomes facts, and nonsense becomes a reason, never a fact."""

import json

import pytest

from dsv4_tp.macs.mac import COMMANDS, read_mac
from dsv4_tp.macs.parse.network import Interface
from dsv4_tp.macs.parse.rdma import Device
from dsv4_tp.macs.parse.system import Sleep, System
from dsv4_tp.macs.parse.thunderbolt import Port, parse_thunderbolt
from tests.macs.recorded import FIXTURES, HEALTHY, macs, said_by

GIB = 2**30


def test_a_healthy_mac_is_read_whole():
    mac = macs()["mac-a"]
    assert mac.unread == {}
    assert mac.system == System("26.4.1", "25E253")
    assert mac.numbers == {"hw.memsize": 128 * GIB, "iogpu.wired_limit_mb": 120 * 1024}
    assert mac.wired_bytes == 310_000 * 16384
    assert mac.sleep == Sleep(0, disabled=False)
    assert (mac.rdma_enabled, mac.device_names) == (True, ("rdma_en2", "rdma_en3", "rdma_en4"))
    assert mac.devices["rdma_en2"] == Device("rdma_en2", "PORT_ACTIVE", ("169.254.10.1",))
    assert mac.devices["rdma_en3"] == Device("rdma_en3", "PORT_DOWN")
    first, second, _ = mac.ports
    peer = macs()["mac-b"].ports[0].domain
    assert (first.receptacle, first.peers, first.gbps, first.most_gbps) == ("1", (peer,), 80, None)
    assert (second.peers, second.gbps, second.most_gbps) == ((), None, 120)
    assert [mac.interface_of(port) for port in mac.ports] == ["en2", "en3", "en4"]
    assert mac.interfaces["en2"] == Interface("en2", True, True, ("169.254.10.1",))
    assert not mac.interfaces["bridge0"].up


def test_a_bridge_and_its_members():
    bridge = macs("bridge-up")["mac-a"].interfaces["bridge0"]
    assert (bridge.up, bridge.members) == (True, ("en2", "en3", "en4"))


def test_generations_follow_from_speeds():
    generations = {case: macs(case)["mac-a"].ports for case in (HEALTHY, "thunderbolt-4")}
    assert [port.generation for port in generations[HEALTHY]] == [5, 5, 5]
    # A link of 40 Gb/s may be a slow cable, an empty port that offers no more is Thunderbolt 4.
    assert [port.generation for port in generations["thunderbolt-4"]] == [None, 4, 4]


def test_macs_behind_a_hub_are_found():
    hub = {"_name": "hub", "_items": [{"_name": "mac-b", "domain_uuid_key": "B"}]}
    tag = {"receptacle_id_key": "1", "current_speed_key": "80 Gb/s"}
    bus = {"domain_uuid_key": "A", "receptacle_1_tag": tag, "_items": [hub]}
    text = json.dumps({"SPThunderboltDataType": [bus]})
    assert parse_thunderbolt(text) == (Port("1", "A", ("B",), 80, None),)


@pytest.mark.parametrize("name", [n for n in COMMANDS if not n.startswith("ibv_")])
@pytest.mark.parametrize("text", ["", "{}", "[]", "no such thing\n"], ids=repr)
def test_nonsense_is_named_and_costs_nothing_else(name: str, text: str):
    mac = read_mac(said_by("mac-a") | {name: text})
    assert list(mac.unread) == [name]
    assert f"{name} said something else" in mac.unread[name]


def test_what_a_mac_does_not_have_is_named():
    mac = read_mac({})
    assert set(mac.unread) == set(COMMANDS)
    assert mac.ports is None
    assert "no rdma_ctl" in mac.unread["rdma_ctl"]


def test_every_fixture_is_of_a_known_command_and_has_a_known_source():
    files = [file for file in FIXTURES.glob("*/*/*") if file.is_file()]
    assert {file.stem for file in files} == set(COMMANDS)
    page = (FIXTURES / "README.md").read_text()
    assert [file.name for file in files if f"`{file.name}`" not in page] == []
