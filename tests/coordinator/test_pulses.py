"""Whom the agents of a cluster are to hear."""

from dsv4_tp.coordinator.pulses import pulse_ip, pulses_of
from dsv4_tp.coordinator.setup import AgentSetup
from dsv4_tp.v1.agent_pb2 import InspectResponse

FOUR = [AgentSetup(f"h{n}", "x:1", f"10.0.0.{n}", (n,), "/m") for n in range(4)]
ANSWERS = {agent.host: InspectResponse(pulse_port=7 + at) for at, agent in enumerate(FOUR)}


def peers(host, **how):
    return [(peer.host, peer.address) for peer in pulses_of(FOUR, ANSWERS, **how)[host].peers]


def test_agents_hear_those_whose_ranks_meet():
    assert [pulse_ip(agent, FOUR) for agent in FOUR] == [agent.data_ip for agent in FOUR]
    assert peers("h0", rdma=False) == [("h1", "10.0.0.1:8"), ("h3", "10.0.0.3:10")]


def test_where_ranks_meet_by_rdma_no_pulse_goes():
    assert pulses_of(FOUR, ANSWERS, rdma=True) == {}


def test_all_have_one_key_and_another_one_for_each_epoch():
    (key,) = {pulses.key for pulses in pulses_of(FOUR, ANSWERS, rdma=False).values()}
    assert len(key) == 32
    assert key != pulses_of(FOUR, ANSWERS, rdma=False)["h0"].key


def test_there_are_no_pulses_within_a_host_nor_to_one_that_cannot_listen():
    a, b = AgentSetup("a", "x:1", "10.0.0.1", (0, 2), "/m"), FOUR[2]
    beside = AgentSetup("b", "y:1", a.data_ip, (1,), "/m")
    assert {pulse_ip(agent, [a, beside]) for agent in (a, beside)} == {""}
    answers = {"a": InspectResponse(pulse_port=7), "h2": InspectResponse()}
    found = pulses_of([a, AgentSetup("h2", "y:1", b.data_ip, (1,), "/m")], answers, rdma=False)
    assert {host: len(pulses.peers) for host, pulses in found.items()} == {"a": 0, "h2": 1}
