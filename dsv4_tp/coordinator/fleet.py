"""All agents at once: what `state` orders for everybody is sent to each of them here."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from dsv4_tp import core
from dsv4_tp.coordinator import events
from dsv4_tp.coordinator.adoption import generations
from dsv4_tp.coordinator.link import Hear, Link, is_free
from dsv4_tp.coordinator.pulses import pulse_ip, pulses_of
from dsv4_tp.coordinator.ring import question, rdma_told, ring_of
from dsv4_tp.coordinator.setup import AgentSetup, Setup
from dsv4_tp.core import Backend, Rdma
from dsv4_tp.errors import Dsv4Error, PreflightError
from dsv4_tp.rpc.convert import command_to_proto, part_to_proto
from dsv4_tp.rpc.convert_rdma import rdma_to_proto
from dsv4_tp.v1 import agent_pb2 as pb
from dsv4_tp.v1.types_pb2 import LogChoice, LogPiece
from dsv4_tp.v1.worker_pb2 import StartRank

# Starts an agent anew on the host of this name; raises Dsv4Error if there is none to be had.
StartAgent = Callable[[str], Awaitable[AgentSetup]]

_NONCE_BYTES = 16


@dataclass(frozen=True, slots=True)
class Ways:
    """How the ranks of an epoch meet."""

    ring: tuple[str, ...] = ()  # "ip:port" by rank
    rdma: Rdma | None = None  # None: by a ring over TCP
    pulses: Mapping[str, pb.Pulses] = field(default_factory=dict[str, pb.Pulses])  # by host


class Fleet:
    """The sessions with all agents of one cluster."""

    def __init__(self, setup: Setup, *, turn: int, hear: Hear, start_agent: StartAgent) -> None:
        """`turn`: so many coordinators had these agents before."""
        self._setup = setup
        self._hear = hear
        self._start_agent = start_agent
        self._agents = {agent.host: agent for agent in setup.agents}
        self._links = {agent.host: self._link(agent) for agent in setup.agents}
        self._sessions: dict[str, asyncio.Task[None]] = {}
        self._starting: asyncio.Task[None] | None = None
        self._ordered = 0  # the last epoch that agents were told to start
        # Of sessions; a later one takes over from those before it.
        self._generations = generations(turn)

    def connect(self, group: asyncio.TaskGroup) -> None:
        """Hold a session with every agent, in tasks of `group`."""
        self._group = group
        for host, link in self._links.items():
            self._sessions[host] = group.create_task(link.run(next(self._generations)))

    def obey(self, order: events.Order) -> None:
        """Have one agent, or all of them, do what was decided."""
        match order:
            case events.StartEpoch(epoch=epoch):
                # Once it is known where the ranks can meet.
                self._starting = self._group.create_task(self._start_epoch(epoch))
            case events.JoinEpoch(epoch=epoch):
                # Ranks know each other by a number that nobody else has seen.
                nonce = secrets.token_bytes(_NONCE_BYTES)
                self._order(pb.SessionRequest(join_epoch=pb.JoinEpoch(epoch=epoch, nonce=nonce)))
            case events.StopEpoch():
                self._stop_epoch(order)
            case events.Broadcast(epoch=epoch, command=command):
                self._order(_command(epoch, command))
            case events.Reach():
                self._replace(order)
            case events.GoOn():
                self._go_on(order)

    def _go_on(self, order: events.GoOn) -> None:
        """All agents run this epoch; those that lack lines of its log get them before any other."""
        self._ordered = order.epoch
        for host, commands in order.missing.items():
            for command in commands:
                self._links[host].order(_command(order.epoch, command))

    def _replace(self, order: events.Reach) -> None:
        """Have an agent again on a host; `hear` gets its words, or that it is lost."""
        self._sessions[order.host].cancel()
        self._sessions[order.host] = self._group.create_task(self._reach(order))

    def _stop_epoch(self, order: events.StopEpoch) -> None:
        if self._starting:
            self._starting.cancel()
        self._order(_stop(order.epoch, explain=order.explain))
        if order.epoch > self._ordered:
            loop = asyncio.get_running_loop()
            for host in self._links:  # no agent knows of this epoch, so none would confirm its end
                loop.call_soon(self._hear, events.Heard(host, order.epoch, events.HostStopped()))

    def tail(self, host: str, choice: LogChoice) -> AsyncGenerator[LogPiece]:
        """The logs of a host; raises Dsv4Error if its agent cannot be asked."""
        return self._links[host].tail(choice)

    async def shut_down(self, *, lost: Collection[str]) -> None:
        """End every agent but those of the `lost` hosts; returns when they are gone."""
        for host in lost:
            self._sessions[host].cancel()
        links = self._links.items()
        await asyncio.gather(*(link.shut_down() for host, link in links if host not in lost))

    async def close(self) -> None:
        """Leave all agents alone; one that still runs ends by its fence."""
        for task in (*self._sessions.values(), self._starting):
            if task:
                task.cancel()
        await asyncio.gather(*(link.close() for link in self._links.values()))

    async def _reach(self, order: events.Reach) -> None:
        """A session with the agent that was lost, if it still lives, else with a new one."""
        host = order.host
        await self._links[host].close()
        agent = self._agents[host]
        try:
            if order.fenced or await is_free(agent.address):
                agent = await self._start_agent(host)
        except Dsv4Error as error:
            self._hear(events.HostLost(host, str(error)))
            return
        self._agents[host] = agent
        self._links[host] = link = self._link(agent)
        link.order(_stop(order.epoch))
        await link.run(next(self._generations))

    async def _start_epoch(self, epoch: int) -> None:
        ways = await self._ways()
        if ways is None:
            return
        self._ordered = epoch
        for agent in self._agents.values():
            message = self._start(agent, epoch, ways)
            self._links[agent.host].order(pb.SessionRequest(start_epoch=message))

    async def _ways(self) -> Ways | None:
        """How the ranks can meet; None if a host is not fit. One rank meets nobody."""
        if len(self._setup.parts) == 1:
            return Ways()
        asked = await asyncio.gather(*map(self._ask, self._agents.values()))
        pairs = zip(self._agents, asked, strict=True)
        answers = {host: answer for host, answer in pairs if answer}
        if len(answers) < len(asked):
            return None
        setup = self._setup
        hosts = [setup.hosts[rank] for rank in range(len(setup.parts))]
        try:
            rdma = rdma_told(setup.backend, setup.rdma, hosts, answers)
        except PreflightError as error:
            self._hear(events.Unfit(hosts[0], str(error)))
            return None
        agents = [*self._agents.values()]
        pulses = pulses_of(agents, answers, rdma=rdma is not None)
        return Ways(ring_of(agents, answers, setup.data_port), rdma, pulses)

    async def _ask(self, agent: AgentSetup) -> pb.InspectResponse | None:
        """Which ports are free on a host; None if it is not fit, which is said."""
        cables = self._setup.backend is not Backend.RING
        pulses = pulse_ip(agent, [*self._agents.values()])
        asked = question(agent, self._setup.data_port, cables=cables, pulse_ip=pulses)
        try:
            answer = await self._links[agent.host].inspect(asked)
        except Dsv4Error as error:
            self._hear(events.Unfit(agent.host, str(error)))
            return None
        if problems := [*filter(None, [answer.quarantine]), *answer.problems]:
            self._hear(events.Unfit(agent.host, "; ".join(problems)))
            return None
        return answer

    def _link(self, agent: AgentSetup) -> Link:
        setup = self._setup
        return Link(
            agent,
            identity=setup.identity,
            timeouts=setup.timeouts,
            launch=setup.history.name,
            hear=self._hear,
        )

    def _order(self, request: pb.SessionRequest) -> None:
        for link in self._links.values():
            link.order(request)

    def _start(self, agent: AgentSetup, epoch: int, ways: Ways) -> pb.StartEpoch:
        times = self._setup.timeouts
        deadlines = pb.Deadlines(join_s=times.join_s, load_s=times.load_s, step_s=times.step_s)
        ranks: Iterable[StartRank] = (
            self._start_rank(agent, rank, epoch, ways) for rank in agent.ranks
        )
        pulses = ways.pulses.get(agent.host)
        return pb.StartEpoch(epoch=epoch, ranks=ranks, deadlines=deadlines, pulses=pulses)

    def _start_rank(self, agent: AgentSetup, rank: int, epoch: int, ways: Ways) -> StartRank:
        setup = self._setup
        return StartRank(
            epoch=epoch,
            rank=rank,
            model_path=agent.model_path,
            parts=map(part_to_proto, setup.parts),
            dtype=setup.dtype.value,
            ring=ways.ring,
            rdma=rdma_to_proto(ways.rdma) if ways.rdma else None,
            join_timeout_s=setup.timeouts.alarm_s,
            prefill_chunk=setup.prefill_chunk,
            context=setup.context,
            cache_rows=setup.cache_rows.value,
            kernels=setup.kernels.value,
            batch=setup.batch,
            mtp=setup.mtp,
            prefix_bytes=setup.prefix_bytes,
            prefixes_on_disk=setup.prefixes_on_disk,
        )


def _command(epoch: int, command: core.Command) -> pb.SessionRequest:
    message = pb.EpochCommand(epoch=epoch, command=command_to_proto(command))
    return pb.SessionRequest(command=message)


def _stop(epoch: int, *, explain: bool = False) -> pb.SessionRequest:
    return pb.SessionRequest(stop_epoch=pb.StopEpoch(epoch=epoch, explain=explain))
