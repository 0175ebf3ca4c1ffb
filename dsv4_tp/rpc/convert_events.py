"""What ranks tell, as messages of types.proto and as events of `core`; like `convert`."""

from collections.abc import Iterable

from dsv4_tp import core
from dsv4_tp.rpc.convert import phase_from_proto, phase_to_proto, unknown
from dsv4_tp.v1 import types_pb2 as pb


def event_to_proto(event: core.Event) -> pb.Event:
    """The message of what a rank tells."""
    match event:
        case core.TokenEvent():
            return pb.Event(token=_token_to_proto(event))
        case core.FinishEvent():
            return pb.Event(finish=_finish_to_proto(event))
        case core.ScoreEvent():
            return pb.Event(score=_score_event_to_proto(event))
        case core.StepEvent(phase=phase, work=work, running=running):
            step = pb.StepEvent(
                phase=phase_to_proto(phase), work=work_to_proto(work), running=running
            )
            return pb.Event(step=step)


def event_from_proto(message: pb.Event) -> core.Event:
    """What a rank told; raises PreflightError if this version does not know it."""
    match message.WhichOneof("kind"):
        case "token":
            return _token_from_proto(message.token)
        case "finish":
            return _finish_from_proto(message.finish)
        case "score":
            return _score_event_from_proto(message.score)
        case "step":
            step = message.step
            return core.StepEvent(
                phase_from_proto(step.phase), work_from_proto(step.work), step.running
            )
        case None:
            raise unknown("an event")


def work_to_proto(work: core.Work) -> pb.Work:
    """The message of what steps did."""
    return pb.Work(
        steps=work.steps,
        rows=work.rows,
        tokens=work.tokens,
        collectives=work.collectives,
        wire_bytes=work.wire_bytes,
        time_s=work.time_s,
    )


def work_from_proto(message: pb.Work) -> core.Work:
    """What steps did."""
    return core.Work(
        message.steps,
        message.rows,
        message.tokens,
        message.collectives,
        message.wire_bytes,
        message.time_s,
    )


def top_to_proto(top: Iterable[tuple[int, float]]) -> list[pb.Alternative]:
    """The messages of ids and their log-probabilities."""
    return [pb.Alternative(token=token, logprob=logprob) for token, logprob in top]


def top_from_proto(messages: Iterable[pb.Alternative]) -> tuple[tuple[int, float], ...]:
    """The ids and log-probabilities of these messages."""
    return tuple((each.token, each.logprob) for each in messages)


def reason_to_proto(reason: core.FinishReason) -> pb.FinishReason.ValueType:
    """The enum value of why a request ended."""
    return pb.FinishReason.Value(f"FINISH_REASON_{reason.name}")


def reason_from_proto(value: pb.FinishReason.ValueType) -> core.FinishReason:
    """Why a request ended; raises PreflightError for a value this version does not know."""
    if value == pb.FINISH_REASON_UNSPECIFIED or value not in pb.FinishReason.values():
        raise unknown("a finish reason")
    return core.FinishReason[pb.FinishReason.Name(value).removeprefix("FINISH_REASON_")]


def _token_to_proto(event: core.TokenEvent) -> pb.TokenEvent:
    return pb.TokenEvent(
        request_id=event.request_id,
        index=event.index,
        token=event.token,
        logprob=event.logprob,
        top=top_to_proto(event.top),
    )


def _token_from_proto(message: pb.TokenEvent) -> core.TokenEvent:
    return core.TokenEvent(
        request_id=message.request_id,
        index=message.index,
        token=message.token,
        logprob=message.logprob if message.HasField("logprob") else None,
        top=top_from_proto(message.top),
    )


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
        drafted_tokens=event.drafted_tokens,
        accepted_tokens=event.accepted_tokens,
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
        drafted_tokens=message.drafted_tokens,
        accepted_tokens=message.accepted_tokens,
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
