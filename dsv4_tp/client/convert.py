"""Messages of cluster.proto to and from what a client says and hears of a cluster."""

from dsv4_tp.client.types import (
    ClusterStatus,
    Downfall,
    HostDown,
    HostStatus,
    LogPart,
    RankStatus,
    Totals,
)
from dsv4_tp.core import ScoreEvent, ScoreRequest
from dsv4_tp.rpc.convert import report_from_proto
from dsv4_tp.rpc.convert_events import work_from_proto
from dsv4_tp.v1 import cluster_pb2 as pb
from dsv4_tp.v1 import types_pb2


def score_to_proto(request: ScoreRequest) -> pb.ScoreRequest:
    """The request for a score; its id is the cluster's to choose."""
    rows = [types_pb2.Row(ids=row) for row in request.rows]
    return pb.ScoreRequest(rows=rows, chunk=request.chunk, want_logits=request.want_logits)


def score_from_proto(message: pb.ScoreResponse) -> ScoreEvent:
    """A piece of a score."""
    return ScoreEvent(
        request_id="",  # one score per stream, so it needs no name here
        start=message.start,
        logits=message.logits,
        count=message.count,
        nll=tuple(message.nll),
        last=bool(message.nll),
    )


def status_from_proto(message: pb.StatusResponse) -> ClusterStatus:
    """The state of a cluster."""
    return ClusterStatus(
        name=message.name,
        phase=message.phase,
        epoch=message.epoch,
        model_path=message.model_path,
        dtype=message.dtype,
        version=message.version,
        failure=message.failure,
        restarts=message.restarts,
        hosts=tuple(_host(host) for host in message.hosts),
        totals=_totals(message.totals),
        launch=message.launch,
        endpoint=message.endpoint,
    )


def log_from_proto(message: pb.LogsResponse) -> LogPart:
    """Some bytes of a log."""
    piece = message.piece
    return LogPart(
        host=message.host,
        epoch=piece.place.epoch,
        rank=piece.place.rank if piece.place.HasField("rank") else None,
        offset=piece.place.offset,
        data=piece.data,
        missed=piece.missed_bytes,
        error=message.error,
    )


def downfall_from_proto(message: pb.DownResponse) -> Downfall:
    """How a cluster has ended."""
    hosts = (
        HostDown(host.name, host.ranks, host.held_bytes, host.confirmed) for host in message.hosts
    )
    return Downfall(message.unfinished, message.failure, tuple(hosts))


def _totals(message: pb.Totals) -> Totals:
    return Totals(
        running=message.running,
        waiting=message.waiting,
        ended=dict(message.ended),
        prefill=work_from_proto(message.prefill),
        decode=work_from_proto(message.decode),
        first_token_p50_s=(
            message.first_token_p50_s if message.HasField("first_token_p50_s") else None
        ),
        first_token_p95_s=(
            message.first_token_p95_s if message.HasField("first_token_p95_s") else None
        ),
    )


def _host(message: pb.HostStatus) -> HostStatus:
    ranks = tuple(
        RankStatus(
            report_from_proto(rank.report), rank.planned_bytes, rank.weight_bytes, rank.idle_s
        )
        for rank in message.ranks
    )
    return HostStatus(message.name, message.beat_age_s, ranks)
