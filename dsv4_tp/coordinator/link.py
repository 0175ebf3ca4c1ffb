"""The session with one agent: its lease is kept, orders go down, words come up."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import suppress

import grpc

from dsv4_tp.config import Timeouts
from dsv4_tp.coordinator import events
from dsv4_tp.coordinator.setup import CABLES_S, AgentSetup
from dsv4_tp.errors import Dsv4Error, OutrankedError
from dsv4_tp.log import log
from dsv4_tp.rpc.auth import Identity
from dsv4_tp.rpc.channel import open_agent_channel
from dsv4_tp.rpc.convert import link_from_proto, loss_from_proto, report_from_proto
from dsv4_tp.rpc.convert_events import event_from_proto
from dsv4_tp.rpc.status import calling
from dsv4_tp.v1 import agent_pb2 as pb
from dsv4_tp.v1.agent_pb2_grpc import AgentServiceStub
from dsv4_tp.v1.types_pb2 import LogChoice, LogPiece

_SHUTDOWN_S = 65.0  # for an agent to kill its ranks, to have their memory back, and to answer
_EXIT_S = 5.0  # and then to end
_GREET_S = 5.0  # for it to answer our greeting
_INSPECT_S = 10.0  # and to look at its ports
_PROBE_S = 2.0

Hear = Callable[[events.Event], None]


class Link:
    """One agent. `run` lives as long as the session; what the agent says goes to `hear`."""

    def __init__(
        self,
        agent: AgentSetup,
        *,
        identity: Identity,
        timeouts: Timeouts,
        launch: str,
        hear: Hear,
    ) -> None:
        self._agent = agent
        self._launch = launch
        self._timeouts = timeouts
        self._hear = hear
        self._orders: asyncio.Queue[pb.SessionRequest] = asyncio.Queue()
        self._channel = open_agent_channel(agent.address, agent.host, identity)
        self._stub = AgentServiceStub(self._channel)

    def order(self, request: pb.SessionRequest) -> None:
        """Send this when everything before it is sent."""
        self._orders.put_nowait(request)

    async def run(self, generation: int) -> None:
        """Hold the session until either side ends it, then say that the host is lost.

        Or that it is another's: who is outranked must not fight for it.
        """
        try:
            with calling("its session"):
                await self._hold(generation)
            cause = "its agent has ended"
        except OutrankedError as error:
            self._hear(events.Outranked(self._agent.host, str(error)))
            return
        except Dsv4Error as error:
            cause = f"its agent is gone ({error})"
        except TimeoutError:
            cause = f"its agent has said nothing for {_GREET_S:g} s"
        self._hear(events.HostLost(self._agent.host, cause))

    async def _hold(self, generation: int) -> None:
        session = self._stub.Session(self._requests(generation))
        async with asyncio.timeout(_GREET_S) as limit:
            async for response in session:
                limit.reschedule(None)  # from here on `state` holds it to its lease
                self._pass_on(response)

    async def inspect(self, request: pb.InspectRequest) -> pb.InspectResponse:
        """The facts of its host; Dsv4Error if there is no answer in time."""
        with calling("its agent"):
            patience_s = _INSPECT_S + (CABLES_S if request.cables else 0)
            return await self._stub.Inspect(request, timeout=patience_s)

    async def tail(self, choice: LogChoice) -> AsyncGenerator[LogPiece]:
        """What its host has of these logs; Dsv4Error if the agent cannot be asked."""
        with calling("its agent"):
            call = self._stub.Tail(pb.TailRequest(choice=choice))
            try:
                async for response in call:
                    yield response.piece
            finally:
                call.cancel()

    async def shut_down(self) -> None:
        """End the agent."""
        await end_agent(self._channel, host=self._agent.host)

    async def close(self) -> None:
        """Leave the agent alone."""
        await self._channel.close()

    async def _requests(self, generation: int) -> AsyncIterator[pb.SessionRequest]:
        """The greeting, then orders, and a beat whenever there was none for a while."""
        times = self._timeouts
        hello = pb.Hello(
            generation=generation,
            fence_s=times.fence_s,
            beat_s=times.beat_s,
            launch=self._launch,
            host=self._agent.host,
        )
        yield pb.SessionRequest(hello=hello)
        while True:
            request = pb.SessionRequest(beat=pb.Beat())
            with suppress(TimeoutError):
                request = await asyncio.wait_for(self._orders.get(), times.beat_s)
            yield request

    def _pass_on(self, response: pb.SessionResponse) -> None:
        if word := _word(response):
            self._hear(events.Heard(self._agent.host, response.epoch, word))


async def end_agent(channel: grpc.aio.Channel, *, host: str) -> None:
    """End an agent and wait until it is gone; one that does not answer ends by its fence."""
    try:
        with calling(f"the agent on {host}"):
            stub = AgentServiceStub(channel)
            await stub.Shutdown(pb.ShutdownRequest(), timeout=_SHUTDOWN_S)
        await asyncio.wait_for(_disconnected(channel), _EXIT_S)
    except (Dsv4Error, TimeoutError) as error:
        log("agent-not-ended", host=host, error=error)


async def _disconnected(channel: grpc.aio.Channel) -> None:
    """The other side has closed its port."""
    while (state := channel.get_state()) is grpc.ChannelConnectivity.READY:
        await channel.wait_for_state_change(state)


async def is_free(address: str) -> bool:
    """Whether a host says that nobody listens there; one that says nothing may only be away."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(_PROBE_S):
            _, writer = await asyncio.open_connection(host, int(port))
    except ConnectionRefusedError:
        return True
    except (OSError, TimeoutError):
        return False
    writer.close()
    return False


def _word(response: pb.SessionResponse) -> events.Word | None:
    """What an agent says; None for words of a later version."""
    match response.WhichOneof("kind"):
        case "beat":
            beat = response.beat
            links = tuple(map(link_from_proto, beat.links))
            return events.HostBeat(tuple(map(report_from_proto, beat.ranks)), links)
        case "prepared":
            facts = dict(response.prepared.prepared.facts)
            return events.Prepared(response.prepared.rank, facts)
        case "joined":
            return events.Joined(response.joined.rank)
        case "ready":
            rank, ready = response.ready.rank, response.ready.ready
            return events.Loaded(rank, ready.weight_bytes, tuple(ready.notes))
        case "event":
            return events.Said(response.event.rank, event_from_proto(response.event.event))
        case _:
            return _last_word(response)


def _last_word(response: pb.SessionResponse) -> events.Word | None:
    match response.WhichOneof("kind"):
        case "refused":
            return events.Refused(response.refused.rank, response.refused.message)
        case "exited":
            lost = response.exited
            loss = loss_from_proto(lost.loss)
            return events.Lost(lost.rank, loss, lost.cause, lost.last_stderr)
        case "stopped":
            return events.HostStopped(response.stopped.quarantine)
        case _:
            return None
