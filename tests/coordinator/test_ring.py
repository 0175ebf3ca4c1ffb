"""Where the ranks of an epoch meet, and by which cables."""

import pytest

from dsv4_tp.coordinator.ring import question, rdma_told, ring_of
from dsv4_tp.coordinator.setup import AgentSetup
from dsv4_tp.core import Backend, Rdma
from dsv4_tp.errors import PreflightError
from dsv4_tp.macs.mac import OF_CABLES
from dsv4_tp.v1.agent_pb2 import InspectResponse
from tests.macs.recorded import HEALTHY, HOSTS, said_by

A = AgentSetup("mac-a", "x:1", "10.0.0.1", (0, 2), "/m")
B = AgentSetup("mac-b", "y:1", "10.0.0.2", (1,), "/m")


def test_ranks_listen_on_free_ports_of_their_host():
    asked = question(A, None, cables=False)
    assert (asked.free_ports, list(asked.ring), asked.cables) == (2, [], False)
    answers = {
        "mac-a": InspectResponse(free_ports=[11, 12]),
        "mac-b": InspectResponse(free_ports=[21]),
    }
    assert ring_of([A, B], answers, None) == ("10.0.0.1:11", "10.0.0.2:21", "10.0.0.1:12")


def test_ranks_listen_on_pinned_ports():
    assert list(question(A, 7000, cables=True).ring) == ["10.0.0.1:7000", "10.0.0.1:7002"]
    none_picked = {"mac-a": InspectResponse(), "mac-b": InspectResponse()}
    ring = ring_of([A, B], none_picked, 7000)
    assert ring == ("10.0.0.1:7000", "10.0.0.2:7001", "10.0.0.1:7002")


def answers_of(case: str = HEALTHY, *, silent: str = "") -> dict[str, InspectResponse]:
    """What the agents of two Macs answer; one tool may not be there."""
    tools = [tool for tool in OF_CABLES if tool != silent]
    return {
        host: InspectResponse(tools={tool: said_by(host, case)[tool] for tool in tools})
        for host in HOSTS
    }


def test_jaccl_is_told_of_the_cables_that_are_there_now():
    found = rdma_told(Backend.AUTO, None, HOSTS, answers_of())
    assert found == Rdma(False, ((None, "rdma_en2"), ("rdma_en2", None)))
    assert rdma_told(Backend.JACCL_RING, None, HOSTS, answers_of()) == Rdma(True, found.matrix)
    crossed = rdma_told(Backend.JACCL, None, HOSTS, answers_of("two-crossed-cables"))
    assert crossed == Rdma(False, ((None, "rdma_en2"), ("rdma_en3", None)))


def test_a_ring_over_tcp_and_a_single_rank_need_no_cable():
    nothing = {"mac-a": InspectResponse(), "mac-b": InspectResponse()}
    assert rdma_told(Backend.RING, None, HOSTS, nothing) is None
    assert rdma_told(Backend.JACCL, None, HOSTS[:1], nothing) is None


@pytest.mark.parametrize(
    ("answers", "hosts", "words"),
    [
        (answers_of("port-down"), HOSTS, "en2 on mac-a - en2 on mac-b: rdma_en2 on mac-b is PORT_"),
        (answers_of(silent="ibv_devinfo"), HOSTS, "mac-a: no ibv_devinfo; try dsv4-tp doctor"),
        (answers_of() | {"mac-b": InspectResponse()}, HOSTS, "mac-b is no Mac, so it has no RDMA"),
        (answers_of(), (*HOSTS, HOSTS[0]), "two ranks are on one host"),
    ],
)
def test_what_keeps_jaccl_from_joining_them_is_said(answers, hosts, words: str):
    with pytest.raises(PreflightError) as caught:
        rdma_told(Backend.JACCL, None, hosts, answers)
    assert words in str(caught.value)
    assert str(caught.value).endswith("; try dsv4-tp doctor, or `backend: ring`")


def test_of_written_rows_the_devices_are_looked_at_where_a_host_can_say():
    given = Rdma(False, ((None, "rdma_en2"), ("rdma_en2", None)))
    assert rdma_told(Backend.JACCL, given, HOSTS, answers_of()) is given
    unknown = {host: InspectResponse() for host in HOSTS}
    assert rdma_told(Backend.JACCL, given, HOSTS, unknown) is given
    with pytest.raises(PreflightError, match="from mac-b to mac-a: rdma_en2 on mac-b is PORT_DOWN"):
        rdma_told(Backend.JACCL, given, HOSTS, answers_of("port-down"))
