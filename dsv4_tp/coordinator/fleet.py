"""All agents at once: what `state` orders for everybody is sent to each of them here."""

import asyncio
import secrets
from collections.abc import Collection, Iterable

from dsv4_tp.coordinator.link import Hear, Link
from dsv4_tp.coordinator.setup import AgentSetup, Setup
from dsv4_tp.core import Command
from dsv4_tp.rpc.convert import command_to_proto, part_to_proto
from dsv4_tp.v1 import agent_pb2 as pb
from dsv4_tp.v1.worker_pb2 import StartRank

# A coordinator that comes back to running agents would use the next one.
_GENERATION = 1
_NONCE_BYTES = 16


class Fleet:
    """The sessions with all agents of one cluster."""

    def __init__(self, setup: Setup, *, epoch: int, hear: Hear) -> None:
        self._setup = setup
        self._epoch = epoch
        self._links = [
            Link(agent, identity=setup.identity, timeouts=setup.timeouts, hear=hear)
            for agent in setup.agents
        ]

    async def run(self) -> None:
        """Hold all sessions until they have ended."""
        await asyncio.gather(*(link.run(_GENERATION) for link in self._links))

    def start_epoch(self) -> None:
        """Have every agent start its ranks."""
        for link, agent in zip(self._links, self._setup.agents, strict=True):
            link.order(pb.SessionRequest(start_epoch=self._start(agent)))

    def join_epoch(self) -> None:
        """Have all ranks meet. They know each other by a number that nobody else has seen."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        self._order(pb.SessionRequest(join_epoch=pb.JoinEpoch(epoch=self._epoch, nonce=nonce)))

    def stop_epoch(self) -> None:
        """Have every agent kill its ranks."""
        self._order(pb.SessionRequest(stop_epoch=pb.StopEpoch(epoch=self._epoch)))

    def broadcast(self, command: Command) -> None:
        """Give a command to every rank."""
        message = pb.EpochCommand(epoch=self._epoch, command=command_to_proto(command))
        self._order(pb.SessionRequest(command=message))

    async def shut_down(self, *, lost: Collection[str]) -> None:
        """End every agent but those of the `lost` hosts; returns when they are gone."""
        links = zip(self._links, self._setup.agents, strict=True)
        await asyncio.gather(*(link.shut_down() for link, agent in links if agent.host not in lost))

    async def close(self) -> None:
        """Close all channels; an agent that still runs is left to its fence."""
        await asyncio.gather(*(link.close() for link in self._links))

    def _order(self, request: pb.SessionRequest) -> None:
        for link in self._links:
            link.order(request)

    def _start(self, agent: AgentSetup) -> pb.StartEpoch:
        times = self._setup.timeouts
        deadlines = pb.Deadlines(join_s=times.join_s, load_s=times.load_s, step_s=times.step_s)
        ranks: Iterable[StartRank] = (self._start_rank(agent, rank) for rank in agent.ranks)
        return pb.StartEpoch(epoch=self._epoch, ranks=ranks, deadlines=deadlines)

    def _start_rank(self, agent: AgentSetup, rank: int) -> StartRank:
        setup = self._setup
        return StartRank(
            epoch=self._epoch,
            rank=rank,
            model_path=agent.model_path,
            parts=map(part_to_proto, setup.parts),
            dtype=setup.dtype.value,
            ring=setup.ring,
            join_timeout_s=setup.timeouts.join_s,
            prefill_chunk=setup.prefill_chunk,
            context=setup.context,
            cache_rows=setup.cache_rows.value,
            batch=setup.batch,
            mtp=setup.mtp,
            prefix_bytes=setup.prefix_bytes,
            prefixes_on_disk=setup.prefixes_on_disk,
        )
