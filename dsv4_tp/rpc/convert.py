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
        min_p=sampling.min_p,
        repetition_penalty=sampling.repetition_penalty,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        logit_bias=dict(sampling.logit_bias),
        logprobs=sampling.logprobs,
    )


def sampling_from_proto(message: pb.Sampling) -> core.Sampling:
    """The sampling setting a message describes."""
    return core.Sampling(
        temperature=message.temperature,
        top_p=message.top_p,
        top_k=message.top_k,
        seed=message.seed,
        min_p=message.min_p,
        repetition_penalty=message.repetition_penalty,
        presence_penalty=message.presence_penalty,
        frequency_penalty=message.frequency_penalty,
        logit_bias=tuple(sorted(message.logit_bias.items())),
        logprobs=message.logprobs if message.HasField("logprobs") else None,
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
        waits=report.waits,
        note=report.note,
        beats=report.beats,
        calls=report.calls,
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
        waits=message.waits,
        note=message.note,
        beats=message.beats,
        calls=message.calls,
    )


def link_to_proto(link: core.Link) -> agent_pb2.Link:
    """The message of what is heard of another host."""
    return agent_pb2.Link(host=link.host, quiet_s=link.quiet_s, silent=link.silent)


def link_from_proto(message: agent_pb2.Link) -> core.Link:
    """What is heard of another host."""
    quiet_s = message.quiet_s if message.HasField("quiet_s") else None
    return core.Link(message.host, quiet_s, message.silent)


def phase_to_proto(phase: str) -> pb.Phase.ValueType:
    """The enum value of a phase's word, e.g. "loading"."""
    return pb.Phase.Value(f"PHASE_{phase.upper()}")


def phase_from_proto(value: pb.Phase.ValueType) -> str:
    """The word of a phase; raises PreflightError for a value this version does not know."""
    if value not in pb.Phase.values():
        raise unknown("a phase")
    return pb.Phase.Name(value).removeprefix("PHASE_").lower()


def loss_to_proto(loss: core.Loss) -> agent_pb2.Loss.ValueType:
    """The enum value of how a rank was lost."""
    return agent_pb2.Loss.Value(f"LOSS_{loss.name}")


def loss_from_proto(value: agent_pb2.Loss.ValueType) -> core.Loss:
    """How a rank was lost; raises PreflightError for a value this version does not know."""
    if value == agent_pb2.LOSS_UNSPECIFIED or value not in agent_pb2.Loss.values():
        raise unknown("a loss")
    return core.Loss[agent_pb2.Loss.Name(value).removeprefix("LOSS_")]


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
        mtp=request.mtp,
        form=request.form,
        told=request.told,
        form_after=request.form_after,
    )


def _generate_from_proto(message: pb.GenerateJob) -> core.Request:
    return core.Request(
        id=message.id,
        prompt=tuple(message.prompt),
        max_tokens=message.max_tokens,
        sampling=sampling_from_proto(message.sampling),
        stop_ids=tuple(message.stop_ids),
        mtp=message.mtp if message.HasField("mtp") else None,
        form=message.form,
        told=tuple(message.told),
        form_after=message.form_after if message.HasField("form_after") else None,
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
            raise unknown(f"command {message.number}")


def unknown(what: str) -> PreflightError:
    """The error for a message that names nothing this version knows."""
    return PreflightError(
        f"{what} arrived that this version does not know; run the same dsv4-tp on every host"
    )
