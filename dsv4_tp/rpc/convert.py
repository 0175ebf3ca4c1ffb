"""Messages of types.proto to and from the nouns of `core`: one pair of functions per noun.

It owns no decision: values go over as they are. A message that names nothing this version
knows is refused; the hosts then run different versions.
"""

from dsv4_tp import core
from dsv4_tp.errors import PreflightError
from dsv4_tp.v1 import agent_pb2
from dsv4_tp.v1 import types_pb2 as pb


def part_to_proto(part: core.Part) -> pb.Part:
    """The message of a rank's part."""
    return pb.Part(
        heads=_span_to_proto(part.heads),
        experts=_span_to_proto(part.experts),
        expert_width=_span_to_proto(part.expert_width),
        shared_width=_span_to_proto(part.shared_width),
        vocab=_span_to_proto(part.vocab),
    )


def part_from_proto(message: pb.Part) -> core.Part:
    """The rank's part a message describes."""
    return core.Part(
        heads=_span_from_proto(message.heads),
        experts=_span_from_proto(message.experts),
        expert_width=_span_from_proto(message.expert_width),
        shared_width=_span_from_proto(message.shared_width),
        vocab=_span_from_proto(message.vocab),
    )


def sampling_to_proto(sampling: core.Sampling) -> pb.Sampling:
    """The message of a sampling setting."""
    return pb.Sampling(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        seed=sampling.seed,
    )


def sampling_from_proto(message: pb.Sampling) -> core.Sampling:
    """The sampling setting a message describes."""
    return core.Sampling(
        temperature=message.temperature,
        top_p=message.top_p,
        top_k=message.top_k,
        seed=message.seed,
    )


def command_to_proto(command: core.Command) -> pb.Command:
    """The message of one line of the command log."""
    message = pb.Command(number=command.number)
    match command.action:
        case core.Submit(request=request):
            if isinstance(request, core.Request):
                message.generate.CopyFrom(_generate_to_proto(request))
            else:
                message.score.CopyFrom(_score_to_proto(request))
        case core.Cancel(request_id=request_id):
            message.cancel.request_id = request_id
        case core.Drain():
            message.drain.SetInParent()
    return message


def command_from_proto(message: pb.Command) -> core.Command:
    """The line of the command log a message describes.

    Raises PreflightError if it carries no action this version knows.
    """
    return core.Command(message.number, _action_from_proto(message))


def event_to_proto(event: core.Event) -> pb.Event:
    """The message of what a rank tells."""
    match event:
        case core.TokenEvent():
            token = pb.TokenEvent(request_id=event.request_id, index=event.index, token=event.token)
            return pb.Event(token=token)
        case core.FinishEvent():
            return pb.Event(finish=_finish_to_proto(event))
        case core.ScoreEvent():
            return pb.Event(score=_score_event_to_proto(event))


def event_from_proto(message: pb.Event) -> core.Event:
    """What a rank told; raises PreflightError if this version does not know it."""
    match message.WhichOneof("kind"):
        case "token":
            token = message.token
            return core.TokenEvent(token.request_id, token.index, token.token)
        case "finish":
            return _finish_from_proto(message.finish)
        case "score":
            return _score_event_from_proto(message.score)
        case None:
            raise _unknown("an event")


def report_to_proto(report: core.RankReport) -> pb.RankReport:
    """The message of a rank's progress."""
    return pb.RankReport(
        rank=report.rank,
        phase=phase_to_proto(report.phase),
        bytes_loaded=report.bytes_loaded,
        bytes_total=report.bytes_total,
        prefill_tokens=report.prefill_tokens,
        decode_steps=report.decode_steps,
        active_bytes=report.active_bytes,
        peak_bytes=report.peak_bytes,
        pid=report.pid,
    )


def report_from_proto(message: pb.RankReport) -> core.RankReport:
    """The rank's progress a message describes."""
    return core.RankReport(
        rank=message.rank,
        phase=phase_from_proto(message.phase),
        bytes_loaded=message.bytes_loaded,
        bytes_total=message.bytes_total,
        prefill_tokens=message.prefill_tokens,
        decode_steps=message.decode_steps,
        active_bytes=message.active_bytes,
        peak_bytes=message.peak_bytes,
        pid=message.pid,
    )


def phase_to_proto(phase: str) -> pb.Phase.ValueType:
    """The enum value of a phase's word, e.g. "loading"."""
    return pb.Phase.Value(f"PHASE_{phase.upper()}")


def phase_from_proto(value: pb.Phase.ValueType) -> str:
    """The word of a phase; raises PreflightError for a value this version does not know."""
    if value not in pb.Phase.values():
        raise _unknown("a phase")
    return pb.Phase.Name(value).removeprefix("PHASE_").lower()


