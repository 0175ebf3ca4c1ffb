"""Where the ranks of an epoch meet."""

from dsv4_tp.coordinator.ring import question, ring_of
from dsv4_tp.coordinator.setup import AgentSetup
from dsv4_tp.v1.agent_pb2 import InspectResponse

A = AgentSetup("mac-a", "x:1", "10.0.0.1", (0, 2), "/m")
B = AgentSetup("mac-b", "y:1", "10.0.0.2", (1,), "/m")


def test_ranks_listen_on_free_ports_of_their_host():
    assert (question(A, None).free_ports, list(question(A, None).ring)) == (2, [])
    answers = {
        "mac-a": InspectResponse(free_ports=[11, 12]),
        "mac-b": InspectResponse(free_ports=[21]),
    }
    assert ring_of([A, B], answers, None) == ("10.0.0.1:11", "10.0.0.2:21", "10.0.0.1:12")


def test_ranks_listen_on_pinned_ports():
    assert list(question(A, 7000).ring) == ["10.0.0.1:7000", "10.0.0.1:7002"]
    none_picked = {"mac-a": InspectResponse(), "mac-b": InspectResponse()}
    ring = ring_of([A, B], none_picked, 7000)
    assert ring == ("10.0.0.1:7000", "10.0.0.2:7001", "10.0.0.1:7002")
