"""The coordinator's one loop of deciding and doing: events go through `state`, actions are done.

Owns the streams of open requests and the fleet; services and launcher speak to it. A stream
outlives the epochs that serve it.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

from dsv4_tp import core
from dsv4_tp.coordinator import events
from dsv4_tp.coordinator.adoption import Adoption
from dsv4_tp.coordinator.cluster import ClusterState, Phase, first_state, newest, refused
from dsv4_tp.coordinator.fleet import Fleet, StartAgent
from dsv4_tp.coordinator.relay import relay
from dsv4_tp.coordinator.requests import Requests
from dsv4_tp.coordinator.setup import Setup
from dsv4_tp.coordinator.state import step
from dsv4_tp.coordinator.witness import Witness
from dsv4_tp.errors import Dsv4Error, NotReadyError, OutrankedError, RequestError
from dsv4_tp.log import log
from dsv4_tp.v1.cluster_pb2 import LogsResponse
from dsv4_tp.v1.types_pb2 import LogChoice

_TICK_S = 0.25
_DRAIN_S = 45.0

_Stream = asyncio.Queue[core.Told | Dsv4Error]


class Coordinator:
    """One cluster, from its agents' first words to their end."""

    def __init__(
        self,
        setup: Setup,
        *,
        on_serve: Callable[[bool], None],
        start_agent: StartAgent,
        reap: Callable[[], Awaitable[None]],
        adoption: Adoption | None = None,
    ) -> None:
        """`on_serve` is told when requests are taken, and when no more.

        `start_agent` replaces an agent that is gone. `reap` waits for the processes of agents that
        were told to end. With an `adoption` it goes on with ranks that serve.
        """
        self.setup = setup
        self.state: ClusterState = first_state(
            setup.hosts,
            Requests(setup.batch, setup.queue, setup.time_limit_s),
            setup.restart,
            beat_s=setup.timeouts.beat_s,
            prepare_s=setup.prepare_s,
            fence_s=setup.timeouts.fence_s,
            drain_s=_DRAIN_S,
            here=setup.here,
            now_s=time.monotonic(),
        )
        self.witness = Witness(setup.history)
        self.ready = asyncio.Event()
        self.gone = asyncio.Event()  # no agent and no rank is left
        self._on_serve = on_serve
        self._reap = reap
        self._adoption = adoption
        turn = adoption.turn if adoption else 0
        self._fleet = Fleet(setup, turn=turn, hear=self.hear, start_agent=start_agent)
        self._streams: dict[str, _Stream] = {}
        self._settled: asyncio.Future[Dsv4Error | None] = asyncio.Future()

    async def run(self) -> None:
        """Run the cluster until it has ended; raises what it failed of.

        That is OutrankedError if it is another coordinator's now, and its agents are left alone.
        """
        try:
            async with asyncio.TaskGroup() as group:
                ticking = group.create_task(self._tick())
                self._fleet.connect(group)
                if self._adoption:
                    self.hear(events.Adopted(self._adoption))
                error = await self._settled
                if not isinstance(error, OutrankedError):
                    await self._end()
                ticking.cancel()
                await self._fleet.close()
        finally:
            self.witness.close()
            self.gone.set()
        if error:
            raise error

    async def _end(self) -> None:
        """End the agents, and see that they are gone."""
        hosts = self.state.hosts.items()
        await self._fleet.shut_down(lost={name for name, host in hosts if host.lost})
        await self._reap()

    def dismiss(self, *, now: bool, drain_s: float | None = None) -> None:
        """End the cluster: when its work is done, for which it has `drain_s`, or at once."""
        self.hear(events.Dismissed(now, drain_s))

    def renew(self) -> None:
        """Have another epoch, in which open requests go on.

        Raises NotReadyError if the cluster is about to end.
        """
        if self.state.phase in (Phase.DRAINING, Phase.FAILED, Phase.STOPPED):
            raise NotReadyError(f"the cluster is not restarted: it is {self.state.phase}")
        self.hear(events.Renewed())

    async def serve(
        self, request: core.Request | core.ScoreRequest, *, time_limit_s: float | None = None
    ) -> AsyncGenerator[core.Told]:
        """The events of one request, the last of them a FinishEvent.

        Raises RankFailure if the cluster fails or is not back in time, BusyError if too many
        requests wait, NotReadyError or Dsv4Error if the cluster takes no requests, or ends.
        """
        if error := refused(self.state):
            raise error
        stream: _Stream = asyncio.Queue()
        self._streams[request.id] = stream
        self.hear(events.Asked(request, time_limit_s))
        try:
            async for event in _until_finished(stream):
                yield event
        finally:
            del self._streams[request.id]
            self.cancel(request.id)

    def cancel(
        self, request_id: str, reason: core.FinishReason = core.FinishReason.CANCELLED
    ) -> None:
        """End a request at the next step border; one that has ended already is left alone."""
        self.hear(events.Abandoned(request_id, reason))

    def logs(self, choice: LogChoice, host: str) -> AsyncIterator[LogsResponse]:
        """What the agents and ranks of that host wrote, or of all if it is empty.

        Raises RequestError if there is no such host.
        """
        hosts = [host] if host else list(self.state.hosts)
        if host and host not in self.state.hosts:
            known = ", ".join(self.state.hosts)
            raise RequestError(f"no host of this cluster is called {host}; there are: {known}")
        return relay(hosts, self._fleet.tail, choice, self.gone)

    def hear(self, event: events.Event) -> None:
        """Decide about an event, and do what follows."""
        before = self.state
        self.state, actions = step(before, event, time.monotonic())
        self.witness.saw(before, event, self.state, actions)
        if failed := newest(before, self.state):
            log("epoch-failed", verdict=failed)
        for action in actions:
            self._do(action)

    def _do(self, action: events.Action) -> None:
        match action:
            case events.StopEpoch():
                self._explain()
                self._fleet.obey(action)
            case events.Deliver(event=event):
                self._tell(event.request_id, event)
            case events.Fail(request_id=request_id, error=error):
                self._tell(request_id, error)
            case events.Serve(ready=ready):
                self._on_serve(ready)
                if ready:
                    self.ready.set()
            case events.Settle(error=error):
                self._settle(error)
            case _:
                self._fleet.obey(action)

    def _explain(self) -> None:
        """The first evidence in full, for whoever reads the log."""
        for fault in self.state.faults:
            log("rank-lost", cause=fault.message)
            for line in fault.last_stderr.splitlines():
                log("stderr", line=line)

    def _tell(self, request_id: str, word: core.Told | Dsv4Error) -> None:
        # The client may have gone before it knew how its request ended.
        if stream := self._streams.get(request_id):
            stream.put_nowait(word)

    def _settle(self, error: Dsv4Error | None) -> None:
        for request_id, stream in self._streams.items():
            stream.put_nowait(error or self._stopped(request_id))
        self._settled.set_result(error)

    def _stopped(self, request_id: str) -> Dsv4Error:
        """What a client hears of a cluster that was ended: only half an answer is a failure."""
        one = self.state.requests.open.get(request_id)
        begun = one is not None and (one.told or one.scored)
        return (Dsv4Error if begun else NotReadyError)("the cluster was stopped")

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            self.hear(events.Ticked())


async def _until_finished(stream: _Stream) -> AsyncIterator[core.Told]:
    while True:
        event = await stream.get()
        if isinstance(event, Dsv4Error):
            raise event
        yield event
        if isinstance(event, core.FinishEvent):
            return
