"""ClusterService: what a client calls."""

import time
from collections.abc import AsyncIterator
from contextlib import aclosing

from dsv4_tp import __version__
from dsv4_tp.coordinator.answer import check
from dsv4_tp.coordinator.cluster import failure
from dsv4_tp.coordinator.coordinator import Coordinator
from dsv4_tp.coordinator.prompts import score_request
from dsv4_tp.coordinator.requests import Requests
from dsv4_tp.coordinator.setup import AgentSetup
from dsv4_tp.coordinator.texts import Texts
from dsv4_tp.core import FinishEvent, FinishReason, ScoreEvent, TokenEvent
from dsv4_tp.errors import DeadlineError
from dsv4_tp.rpc.auth import Context
from dsv4_tp.rpc.convert import report_to_proto
from dsv4_tp.rpc.convert_asks import ask_from_proto, piece_to_proto
from dsv4_tp.rpc.convert_events import work_to_proto
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
            totals=_totals(state.requests),
            endpoint=self._endpoint,
        )

    async def Down(  # noqa: N802
        self, request: pb.DownRequest, context: Context
    ) -> pb.DownResponse:
        """Finish what runs, end everything, answer."""
        self._coordinator.dismiss(now=False)
        await self._coordinator.gone.wait()
        return pb.DownResponse()

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
        )


def _totals(requests: Requests) -> pb.Totals:
    totals = requests.totals
    return pb.Totals(
        running=totals.running,
        waiting=max(0, len(requests.open) - totals.running),
        ended=totals.ended,
        prefill=work_to_proto(totals.work["prefill"]),
        decode=work_to_proto(totals.work["decode"]),
    )


def _check(event: FinishEvent) -> None:
    """Half a score is none."""
    check(event)
    if event.reason is FinishReason.TIMEOUT:
        raise DeadlineError("the score was not done within its time limit")
