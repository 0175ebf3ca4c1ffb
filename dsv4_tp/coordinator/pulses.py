"""Whom the agent of each host is to pulse and to hear; see `agent.pulse`."""

import secrets
from collections.abc import Iterator, Mapping, Sequence

from dsv4_tp.coordinator.setup import AgentSetup
from dsv4_tp.v1 import agent_pb2 as pb

_KEY_BYTES = 32


def pulse_ip(agent: AgentSetup, agents: Sequence[AgentSetup]) -> str:
    """Where it listens for pulses; empty: nowhere, for no rank is elsewhere."""
    elsewhere = any(other.data_ip != agent.data_ip for other in agents)
    return agent.data_ip if elsewhere else ""


def pulses_of(
    agents: Sequence[AgentSetup], answers: Mapping[str, pb.InspectResponse], *, rdma: bool
) -> dict[str, pb.Pulses]:
    """Those whose ranks meet, by host. By RDMA they meet where no pulse goes: nobody is watched."""
    if rdma:
        return {}
    key = secrets.token_bytes(_KEY_BYTES)
    return {
        agent.host: pb.Pulses(key=key, peers=_peers(agent, agents, answers)) for agent in agents
    }


def _peers(
    agent: AgentSetup,
    agents: Sequence[AgentSetup],
    answers: Mapping[str, pb.InspectResponse],
) -> Iterator[pb.Peer]:
    size = sum(len(each.ranks) for each in agents)
    beside = {(rank + step) % size for rank in agent.ranks for step in (-1, 1)}
    for other in agents:
        port = answers[other.host].pulse_port
        if port and other.data_ip != agent.data_ip and beside & set(other.ranks):
            yield pb.Peer(host=other.host, address=f"{other.data_ip}:{port}")
