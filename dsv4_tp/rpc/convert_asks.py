"""Asks and pieces of text to and from messages of cluster.proto; like `convert`."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from dsv4_tp.asks import Ask, Conversation, Finish, Logprob, Piece, Stats
from dsv4_tp.errors import RequestError
from dsv4_tp.rpc.convert_events import (
    reason_from_proto,
    reason_to_proto,
    top_from_proto,
    top_to_proto,
)
from dsv4_tp.rpc.convert_talk import talk_from_proto, talk_to_proto
from dsv4_tp.v1 import cluster_pb2 as pb
from dsv4_tp.v1 import types_pb2

_INPUT = ("prompt", "chat")
_LISTS = ("logit_bias", "stop", "stop_ids")
_VALUES = tuple(each.name for each in fields(Ask) if each.name not in (*_INPUT, *_LISTS))
_STATS = tuple(each.name for each in fields(Stats))


def ask_to_proto(ask: Ask) -> pb.GenerateRequest:
    """The request for a text; what is None stays unset.

    Raises RequestError for a value of another kind or size than its field, which it names.
    """
    message = _prompt(ask.prompt, chat=ask.chat)
    stop = [ask.stop] if isinstance(ask.stop, str) else ask.stop
    message.MergeFrom(_message("stop", "stop", stop))
    for name in ("logit_bias", "stop_ids", *_VALUES):
        message.MergeFrom(_message(name, name, getattr(ask, name)))
    return message


def ask_from_proto(message: pb.GenerateRequest) -> Ask:
    """The text that is asked for."""
    given = {field.name: value for field, value in message.ListFields()}
    return Ask(
        _prompt_from_proto(message),
        chat=message.WhichOneof("input") == "user",
        logit_bias=dict(message.logit_bias),
        stop=tuple(message.stop),
        stop_ids=tuple(message.stop_ids),
        **{name: given[name] for name in _VALUES if name in given},
    )


def piece_to_proto(piece: Piece) -> pb.GenerateResponse:
    """The message of some more of a text."""
    logprobs = [
        pb.TokenLogprob(logprob=each.logprob, top=top_to_proto(each.top)) for each in piece.logprobs
    ]
    finish = _finish_to_proto(piece.finish) if piece.finish else None
    return pb.GenerateResponse(
        tokens=piece.tokens, text=piece.text, logprobs=logprobs, finish=finish
    )


def piece_from_proto(message: pb.GenerateResponse) -> Piece:
    """Some more of a text."""
    finish = _finish_from_proto(message.finish) if message.HasField("finish") else None
    logprobs = tuple(Logprob(each.logprob, top_from_proto(each.top)) for each in message.logprobs)
    return Piece(tuple(message.tokens), message.text, finish, logprobs)


def _prompt(prompt: str | Sequence[int] | Conversation, *, chat: bool) -> pb.GenerateRequest:
    try:
        if isinstance(prompt, Conversation):
            return pb.GenerateRequest(conversation=talk_to_proto(prompt))
        if isinstance(prompt, list | tuple) and not chat:
            return pb.GenerateRequest(ids=types_pb2.Row(ids=prompt))
    except (TypeError, ValueError) as error:
        raise _unsendable("prompt", prompt, error) from error
    return _message("prompt", "user" if chat else "text", prompt)


def _prompt_from_proto(message: pb.GenerateRequest) -> str | Sequence[int] | Conversation:
    match message.WhichOneof("input"):
        case "conversation":
            return talk_from_proto(message.conversation)
        case "ids":
            return tuple(message.ids.ids)
        case _:
            return message.user or message.text


def _message(name: str, field: str, value: Any) -> pb.GenerateRequest:
    """A request with this field alone."""
    try:
        return pb.GenerateRequest(**{field: value})
    except (TypeError, ValueError) as error:
        raise _unsendable(name, value, error) from error


def _unsendable(name: str, value: Any, error: Exception) -> RequestError:
    return RequestError(f"{name} is {value!r}, which cannot be sent: {error}")


def _finish_to_proto(finish: Finish) -> pb.Finish:
    stats = {name: getattr(finish.stats, name) for name in _STATS}
    return pb.Finish(reason=reason_to_proto(finish.reason), stats=pb.Stats(**stats))


def _finish_from_proto(message: pb.Finish) -> Finish:
    stats = {name: getattr(message.stats, name) for name in _STATS}
    if not message.stats.HasField("first_token_s"):
        stats["first_token_s"] = None
    return Finish(reason_from_proto(message.reason), Stats(**stats))
