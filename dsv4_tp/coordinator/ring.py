"""Where the ranks of one epoch meet, and by which cables: asked of their hosts anew for each, for a
port that was free may be in use by now, and a cable may be in another socket.
"""

from collections.abc import Mapping, Sequence

from dsv4_tp.coordinator.setup import AgentSetup
from dsv4_tp.core import Backend, Rdma
from dsv4_tp.errors import PreflightError
from dsv4_tp.macs.joining import rdma_of
from dsv4_tp.macs.mac import read_mac
from dsv4_tp.v1 import agent_pb2 as pb


def question(
    agent: AgentSetup, data_port: int | None, *, cables: bool, pulse_ip: str = ""
) -> pb.InspectRequest:
    """What to ask a host: whether pinned ports are free, or which ones are; and for its cables.

    And to listen for pulses at `pulse_ip`, if that is not empty.
    """
    asked = pb.InspectRequest(cables=cables, pulse_ip=pulse_ip)
    if data_port is None:
        asked.free_ports = len(agent.ranks)
    else:
        asked.ring.extend(f"{agent.data_ip}:{data_port + rank}" for rank in agent.ranks)
    return asked


def ring_of(
    agents: Sequence[AgentSetup], answers: Mapping[str, pb.InspectResponse], data_port: int | None
) -> tuple[str, ...]:
    """ "ip:port" by rank, of what the hosts have answered, by their names."""
    addresses: dict[int, str] = {}
    for agent in agents:
        pinned = [data_port + rank for rank in agent.ranks] if data_port else None
        ports = pinned or answers[agent.host].free_ports
        for rank, port in zip(agent.ranks, ports, strict=True):
            addresses[rank] = f"{agent.data_ip}:{port}"
    return tuple(addresses[rank] for rank in sorted(addresses))


def rdma_told(
    backend: Backend,
    given: Rdma | None,
    hosts: Sequence[str],
    answers: Mapping[str, pb.InspectResponse],
) -> Rdma | None:
    """How JACCL joins the ranks on these hosts, by their answers; see `macs.joining.rdma_of`.

    Raises:
        PreflightError: it cannot; says what to try, too.
    """
    # A message's own mapping would answer for tools that are not in it.
    macs = {name: read_mac(dict(answer.tools)) for name, answer in answers.items() if answer.tools}
    try:
        return rdma_of(backend, given, hosts, macs)
    except PreflightError as error:
        other = "" if backend is Backend.AUTO else ", or `backend: ring`"
        raise PreflightError(f"{error}; try dsv4-tp doctor{other}") from error
