"""Where the ranks of one epoch meet: asked of their hosts anew for each, for a port that was free
may be in use by now.
"""

from collections.abc import Mapping, Sequence

from dsv4_tp.coordinator.setup import AgentSetup
from dsv4_tp.v1 import agent_pb2 as pb


def question(agent: AgentSetup, data_port: int | None) -> pb.InspectRequest:
    """What to ask a host: whether pinned ports are free, or which ones are."""
    if data_port is None:
        return pb.InspectRequest(free_ports=len(agent.ranks))
    return pb.InspectRequest(ring=[f"{agent.data_ip}:{data_port + rank}" for rank in agent.ranks])


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
