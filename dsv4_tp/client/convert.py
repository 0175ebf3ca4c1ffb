"""Messages of cluster.proto to and from what a client says and hears."""

from dataclasses import fields
from typing import Any

from dsv4_tp.client.types import (
    Ask,
    ClusterStatus,
    Finish,
    HostStatus,
    Logprob,
    Piece,
    RankStatus,
    Stats,
    Totals,
)
from dsv4_tp.core import ScoreEvent, ScoreRequest
from dsv4_tp.errors import RequestError
from dsv4_tp.rpc.convert import report_from_proto
from dsv4_tp.rpc.convert_events import reason_from_proto, top_from_proto, work_from_proto
from dsv4_tp.v1 import cluster_pb2 as pb
from dsv4_tp.v1 import types_pb2


def ask_to_proto(ask: Ask) -> pb.GenerateRequest:
    """The request for a text; what is None stays unset.

    Raises RequestError for a value of another kind or size than its field, which it names.
    """
    settings = {field.name: getattr(ask, field.name) for field in fields(ask)}
    prompt, chat = settings.pop("prompt"), settings.pop("chat")
    stop = settings.pop("stop")
    message = _message("prompt", "user" if chat else "text", prompt)
    message.MergeFrom(_message("stop", "stop", [stop] if isinstance(stop, str) else stop))
    for name, value in settings.items():
        message.MergeFrom(_message(name, name, value))
    return message


def _message(name: str, field: str, value: Any) -> pb.GenerateRequest:
    """A request with this field alone."""
    try:
        return pb.GenerateRequest(**{field: value})
    except (TypeError, ValueError) as error:
        raise RequestError(f"{name} is {value!r}, which cannot be sent: {error}") from error


def piece_from_proto(message: pb.GenerateResponse) -> Piece:
    """Some more of a text."""
    finish = _finish(message.finish) if message.HasField("finish") else None
    logprobs = tuple(Logprob(each.logprob, top_from_proto(each.top)) for each in message.logprobs)
    return Piece(tuple(message.tokens), message.text, finish, logprobs)


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
    )


def _finish(message: pb.Finish) -> Finish:
    stats = message.stats
    return Finish(
        reason_from_proto(message.reason),
        Stats(
            prompt_tokens=stats.prompt_tokens,
            generated_tokens=stats.generated_tokens,
            prefill_s=stats.prefill_s,
            decode_s=stats.decode_s,
            tokens_per_s=stats.tokens_per_s,
            collectives_per_token=stats.collectives_per_token,
            wire_bytes_per_token=stats.wire_bytes_per_token,
            cached_tokens=stats.cached_tokens,
            drafted_tokens=stats.drafted_tokens,
            accepted_tokens=stats.accepted_tokens,
            queue_s=stats.queue_s,
            first_token_s=stats.first_token_s if stats.HasField("first_token_s") else None,
            restarts=stats.restarts,
        ),
    )


def _totals(message: pb.Totals) -> Totals:
    return Totals(
        running=message.running,
        waiting=message.waiting,
        ended=dict(message.ended),
        prefill=work_from_proto(message.prefill),
        decode=work_from_proto(message.decode),
    )


def _host(message: pb.HostStatus) -> HostStatus:
    ranks = tuple(
        RankStatus(report_from_proto(rank.report), rank.planned_bytes, rank.weight_bytes)
        for rank in message.ranks
    )
    return HostStatus(message.name, message.beat_age_s, ranks)
