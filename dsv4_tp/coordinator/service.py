"""ClusterService: what a client calls."""

import time
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing

from dsv4_tp import __version__
from dsv4_tp.coordinator.answer import check
from dsv4_tp.coordinator.cluster import Phase, failure, refused
from dsv4_tp.coordinator.coordinator import Coordinator
from dsv4_tp.coordinator.members import Host, Rank
from dsv4_tp.coordinator.prompts import score_request
from dsv4_tp.coordinator.requests import Requests
from dsv4_tp.coordinator.setup import AgentSetup
from dsv4_tp.coordinator.texts import Texts
from dsv4_tp.coordinator.witness import Witness
from dsv4_tp.core import FinishEvent, FinishReason, ScoreEvent, TokenEvent
from dsv4_tp.errors import DeadlineError, NotReadyError
from dsv4_tp.rpc.auth import Context
from dsv4_tp.rpc.convert import report_to_proto
from dsv4_tp.rpc.convert_asks import ask_from_proto, piece_to_proto
from dsv4_tp.rpc.convert_events import work_to_proto
from dsv4_tp.rpc.convert_history import entry_to_proto
from dsv4_tp.v1 import cluster_pb2 as pb
from dsv4_tp.v1.cluster_pb2_grpc import ClusterServiceServicer


class ClusterService(ClusterServiceServicer):
    """Serves the clients of one coordinator."""

    def __init__(self, coordinator: Coordinator, texts: Texts, *, endpoint: str) -> None:
        """`endpoint` is where OpenAI's API is; empty: nowhere."""
        self._coordinator = coordinator
        self._endpoint = endpoint
        self._texts = texts

    async def Generate(  # noqa: N802
        self, request: pb.GenerateRequest, context: Context
    ) -> AsyncIterator[pb.GenerateResponse]:
        """Tokens and their text as they come; a client that leaves cancels."""
        async with aclosing(self._texts.stream(ask_from_proto(request))) as pieces:
            async for piece in pieces:
                yield piece_to_proto(piece)

    async def Score(  # noqa: N802
        self, request: pb.ScoreRequest, context: Context
    ) -> AsyncIterator[pb.ScoreResponse]:
        """Pieces of a score as they come."""
        async for event in self._coordinator.serve(score_request(request)):
            match event:
                case ScoreEvent():
                    yield pb.ScoreResponse(
                        start=event.start, logits=event.logits, count=event.count, nll=event.nll
                    )
                case FinishEvent():
                    _check(event)
                case TokenEvent():
                    pass

    async def Status(  # noqa: N802
        self, request: pb.StatusRequest, context: Context
    ) -> pb.StatusResponse:
        """What is known of hosts and ranks."""
        setup, state = self._coordinator.setup, self._coordinator.state
        return pb.StatusResponse(
            name=setup.name,
            phase=state.phase.value,
            epoch=state.epoch,
            restarts=state.restarts,
            model_path=str(setup.model_path),
            dtype=setup.dtype.value,
            hosts=[self._host(agent) for agent in setup.agents],
            version=__version__,
            failure=failure(state),
            totals=_totals(state.requests, self._coordinator.witness),
            endpoint=self._endpoint,
            launch=setup.history.name,
        )

    async def Events(  # noqa: N802
        self, request: pb.EventsRequest, context: Context
    ) -> AsyncIterator[pb.EventsResponse]:
        """What happened, and, where asked, what happens."""
        told = self._coordinator.witness.entries(request.since_seq, follow=request.follow)
        async for missed, entries in told:
            yield pb.EventsResponse(missed=missed, events=map(entry_to_proto, entries))

    async def Logs(  # noqa: N802
        self, request: pb.LogsRequest, context: Context
    ) -> AsyncIterator[pb.LogsResponse]:
        """What agents and ranks wrote, and, where asked, what they write."""
        async for response in self._coordinator.logs(request.choice, request.host):
            yield response

    async def Restart(  # noqa: N802
        self, request: pb.RestartRequest, context: Context
    ) -> pb.RestartResponse:
        """Another epoch; answers when it serves."""
        coordinator = self._coordinator
        begun, old = coordinator.witness.last_seq, coordinator.state.epoch
        coordinator.renew()
        async for _, entries in coordinator.witness.entries(begun, follow=True):
            for entry in entries:
                if entry.kind == "ready" and entry.epoch > old:
                    return pb.RestartResponse(epoch=entry.epoch)
        raise refused(coordinator.state) or NotReadyError("the cluster has ended")

    async def Down(  # noqa: N802
        self, request: pb.DownRequest, context: Context
    ) -> pb.DownResponse:
        """Finish what runs, end everything, answer."""
        held = dict(self._coordinator.state.ranks)
        drain_s = request.drain_s if request.HasField("drain_s") else None
        self._coordinator.dismiss(now=request.now, drain_s=drain_s)
        await self._coordinator.gone.wait()
        state = self._coordinator.state
        return pb.DownResponse(
            unfinished=sum(1 for one in state.requests.open.values() if not one.cancelled),
            hosts=[_down(name, host, held.values()) for name, host in state.hosts.items()],
            failure=failure(state) if state.phase is Phase.FAILED else "",
        )

    def _host(self, agent: AgentSetup) -> pb.HostStatus:
        seen_s = self._coordinator.state.hosts[agent.host].seen_s
        return pb.HostStatus(
            name=agent.host,
            ranks=[self._rank(rank) for rank in agent.ranks],
            beat_age_s=time.monotonic() - seen_s,
        )

    def _rank(self, number: int) -> pb.RankStatus:
        rank = self._coordinator.state.ranks[number]
        return pb.RankStatus(
            report=report_to_proto(rank.report),
            planned_bytes=self._coordinator.setup.planned_bytes[number],
            weight_bytes=rank.weight_bytes or 0,
            idle_s=self._coordinator.witness.idle_s(number, time.monotonic()),
        )


def _totals(requests: Requests, witness: Witness) -> pb.Totals:
    totals = requests.totals
    half_s, most_s = witness.first_token_s(0.5, 0.95) or (None, None)
    return pb.Totals(
        running=totals.running,
        waiting=max(0, len(requests.open) - totals.running),
        ended=totals.ended,
        prefill=work_to_proto(totals.work["prefill"]),
        decode=work_to_proto(totals.work["decode"]),
        first_token_p50_s=half_s,
        first_token_p95_s=most_s,
    )


def _down(name: str, host: Host, ranks: Iterable[Rank]) -> pb.HostDown:
    own = [rank.report for rank in ranks if rank.host == name]
    return pb.HostDown(
        name=name,
        ranks=len(own),
        held_bytes=sum(report.active_bytes for report in own),
        confirmed=not (host.lost or host.running),
    )


def _check(event: FinishEvent) -> None:
    """Half a score is none."""
    check(event)
    if event.reason is FinishReason.TIMEOUT:
        raise DeadlineError("the score was not done within its time limit")