def loss_to_proto(loss: core.Loss) -> agent_pb2.Loss.ValueType:
    """The enum value of how a rank was lost."""
    return agent_pb2.Loss.Value(f"LOSS_{loss.name}")


def loss_from_proto(value: agent_pb2.Loss.ValueType) -> core.Loss:
    """How a rank was lost; raises PreflightError for a value this version does not know."""
    if value == agent_pb2.LOSS_UNSPECIFIED or value not in agent_pb2.Loss.values():
        raise _unknown("a loss")
    return core.Loss[agent_pb2.Loss.Name(value).removeprefix("LOSS_")]


def reason_to_proto(reason: core.FinishReason) -> pb.FinishReason.ValueType:
    """The enum value of why a request ended."""
    return pb.FinishReason.Value(f"FINISH_REASON_{reason.name}")


def reason_from_proto(value: pb.FinishReason.ValueType) -> core.FinishReason:
    """Why a request ended; raises PreflightError for a value this version does not know."""
    if value == pb.FINISH_REASON_UNSPECIFIED or value not in pb.FinishReason.values():
        raise _unknown("a finish reason")
    return core.FinishReason[pb.FinishReason.Name(value).removeprefix("FINISH_REASON_")]


def _span_to_proto(span: core.Span) -> pb.Span:
    return pb.Span(start=span.start, stop=span.stop)


def _span_from_proto(message: pb.Span) -> core.Span:
    return core.Span(message.start, message.stop)


def _generate_to_proto(request: core.Request) -> pb.GenerateJob:
    return pb.GenerateJob(
        id=request.id,
        prompt=request.prompt,
        max_tokens=request.max_tokens,
        sampling=sampling_to_proto(request.sampling),
        stop_ids=request.stop_ids,
    )


def _generate_from_proto(message: pb.GenerateJob) -> core.Request:
    return core.Request(
        id=message.id,
        prompt=tuple(message.prompt),
        max_tokens=message.max_tokens,
        sampling=sampling_from_proto(message.sampling),
        stop_ids=tuple(message.stop_ids),
    )


def _score_to_proto(request: core.ScoreRequest) -> pb.ScoreJob:
    return pb.ScoreJob(
        id=request.id,
        rows=[pb.Row(ids=row) for row in request.rows],
        chunk=request.chunk,
        want_logits=request.want_logits,
    )


def _score_from_proto(message: pb.ScoreJob) -> core.ScoreRequest:
    return core.ScoreRequest(
        id=message.id,
        rows=tuple(tuple(row.ids) for row in message.rows),
        chunk=message.chunk,
        want_logits=message.want_logits,
    )


def _action_from_proto(message: pb.Command) -> core.Submit | core.Cancel | core.Drain:
    match message.WhichOneof("action"):
        case "generate":
            return core.Submit(_generate_from_proto(message.generate))
        case "score":
            return core.Submit(_score_from_proto(message.score))
        case "cancel":
            return core.Cancel(message.cancel.request_id)
        case "drain":
            return core.Drain()
        case None:
            raise _unknown(f"command {message.number}")


def _finish_to_proto(event: core.FinishEvent) -> pb.FinishEvent:
    return pb.FinishEvent(
        request_id=event.request_id,
        reason=reason_to_proto(event.reason),
        prompt_tokens=event.prompt_tokens,
        generated_tokens=event.generated_tokens,
        prefill_s=event.prefill_s,
        decode_s=event.decode_s,
        collectives=event.collectives,
        wire_bytes=event.wire_bytes,
        error=event.error,
        decode_steps=event.decode_steps,
        cached_tokens=event.cached_tokens,
    )


def _finish_from_proto(message: pb.FinishEvent) -> core.FinishEvent:
    return core.FinishEvent(
        request_id=message.request_id,
        reason=reason_from_proto(message.reason),
        prompt_tokens=message.prompt_tokens,
        generated_tokens=message.generated_tokens,
        prefill_s=message.prefill_s,
        decode_s=message.decode_s,
        collectives=message.collectives,
        wire_bytes=message.wire_bytes,
        error=message.error,
        decode_steps=message.decode_steps,
        cached_tokens=message.cached_tokens,
    )


def _score_event_to_proto(event: core.ScoreEvent) -> pb.ScoreEvent:
    return pb.ScoreEvent(
        request_id=event.request_id,
        start=event.start,
        logits=event.logits,
        count=event.count,
        nll=event.nll,
        last=event.last,
    )


def _score_event_from_proto(message: pb.ScoreEvent) -> core.ScoreEvent:
    return core.ScoreEvent(
        request_id=message.request_id,
        start=message.start,
        logits=message.logits,
        count=message.count,
        nll=tuple(message.nll),
        last=message.last,
    )


def _unknown(what: str) -> PreflightError:
    return PreflightError(
        f"{what} arrived that this version does not know; run the same dsv4-tp on every host"
    )
